"""One lane of a stream: which record comes when, and a few numbers that say where it stands.

The shards of an epoch come in an order by `order.py`, each as often as its source's repeat says. A lane
reads `OPEN` shards at a time, a record of each in turn, and mixes what it reads in blocks: a block's records
come in the order of a hash. So the mixing has no memory beyond the block, and where a lane stands is where
its present block begins (the open shards and their next records) and how many of its records are used: a few
numbers, from which another process reads the block again and goes on. A shuffle buffer in the usual manner
would have to be saved with every record it holds.

A shard that cannot be read, or not to its end, is counted and left where it broke off; where that was becomes
part of the block's beginning, so that a block read again is the same block, even if the shard is back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diptych.errors import DataError
from diptych.training.data.order import UInts, Visits, hash_keys, mix
from diptych.training.data.sources.walk import Streamed, Walk

OPEN = 4  # shards read in turn

Skipped = Callable[[str, str], None]  # told a reason and an example


@dataclass(frozen=True)
class Spot:
    """Where a block begins.

    Attributes
    ----------
    open : tuple of (visit, record)
        Shards being read, as numbers of the epoch's visits, and their next records.
    next : int
        The visit to open next.
    ends : dict of int to int
        Visits that broke off while this block was read, and after how many records.
    """

    open: tuple[tuple[int, int], ...] = ()
    next: int = 0
    ends: dict[int, int] = field(default_factory=dict)

    def told(self, taken: int) -> dict[str, Any]:
        """The spot, and how many of the block's records are used, as JSON can hold it."""
        ends = {str(visit): count for visit, count in self.ends.items()}
        return {"open": [list(one) for one in self.open], "next": self.next, "ends": ends, "taken": taken}

    @staticmethod
    def heard(told: dict[str, Any]) -> tuple[Spot, int]:
        """What `told` gave, read back."""
        ends = {int(visit): int(count) for visit, count in told["ends"].items()}
        spot = Spot(tuple((int(v), int(r)) for v, r in told["open"]), int(told["next"]), ends)
        return spot, int(told["taken"])


@dataclass(frozen=True)
class Block:
    """Records read together, in the order in which they are used.

    Attributes
    ----------
    spot : Spot
        Where it began, with the shards that broke off meanwhile.
    records : list of Streamed
    numbers : (n,) uint64
        The visits' numbers of the records, for `uniforms`.
    """

    spot: Spot
    records: list[Streamed]
    numbers: UInts


@dataclass(frozen=True)
class Epoch:
    """The shards of one epoch, as every lane of it sees them.

    Parameters
    ----------
    visits : Visits
        In order; `part` is the source, `index` the shard.
    walk : callable
        Opens a shard: told the visit, the record to begin with and which records are wanted.
    name : callable
        A visit's shard in words.
    by_shard : bool
        Whether a lane reads whole shards of its own, instead of its share of each.
    """

    visits: Visits
    walk: Callable[[int, int, Callable[[int], bool]], Walk]
    name: Callable[[int], str]
    by_shard: bool


class Lane:
    """The blocks of one lane in one epoch.

    Parameters
    ----------
    epoch : Epoch
    lane, lanes : int
        Which of how many.
    block : int
        Records mixed with each other.
    skipped : callable
        Told of shards and records that cannot be used.
    """

    def __init__(self, epoch: Epoch, lane: int, lanes: int, block: int, skipped: Skipped) -> None:
        self.epoch, self.lane, self.lanes, self.block, self.skipped = epoch, lane, lanes, block, skipped
        mine = range(len(epoch.visits))
        self._mine: Sequence[int] = mine[lane::lanes] if epoch.by_shard else mine

    def blocks(self, spot: Spot) -> Iterator[Block]:
        """Give blocks from a spot on, until the epoch has no more."""
        ends = dict(spot.ends)  # of the first block: it is read as it was read before
        following = spot.next
        reading = [self._open(visit, record, ends) for visit, record in spot.open]
        turn = 0
        while True:
            broken: dict[int, int] = {}
            # The one whose turn it is stands first, so that a lane begun here goes on alike.
            reading, turn = reading[turn:] + reading[:turn], 0
            begin, start = tuple((shelf.visit, shelf.next) for shelf in reading), following
            found: list[tuple[int, Streamed]] = []
            while len(found) < self.block:
                while len(reading) < OPEN and following < len(self._mine):
                    reading.append(self._open(self._mine[following], 0, ends))
                    following += 1
                if not reading:
                    break
                turn %= len(reading)
                record = self._take(reading[turn], broken)
                if record is None:
                    reading.pop(turn)
                    continue
                found.append((reading[turn].visit, record))
                turn += 1
            if not found:
                return
            turn = turn % len(reading) if reading else 0
            yield self._mixed(Spot(begin, start, {**broken, **ends}), found)
            ends = {}

    def _open(self, visit: int, record: int, ends: dict[int, int]) -> _Shelf:
        lane, lanes = self.lane, self.lanes
        # A visit's number shifts the deal, so that lanes come out even over many shards.
        wanted = (lambda n: True) if self.epoch.by_shard else (lambda n: (n + visit) % lanes == lane)
        end = ends.get(visit)
        if end is None:
            walk = self.epoch.walk(visit, record, wanted)
            return _Shelf(visit, record, walk, iter(walk))
        walk = self.epoch.walk(visit, record, lambda n: n < end and wanted(n))
        return _Shelf(visit, record, walk, iter(walk), end)

    def _take(self, shelf: _Shelf, broken: dict[int, int]) -> Streamed | None:
        """The next record of a shard, or None at its end; a shard that breaks off is told of."""
        if shelf.end is not None and shelf.next >= shelf.end:
            return None
        try:
            record = next(shelf.records, None)
        except DataError as error:
            broken[shelf.visit] = shelf.next
            self.skipped("shard that breaks off or cannot be read", str(error))
            return None
        finally:
            for reason, count in shelf.walk.dropped.items():
                for _ in range(count):
                    self.skipped(reason, self.epoch.name(shelf.visit))
            shelf.walk.dropped.clear()
        if record is not None:
            shelf.next = record.index + 1
        return record

    def _mixed(self, spot: Spot, found: list[tuple[int, Streamed]]) -> Block:
        visits = np.array([visit for visit, _ in found], np.int64)
        keys = hash_keys(f"{record.index}/{record.key}" for _, record in found)
        numbers = keys ^ mix(self.epoch.visits.number[visits], 3)
        order = np.argsort(mix(numbers, 1), kind="stable")
        return Block(spot, [found[n][1] for n in order.tolist()], numbers[order])


@dataclass
class _Shelf:
    """A shard being read."""

    visit: int
    next: int
    walk: Walk
    records: Iterator[Streamed]
    end: int | None = None
