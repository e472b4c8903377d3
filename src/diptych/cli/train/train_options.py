"""Options of `diptych train` that set a field of the config by its name, those of open_clip among them."""

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
        help="After the warmup: a cosine down to 0 (default), or the peak to the end.",
        rich_help_panel=_RATE,
    ),
]
EpochsCooldown = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="With --schedule constant: the rate falls over the last N epochs (0). Also when a constant run "
        "is resumed: --epochs 12 --epochs-cooldown 2.",
        rich_help_panel=_RATE,
    ),
]
CooldownPower = Annotated[
    float | None,
    typer.Option(
        "--lr-cooldown-power",
        metavar="P",
        help="Shape of that fall: 1 is a straight line (default), 2 is fast at first.",
        rich_help_panel=_RATE,
    ),
]
CooldownEnd = Annotated[
    float | None,
    typer.Option("--lr-cooldown-end", metavar="RATE", help="Rate at its end (0).", rich_help_panel=_RATE),
]

Lock = Annotated[
    Literal["image", "text", "both"] | None,
    typer.Option(
        metavar="TOWER",
        help="A tower that stays as it is, batch norms included: image (LiT), text or both; default: none.",
        rich_help_panel=_LOCK,
    ),
]
UnlockedGroups = Annotated[
    int | None,
    typer.Option(
        "--lock-image-unlocked-groups",
        metavar="N",
        help="Let the last N groups of a locked image tower learn (0): 1 is the projection, 2 also the last "
        "block (stage of a ResNet), and so on.",
        rich_help_panel=_LOCK,
    ),
]
UnlockedLayers = Annotated[
    int | None,
    typer.Option(
        "--lock-text-unlocked-layers",
        metavar="N",
        help="Likewise of a locked text tower (0).",
        rich_help_panel=_LOCK,
    ),
]
UseBnSync = Annotated[
    bool | None,
    typer.Option(
        "--use-bn-sync",
        metavar="",
        help="Batch norms normalise over the pictures of all processes, not each over its own; GPUs only.",
        rich_help_panel="Run",
    ),
]

SaveFrequency = Annotated[
    int | None,
    typer.Option(
        "--save-frequency",
        metavar="N",
        help="Every N epochs keep a numbered checkpoint with its model, DIR/epoch-N (0: none); --model, "
        "--resume-from and others take it as they take DIR.",
        rich_help_panel="Run",
    ),
]
KeepCheckpoints = Annotated[
    int | None,
    typer.Option(
        "--keep-checkpoints",
        metavar="N",
        help="Of those the newest N, and the best beside (0: all).",
        rich_help_panel="Run",
    ),
]
ResumeFrom = Annotated[
    Path | None,
    typer.Option(
        "--resume-from",
        metavar="DIR",
        help="Begin a run in --out where another run or its numbered checkpoint stands, such as "
        "runs/mine/epoch-3.",
        rich_help_panel="Run",
    ),
]
