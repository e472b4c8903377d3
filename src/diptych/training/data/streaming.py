"""Batches from tar shards that are streamed: too many, too large or too remote to be indexed.

The counterpart of `loader.py` for indexed records. Nothing is known of a record before it is read; the number
of records, which the schedule needs, comes from a manifest (`sources/manifest.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diptych.errors import DataError
from diptych.files.locations import find_locations
from diptych.files.patterns import is_remote
from diptych.prefetch import map_ahead, read_ahead
from diptych.training.data.batch import PairChunk, Positions, Tokenize
from diptych.training.data.decoders import DecodeRequest, DecoderPool, DecodeTask
from diptych.training.data.lengths import ShardGroup, StreamLengths
from diptych.training.data.loader import CHUNK, Loader, Mixture, PairLoader
from diptych.training.data.order import Order, Visits, distinct_names, hash_keys
from diptych.training.data.reader import SkippedRecords
from diptych.training.data.sources.shard_reader import ShardReader
from diptych.training.data.stream_lanes import LanePosition, RecordBlock, StreamEpoch, StreamLane

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


class StreamLoader(Loader):
    """Batches from streams.

    Parameters
    ----------
    parts : sequence of (TarStream, repeat)
        A repeat of 2.5 reads each shard two or three times an epoch, in turn.
    pairs_per_epoch : int
        Usable pairs of an epoch, on all processes; 0 counts them in the headers of the shards.
    **options
        Of `Loader`; `workers` are processes.
    """

    def __init__(
        self,
        parts: Sequence[tuple[TarStream, float]],
        tokenizer: Tokenize,
        *,
        pairs_per_epoch: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(tokenizer, drop_last=True, **options)
        self.streams = [stream for stream, _ in parts]
        self.shards = [stream.locations() for stream in self.streams]
        self.names = [distinct_names(locations) for locations in self.shards]
        hashes = [hash_keys(names) for names in self.names]
        self.order = Order(hashes, [repeat for _, repeat in parts], self.seed)
        self.report = SkippedRecords()
        self.threads = len(self.batcher.lanes)  # readers: each reads one block in advance
        # Lanes mix the shards of all streams, so there is one block size.
        self._block = max(stream.block for stream in self.streams)
        self._decoders: DecoderPool | None = None
        self._pairs_per_epoch = pairs_per_epoch
        self._lengths = StreamLengths(
            [
                ShardGroup(names, stream.caption_field is not None, stream.tries, stream.wait)
                for stream, names in zip(self.streams, self.shards, strict=True)
            ],
            self.workers,
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

    def _lanes(
        self, pool: ThreadPoolExecutor, epoch: int, positions: Positions
    ) -> dict[int, Iterator[PairChunk]]:
        self._decoders = self._decoders or DecoderPool(self.workers)
        # A shard that was replaced changes the number of batches, which the schedule does not follow.
        self._lengths.count_changed()
        stream_epoch = self._epoch(epoch)
        return {
            lane: self._lane(pool, self._decoders, stream_epoch, lane, positions.get(lane))
            for lane in self.batcher.lanes
        }

    def close(self) -> None:
        """Stop the workers."""
        if self._decoders is not None:
            self._decoders.close()
            self._decoders = None

    def _epoch(self, epoch: int) -> StreamEpoch:
        visits = self.order.epoch(epoch)

        def shard_name(visit: int) -> str:
            return self.shards[int(visits.part[visit])][int(visits.index[visit])]

        def open_shard(visit: int, record: int, is_selected: Any) -> ShardReader:
            part, index = int(visits.part[visit]), int(visits.index[visit])
            stream = self.streams[part]
            return ShardReader(
                self.shards[part][index],
                record,
                is_selected,
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

        def chunks() -> Iterator[tuple[RecordBlock, range]]:
            first = taken  # only the first block was partly used before
            for block in read_ahead(readers, blocks):
                for start in range(first, len(block.records), CHUNK):
                    yield block, range(start, min(start + CHUNK, len(block.records)))
                first = 0

        # Two batches of this lane in advance, and enough that no worker waits. -(-a // b) rounds up.
        ahead = 2 * -(-self.batcher.each // CHUNK) + 2 * self.workers
        return map_ahead(lambda chunk: self._submit(decoders, *chunk), chunks(), ahead)

    def _submit(self, decoders: DecoderPool, block: RecordBlock, span: range) -> _ChunkTask:
        records = [block.records[n] for n in span]
        request = DecodeRequest(
            [record.image for record in records],
            [record.captions for record in records],
            block.numbers[span.start : span.stop],
            self.augment,
            self.kept_side,
            self.image_size,
        )
        return _ChunkTask(block, span, decoders.submit(request), self.report)


@dataclass(frozen=True)
class _ChunkTask:
    """Consecutive records of a block that the workers decode."""

    block: RecordBlock
    span: range
    task: DecodeTask
    report: SkippedRecords

    def result(self) -> PairChunk:
        """Wait for the records, and report those that could not be decoded."""
        block, span, decoded = self.block, self.span, self.task.result()
        for n, reason in decoded.failures.items():
            self.report.add("picture cannot be decoded", f"{block.records[span[n]].key}: {reason}")
        good = [span[n] for n in decoded.good.tolist()]  # numbers within the block
        return PairChunk(
            crops=torch.from_numpy(decoded.crops),
            captions=decoded.captions,
            record_captions=[block.records[n].captions for n in good],
            groups=decoded.full_captions,
            keys=[block.records[n].key for n in good],
            numbers=block.numbers[good],
            ends=[block.position.to_json(n + 1) for n in good],
            seconds=decoded.seconds / max(1, len(good)),
        )


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
