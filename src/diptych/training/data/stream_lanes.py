"""One lane of a stream: the order of its records, and a small position from which it can be resumed.

The order of an epoch's shards is that of `order.py`, each as often as the repeat of its source says. A lane
reads `OPEN` shards at a time, one record of each in turn, and shuffles in blocks: a block's records are
sorted by a hash. So shuffling keeps no state beyond the block, and the position of a lane is the start of its
current block (the open shards and their next records) and the number of its records that are used. From these
few numbers another process reads the block again and continues. A usual shuffle buffer would have to be saved
with every record in it.

e.g. block 4, OPEN 2, shards A and B: block 0 reads A0 B0 A1 B1 and gives them in the order of their hashes,
say B1 A0 A1 B0. After two of them are used, the position is {"open": [], "next": 0, "taken": 2, ...}:
resumed, the block is read again and its first two records are dropped. Block 1 starts at
{"open": [[0, 2], [1, 2]], "next": 2, ...}: visits 0 and 1 (A and B) at their record 2.

A shard that cannot be read, or not to its end, is counted and left at the failure; how far it was read
becomes part of the block's position, so that the block is the same when it is read again, even if the shard
can be read by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diptych.errors import DataError
from diptych.training.data.order import UInts, Visits, hash_keys, mix
from diptych.training.data.sources.shard_reader import ShardReader, StreamedRecord

OPEN = 4  # shards read in turn

ReportSkipped = Callable[[str, str], None]  # called with a reason and an example


@dataclass(frozen=True)
class LanePosition:
    """Where a block begins; `to_json` is part of a checkpoint.

    Attributes
    ----------
    open : tuple of (visit, record)
        The open shards as visits of the epoch, and their next records.
    next : int
        The visit to open next.
    ends : dict of int to int
        Visits that failed while this block was read -> records read before.
    """

    open: tuple[tuple[int, int], ...] = ()
    next: int = 0
    ends: dict[int, int] = field(default_factory=dict)

    def to_json(self, taken: int) -> dict[str, Any]:
        """The position and the number of the block's records that are used, as values of JSON."""
        ends = {str(visit): count for visit, count in self.ends.items()}  # JSON's keys are strings
        return {"open": [list(pair) for pair in self.open], "next": self.next, "ends": ends, "taken": taken}

    @staticmethod
    def from_json(values: dict[str, Any]) -> tuple[LanePosition, int]:
        """The position and the number of used records from `to_json`."""
        ends = {int(visit): int(count) for visit, count in values["ends"].items()}
        pairs = tuple((int(visit), int(record)) for visit, record in values["open"])
        return LanePosition(pairs, int(values["next"]), ends), int(values["taken"])


@dataclass(frozen=True)
class RecordBlock:
    """Records read together, in the order in which they are used.

    Attributes
    ----------
    position : LanePosition
        Where it begins, with the shards that failed while it was read.
    numbers : (n,) uint64
        Visit numbers of the records, for `uniforms`.
    """

    position: LanePosition
    records: list[StreamedRecord]
    numbers: UInts


@dataclass(frozen=True)
class StreamEpoch:
    """The shards of one epoch, the same for all of its lanes.

    Parameters
    ----------
    visits : Visits
        In order; `part` is the source, `index` the shard.
    open_shard : callable
        Opens the shard of a visit at a record; the last argument is a filter of record numbers.
    shard_name : callable
        The name of a visit's shard, for messages.
    by_shard : bool
        Whether a lane reads whole shards of its own, instead of some records of each shard.
    """

    visits: Visits
    open_shard: Callable[[int, int, Callable[[int], bool]], ShardReader]
    shard_name: Callable[[int], str]
    by_shard: bool


class StreamLane:
    """The blocks of one lane in one epoch.

    Parameters
    ----------
    lane, lanes : int
        Number of this lane, and of all lanes.
    block : int
        Records that are shuffled together.
    report_skipped : callable
        Called for each shard or record that cannot be used.
    """

    def __init__(
        self, epoch: StreamEpoch, lane: int, lanes: int, block: int, report_skipped: ReportSkipped
    ) -> None:
        self.epoch, self.lane, self.lanes, self.block = epoch, lane, lanes, block
        self.report_skipped = report_skipped
        visits = range(len(epoch.visits))
        self._visits: Sequence[int] = visits[lane::lanes] if epoch.by_shard else visits

    def blocks(self, position: LanePosition) -> Iterator[RecordBlock]:
        """Give the blocks from a position to the end of the epoch."""
        ends = dict(position.ends)  # of the first block only: it must be read as it was the first time
        next_visit = position.next
        reading = [self._open(visit, record, ends) for visit, record in position.open]
        turn = 0
        while True:
            failed: dict[int, int] = {}
            # Rotated so that the shard whose turn it is comes first: a lane resumed here starts at turn 0.
            reading, turn = reading[turn:] + reading[:turn], 0
            open_shards, start = tuple((shard.visit, shard.next) for shard in reading), next_visit
            records: list[tuple[int, StreamedRecord]] = []
            while len(records) < self.block:
                while len(reading) < OPEN and next_visit < len(self._visits):
                    reading.append(self._open(self._visits[next_visit], 0, ends))
                    next_visit += 1
                if not reading:
                    break
                turn %= len(reading)
                record = self._take(reading[turn], failed)
                if record is None:
                    reading.pop(turn)  # the shard after it is now at `turn`
                    continue
                records.append((reading[turn].visit, record))
                turn += 1
            if not records:
                return
            turn = turn % len(reading) if reading else 0
            yield self._shuffled(LanePosition(open_shards, start, {**failed, **ends}), records)
            ends = {}

    def _open(self, visit: int, record: int, ends: dict[int, int]) -> _OpenShard:
        lane, lanes = self.lane, self.lanes
        # Lane l takes record n of visit v where (n + v) % lanes == l. The shift by v evens out the lanes over
        # many shards: e.g. two lanes and shards of 5 records get 3 + 2 records of even visits, 2 + 3 of odd.
        is_selected = (lambda n: True) if self.epoch.by_shard else (lambda n: (n + visit) % lanes == lane)
        end = ends.get(visit)
        if end is None:
            reader = self.epoch.open_shard(visit, record, is_selected)
            return _OpenShard(visit, record, reader, iter(reader))
        # It failed after `end` records when the block was read the first time: no more is read now either.
        reader = self.epoch.open_shard(visit, record, lambda n: n < end and is_selected(n))
        return _OpenShard(visit, record, reader, iter(reader), end)

    def _take(self, shard: _OpenShard, failed: dict[int, int]) -> StreamedRecord | None:
        """The next record of a shard; None at its end, or where it fails, which is reported."""
        if shard.end is not None and shard.next >= shard.end:
            return None
        try:
            record = next(shard.records, None)
        except DataError as error:
            failed[shard.visit] = shard.next
            self.report_skipped("shard that breaks off or cannot be read", str(error))
            return None
        finally:
            for reason, count in shard.reader.dropped.items():
                for _ in range(count):
                    self.report_skipped(reason, self.epoch.shard_name(shard.visit))
            shard.reader.dropped.clear()
        if record is not None:
            shard.next = record.index + 1
        return record

    def _shuffled(self, position: LanePosition, records: list[tuple[int, StreamedRecord]]) -> RecordBlock:
        """The records in the order of the hashes of their visit numbers."""
        visits = np.array([visit for visit, _ in records], np.int64)
        # A record's visit number: its index and key, and the number of its shard's visit (seed and epoch).
        keys = hash_keys(f"{record.index}/{record.key}" for _, record in records)
        numbers = keys ^ mix(self.epoch.visits.number[visits], 3)
        order = np.argsort(mix(numbers, 1), kind="stable")
        return RecordBlock(position, [records[n][1] for n in order.tolist()], numbers[order])


@dataclass
class _OpenShard:
    """A shard being read: its visit, its next record, and where it must end."""

    visit: int
    next: int
    reader: ShardReader
    records: Iterator[StreamedRecord]
    end: int | None = None
