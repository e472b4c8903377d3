"""Order and random numbers of an epoch: a pure function of seed, epoch and the records' keys.

Nothing depends on a record's position in its source. Each visit (one use of a record in an epoch) has its own
number, a hash of (seed, epoch, key, count of earlier visits in the epoch). It decides the position of the
visit in the epoch, and seeds every random choice for it. So bad or added records move none of the others, and
the result does not depend on the number of workers.
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

# Constants of splitmix64, see `mix`.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True)
class Visits:
    """The visits of one epoch in order; entry i is the i-th.

    Attributes
    ----------
    part : (V,) int32
        Number of the source.
    index : (V,) int64
        Number of the record in its source.
    number : (V,) uint64
        The visit's number, for `uniforms`.
    """

    part: NDArray[np.int32]
    index: NDArray[np.int64]
    number: UInts

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: slice) -> Visits:
        return Visits(self.part[rows], self.index[rows], self.number[rows])


class Order:
    """The visits of every epoch.

    Parameters
    ----------
    hashes : sequence of (N,) uint64
        One array per source: `hash_keys` of its records.
    repeats : sequence of float
        Mean number of visits of each record of a source in an epoch. e.g. 2.5: two visits in one epoch, three
        in the next (which records begin with three depends on the seed); 0.1: one visit in ten epochs.

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
        # With the number of the source: else two sources with equal keys would get equal positions.
        self._hashes = [mix(keys, part) for part, keys in enumerate(hashes)]

    def epoch(self, epoch: int) -> Visits:
        """List the visits of one epoch, in order."""
        sources = [self._source_visits(part, epoch) for part in range(len(self._hashes))]
        position = np.concatenate([source[3] for source in sources])
        order = np.argsort(position, kind="stable")
        index, number, part = (np.concatenate([source[n] for source in sources])[order] for n in range(3))
        return Visits(part.astype(np.int32), index.astype(np.int64), number)

    def counts(self, part: int, epoch: int) -> NDArray[np.int64]:
        """Number of visits of each record of a source in an epoch, (N,)."""
        # Each record starts at its own phase u in [0, 1) and is visited whenever the sum of repeats passes
        # a whole number. e.g. repeat 2.5, u = 0.7: floor(3.2) - floor(0.7) = 3 visits in epoch 0, then
        # floor(5.7) - floor(3.2) = 2 in epoch 1.
        repeat = self.repeats[part]
        start = unit(mix(self._hashes[part], self.seed))
        counts = np.floor((epoch + 1) * repeat + start) - np.floor(epoch * repeat + start)
        return counts.astype(np.int64)

    def _source_visits(
        self, part: int, epoch: int
    ) -> tuple[NDArray[np.int64], UInts, NDArray[np.int32], NDArray[np.float64]]:
        """Index, number, source and position in [0, 1) of the visits of one source, (V,) each."""
        # e.g. counts [2, 0, 3]: index [0, 0, 2, 2, 2] and nth [0, 1, 0, 1, 2].
        counts = self.counts(part, epoch)
        index = np.repeat(np.arange(len(counts)), counts)
        nth = np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)
        number = mix(mix(mix(self._hashes[part][index], self.seed), epoch), nth)
        # The n-th of m visits of a record falls into the n-th of m equal slices of the epoch, so that a batch
        # hardly ever holds an image twice (it would be its own negative). e.g. m = 2: positions in [0, 0.5)
        # and in [0.5, 1).
        position = (nth + unit(mix(number, 1))) / counts[index]
        return index, number, np.full(len(index), part, np.int32), position


def hash_keys(keys: Iterable[str]) -> UInts:
    """Hash record keys to (N,) uint64, the same on every machine."""
    digests = (
        hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest() for key in keys
    )
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def distinct_names(paths: Sequence[str]) -> list[str]:
    """Shortest path endings that make all files' names different.

    Names are part of the hashes of records, so they must not change when all files move to another folder.

    Examples
    --------
    >>> distinct_names(["/data/a/0.tar", "/data/b/0.tar", "/data/b/1.tar"])
    ['a/0.tar', 'b/0.tar', '1.tar']
    """
    parts = [path.split("/") for path in paths]
    names = [part[-1] for part in parts]
    for depth in range(2, max(map(len, parts), default=0) + 1):
        uses = Counter(names)
        if max(uses.values()) == 1:
            break
        names = [
            "/".join(part[-depth:]) if uses[name] > 1 else name
            for part, name in zip(parts, names, strict=True)
        ]
    uses = Counter[str]()
    for n, name in enumerate(names):  # equal paths, or a.tar and a.tar.gz without their suffixes
        uses[name] += 1
        names[n] = name if uses[name] == 1 else f"{name}#{uses[name]}"
    return names


def mix(values: UInts, salt: int | NDArray[np.int64]) -> UInts:
    """Combine hashes with a number: splitmix64's finaliser (Steele, Lea and Flood 2014)."""
    added = np.asarray(salt).astype(np.int64).astype(np.uint64)
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is intended
        mixed: UInts = values + (added + np.uint64(1)) * _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
        return mixed ^ (mixed >> np.uint64(31))


def unit(values: UInts) -> NDArray[np.float64]:
    """Turn hashes into numbers in [0, 1)."""
    # The upper 53 bits: as many as the mantissa of a float64 holds.
    return (values >> np.uint64(11)).astype(np.float64) * 2.0**-53


def uniforms(numbers: UInts, count: int) -> NDArray[np.float64]:
    """Draw `count` numbers in [0, 1) for each visit from its number alone: (B,) -> (B, count)."""
    # Salts of a visit number: 1 for its position, 2 for augmentation, 3 for hard negatives and stream shards.
    seeds = mix(numbers, 2)
    return unit(mix(seeds[:, None], np.arange(count)[None, :]))
