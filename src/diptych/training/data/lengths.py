"""Number of pairs that each lane of a stream has in an epoch, from the counts of shards (`manifest.py`)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DataError, counted
from diptych.files.locations import PIPE
from diptych.training.data.order import Visits
from diptych.training.data.sources.manifest import ShardCounts, changed_shards, count_shards


@dataclass(frozen=True)
class ShardGroup:
    """The shards of one source.

    Parameters
    ----------
    json_only : bool
        Whether captions are read from JSON only, so that an image with a .txt is not a pair.
    tries, seconds : int, float
        How often to try a shard that fails, and how long to wait before the second try.
    """

    locations: Sequence[str]
    json_only: bool
    tries: int
    seconds: float


class StreamLengths:
    """Counts of the shards of every source, read at their first use.

    Parameters
    ----------
    workers : int
        Processes that read headers.
    """

    def __init__(self, groups: Sequence[ShardGroup], workers: int) -> None:
        self.groups, self.workers = groups, workers
        self._counts: list[list[ShardCounts | DataError]] = []

    def count(self, counting: Callable[[int], Callable[[int], None]] | None = None) -> None:
        """Count all shards.

        Parameters
        ----------
        counting : callable, optional
            Called with the number of shards to read, if any; returns a function that is called for each.

        Raises
        ------
        DataError
            Some of the locations are commands.
        """
        locations = [location for group in self.groups for location in group.locations]
        if pipes := [location for location in locations if location.startswith(PIPE)]:
            raise DataError(
                f"the pairs of {pipes[0]!r} cannot be counted before it has run: set pairs_per_epoch "
                "(--pairs-per-epoch) to the number of usable pairs of an epoch"
            )
        self._counts = [
            count_shards(
                group.locations,
                workers=self.workers,
                tries=group.tries,
                seconds=group.seconds,
                counting=counting,
            )
            for group in self.groups
        ]
        failed = [error for counts in self._counts for error in counts if isinstance(error, DataError)]
        # One unreadable shard must not prevent the run: it is skipped there, too.
        if failed:
            warnings.warn(
                f"{counted(len(failed), 'shard')} of {len(locations)} could not be counted, so the schedule "
                f"is made without {'it' if len(failed) == 1 else 'them'} ({failed[0]})",
                stacklevel=2,
            )

    def count_changed(self) -> None:
        """Count shards again that were replaced since they were counted, and warn of it."""
        changed = [
            location
            for group, counts in zip(self.groups, self._counts, strict=False)  # none before the first count
            for location in changed_shards(group.locations, counts)
        ]
        if changed:
            self.count()
            warnings.warn(
                f"{counted(len(changed), 'shard')} changed since the run was planned ({changed[0]}): the "
                "schedule stays as it is",
                stacklevel=2,
            )

    def lane_pairs(self, visits: Visits, lanes: int, by_shard: bool) -> list[float]:
        """Count the pairs that each lane reads in an epoch.

        Parameters
        ----------
        visits : Visits
            The epoch's shards, in order.
        by_shard : bool
            Whether a lane reads whole shards; else some records of each, as in `StreamLane`.

        Returns
        -------
        list of float
            Exact if every record is a pair or there is one lane; else the records that are no pairs are
            assumed to be spread evenly.
        """
        if not self._counts:
            self.count()
        # Records and pairs of each visit's shard, (V,).
        records, pairs = np.zeros(len(visits), np.int64), np.zeros(len(visits), np.int64)
        for part in range(len(self.groups)):
            here = visits.part == part
            of_records, of_pairs = self._lengths(part)
            records[here], pairs[here] = of_records[visits.index[here]], of_pairs[visits.index[here]]
        if by_shard:
            return [float(pairs[lane::lanes].sum()) for lane in range(lanes)]
        # Lane l reads record n of visit v where (n + v) % lanes == l: the first is n = (l - v) % lanes.
        # e.g. two lanes, a shard of 5 records as visit 1: lane 0 reads n = 1, 3 and lane 1 reads n = 0, 2, 4.
        numbers, usable = np.arange(len(visits)), pairs / np.maximum(records, 1)
        firsts = [(lane - numbers) % lanes for lane in range(lanes)]
        read = [np.maximum(0, -(-(records - first) // lanes)) for first in firsts]
        return [round(float((count * usable).sum()), 6) for count in read]

    def _lengths(self, part: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Records and pairs of each shard of a source, 0 where they could not be counted."""
        known = [counts if isinstance(counts, ShardCounts) else None for counts in self._counts[part]]
        json_only = self.groups[part].json_only
        records = [counts.records if counts else 0 for counts in known]
        pairs = [
            0 if counts is None else counts.pairs_with_json if json_only else counts.pairs for counts in known
        ]
        return np.array(records, np.int64), np.array(pairs, np.int64)
