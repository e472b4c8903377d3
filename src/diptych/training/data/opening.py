"""From what a recipe names to a loader: records by number, or streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from diptych.errors import DataError
from diptych.training.data.batch import Batch, Batcher, Positions, Tokenize
from diptych.training.data.loader import Mixture, PairLoader
from diptych.training.data.reader import Report
from diptych.training.data.streaming import StreamLoader, TarStream


class Loader(Protocol):
    """What training asks of pairs.

    Attributes
    ----------
    image_size : int
        Side of the crops from the next epoch on.
    batcher : Batcher
        Knows which lanes are read here.
    """

    image_size: int
    batcher: Batcher

    @property
    def report(self) -> Report:
        """What could not be used so far."""

    def prepare(self, scanning: Callable[[int], Callable[[int], None]]) -> None:
        """Do what is to be done once; `scanning` is told of how many records, and gives a counter."""

    def steps(self, epoch: int) -> int:
        """Count an epoch's batches."""

    def batches(self, epoch: int, positions: Positions = ...) -> Iterator[Batch]:
        """Give an epoch's batches from some positions on."""

    def close(self) -> None:
        """Stop what works in the background."""


def open_pairs(
    data: Mixture,
    tokenizer: Tokenize,
    *,
    cache: str | bool = "auto",
    pairs_per_epoch: int = 0,
    **options: Any,
) -> Loader:
    """Make the loader for some pairs.

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
                f"pairs_per_epoch is {pairs_per_epoch}, but these pairs have an index, which counts them: it "
                "is for streams (TarStream, diptych train --stream)"
            )
        return PairLoader(data, tokenizer, cache=cache, **options)
    if len(streams) < len(data.parts):
        raise DataError(
            "streams (TarStream) and pairs with an index cannot be mixed: name local shards as TarStream, too"
        )
    return StreamLoader(streams, tokenizer, pairs_per_epoch=pairs_per_epoch, **options)
