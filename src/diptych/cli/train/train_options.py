"""Options of `diptych train` that set a config field of the same name, with open_clip's names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

_RATE, _LOCK = "Learning rate", "What does not learn"

Rate = Annotated[
    float | None, typer.Option(metavar="RATE", help="Peak learning rate.", rich_help_panel=_RATE)
]
Schedule = Annotated[
    Literal["cosine", "constant"] | None,
    typer.Option(
        metavar="cosine|constant",
        help="After the warmup: cosine decay to 0 (default), or constant.",
        rich_help_panel=_RATE,
    ),
]
EpochsCooldown = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="With --schedule constant: decay the rate over the last N epochs (default 0). Also when a run "
        "is resumed: --epochs 12 --epochs-cooldown 2.",
        rich_help_panel=_RATE,
    ),
]
CooldownPower = Annotated[
    float | None,
    typer.Option(
        "--lr-cooldown-power",
        metavar="P",
        help="Power of the cooldown: 1 is linear (default), 2 falls faster at first.",
        rich_help_panel=_RATE,
    ),
]
CooldownEnd = Annotated[
    float | None,
    typer.Option(
        "--lr-cooldown-end",
        metavar="RATE",
        help="Learning rate at the end of the cooldown (default 0).",
        rich_help_panel=_RATE,
    ),
]

Lock = Annotated[
    Literal["image", "text", "both"] | None,
    typer.Option(
        metavar="TOWER",
        help="Freeze an encoder, including batch norms: image (as in LiT), text or both. Default: none.",
        rich_help_panel=_LOCK,
    ),
]
UnlockedGroups = Annotated[
    int | None,
    typer.Option(
        "--lock-image-unlocked-groups",
        metavar="N",
        help="Train the last N groups of a locked image encoder (default 0): 1 is the projection, 2 adds the "
        "last block (stage of a ResNet), and so on.",
        rich_help_panel=_LOCK,
    ),
]
UnlockedLayers = Annotated[
    int | None,
    typer.Option(
        "--lock-text-unlocked-layers",
        metavar="N",
        help="Train the last N layers of a locked text encoder (default 0).",
        rich_help_panel=_LOCK,
    ),
]
UseBnSync = Annotated[
    bool | None,
    typer.Option(
        "--use-bn-sync",
        metavar="",
        help="Synchronise batch norms over all processes; GPUs only.",
        rich_help_panel="Run",
    ),
]

SaveFrequency = Annotated[
    int | None,
    typer.Option(
        "--save-frequency",
        metavar="N",
        help="Keep a checkpoint with its model every N epochs, as DIR/epoch-N (0: none); use it like DIR in "
        "--model, --resume-from and others.",
        rich_help_panel="Run",
    ),
]
KeepCheckpoints = Annotated[
    int | None,
    typer.Option(
        "--keep-checkpoints",
        metavar="N",
        help="Keep the newest N of these checkpoints and the best one (0: all).",
        rich_help_panel="Run",
    ),
]
ResumeFrom = Annotated[
    Path | None,
    typer.Option(
        "--resume-from",
        metavar="DIR",
        help="Start a new run in --out from another run or one of its checkpoints, such as "
        "runs/mine/epoch-3.",
        rich_help_panel="Run",
    ),
]
