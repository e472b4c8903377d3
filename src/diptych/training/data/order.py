"""The order of an epoch and its chance: a pure function of seed, epoch and the records' keys.

Nothing here counts on positions. Each visit (a record met once in an epoch) has a number of its own, a hash
of (seed, epoch, key, which visit); it says where in the epoch the visit stands and feeds every random choice
made for it. So records that turn out bad, or are added, move none of the others, and any number of workers
sees the same.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DataError

UInts = NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Visits:
    """One epoch in order: row i is the i-th record to meet.

    Attributes
    ----------
    part : (V,) int32
        Which source.
    index : (V,) int64
        Which record of it.
    number : (V,) uint64
        The visit's own number, for `uniforms`.
    """

    part: NDArray[np.int32]
    index: NDArray[np.int64]
    number: UInts

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, some: slice) -> Visits:
        return Visits(self.part[some], self.index[some], self.number[some])


class Order:
    """The visits of every epoch.

    Parameters
    ----------
    hashes : sequence of (N,) uint64
        One array per source: `hash_keys` of its records.
    repeats : sequence of float
        How often an epoch visits each record of a source, on average: 2.5 is twice in one epoch, three times
        in the next (which records begin with three is drawn by seed), 0.1 is once in ten epochs.
    seed : int

    Examples
    --------
    >>> order = Order([hash_keys(["a", "b", "c"])], [2.0], seed=0)
    >>> visits = order.epoch(0)
    >>> len(visits), sorted(visits.index.tolist())
    (6, [0, 0, 1, 1, 2, 2])
    """

    def __init__(self, hashes: Sequence[UInts], repeats: Sequence[float], seed: int) -> None:
        for repeat in repeats:
            if not (0 < repeat < float("inf")):
                raise DataError(f"repeat is {repeat}: expected a number above 0, such as 1 or 2.5")
        self.repeats, self.seed = tuple(repeats), seed
        # The part's number enters, or two sources with the same keys would be visited in step.
        self._hashes = [mix(keys, part) for part, keys in enumerate(hashes)]

    def epoch(self, epoch: int) -> Visits:
        """List the visits of one epoch, in order."""
        parts = [self._part(part, epoch) for part in range(len(self._hashes))]
        place = np.concatenate([part[3] for part in parts])
        order = np.argsort(place, kind="stable")
        index, number, which = (np.concatenate([part[n] for part in parts])[order] for n in range(3))
        return Visits(which.astype(np.int32), index.astype(np.int64), number)

    def counts(self, part: int, epoch: int) -> NDArray[np.int64]:
        """Say how often an epoch visits each record of a source."""
        repeat = self.repeats[part]
        start = unit(mix(self._hashes[part], self.seed))
        counts = np.floor((epoch + 1) * repeat + start) - np.floor(epoch * repeat + start)
        return counts.astype(np.int64)

    def _part(
        self, part: int, epoch: int
    ) -> tuple[NDArray[np.int64], UInts, NDArray[np.int32], NDArray[np.float64]]:
        counts = self.counts(part, epoch)
        index = np.repeat(np.arange(len(counts)), counts)
        nth = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
        number = mix(mix(mix(self._hashes[part][index], self.seed), epoch), nth)
        # A record's visits are spread: the n-th of m falls into the n-th of m slices of the epoch, so that a
        # batch hardly ever holds a picture twice (it would be its own negative).
        place = (nth + unit(mix(number, 1))) / counts[index]
        return index, number, np.full(len(index), part, np.int32), place


def hash_keys(keys: Iterable[str]) -> UInts:
    """Hash record keys to (N,) uint64, the same on every machine."""
    digests = (
        hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest() for key in keys
    )
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Name files by their file names, with as many folders before them as make all names different.

    Names enter the hashes of records, so they must not change when all files move to another folder.

    Examples
    --------
    >>> distinct_names(["/data/a/0.tar", "/data/b/0.tar", "/data/b/1.tar"])
    ['a/0.tar', 'b/0.tar', '1.tar']
    """
    parts = [path.split("/") for path in paths]
    names = [part[-1] for part in parts]
    for depth in range(2, max(map(len, parts), default=0) + 1):
        seen = Counter(names)
        if max(seen.values()) == 1:
            break
        names = [
            "/".join(part[-depth:]) if seen[name] > 1 else name
            for part, name in zip(parts, names, strict=True)
        ]
    seen = Counter[str]()
    for n, name in enumerate(names):  # one path given twice, or a.tar and a.tar.gz once they have lost that
        seen[name] += 1
        names[n] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return names


def mix(values: UInts, salt: int | NDArray[np.int64]) -> UInts:
    """Stir a number into hashes: splitmix64's finaliser (Steele, Lea and Flood 2014)."""
    added = np.asarray(salt).astype(np.int64).astype(np.uint64)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        mixed: UInts = values + (added + np.uint64(1)) * _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
        return mixed ^ (mixed >> np.uint64(31))


def unit(values: UInts) -> NDArray[np.float64]:
    """Turn hashes into numbers in [0, 1)."""
    return (values >> np.uint64(11)).astype(np.float64) * 2.0**-53


def uniforms(numbers: UInts, count: int) -> NDArray[np.float64]:
    """Draw `count` numbers in [0, 1) for each visit: (B,) -> (B, count), nothing else enters."""
    stirred = mix(numbers, 2)
    return unit(mix(stirred[:, None], np.arange(count)[None, :]))
