"""Batches of pairs with an index; workers, cache, bad records and restarts change neither order nor crops.

Threads decode and crop (Pillow and torch release the interpreter lock meanwhile), a bounded number of batches
ahead. The position in an epoch is one number per lane (`batch.py`), `Batch.positions`: how many of its visits
are used.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import DataError
from diptych.inputs import CLIP_MEAN, CLIP_STD
from diptych.prefetch import map_ahead, worker_threads
from diptych.training.data.augment import AugmentConfig, crop_pairs
from diptych.training.data.batch import (
    Batch,
    Batcher,
    DeferredTransform,
    PairChunk,
    Positions,
    RankShard,
    Tokenize,
)
from diptych.training.data.image_cache import side_for
from diptych.training.data.order import Order, Visits
from diptych.training.data.reader import PairReader, SkippedRecords
from diptych.training.data.sources.records import Description, Source
from diptych.training.data.texts.companions import CompanionTexts
from diptych.training.data.texts.hard_negatives import Negatives

CACHE_BUDGET = 4 * 2**30  # bytes
CHUNK = 32  # visits handed to a worker at a time
AHEAD = 2  # batches prepared in advance


@dataclass(frozen=True)
class Mixture:
    """Several sets of pairs, and how often an epoch visits each.

    Parameters
    ----------
    parts : tuple of (description, repeat)
        A repeat of 2.5 visits each record two or three times an epoch, in turn; 0.1 once in ten epochs.

    Examples
    --------
    >>> from diptych.training.data.sources.sources import TarPairs
    >>> Mixture(((TarPairs("flickr/{0..2}.tar"), 3.0), (TarPairs("more.tar"), 1.0))).parts[0][1]
    3.0
    """

    parts: tuple[tuple[Description, float], ...]

    def open(self) -> list[tuple[Source, float]]:
        """Index every part."""
        return [(description.open(), repeat) for description, repeat in self.parts]


class Loader(ABC):
    """Batches of pairs: what `PairLoader` and `StreamLoader` have in common, and what training needs of them.

    Parameters
    ----------
    tokenizer : callable
        `diptych.inputs.Tokenizer`: texts to (N, L) int64.
    batch_size, image_size : int
        Pairs of a step on all processes; side in pixels of the crops from the next epoch on.
    augment : AugmentConfig or None
        None takes the centre crop and the first caption, as for validation.
    mean, std : 3 numbers each
        Of the model's preprocessing.
    workers : int
        Threads or processes that decode; the batches do not depend on it.
    drop_last : bool
        Drop the last, smaller batch of an epoch.
    rank_shard : RankShard
        Which part of each batch to make.
    negatives : Negatives, optional
        Hard negatives that go with the captions.
    companions : CompanionTexts, optional
        Texts that go with every pair.

    Attributes
    ----------
    report : SkippedRecords
        Unusable records so far.
    batcher : Batcher
        Its `lanes` are those that this process reads.
    """

    report: SkippedRecords

    def __init__(
        self,
        tokenizer: Tokenize,
        *,
        batch_size: int,
        image_size: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        workers: int = 2,
        drop_last: bool,
        rank_shard: RankShard = RankShard(),  # noqa: B008 - frozen
        negatives: Negatives | None = None,
        companions: CompanionTexts | None = None,
    ) -> None:
        if batch_size < 1 or image_size < 1 or workers < 1:
            raise DataError(
                f"batch_size {batch_size}, image_size {image_size}, workers {workers}: expected 1 or more"
            )
        self.augment, self.seed, self.drop_last, self.rank_shard = augment, seed, drop_last, rank_shard
        self.batch_size, self.image_size, self.workers = batch_size, image_size, workers
        self.threads = workers  # that are started for an epoch
        self.kept_side = side_for(image_size, 1.0 if augment is None else augment.scale[0])
        transform = DeferredTransform(augment, tuple(mean), tuple(std))
        self.batcher = Batcher(batch_size, rank_shard, tokenizer, transform, drop_last, negatives, companions)

    @abstractmethod
    def prepare(self, scanning: Callable[[int], Callable[[int], None]]) -> None:
        """Do the work that is done once per run.

        `scanning` is called with the number of records, and returns the function that is called with the
        number done.
        """

    @abstractmethod
    def steps(self, epoch: int) -> int:
        """Count an epoch's batches."""

    def batches(self, epoch: int, positions: Positions = MappingProxyType({})) -> Iterator[Batch]:
        """Give an epoch's batches.

        Parameters
        ----------
        positions : mapping of lane to position
            `Batch.positions` of the last batch that was used, of all lanes that are read here; empty: from
            the start.

        Yields
        ------
        Batch
            Bitwise independent of the number of workers, the cache and where the epoch was resumed.

        Raises
        ------
        DataError
            The whole epoch does not fill one batch, or workers die repeatedly.
        """
        empty = not positions
        with worker_threads(self.threads, "diptych-pairs") as pool:
            for batch in self.batcher.batches(self._lanes(pool, epoch, positions), epoch):
                empty = False
                yield batch
        if empty:
            raise DataError(
                f"epoch {epoch} has fewer usable pairs than one batch, {self.batch_size} ({self.report}): "
                "lower the batch size or check the data"
            )

    @abstractmethod
    def _lanes(
        self, pool: ThreadPoolExecutor, epoch: int, positions: Positions
    ) -> Mapping[int, Iterator[PairChunk]]:
        """The usable pairs of each lane that is read here, from its position on."""

    def close(self) -> None:  # noqa: B027 - not abstract: most have nothing to do
        """Stop what runs between batches: nothing, unless a subclass says so."""


class PairLoader(Loader):
    """Batches from several sources of indexed pairs.

    Parameters
    ----------
    data : Mixture or sequence of (Source, repeat)
    cache : "auto", True or False
        Keep decoded images (shorter side 1.25 to 2 times `image_size`) in memory, up to `cache_budget`
        bytes. "auto" does if all of them fit into that and into a quarter of the free memory. Changes only
        the speed.
    **options
        Of `Loader`.

    Notes
    -----
    A bad record is left out and counted; the batches are those of the same data without it, bit by bit.
    """

    def __init__(
        self,
        data: Mixture | Sequence[tuple[Source, float]],
        tokenizer: Tokenize,
        *,
        cache: str | bool = "auto",
        cache_budget: int = CACHE_BUDGET,
        drop_last: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(tokenizer, drop_last=drop_last, **options)
        parts = data.open() if isinstance(data, Mixture) else list(data)
        self.sources = [source for source, _ in parts]
        if sum(map(len, self.sources)) == 0:
            raise DataError("there is nothing to load: no source holds a record")
        # Order and augmentation depend on keys, so that reading the same records elsewhere changes nothing.
        repeats = [repeat for _, repeat in parts]
        self.order = Order([source.hashes() for source in self.sources], repeats, self.seed)
        self.reader = PairReader(self.sources, self.kept_side, cache, cache_budget)
        self.report = self.reader.report

    @property
    def cached(self) -> bool:
        """Whether decoded pictures are kept in memory."""
        return self.reader.cache is not None

    def steps(self, epoch: int) -> int:
        """Count an epoch's batches: exact after `scan`; before it, bad records may make them fewer."""
        if self.rank_shard.lanes == 1:
            counts = (self.order.counts(part, epoch)[~bad].sum() for part, bad in enumerate(self.reader.bad))
            pairs = int(sum(counts))
            return pairs // self.batch_size if self.drop_last else -(-pairs // self.batch_size)
        visits = self.order.epoch(epoch)
        good = np.ones(len(visits), np.bool_)
        for part, bad in enumerate(self.reader.bad):
            here = visits.part == part
            good[here] = ~bad[visits.index[here]]
        # Lane l reads visits l, l + L, l + 2L, ...; the lane with the fewest good ones ends the epoch.
        lanes = self.rank_shard.lanes
        return min(int(good[lane::lanes].sum()) // self.batcher.each for lane in range(lanes))

    def scan(self, progress: Callable[[int], None] | None = None) -> SkippedRecords:
        """Read and decode every record once: fills the cache, finds the bad records, makes `steps` exact.

        Parameters
        ----------
        progress : callable, optional
            Called with the number of records done since the last call.
        """
        # Tasks of `CHUNK` records: large enough that handing them to threads costs little.
        spans = [
            (part, range(start, min(start + CHUNK, len(source))))
            for part, source in enumerate(self.sources)
            for start in range(0, len(source), CHUNK)
        ]
        with worker_threads(self.workers, "diptych-scan") as pool:
            for done in map_ahead(lambda task: pool.submit(self._scan, *task), spans, 4 * self.workers):
                if progress is not None:
                    progress(done)
        return self.report

    def prepare(self, scanning: Callable[[int], Callable[[int], None]]) -> None:
        """Scan if images are kept in memory."""
        if self.cached:
            self.scan(scanning(sum(map(len, self.sources))))

    def _lanes(
        self, pool: ThreadPoolExecutor, epoch: int, positions: Positions
    ) -> dict[int, Iterator[PairChunk]]:
        visits = self.order.epoch(epoch)
        return {
            lane: self._lane(pool, visits, lane, int(positions.get(lane, 0))) for lane in self.batcher.lanes
        }

    def _lane(
        self, pool: ThreadPoolExecutor, visits: Visits, lane: int, position: int
    ) -> Iterator[PairChunk]:
        """The usable pairs of one lane, from its visit number `position` on."""
        # e.g. 2 lanes, 7 visits: lane 0 has visits 0, 2, 4, 6 and lane 1 has 1, 3, 5; position 2 of lane 1 is
        # visit 5.
        own = visits[lane :: self.rank_shard.lanes]
        spans = [(own, range(n, min(n + CHUNK, len(own)))) for n in range(position, len(own), CHUNK)]
        ahead = AHEAD * -(-self.batcher.each // CHUNK) + self.workers
        return map_ahead(lambda task: pool.submit(self._load, *task), spans, ahead)

    def _load(self, visits: Visits, span: range) -> PairChunk:
        """Load the usable pairs among some visits, cropped; runs in a worker thread."""
        started = time.perf_counter()
        here = slice(span.start, span.stop)
        part, index, number = visits.part[here], visits.index[here], visits.number[here]
        pairs = [self.reader.pair(*visit) for visit in zip(part.tolist(), index.tolist(), strict=True)]
        good = np.array([n for n, pair in enumerate(pairs) if pair is not None], np.int64)
        usable = [pair for pair in pairs if pair is not None]
        crops, captions, full_captions = crop_pairs(usable, number[good], self.augment, self.image_size)
        return self._chunk(
            visits[here],
            good,
            crops=crops,
            record_captions=[texts for _, texts in usable],
            captions=captions,
            full_captions=full_captions,
            first=span.start,
            seconds=(time.perf_counter() - started) / max(1, len(good)),
        )

    def _chunk(
        self,
        visits: Visits,
        good: NDArray[np.int64],
        *,
        crops: Tensor,
        record_captions: Sequence[Sequence[str]],
        captions: list[str],
        full_captions: Sequence[str],
        first: int,
        seconds: float,
    ) -> PairChunk:
        """Put consecutive visits of a lane together.

        Parameters
        ----------
        visits : Visits
            From visit number `first` of the lane on.
        good : (n,) int64
            Which of them are usable; all that follows is of these.
        """
        records = [(self.sources[visits.part[n]], int(visits.index[n])) for n in good]
        labels = [source.label(n) for source, n in records]
        return PairChunk(
            crops=crops,
            captions=captions,
            record_captions=[
                () if label else texts for label, texts in zip(labels, record_captions, strict=True)
            ],
            groups=[label or text for label, text in zip(labels, full_captions, strict=True)],
            keys=[source.key(n) for source, n in records],
            numbers=visits.number[good],
            # A bad record is passed over: the position after a pair is that of the next visit.
            # e.g. visits 32..35 with 33 bad: ends 33, 35, 36.
            ends=(first + good + 1).tolist(),
            seconds=seconds,
        )

    def _scan(self, part: int, span: range) -> int:
        for index in span:
            self.reader.pair(part, index)
        return len(span)
