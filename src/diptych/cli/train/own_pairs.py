"""Turn `diptych train --pairs` and related options into data, validation pairs and a config."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli.shared.console import note
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.training import TrainConfig
    from diptych.training.data import Description, Source

HOLD_OUT = 0.05  # default fraction of the pairs to validate on
MODEL = "diptych-small"


@dataclass(frozen=True)
class OwnPairs:
    """Options of the command line for own pairs; None or empty if not given.

    Attributes
    ----------
    pairs : list of str
    stream : bool
        Read shards sequentially, without an index; URLs are always streamed.
    image, captions : str, list of str
        Columns of a table.
    val : str
    hold_out : float
    model : str
    start : str
        The model to fine-tune.
    keep_up : list of Path
        Data sets on which the model must not get worse.
    """

    pairs: list[str]
    stream: bool = False
    image: str | None = None
    captions: list[str] | None = None
    val: str | None = None
    hold_out: float | None = None
    model: str | None = None
    start: str | None = None
    keep_up: list[Path] | None = None

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
        data, held_out = self._streams() if self.streams else self._indexed(quiet)
        config = TrainConfig(
            data=Mixture(((data, 1.0),)),
            name=f"{self.model or self.start or MODEL} on {', '.join(self.pairs)}",
            monitor="" if held_out is None else f"val/{selection_metric(held_out)}",
            **(_fine_tuning(self.start, self.model) if self.start else {"model": self.model or MODEL}),
        )
        return config, held_out

    @property
    def streams(self) -> bool:
        """Whether shards are streamed."""
        return self.stream or any("://" in pattern for pattern in self.pairs)

    def _streams(self) -> tuple[Description, Source | None]:
        from diptych.training.data import TarStream, describe

        if self.hold_out or self.image or self.captions:
            raise InputError(
                "streamed shards have no index and no columns: leave out --hold-out, --image-column and "
                "--caption-column; to validate, give --val"
            )
        return TarStream(self.pairs), describe(self.val).open() if self.val else None

    def _indexed(self, quiet: bool) -> tuple[Description, Source | None]:
        from diptych.training.data import Once, Part, describe

        columns = {"image": self.image, "captions": self.captions or ()}
        described = Once(describe(self.pairs, **columns))  # type: ignore[arg-type]
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
