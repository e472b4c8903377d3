"""From `diptych train --pairs` and what goes with it to data, pairs to validate on, and a config."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli.shared.console import note
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.training import TrainConfig
    from diptych.training.data import Description, Source

HOLD_OUT = 0.05  # of the pairs, where nothing else is said
MODEL = "diptych-small"


@dataclass(frozen=True)
class OwnPairs:
    """What the command line says of somebody's own pairs; None and empty where it says nothing.

    Attributes
    ----------
    pairs : list of str
    stream : bool
        Read shards as they come, without an index; URLs are always read so.
    image : str
    captions : list of str
        Columns of a table.
    val : str
    hold_out : float
    model : str
    start : str
        A model to go on from.
    keep_up : list of Path
        Data sets on which it is not to get worse.
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
    def said(self) -> bool:
        """Whether anything is said besides the pairs, which a recipe says itself."""
        return any(getattr(self, f.name) not in (None, False) for f in fields(self) if f.name != "pairs")

    def begin(self, quiet: bool) -> tuple[TrainConfig, Source | None]:
        """A config for these pairs, and the pairs to validate on, if there are any."""
        from diptych.cli.train.validation import chosen_by
        from diptych.training import TrainConfig
        from diptych.training.data import Mixture

        if self.keep_up and not self.start:
            raise InputError("--keep-up measures what a model could do before: name it, with --from")
        data, held = self._streams() if self.streams else self._indexed(quiet)
        config = TrainConfig(
            data=Mixture(((data, 1.0),)),
            name=f"{self.model or self.start or MODEL} on {', '.join(self.pairs)}",
            monitor="" if held is None else f"val/{chosen_by(held)}",
            **(_fine_tuning(self.start, self.model) if self.start else {"model": self.model or MODEL}),
        )
        return config, held

    @property
    def streams(self) -> bool:
        """Whether shards are read as they come."""
        return self.stream or any("://" in pattern for pattern in self.pairs)

    def _streams(self) -> tuple[Description, Source | None]:
        from diptych.training.data import TarStream, describe

        if self.hold_out or self.image or self.captions:
            raise InputError(
                "streamed shards have no index and no columns: leave out --hold-out, --image-column and "
                "--caption-column; name pairs to validate on with --val"
            )
        return TarStream(self.pairs), describe(self.val).open() if self.val else None

    def _indexed(self, quiet: bool) -> tuple[Description, Source | None]:
        from diptych.training.data import Once, Part, describe

        columns = {"image": self.image, "captions": self.captions or ()}
        described = Once(describe(self.pairs, **columns))  # type: ignore[arg-type]
        if self.val:
            return described, describe(self.val, **columns).open()  # type: ignore[arg-type]
        share = HOLD_OUT if self.hold_out is None else self.hold_out
        held = Part(described, share, held_out=True).open() if share else None
        if held is not None and not len(held):
            note(f"too few pairs to hold out a share of {share:g}: training without validation", quiet=quiet)
            held = None
        return (described if held is None else Part(described, share)), held


def _fine_tuning(start: str, model: str | None) -> dict[str, Any]:
    """Fields of a config that goes on from a model: its shape, its licence and `fine_tuning_defaults`."""
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
