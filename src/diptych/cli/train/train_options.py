"""Options of `diptych train` that set fields of the config, most of them with open_clip's names."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from diptych.cli.shared.options import flag, option
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.training import TrainConfig

_run_option = functools.partial(option, rich_help_panel="Run")
_rate_option = functools.partial(option, rich_help_panel="Learning rate")
_lock_option = functools.partial(option, rich_help_panel="What does not learn")


@dataclass(frozen=True)
class ConfigOptions:
    """Every field has the name of the field of the config that it sets, but for `assignments`."""

    out: Annotated[
        str | None,
        option("DIR", "The folder of the run.", "--out", "-o", show_default=False),
    ] = None
    epochs: Annotated[int | None, _run_option("N", "Number of epochs.")] = None
    pairs_per_epoch: Annotated[
        int | None,
        _run_option(
            "N",
            "Number of pairs in an epoch of streamed shards. Default: counted once, before training.",
            min=1,
        ),
    ] = None
    batch_size: Annotated[int | None, _run_option("N", "Pairs per step, over all processes.")] = None
    chunk: Annotated[
        str | None,
        _run_option(
            "N|auto",
            "Encode N pairs at a time to save memory; the gradient is that of the full batch. auto: as "
            "many as fit.",
        ),
    ] = None
    lr: Annotated[float | None, _rate_option("RATE", "Peak learning rate.")] = None
    schedule: Annotated[
        Literal["cosine", "constant"] | None,
        _rate_option("cosine|constant", "After the warmup: cosine decay to 0 (default), or constant."),
    ] = None
    epochs_cooldown: Annotated[
        int | None,
        _rate_option(
            "N",
            "With --schedule constant: decay the rate over the last N epochs (default 0). Also when a "
            "run is resumed: --epochs 12 --epochs-cooldown 2.",
        ),
    ] = None
    lr_cooldown_power: Annotated[
        float | None,
        _rate_option("P", "Power of the cooldown: 1 is linear (default), 2 falls faster at first."),
    ] = None
    lr_cooldown_end: Annotated[
        float | None, _rate_option("RATE", "Learning rate at the end of the cooldown (default 0).")
    ] = None
    lock: Annotated[
        Literal["image", "text", "both"] | None,
        _lock_option(
            "TOWER",
            "Freeze an encoder, including batch norms: image (as in LiT), text or both. Default: none.",
        ),
    ] = None
    lock_image_unlocked_groups: Annotated[
        int | None,
        _lock_option(
            "N",
            "Train the last N groups of a locked image encoder (default 0): 1 is the projection, 2 adds "
            "the last block (stage of a ResNet), and so on.",
        ),
    ] = None
    lock_text_unlocked_layers: Annotated[
        int | None, _lock_option("N", "Train the last N layers of a locked text encoder (default 0).")
    ] = None
    start_image: Annotated[
        str | None,
        _lock_option(
            "FILE", "Start the image encoder from a pretrained classifier (EfficientNet-Lite, .pth)."
        ),
    ] = None
    cache_features: Annotated[
        int | None,
        _lock_option(
            "K",
            "Run the locked part of the image encoder once, before the first step, on K views of each "
            "picture: the centre crop and K - 1 augmented ones (default 0: in every step).",
        ),
    ] = None
    use_bn_sync: Annotated[
        bool | None,
        flag(
            "--use-bn-sync", "Synchronise batch norms over all processes; GPUs only.", rich_help_panel="Run"
        ),
    ] = None
    save_frequency: Annotated[
        int | None,
        _run_option(
            "N",
            "Keep a checkpoint with its model every N epochs, as DIR/epoch-N (0: none); use it like DIR "
            "in --model, --resume-from and others.",
        ),
    ] = None
    keep_checkpoints: Annotated[
        int | None, _run_option("N", "Keep the newest N of these checkpoints and the best one (0: all).")
    ] = None
    assignments: Annotated[
        list[str] | None, _run_option("KEY=VALUE", "Set any field of the config.", "--set")
    ] = None

    def given(self) -> dict[str, Any]:
        """The values that were given, by the name of the field; without those of --set."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "assignments"]
        values = {name: getattr(self, name) for name in names} | {"chunk": _read_chunk(self.chunk)}
        return {name: value for name, value in values.items() if value is not None}

    def apply(self, config: TrainConfig) -> TrainConfig:
        """The config with the fields that were given; --set comes last."""
        return dataclasses.replace(config, **self.given()).override(self.assignments or [])


def _read_chunk(chunk: str | None) -> int | None:
    if chunk is None:
        return None
    if chunk == "auto":
        return -1
    if not chunk.isdigit():
        raise InputError(f"--chunk takes a number of pairs or auto, not {chunk!r}")
    return int(chunk)
