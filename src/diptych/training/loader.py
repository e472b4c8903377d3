"""Batches of pairs, in an order and with a chance that no worker, cache, bad record or restart can change.

Threads decode and crop (Pillow and torch let go of the interpreter meanwhile), a bounded number of batches ahead.
Where training stands in an epoch is one number, `Batch.position`: how many visits are consumed. The model and the
steps are the trainer's.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import DataError, ImageError
from diptych.training.augment import CAPTION, COLUMNS, FLIP, AugmentConfig, crop, crop_boxes, finish
from diptych.training.order import Order, UInts, Visits, hash_keys, uniforms
from diptych.training.pictures import Cache, Pixels, decode, free_memory, side_for
from diptych.training.sources import Description, Source

CACHE_BUDGET = 4 * 2**30  # bytes
CHUNK = 32  # visits handed to a worker at a time
AHEAD = 2  # batches prepared ahead

_CONDEMN = threading.Lock()

A = TypeVar("A")
T = TypeVar("T")

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


class Tokenize(Protocol):
    """The part of `diptych.inputs.Tokenizer` that is used."""

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Turn N texts into (N, L) ids, padded."""


@dataclass(frozen=True)
class Mixture:
    """Several sets of pairs and how often an epoch visits each.

    Parameters
    ----------
    parts : tuple of (description, repeat)
        2.5 visits each record twice or three times an epoch, in turn; 0.1 once in ten epochs.

    Examples
    --------
    >>> from diptych.training.sources import TarPairs
    >>> Mixture(((TarPairs("flickr/{0..2}.tar"), 3.0), (TarPairs("more.tar"), 1.0))).parts[0][1]
    3.0
    """

    parts: tuple[tuple[Description, float], ...]

    def open(self) -> list[tuple[Source, float]]:
        """Index every part."""
        return [(description.open(), repeat) for description, repeat in self.parts]


@dataclass(frozen=True)
class Batch:
    """One step's pairs.

    Attributes
    ----------
    images : (B, 3, S, S) float32
        Augmented and normalised, channels last in memory.
    tokens : (B, L) int64
        Padded to the context length.
    groups : (B,) int64
        Pairs with the same number have the same caption or the same label: not each other's negatives.
    captions, keys : list of str
    epoch, position : int
        Where to start to get the batch after this one: `batches(epoch, position)`.
    wait_seconds : float
        How long the caller waited for this batch.
    """

    images: Tensor
    tokens: Tensor
    groups: Tensor
    captions: list[str]
    keys: list[str]
    epoch: int
    position: int
    wait_seconds: float


@dataclass
class Report:
    """What could not be used: distinct records by reason, with one example each."""

    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        """Count one record."""
        self.skipped[reason] += 1
        self.examples.setdefault(reason, example)

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} x {reason}" for reason, count in self.skipped.most_common())
        return f"{self.skipped.total():,} records skipped: {reasons}" if reasons else "no record skipped"


@dataclass
class _Piece:
    """Good pairs in order, waiting to be batched."""

    images: Tensor  # (n, 3, S, S) uint8
    captions: list[str]
    groups: list[str]
    keys: list[str]
    numbers: UInts
    ends: NDArray[np.int64]  # visits consumed once this pair is used

    def __len__(self) -> int:
        return len(self.keys)

    def cut(self, start: int, stop: int) -> _Piece:
        parts = (
            part[start:stop]
            for part in (self.images, self.captions, self.groups, self.keys, self.numbers, self.ends)
        )
        return _Piece(*parts)


class PairLoader:
    """Batches from several sources of pairs.

    Parameters
    ----------
    data : Mixture or sequence of (Source, repeat)
    tokenizer : callable
        `diptych.inputs.Tokenizer`: texts to (N, L) int64.
    batch_size, image_size : int
        Pairs a batch; side in pixels.
    augment : AugmentConfig or None
        None takes the middle square and the first caption, as for validation.
    seed : int
    mean, std : 3 numbers each
        Of the model's preprocessing.
    workers : int
        Threads that decode; the batches do not depend on it.
    cache : "auto", True or False
        Keep decoded pictures (shorter side 1.25 to 2 times `image_size`) in memory, up to `cache_budget` bytes.
        "auto" does if all of them fit into that and into a quarter of the free memory. Changes only the speed.
    drop_last : bool
        Leave out an epoch's last, smaller batch.

    Attributes
    ----------
    report : Report
        Records found unusable so far.
    """

    def __init__(
        self,
        data: Mixture | Sequence[tuple[Source, float]],
        tokenizer: Tokenize,
        *,
        batch_size: int,
        image_size: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        workers: int = 2,
        cache: str | bool = "auto",
        cache_budget: int = CACHE_BUDGET,
        drop_last: bool = True,
    ) -> None:
        if batch_size < 1 or image_size < 1 or workers < 1:
            raise DataError(
                f"batch_size {batch_size}, image_size {image_size}, workers {workers}: expected 1 or more"
            )
        parts = data.open() if isinstance(data, Mixture) else list(data)
        self.sources = [source for source, _ in parts]
        if sum(map(len, self.sources)) == 0:
            raise DataError("there is nothing to load: no source holds a record")
        self.tokenizer, self.augment, self.drop_last = tokenizer, augment, drop_last
        self.batch_size, self.image_size, self.workers = batch_size, image_size, workers
        self.mean, self.std = tuple(mean), tuple(std)
        self.order = Order(
            [source.hashes() for source in self.sources], [repeat for _, repeat in parts], seed
        )
        self.report = Report()
        for source in self.sources:
            self.report.skipped.update(source.dropped)
        self._side = side_for(image_size, 1.0 if augment is None else augment.scale[0])
        self._bad = [np.zeros(len(source), np.bool_) for source in self.sources]
        self.cache = self._make_cache(cache, cache_budget)

    def steps(self, epoch: int) -> int:
        """Count an epoch's batches: exact after `scan`, else at most so many (bad records come to light later)."""
        counts = (self.order.counts(part, epoch)[~bad].sum() for part, bad in enumerate(self._bad))
        visits = int(sum(counts))
        return visits // self.batch_size if self.drop_last else -(-visits // self.batch_size)

    def scan(self, progress: Callable[[int], None] | None = None) -> Report:
        """Read and decode every record once: fills the cache, finds the bad records, makes `steps` exact.

        Parameters
        ----------
        progress : callable, optional
            Called with the number of records done since the last call.
        """
        spans = [
            (part, range(start, min(start + CHUNK, len(source))))
            for part, source in enumerate(self.sources)
            for start in range(0, len(source), CHUNK)
        ]
        with ThreadPoolExecutor(self.workers, "diptych-scan") as pool:
            try:
                for done in _ahead(pool, self._scan, spans, 4 * self.workers):
                    if progress is not None:
                        progress(done)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return self.report

    def batches(self, epoch: int, position: int = 0) -> Iterator[Batch]:
        """Give an epoch's batches.

        Parameters
        ----------
        epoch : int
        position : int
            `Batch.position` of the last batch that was used, to go on after it.

        Yields
        ------
        Batch
            Bitwise the same whatever the number of workers, the cache and the start.
        """
        visits = self.order.epoch(epoch)
        spans = [(visits, range(n, min(n + CHUNK, len(visits)))) for n in range(position, len(visits), CHUNK)]
        ahead = AHEAD * -(-self.batch_size // CHUNK) + self.workers
        with ThreadPoolExecutor(self.workers, "diptych-pairs") as pool:
            try:
                yield from self._batched(_ahead(pool, self._load, spans, ahead), epoch)
            finally:
                # Also when the caller leaves early: what has not begun never does.
                pool.shutdown(cancel_futures=True)

    def _batched(self, pieces: Iterator[_Piece], epoch: int) -> Iterator[Batch]:
        waiting: deque[_Piece] = deque()
        started = time.perf_counter()
        for piece in pieces:
            waiting.append(piece)
            while sum(map(len, waiting)) >= self.batch_size:
                yield self._batch(_take(waiting, self.batch_size), epoch, started)
                started = time.perf_counter()
        rest = sum(map(len, waiting))
        if rest and not self.drop_last:
            yield self._batch(_take(waiting, rest), epoch, started)

    def _batch(self, pieces: list[_Piece], epoch: int, started: float) -> Batch:
        captions = [caption for piece in pieces for caption in piece.captions]
        groups = hash_keys(group for piece in pieces for group in piece.groups).view(np.int64)
        numbers = np.concatenate([piece.numbers for piece in pieces])
        images = torch.cat([piece.images for piece in pieces])
        return Batch(
            images=finish(images, numbers, self.augment, self.mean, self.std),
            tokens=torch.from_numpy(self.tokenizer(captions)),
            groups=torch.from_numpy(groups.copy()),
            captions=captions,
            keys=[key for piece in pieces for key in piece.keys],
            epoch=epoch,
            position=int(pieces[-1].ends[-1]),
            wait_seconds=time.perf_counter() - started,
        )

    def _load(self, visits: Visits, span: range) -> _Piece:
        """Worker: the good pairs among some visits, cropped."""
        draws = uniforms(visits.number[span.start : span.stop], COLUMNS)
        rows, pixels, captions, groups, keys = [], [], [], [], []
        for row, (part, index) in enumerate(
            zip(
                visits.part[span.start : span.stop].tolist(),
                visits.index[span.start : span.stop].tolist(),
                strict=True,
            )
        ):
            found = self._pair(part, index)
            if found is None:
                continue
            picture, texts = found
            chosen = 0 if self.augment is None else int(draws[row, CAPTION] * len(texts))
            source = self.sources[part]
            rows.append(row)
            pixels.append(picture)
            captions.append(texts[chosen])
            groups.append(source.label(index) or texts[chosen])
            keys.append(source.key(index))
        return self._cropped(visits, span, draws, rows, pixels, captions, groups, keys)

    def _cropped(
        self,
        visits: Visits,
        span: range,
        draws: NDArray[np.float64],
        rows: list[int],
        pixels: list[Pixels],
        captions: list[str],
        groups: list[str],
        keys: list[str],
    ) -> _Piece:
        draws = draws[rows]
        sizes = np.array([picture.shape[:2] for picture in pixels], np.int64).reshape(-1, 2)
        boxes = crop_boxes(sizes, draws, self.augment)
        mirrored = draws[:, FLIP] < (0.0 if self.augment is None else self.augment.flip)
        images = crop(pixels, boxes, self.image_size, mirrored)
        at = np.array(rows, np.int64) + span.start
        return _Piece(images, captions, groups, keys, visits.number[at], at + 1)

    def _pair(self, part: int, index: int) -> tuple[Pixels, tuple[str, ...]] | None:
        """Read one record; None when it is bad, which is counted once."""
        if self._bad[part][index]:
            return None
        source = self.sources[part]
        reason, example = "no caption", source.key(index)
        try:
            if captions := source.captions(index):
                return self._picture(part, index), captions
        except ImageError as error:
            reason, example = "picture cannot be decoded", f"{example}: {error}"
        except DataError as error:
            reason, example = "record cannot be read", f"{example}: {error}"
        self._condemn(part, index, reason, example)
        return None

    def _picture(self, part: int, index: int) -> Pixels:
        kept = None if self.cache is None else self.cache.get(part, index)
        if kept is None:
            kept = decode(self.sources[part].image(index), self._side)
            if self.cache is not None:
                self.cache.put(part, index, kept)
        return kept

    def _condemn(self, part: int, index: int, reason: str, example: str) -> None:
        # Two threads may meet one bad record at once: it is counted once all the same.
        with _CONDEMN:
            if not self._bad[part][index]:
                self._bad[part][index] = True
                self.report.add(reason, example)

    def _scan(self, part: int, span: range) -> int:
        for index in span:
            self._pair(part, index)
        return len(span)

    def _make_cache(self, cache: str | bool, budget: int) -> Cache | None:
        if cache not in ("auto", True, False):
            raise DataError(f"cache is {cache!r}: expected 'auto', True or False")
        if cache == "auto":
            budget = min(budget, free_memory() // 4)
            cache = self._estimate() <= budget
        return Cache([len(source) for source in self.sources], budget) if cache else None

    def _estimate(self) -> float:
        """Bytes of all pictures decoded, from a few of each source."""
        total = 0.0
        for part, source in enumerate(self.sources):
            sizes = []
            for index in np.linspace(0, len(source) - 1, min(16, len(source))).astype(int).tolist():
                try:
                    sizes.append(decode(source.image(index), self._side).nbytes)
                except (ImageError, DataError):
                    continue
            total += len(source) * (sum(sizes) / len(sizes) if sizes else 0.0)
        return total


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[A, range], T], tasks: Sequence[tuple[A, range]], ahead: int
) -> Iterator[T]:
    """Run tasks in threads, at most `ahead` at a time, and give their results in order."""
    running: deque[Future[T]] = deque()
    for task in tasks:
        running.append(pool.submit(work, *task))
        if len(running) >= ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _take(waiting: deque[_Piece], count: int) -> list[_Piece]:
    """Take exactly `count` pairs off the front; what is left of a piece stays."""
    taken = []
    while count:
        piece = waiting.popleft()
        if len(piece) > count:
            waiting.appendleft(piece.cut(count, len(piece)))
            piece = piece.cut(0, count)
        if len(piece):
            taken.append(piece)
        count -= len(piece)
    return taken
