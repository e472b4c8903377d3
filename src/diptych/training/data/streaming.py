"""Batches from tar shards that are streamed: too many, too large or too remote to be indexed.

The counterpart of `loader.py` for indexed records. Nothing is known of a record before it is read; the number
of records, which the schedule needs, comes from a manifest (`sources/manifest.py`).
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
from diptych.training.data.batch import (
    Batch,
    Batcher,
    DeferredTransform,
    PairChunk,
    Positions,
    RankShard,
    Tokenize,
)
from diptych.training.data.decoders import DecodeRequest, DecoderPool, DecodeTask
from diptych.training.data.hard_negatives import Negatives
from diptych.training.data.image_cache import side_for
from diptych.training.data.lengths import ShardGroup, StreamLengths
from diptych.training.data.order import Order, Visits, distinct_names, hash_keys
from diptych.training.data.reader import SkippedRecords
from diptych.training.data.sources.shard_reader import ShardReader
from diptych.training.data.stream_lanes import LanePosition, RecordBlock, StreamEpoch, StreamLane

CHUNK = 32  # records handed to a worker at a time
# Shards per lane from which a lane reads whole shards of its own. With fewer, lanes would have unequal
# numbers of pairs, and the shortest lane ends the epoch; so every lane reads some records of every shard.
MIN_SHARDS_PER_LANE = 16


@dataclass(frozen=True)
class TarStream:
    """Tar shards of KEY.jpg (png, webp, ...) with KEY.txt or KEY.json, read sequentially.

    Parameters
    ----------
    pattern : str, Path or a sequence
        As for `TarPairs`, and URLs that fsspec knows: ``s3://bucket/{00000..00999}.tar``, ``gs://``,
        ``https://``.
    caption_field : str, optional
        As for `TarPairs`.
    block : int
        Records that are shuffled together, besides the order of shards; a lane holds two blocks.
    tries : int
        How often a shard that fails is tried before it is counted and skipped.
    wait : float
        Seconds before the second try; doubled before each further one.
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
        """All shards, in a fixed order."""
        return find_locations(self.pattern, allow_pipes=self.allow_pipes)

    def open(self) -> Any:
        """Raise DataError: a stream has no index."""
        raise DataError("a TarStream has no index, so it cannot be split and no pairs held out: use TarPairs")


class StreamLoader:
    """Batches from streams.

    Parameters
    ----------
    parts : sequence of (TarStream, repeat)
        A repeat of 2.5 reads each shard two or three times an epoch, in turn.
    tokenizer : callable
    batch_size, image_size : int
        Pairs of a step on all processes; side in pixels.
    augment : AugmentConfig or None
    seed : int
    mean, std : 3 numbers each
    workers : int
        Processes that decode; the batches do not depend on it.
    pairs_per_epoch : int
        Usable pairs of an epoch, on all processes; 0 counts them in the headers of the shards.
    rank_shard : RankShard
    negatives : Negatives, optional
        Hard negatives that go with the captions.

    Attributes
    ----------
    report : SkippedRecords
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
        rank_shard: RankShard = RankShard(),  # noqa: B008 - frozen
        negatives: Negatives | None = None,
    ) -> None:
        self.streams = [stream for stream, _ in parts]
        self.shards = [stream.locations() for stream in self.streams]
        self.names = [distinct_names(locations) for locations in self.shards]
        hashes = [hash_keys(names) for names in self.names]
        self.order = Order(hashes, [repeat for _, repeat in parts], seed)
        self.batch_size, self.image_size, self.augment, self.rank_shard = (
            batch_size,
            image_size,
            augment,
            rank_shard,
        )
        self.workers, self.report = workers, SkippedRecords()
        transform = DeferredTransform(augment, tuple(mean), tuple(std))
        self.batcher = Batcher(batch_size, rank_shard, tokenizer, transform, negatives=negatives)
        self._kept_side = side_for(image_size, 1.0 if augment is None else augment.scale[0])
        # Lanes mix the shards of all streams, so there is one block size.
        self._block = max(stream.block for stream in self.streams)
        self._decoders: DecoderPool | None = None
        self._pairs_per_epoch = pairs_per_epoch
        self._lengths = StreamLengths(
            [
                ShardGroup(names, stream.caption_field is not None, stream.tries, stream.wait)
                for stream, names in zip(self.streams, self.shards, strict=True)
            ],
            workers,
        )

    def prepare(self, scanning: Callable[[int], Callable[[int], None]]) -> None:
        """Count the pairs of the shards, on the first process, which plans the run for all."""
        if self.rank_shard.rank == 0 and not self._pairs_per_epoch:
            self._lengths.count(scanning)

    def steps(self, epoch: int) -> int:
        """Count an epoch's batches: exact if every pair is usable.

        Raises
        ------
        DataError
            The shards cannot be counted, and `pairs_per_epoch` is not set.
        """
        if self._pairs_per_epoch:
            return self._pairs_per_epoch // self.batch_size
        visits = self.order.epoch(epoch)
        pairs = self._lengths.lane_pairs(visits, self.rank_shard.lanes, self._by_shard(visits))
        return min(int(count) // self.batcher.each for count in pairs)  # the shortest lane ends the epoch

    def batches(self, epoch: int, positions: Positions = MappingProxyType({})) -> Iterator[Batch]:
        """Give an epoch's batches, from the positions of `Batch.positions` on.

        Raises
        ------
        DataError
            The epoch does not fill one batch, or workers die repeatedly.
        """
        self._decoders = self._decoders or DecoderPool(self.workers)
        # A shard that was replaced changes the number of batches, which the schedule does not follow.
        self._lengths.count_changed()
        stream_epoch, empty = self._epoch(epoch), True
        # A reader thread per lane: each reads one block in advance.
        with ThreadPoolExecutor(len(self.batcher.lanes), "diptych-shards") as readers:
            try:
                lanes = {
                    lane: self._lane(readers, self._decoders, stream_epoch, lane, positions.get(lane))
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
                "lower the batch size or check the shards"
            )

    def close(self) -> None:
        """Stop the workers."""
        if self._decoders is not None:
            self._decoders.close()
            self._decoders = None

    def _epoch(self, epoch: int) -> StreamEpoch:
        visits = self.order.epoch(epoch)

        def shard_name(visit: int) -> str:
            return self.shards[int(visits.part[visit])][int(visits.index[visit])]

        def open_shard(visit: int, record: int, wanted: Any) -> ShardReader:
            part, index = int(visits.part[visit]), int(visits.index[visit])
            stream = self.streams[part]
            return ShardReader(
                self.shards[part][index],
                record,
                wanted,
                field=stream.caption_field,
                name=self.names[part][index],
                tries=stream.tries,
                seconds=stream.wait,
            )

        return StreamEpoch(visits, open_shard, shard_name, self._by_shard(visits))

    def _by_shard(self, visits: Visits) -> bool:
        """Whether lanes read whole shards: where shards are remote, so that each is fetched once."""
        remote = any(is_remote(shard) for names in self.shards for shard in names)
        return remote and len(visits) >= MIN_SHARDS_PER_LANE * self.rank_shard.lanes

    def _lane(
        self, readers: ThreadPoolExecutor, decoders: DecoderPool, epoch: StreamEpoch, lane: int, position: Any
    ) -> Iterator[PairChunk]:
        """One lane's pairs from a position on: read by a thread, decoded by the workers."""
        start_at, taken = (LanePosition(), 0) if position is None else LanePosition.from_json(position)
        blocks = StreamLane(epoch, lane, self.rank_shard.lanes, self._block, self.report.add).blocks(start_at)
        # Two batches of this lane in advance, and enough that no worker waits. -(-a // b) rounds up.
        most = 2 * -(-self.batcher.each // CHUNK) + 2 * self.workers
        running: deque[tuple[RecordBlock, range, DecodeTask]] = deque()
        next_block = readers.submit(next, blocks, None)
        while (block := next_block.result()) is not None:
            next_block = readers.submit(next, blocks, None)  # read while this block is used
            for start in range(taken, len(block.records), CHUNK):
                span = range(start, min(start + CHUNK, len(block.records)))
                running.append((block, span, decoders.submit(self._request(block, span))))
                if len(running) >= most:
                    yield self._chunk(*running.popleft())
            taken = 0  # only the first block was partly used before
        while running:
            yield self._chunk(*running.popleft())

    def _request(self, block: RecordBlock, span: range) -> DecodeRequest:
        records = [block.records[n] for n in span]
        return DecodeRequest(
            [record.image for record in records],
            [record.captions for record in records],
            block.numbers[span.start : span.stop],
            self.augment,
            self._kept_side,
            self.image_size,
        )

    def _chunk(self, block: RecordBlock, span: range, task: DecodeTask) -> PairChunk:
        """Wait for a task, and report the records that could not be decoded."""
        decoded = task.result()
        for n, reason in decoded.failures.items():
            self.report.add("picture cannot be decoded", f"{block.records[span[n]].key}: {reason}")
        good = [span[n] for n in decoded.good.tolist()]  # numbers within the block
        return PairChunk(
            crops=torch.from_numpy(decoded.crops),
            captions=decoded.captions,
            groups=decoded.full_captions,
            keys=[block.records[n].key for n in good],
            numbers=block.numbers[good],
            ends=[block.position.to_json(n + 1) for n in good],
            seconds=decoded.seconds / max(1, len(good)),
        )
