"""Batches from shards that are too many, too large or too far away for an index: read as they come.

What `loader.py` does for records by number. Nothing is known of a record before it is read; how many there
are, which the schedule needs, a manifest says (`manifest.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from diptych.errors import DataError
from diptych.files.locations import find_locations
from diptych.files.patterns import is_remote
from diptych.inputs import CLIP_MEAN, CLIP_STD
from diptych.training.data.augment import AugmentConfig
from diptych.training.data.batch import Batch, Batcher, Finish, Piece, Positions, Share, Tokenize
from diptych.training.data.decoders import Decoders, Task, Work
from diptych.training.data.lanes import Block, Epoch, Lane, Spot
from diptych.training.data.lengths import ShardGroup, StreamLengths
from diptych.training.data.negatives import Negatives
from diptych.training.data.order import Order, Visits, distinct_names, hash_keys
from diptych.training.data.pictures import side_for
from diptych.training.data.reader import Report
from diptych.training.data.sources.walk import Walk

CHUNK = 32  # records handed to a worker at a time
FEW = 16  # shards a lane: with fewer, lanes share every shard, or the longest lane's rest would be lost


@dataclass(frozen=True)
class TarStream:
    """Tar shards of KEY.jpg (png, webp, ...) with KEY.txt or KEY.json, read from front to back.

    Parameters
    ----------
    pattern : str, Path or a sequence
        As for `TarPairs`, and URLs that fsspec knows: ``s3://bucket/{00000..00999}.tar``, ``gs://``,
        ``https://``.
    caption_field : str, optional
        As for `TarPairs`.
    block : int
        Records mixed with each other, besides the shards' order; each process holds twice as many.
    tries : int
        How often a shard that fails is tried, before it is counted and left out.
    wait : float
        Seconds before the second try; twice as long before the next.
    allow_pipes : bool
        Whether ``pipe:command`` may run a command whose output is the shard.
    """

    pattern: str | Path | Sequence[str | Path]
    caption_field: str | None = None
    block: int = 2000
    tries: int = 3
    wait: float = 1.0
    allow_pipes: bool = False

    def locations(self) -> list[str]:
        """Every shard, in a fixed order."""
        return find_locations(self.pattern, allow_pipes=self.allow_pipes)

    def open(self) -> Any:
        """A stream has no index, so it cannot be opened as records by number."""
        raise DataError("a TarStream is read as it comes and cannot be split or held out of: use TarPairs")


class StreamLoader:
    """Batches from streams.

    Parameters
    ----------
    parts : sequence of (TarStream, repeat)
        A repeat of 2.5 reads each shard twice or three times an epoch, in turn.
    tokenizer : callable
    batch_size, image_size : int
        Pairs of a step on all processes; side in pixels.
    augment : AugmentConfig or None
    seed : int
    mean, std : 3 numbers each
    workers : int
        Processes that decode; the batches do not depend on it.
    pairs_per_epoch : int
        Usable pairs that an epoch has, on all processes; 0 counts them, by the headers of the shards.
    share : Share
    negatives : Negatives, optional
        Near misses to go with the captions.

    Attributes
    ----------
    report : Report
        What could not be used.
    """

    def __init__(
        self,
        parts: Sequence[tuple[TarStream, float]],
        tokenizer: Tokenize,
        *,
        batch_size: int,
        image_size: int,
        augment: AugmentConfig | None = None,
        seed: int = 0,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        workers: int = 2,
        pairs_per_epoch: int = 0,
        share: Share = Share(),  # noqa: B008 - frozen
        negatives: Negatives | None = None,
    ) -> None:
        self.streams = [stream for stream, _ in parts]
        self.shards = [stream.locations() for stream in self.streams]
        self.names = [distinct_names(locations) for locations in self.shards]
        hashes = [hash_keys(names) for names in self.names]
        self.order = Order(hashes, [repeat for _, repeat in parts], seed)
        self.batch_size, self.image_size, self.augment, self.share = batch_size, image_size, augment, share
        self.workers, self.report = workers, Report()
        finish = Finish(augment, tuple(mean), tuple(std))
        self.batcher = Batcher(batch_size, share, tokenizer, finish, negatives=negatives)
        self._kept_side = side_for(image_size, 1.0 if augment is None else augment.scale[0])
        self._block = max(stream.block for stream in self.streams)
        self._decoders: Decoders | None = None
        self._pairs_per_epoch = pairs_per_epoch
        self._lengths = StreamLengths(
            [
                ShardGroup(names, stream.caption_field is not None, stream.tries, stream.wait)
                for stream, names in zip(self.streams, self.shards, strict=True)
            ],
            workers,
        )

    def prepare(self, scanning: Callable[[int], Callable[[int], None]]) -> None:
        """Count the shards' pairs, on the first process: it plans the run for all."""
        if self.share.rank == 0 and not self._pairs_per_epoch:
            self._lengths.count(scanning)

    def steps(self, epoch: int) -> int:
        """Count an epoch's batches: exact where every pair can be used.

        Raises
        ------
        DataError
            The shards cannot be counted, and `pairs_per_epoch` does not say how many pairs there are.
        """
        if self._pairs_per_epoch:
            return self._pairs_per_epoch // self.batch_size
        visits = self.order.epoch(epoch)
        pairs = self._lengths.lane_pairs(visits, self.share.lanes, self._by_shard(visits))
        return min(int(count) // self.batcher.each for count in pairs)  # the shortest lane ends the epoch

    def batches(self, epoch: int, positions: Positions = MappingProxyType({})) -> Iterator[Batch]:
        """Give an epoch's batches, from the positions of `Batch.positions` on.

        Raises
        ------
        DataError
            An epoch that does not fill one batch, or workers that die again and again.
        """
        self._decoders = self._decoders or Decoders(self.workers)
        self._lengths.count_changed()
        seen, empty = self._epoch(epoch), True
        with ThreadPoolExecutor(len(self.batcher.lanes), "diptych-shards") as readers:
            try:
                lanes = {
                    lane: self._lane(readers, self._decoders, seen, lane, positions.get(lane))
                    for lane in self.batcher.lanes
                }
                for batch in self.batcher.batches(lanes, epoch):
                    empty = False
                    yield batch
            finally:
                readers.shutdown(cancel_futures=True)
        if empty and not positions:
            raise DataError(
                f"epoch {epoch} has fewer usable pairs than one batch, {self.batch_size} ({self.report}): "
                "lower the batch size or look at the shards"
            )

    def close(self) -> None:
        """Stop the workers."""
        if self._decoders is not None:
            self._decoders.close()
            self._decoders = None

    def _epoch(self, epoch: int) -> Epoch:
        visits = self.order.epoch(epoch)

        def name(visit: int) -> str:
            return self.shards[int(visits.part[visit])][int(visits.index[visit])]

        def walk(visit: int, record: int, wanted: Any) -> Walk:
            part, index = int(visits.part[visit]), int(visits.index[visit])
            stream = self.streams[part]
            return Walk(
                self.shards[part][index],
                record,
                wanted,
                field=stream.caption_field,
                name=self.names[part][index],
                tries=stream.tries,
                seconds=stream.wait,
            )

        return Epoch(visits, walk, name, self._by_shard(visits))

    def _by_shard(self, visits: Visits) -> bool:
        far = any(is_remote(shard) for names in self.shards for shard in names)
        return far and len(visits) >= FEW * self.share.lanes

    def _lane(
        self, readers: ThreadPoolExecutor, decoders: Decoders, epoch: Epoch, lane: int, position: Any
    ) -> Iterator[Piece]:
        """One lane's pairs from a position on: read by a thread, decoded by the workers."""
        spot, taken = (Spot(), 0) if position is None else Spot.heard(position)
        blocks = Lane(epoch, lane, self.share.lanes, self._block, self.report.add).blocks(spot)
        most = 2 * -(-self.batcher.each // CHUNK) + 2 * self.workers
        running: deque[tuple[Block, range, Task]] = deque()
        coming = readers.submit(next, blocks, None)
        while (block := coming.result()) is not None:
            coming = readers.submit(next, blocks, None)  # the next one is read while this one is used
            for start in range(taken, len(block.records), CHUNK):
                span = range(start, min(start + CHUNK, len(block.records)))
                running.append((block, span, decoders.submit(self._work(block, span))))
                if len(running) >= most:
                    yield self._piece(*running.popleft())
            taken = 0
        while running:
            yield self._piece(*running.popleft())

    def _work(self, block: Block, span: range) -> Work:
        records = [block.records[n] for n in span]
        return Work(
            [record.image for record in records],
            [record.captions for record in records],
            block.numbers[span.start : span.stop],
            self.augment,
            self._kept_side,
            self.image_size,
        )

    def _piece(self, block: Block, span: range, task: Task) -> Piece:
        done = task.result()
        for n, reason in done.failures.items():
            self.report.add("picture cannot be decoded", f"{block.records[span[n]].key}: {reason}")
        good = [span[n] for n in done.good.tolist()]
        return Piece(
            crops=torch.from_numpy(done.crops),
            captions=done.captions,
            groups=done.whole,
            keys=[block.records[n].key for n in good],
            numbers=block.numbers[good],
            ends=[block.spot.told(n + 1) for n in good],
            seconds=done.seconds / max(1, len(good)),
        )
