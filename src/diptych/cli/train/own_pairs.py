"""Turn `diptych train --pairs` and related options into data, validation pairs and a config."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from diptych.cli.shared.console import note
from diptych.cli.shared.options import flag, option
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.training import TrainConfig
    from diptych.training.data import Description, Source

HOLD_OUT = 0.05  # default fraction of the pairs to validate on
MODEL = "diptych-small"


_option = functools.partial(option, rich_help_panel="Your own pairs")


@dataclass(frozen=True)
class OwnPairs:
    """Options for training on own pairs, without a recipe."""

    pairs: Annotated[
        list[str] | None,
        _option(
            "PATTERN",
            "Image-text pairs: tar shards ('shards/{000..099}.tar'), a CSV, TSV or Parquet table, or a "
            "folder with captions or with a folder per class.",
        ),
    ] = None
    stream: Annotated[
        bool,
        flag(
            "--stream",
            "Stream tar shards without an index; URLs (s3://, gs://) are always streamed.",
            rich_help_panel="Your own pairs",
        ),
    ] = False
    image_column: Annotated[
        str | None, _option("NAME", "The table's column of pictures. Default: filepath.")
    ] = None
    caption_column: Annotated[
        list[str] | None,
        _option("NAME", "The table's column of captions; repeat it for several. Default: title."),
    ] = None
    val: Annotated[str | None, _option("PATTERN", "Pairs for validation.")] = None
    hold_out: Annotated[
        float | None, _option("SHARE", "Without --val: fraction of the pairs to validate on. Default: 0.05.")
    ] = None
    model: Annotated[
        str | None,
        _option("PRESET", "The architecture. Default: that of --from, else diptych-small.", "--model", "-m"),
    ] = None
    start: Annotated[
        str | None,
        _option(
            "MODEL",
            "Fine-tune this model with little forgetting: low learning rates, lower in earlier layers, "
            "frozen batch norms, averaged weights, 5 epochs, batches of 64. --lr, --set and other options "
            "override these. Details: docs/fine-tuning.md.",
            "--from",
        ),
    ] = None
    keep_up: Annotated[
        list[Path] | None,
        _option(
            "DATA",
            "With --from: data of an old task that must not get worse, measured before, during and after.",
        ),
    ] = None

    @property
    def is_given(self) -> bool:
        """Whether any option besides `pairs` is given; recipes refuse them."""
        return any(getattr(self, f.name) not in (None, False) for f in fields(self) if f.name != "pairs")

    def begin(self, quiet: bool) -> tuple[TrainConfig, Source | None]:
        """A config for these pairs, and the pairs to validate on, if any."""
        from diptych.cli.train.validation import selection_metric
        from diptych.training import TrainConfig
        from diptych.training.data import Mixture

        if self.keep_up and not self.start:
            raise InputError("--keep-up compares with the model before fine-tuning: name it with --from")
        pairs = self.pairs or []
        data, held_out = self._streamed(pairs) if self.streams else self._indexed(pairs, quiet)
        config = TrainConfig(
            data=Mixture(((data, 1.0),)),
            name=f"{self.model or self.start or MODEL} on {', '.join(pairs)}",
            monitor="" if held_out is None else f"val/{selection_metric(held_out)}",
            **(_fine_tuning(self.start, self.model) if self.start else {"model": self.model or MODEL}),
        )
        return config, held_out

    @property
    def streams(self) -> bool:
        """Whether shards are streamed."""
        return self.stream or any("://" in pattern for pattern in self.pairs or ())

    def _streamed(self, pairs: list[str]) -> tuple[Description, Source | None]:
        from diptych.training.data import TarStream, describe

        if self.hold_out or self.image_column or self.caption_column:
            raise InputError(
                "streamed shards have no index and no columns: leave out --hold-out, --image-column and "
                "--caption-column; to validate, give --val"
            )
        return TarStream(pairs), describe(self.val).open() if self.val else None

    def _indexed(self, pairs: list[str], quiet: bool) -> tuple[Description, Source | None]:
        from diptych.training.data import Once, Part, describe

        columns = {"image": self.image_column, "captions": self.caption_column or ()}
        described = Once(describe(pairs, **columns))  # type: ignore[arg-type]
        if self.val:
            return described, describe(self.val, **columns).open()  # type: ignore[arg-type]
        fraction = HOLD_OUT if self.hold_out is None else self.hold_out
        held_out = Part(described, fraction, held_out=True).open() if fraction else None
        if held_out is not None and not len(held_out):
            note(f"too few pairs to hold out {fraction:g} of them: training without validation", quiet=quiet)
            held_out = None
        return (described if held_out is None else Part(described, fraction)), held_out


def _fine_tuning(start: str, model: str | None) -> dict[str, Any]:
    """Config fields for fine-tuning a model: its architecture, its licence, low learning rates."""
    from diptych.training import fine_tuning_defaults, inputs_of
    from diptych.weights import load_checkpoint

    before = load_checkpoint(start).spec
    source = f"fine-tuned from {before.name}; {before.source}"
    return {
        "start": start,
        "model": model or before.architecture,
        "licence": before.licence,
        "source": source,
        **inputs_of(start),
        **fine_tuning_defaults(before.architecture),
    }
