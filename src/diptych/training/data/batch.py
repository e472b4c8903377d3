"""Batches, and which process makes which part of them.

A batch of a run is put together from *lanes*: lane l of L gives its next B / L good pairs to every batch.
What a lane gives next depends on the lane's own position alone. So where training stands is L positions, and
any number of processes can go on from there with the same batches: a process reads the lanes that its share
of the batch overlaps with, and nobody needs to know what the others found broken. A run has as many lanes as
processes at its start. How a lane is read, `loader.py` (records by number) and `streaming.py` say.
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
from diptych.training.data.augment import AugmentConfig, finish
from diptych.training.data.negatives import Negatives
from diptych.training.data.order import UInts, hash_keys

Position = Any  # of a lane: a number of visits, or what a stream makes of it; JSON can hold it
Positions = Mapping[int, Position]


class Tokenize(Protocol):
    """The part of `diptych.inputs.Tokenizer` that is used."""

    def __call__(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Turn N texts into (N, L) ids, padded."""


@dataclass(frozen=True)
class Share:
    """The part of every batch that one process makes.

    Parameters
    ----------
    rank, size : int
        This process, and how many there are.
    lanes : int
        Lanes of the run.

    Examples
    --------
    >>> Share(1, 2, 2).lanes_of(8)          # as many lanes as processes: one lane each
    {1: (0, 4)}
    >>> Share(1, 3, 2).lanes_of(12)         # went on with three: the second one reads both lanes
    {0: (4, 6), 1: (0, 2)}
    """

    rank: int = 0
    size: int = 1
    lanes: int = 1

    def lanes_of(self, batch_size: int) -> dict[int, tuple[int, int]]:
        """Lanes to read, and which pairs of what each gives to a batch are this process's."""
        if batch_size % self.size or batch_size % self.lanes:
            raise DataError(
                f"a batch of {batch_size} pairs cannot be shared evenly among {self.size} processes and "
                f"{self.lanes} lanes: expected a multiple of {np.lcm(self.size, self.lanes)}"
            )
        mine, each = batch_size // self.size, batch_size // self.lanes
        first, last = self.rank * mine, (self.rank + 1) * mine
        return {
            lane: (max(0, first - lane * each), min(each, last - lane * each))
            for lane in range(first // each, -(-last // each))
        }


@dataclass(frozen=True)
class Finish:
    """Colours and normalisation: what is left to do to a crop, on whatever device the model is.

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
        """(B, 3, S, S) uint8 -> float32, channels last in memory."""
        done = finish(crops, numbers, self.augment, self.mean, self.std)
        return done.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Batch:
    """One process's pairs of one step.

    Attributes
    ----------
    crops : (B, 3, S, S) uint8
        Cropped; a quarter of the memory of what `images` makes of them.
    numbers : (B,) uint64
        The visits' numbers.
    finish : Finish
        What is still to be done to the crops.
    tokens : (B, L) int64, or (B, 1 + K, L)
        Padded to the context length; where there are near misses (`negatives.py`), they follow the caption.
    groups : (B,) int64
        Pairs with the same number have the same caption or the same label: not each other's negatives.
    captions, keys : list of str
    epoch : int
    positions : mapping of lane to position
        Where to start to get the batch after this one: `batches(epoch, positions)`. Of the lanes read here.
    wait_seconds : float
        How long the caller waited for this batch.
    work_seconds : float
        How long workers read, decoded and cropped for it, all of them together.
    """

    crops: Tensor
    numbers: UInts
    finish: Finish
    tokens: Tensor
    groups: Tensor
    captions: list[str]
    keys: list[str]
    epoch: int
    positions: dict[int, Position]
    wait_seconds: float
    work_seconds: float

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def images(self) -> Tensor:
        """All pictures as the model reads them, (B, 3, S, S) float32."""
        return self.part(slice(None), torch.device("cpu"))[0]

    def part(self, pairs: slice, device: torch.device) -> tuple[Tensor, Tensor]:
        """Some pairs: pictures (b, 3, S, S) float32 on a device, and their tokens on the CPU."""
        crops = self.crops[pairs].to(device, non_blocking=True)
        return self.finish(crops, self.numbers[pairs]), self.tokens[pairs]


@dataclass
class Piece:
    """Good pairs of one lane in order, waiting to be batched."""

    crops: Tensor  # (n, 3, S, S) uint8
    captions: list[str]
    groups: list[str]
    keys: list[str]
    numbers: UInts
    ends: Sequence[Position]  # where the lane stands once this pair is used
    seconds: float  # of a worker, for each pair

    def __len__(self) -> int:
        return len(self.keys)

    def cut(self, start: int, stop: int) -> Piece:
        """Some of the pairs."""
        return Piece(
            self.crops[start:stop],
            self.captions[start:stop],
            self.groups[start:stop],
            self.keys[start:stop],
            self.numbers[start:stop],
            self.ends[start:stop],
            self.seconds,
        )


class Batcher:
    """Pieces of lanes to batches.

    Parameters
    ----------
    batch_size : int
        Pairs of a step, those of the other processes included.
    share : Share
    tokenizer : callable
    finish : Finish
    drop_last : bool
        Leave out what does not fill a batch in the end; else it becomes a smaller one (one lane only).
    negatives : Negatives, optional
        Near misses to go with the captions.
    """

    def __init__(
        self,
        batch_size: int,
        share: Share,
        tokenizer: Tokenize,
        finish: Finish,
        drop_last: bool = True,
        negatives: Negatives | None = None,
    ) -> None:
        self.lanes = share.lanes_of(batch_size)
        self.each = batch_size // share.lanes
        self.tokenizer, self.finish, self.drop_last = tokenizer, finish, drop_last
        self.negatives = negatives
        self._told = False  # of captions that were cut

    def batches(self, lanes: Mapping[int, Iterator[Piece]], epoch: int) -> Iterator[Batch]:
        """Give batches until a lane has no more."""
        queues = {lane: _Queue(pieces) for lane, pieces in lanes.items()}
        while True:
            started = time.perf_counter()
            full = [queue.fill(self.each) for queue in queues.values()]  # a list: every lane goes on
            if not all(full):
                break
            yield self._batch({lane: queue.take(self.each) for lane, queue in queues.items()}, epoch, started)
        for lane, queue in queues.items():
            if queue.ready and not self.drop_last:
                yield self._batch({lane: queue.take(queue.ready)}, epoch, started)

    def _batch(self, taken: dict[int, list[Piece]], epoch: int, started: float) -> Batch:
        positions = {lane: pieces[-1].ends[-1] for lane, pieces in taken.items()}
        pieces = [piece for lane, some in taken.items() for piece in _cut(some, *self.lanes[lane])]
        captions = [caption for piece in pieces for caption in piece.captions]
        numbers = np.concatenate([piece.numbers for piece in pieces])
        groups = hash_keys(group for piece in pieces for group in piece.groups).view(np.int64)
        return Batch(
            crops=torch.cat([piece.crops for piece in pieces]),
            numbers=numbers,
            finish=self.finish,
            tokens=self._tokens(captions, numbers),
            groups=torch.from_numpy(groups.copy()),
            captions=captions,
            keys=[key for piece in pieces for key in piece.keys],
            epoch=epoch,
            positions=positions,
            wait_seconds=time.perf_counter() - started,
            work_seconds=sum(len(piece) * piece.seconds for piece in pieces),
        )

    def _tokens(self, captions: list[str], numbers: UInts) -> Tensor:
        texts = captions
        if self.negatives is not None:
            missed = self.negatives.of(captions, numbers)
            texts = [text for own, near in zip(captions, missed, strict=True) for text in (own, *near)]
        with counted_long_texts() as long:
            tokens = torch.from_numpy(self.tokenizer(texts))
        if long.cut and not self._told:  # at every step of a run would be too often
            self._told = True
            long.warn(stacklevel=2)
        return tokens if self.negatives is None else tokens.view(len(captions), -1, tokens.shape[1])


class _Queue:
    """Pieces of one lane, taken pair by pair."""

    def __init__(self, pieces: Iterator[Piece]) -> None:
        self._coming, self._waiting = pieces, deque[Piece]()
        self.ready = 0

    def fill(self, count: int) -> bool:
        """Wait until so many pairs are there; False if there are no more to come."""
        while self.ready < count:
            piece = next(self._coming, None)
            if piece is None:
                return False
            self._waiting.append(piece)
            self.ready += len(piece)
        return True

    def take(self, count: int) -> list[Piece]:
        """Take exactly `count` pairs off the front; what is left of a piece stays."""
        taken = []
        self.ready -= count
        while count:
            piece = self._waiting.popleft()
            if len(piece) > count:
                self._waiting.appendleft(piece.cut(count, len(piece)))
                piece = piece.cut(0, count)
            if len(piece):
                taken.append(piece)
            count -= len(piece)
        return taken


def _cut(pieces: list[Piece], start: int, stop: int) -> Iterator[Piece]:
    """Those pairs of some pieces that lie from `start` to `stop` among all of them."""
    done = 0
    for piece in pieces:
        first, last = max(start - done, 0), min(stop - done, len(piece))
        done += len(piece)
        if first < last:
            yield piece if (first, last) == (0, len(piece)) else piece.cut(first, last)
