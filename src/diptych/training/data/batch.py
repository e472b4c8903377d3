"""Batches, and the part of each batch that a process makes.

A batch of B pairs is put together from L *lanes*: lane l gives its next B / L usable pairs to every batch.
What a lane gives next depends only on its own position. So the state of the data is L positions, from which
any number of processes can go on with the same batches: a process reads the lanes that overlap its part of
the batch, and need not know which records of other lanes were unusable. A run has as many lanes as it had
processes at its start. `loader.py` (indexed records) and `streaming.py` read the lanes.

e.g. B = 12, L = 2: lane 0 gives pairs 0..5 of a batch and lane 1 pairs 6..11. Resumed on 3 processes, rank 1
makes pairs 4..7: the last two of lane 0 and the first two of lane 1, so it reads both lanes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import DataError
from diptych.inputs import CLIP_MEAN, CLIP_STD, counted_long_texts
from diptych.training.data.augment import AugmentConfig, adjust_colours
from diptych.training.data.order import UInts, hash_keys
from diptych.training.data.texts.companions import CompanionTexts
from diptych.training.data.texts.hard_negatives import Negatives

# Position of a lane, as values of JSON: the number of visits used, or `LanePosition.to_json` of a stream.
Position = Any
Positions = Mapping[int, Position]


class Tokenize(Protocol):
    """The part of `diptych.inputs.Tokenizer` that is used."""

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Turn N texts into (N, L) ids, padded."""


@dataclass(frozen=True)
class RankShard:
    """Which part of every batch one process makes.

    Parameters
    ----------
    rank, size : int
        Number of this process, and of all processes.
    lanes : int
        Lanes of the run.

    Examples
    --------
    >>> RankShard(1, 2, 2).lanes_of(8)  # as many lanes as processes: each reads one lane
    {1: (0, 4)}
    >>> RankShard(1, 3, 2).lanes_of(12)  # resumed on three processes: rank 1 reads both lanes
    {0: (4, 6), 1: (0, 2)}
    """

    rank: int = 0
    size: int = 1
    lanes: int = 1

    def lanes_of(self, batch_size: int) -> dict[int, tuple[int, int]]:
        """Lanes to read -> start and stop of this process's pairs among those that the lane gives."""
        if batch_size % self.size or batch_size % self.lanes:
            raise DataError(
                f"a batch of {batch_size} pairs cannot be divided evenly among {self.size} processes and "
                f"{self.lanes} lanes: expected a multiple of {np.lcm(self.size, self.lanes)}"
            )
        mine, each = batch_size // self.size, batch_size // self.lanes
        first, last = self.rank * mine, (self.rank + 1) * mine
        return {
            # Pairs first..last of the batch, less the first pair of the lane, limited to 0..each.
            lane: (max(0, first - lane * each), min(each, last - lane * each))
            for lane in range(first // each, -(-last // each))  # -(-a // b) is a / b rounded up
        }


@dataclass(frozen=True)
class DeferredTransform:
    """Colour augmentation and normalisation of crops, applied on the device of the model.

    Parameters
    ----------
    augment : AugmentConfig or None
        None only normalises.
    mean, std : 3 numbers each
    """

    augment: AugmentConfig | None = None
    mean: tuple[float, ...] = CLIP_MEAN
    std: tuple[float, ...] = CLIP_STD

    def __call__(self, crops: Tensor, numbers: UInts) -> Tensor:
        """(B, 3, S, S) uint8 -> float32, channels last in memory; features float16 -> float32."""
        if crops.dtype == torch.float16:
            return crops.float()
        images = adjust_colours(crops, numbers, self.augment, self.mean, self.std)
        return images.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Batch:
    """One process's pairs of one step.

    Attributes
    ----------
    crops : (B, 3, S, S) uint8, or (B, W) or (B, C, G, G) float16
        Cropped images; as uint8 they take a quarter of the memory of `images`. Or the output of the locked
        part of a tower (`feature_cache.py`).
    numbers : (B,) uint64
        Visit numbers.
    transform : DeferredTransform
        From crops to the images that the model reads.
    tokens : (B, L) int64, or (B, 1 + K + C, L)
        Padded to the context length; K hard negatives and C companions (`texts/`) follow the caption.
    groups : (B,) int64
        Pairs with the same number have the same caption or label, so they are not each other's negatives.
    is_labelled : (B,) bool
        Whether a pair has a label in place of captions.
    positions : mapping of lane to position
        Of the lanes read here: `batches(epoch, positions)` begins with the batch after this one.
    wait_seconds : float
        How long the caller waited for this batch.
    work_seconds : float
        Time that workers spent to read, decode and crop it, summed over them.
    samples : (B, D) int64, or None
        What the companions drew, see `texts.companions.CompanionTexts.of`.
    """

    crops: Tensor
    numbers: UInts
    transform: DeferredTransform
    tokens: Tensor
    groups: Tensor
    captions: list[str]
    keys: list[str]
    epoch: int
    positions: dict[int, Position]
    wait_seconds: float
    work_seconds: float
    is_labelled: Tensor | None = None
    samples: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def negative_groups(self, *, by_kind: bool) -> Tensor:
        """Groups for the loss, (B,), or (B, 2) with the kind: whether a pair has a label."""
        if not by_kind or self.is_labelled is None:
            return self.groups
        return torch.stack([self.groups, self.is_labelled.long()], dim=1)

    @property
    def images(self) -> Tensor:
        """All images as the model reads them, (B, 3, S, S) float32."""
        return self.part(slice(None), torch.device("cpu"))[0]

    def part(self, pairs: slice, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """Some pairs: images (b, 3, S, S) or features, float32; tokens, on the CPU; samples."""
        crops = self.crops[pairs].to(device, non_blocking=True)
        samples = None if self.samples is None else self.samples[pairs].to(device, non_blocking=True)
        return self.transform(crops, self.numbers[pairs]), self.tokens[pairs], samples


@dataclass
class PairChunk:
    """Consecutive usable pairs of one lane, before they are batched."""

    crops: Tensor  # (n, 3, S, S) uint8, or features float16
    captions: list[str]
    record_captions: Sequence[Sequence[str]]  # all captions of each record; none for a labelled one
    groups: list[str]
    keys: list[str]
    numbers: UInts
    ends: Sequence[Position]  # position of the lane after each pair
    seconds: float  # of a worker, per pair

    def __len__(self) -> int:
        return len(self.keys)

    def slice(self, start: int, stop: int) -> PairChunk:
        """Pairs from `start` up to before `stop`."""
        return PairChunk(
            self.crops[start:stop],
            self.captions[start:stop],
            self.record_captions[start:stop],
            self.groups[start:stop],
            self.keys[start:stop],
            self.numbers[start:stop],
            self.ends[start:stop],
            self.seconds,
        )


class Batcher:
    """Puts the chunks of lanes together to batches.

    Parameters
    ----------
    batch_size : int
        Pairs of a step, those of the other processes included.
    drop_last : bool
        Drop the last pairs of an epoch that do not fill a batch; else they become a smaller batch (with one
        lane only).
    negatives : Negatives, optional
        Hard negatives that go with the captions.
    companions : CompanionTexts, optional
        Texts that go with every pair.
    """

    def __init__(
        self,
        batch_size: int,
        rank_shard: RankShard,
        tokenizer: Tokenize,
        transform: DeferredTransform,
        drop_last: bool = True,
        negatives: Negatives | None = None,
        companions: CompanionTexts | None = None,
    ) -> None:
        self.lanes = rank_shard.lanes_of(batch_size)
        self.each = batch_size // rank_shard.lanes
        self.tokenizer, self.transform, self.drop_last = tokenizer, transform, drop_last
        self.negatives, self.companions = negatives, companions
        self._warned = False  # that captions were cut

    def batches(self, lanes: Mapping[int, Iterator[PairChunk]], epoch: int) -> Iterator[Batch]:
        """Give batches until a lane has no more pairs."""
        queues = {lane: _Queue(chunks) for lane, chunks in lanes.items()}
        while True:
            started = time.perf_counter()
            # A list and not a generator inside `all`: every lane must be filled, also behind an empty one.
            full = [queue.fill(self.each) for queue in queues.values()]
            if not all(full):
                break
            yield self._batch({lane: queue.take(self.each) for lane, queue in queues.items()}, epoch, started)
        for lane, queue in queues.items():
            if queue.ready and not self.drop_last:
                yield self._batch({lane: queue.take(queue.ready)}, epoch, started)

    def _batch(self, taken: dict[int, list[PairChunk]], epoch: int, started: float) -> Batch:
        # Positions count all pairs that a lane gives to the batch, also those of other processes.
        positions = {lane: chunks[-1].ends[-1] for lane, chunks in taken.items()}
        chunks = [part for lane, some in taken.items() for part in _pairs_between(some, *self.lanes[lane])]
        captions = [caption for chunk in chunks for caption in chunk.captions]
        numbers = np.concatenate([chunk.numbers for chunk in chunks])
        records = [texts for chunk in chunks for texts in chunk.record_captions]
        tokens, samples = self._texts(captions, records, numbers, epoch)
        groups = hash_keys(group for chunk in chunks for group in chunk.groups).view(np.int64)
        return Batch(
            crops=torch.cat([chunk.crops for chunk in chunks]),
            numbers=numbers,
            transform=self.transform,
            tokens=tokens,
            is_labelled=torch.tensor([not texts for texts in records]),
            samples=samples,
            groups=torch.from_numpy(groups.copy()),
            captions=captions,
            keys=[key for chunk in chunks for key in chunk.keys],
            epoch=epoch,
            positions=positions,
            wait_seconds=time.perf_counter() - started,
            work_seconds=sum(len(chunk) * chunk.seconds for chunk in chunks),
        )

    def _texts(
        self, captions: list[str], records: list[Sequence[str]], numbers: UInts, epoch: int
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens of the captions and of what goes with them, and what the companions drew."""
        rows, samples = [[caption] for caption in captions], None
        if self.negatives is not None:
            rows = [
                [*row, *hard] for row, hard in zip(rows, self.negatives.of(captions, numbers), strict=True)
            ]
        if self.companions is not None:
            texts, drawn = self.companions.of(numbers, epoch, records)
            samples = torch.from_numpy(drawn)
            rows = [[*row, *others] for row, others in zip(rows, texts, strict=True)]
        with counted_long_texts() as long:
            # Rows of 1 + K + C texts one after the other.
            tokens = torch.from_numpy(self.tokenizer([text for row in rows for text in row]))
        if long.cut and not self._warned:  # once a run, not at every step
            self._warned = True
            long.warn(stacklevel=2)
        if self.negatives is not None or self.companions is not None:
            tokens = tokens.view(len(captions), -1, tokens.shape[1])
        return tokens, samples


class _Queue:
    """Chunks of one lane, from which exact numbers of pairs are taken."""

    def __init__(self, chunks: Iterator[PairChunk]) -> None:
        self._chunks, self._waiting = chunks, deque[PairChunk]()
        self.ready = 0

    def fill(self, count: int) -> bool:
        """Wait until `count` pairs are ready; False if the lane ends before."""
        while self.ready < count:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._waiting.append(chunk)
            self.ready += len(chunk)
        return True

    def take(self, count: int) -> list[PairChunk]:
        """Take exactly `count` pairs off the front; the rest of a chunk stays."""
        taken = []
        self.ready -= count
        while count:
            chunk = self._waiting.popleft()
            if len(chunk) > count:
                self._waiting.appendleft(chunk.slice(count, len(chunk)))
                chunk = chunk.slice(0, count)
            if len(chunk):
                taken.append(chunk)
            count -= len(chunk)
        return taken


def _pairs_between(chunks: list[PairChunk], start: int, stop: int) -> Iterator[PairChunk]:
    """The pairs numbered `start` up to before `stop` among all pairs of the chunks."""
    # e.g. chunks of 3, 2 and 4 pairs, start 2, stop 6: pair 2 of the first, all of the second, pair 0 of the
    # third.
    done = 0
    for chunk in chunks:
        first, last = max(start - done, 0), min(stop - done, len(chunk))
        done += len(chunk)
        if first < last:
            yield chunk if (first, last) == (0, len(chunk)) else chunk.slice(first, last)
