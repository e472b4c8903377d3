"""Open the data of a recipe: a loader of indexed records, or of streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from diptych.errors import DataError
from diptych.training.data.batch import Batch, Batcher, Positions, Tokenize
from diptych.training.data.loader import Mixture, PairLoader
from diptych.training.data.reader import SkippedRecords
from diptych.training.data.streaming import StreamLoader, TarStream


class Loader(Protocol):
    """What training needs of a loader of pairs.

    Attributes
    ----------
    image_size : int
        Side of the crops from the next epoch on.
    batcher : Batcher
        Its `lanes` are those that this process reads.
    """

    image_size: int
    batcher: Batcher

    @property
    def report(self) -> SkippedRecords:
        """Unusable records so far."""

    def prepare(self, scanning: Callable[[int], Callable[[int], None]]) -> None:
        """Do the work that is done once per run.

        `scanning` is called with the number of records, and returns the function that is called with the
        number done.
        """

    def steps(self, epoch: int) -> int:
        """Count an epoch's batches."""

    def batches(self, epoch: int, positions: Positions = ...) -> Iterator[Batch]:
        """Give an epoch's batches from the positions of its lanes on."""

    def close(self) -> None:
        """Stop background work."""


def open_pairs(
    data: Mixture,
    tokenizer: Tokenize,
    *,
    cache: str | bool = "auto",
    pairs_per_epoch: int = 0,
    **options: Any,
) -> Loader:
    """Make the loader of a mixture.

    Parameters
    ----------
    data : Mixture
        Of descriptions of one kind: indexed, or `TarStream`.
    tokenizer : callable
    cache : "auto", True or False
        For pairs with an index; see `PairLoader`.
    pairs_per_epoch : int
        For streams; see `StreamLoader`.
    **options
        Of `PairLoader` and `StreamLoader`.

    Raises
    ------
    DataError
        Streams among pairs with an index; `pairs_per_epoch` for pairs with an index.
    """
    streams = [(part, repeat) for part, repeat in data.parts if isinstance(part, TarStream)]
    if not streams:
        if pairs_per_epoch:
            raise DataError(
                f"pairs_per_epoch is {pairs_per_epoch}, but these pairs have an index, which counts them: "
                "set it for streams only (TarStream, diptych train --stream)"
            )
        return PairLoader(data, tokenizer, cache=cache, **options)
    if len(streams) < len(data.parts):
        raise DataError(
            "streams (TarStream) and pairs with an index cannot be mixed: name local shards as TarStream, too"
        )
    return StreamLoader(streams, tokenizer, pairs_per_epoch=pairs_per_epoch, **options)
