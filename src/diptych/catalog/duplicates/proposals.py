"""Which pictures are worth comparing: by hashes, mirrored ones too, by cells, by words, by near vectors.

Nothing is decided here. A proposal costs little and may be wrong; what nobody proposes is never found. New
pictures are compared with all, old ones are not compared with each other again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.database.spaces import Space
from diptych.catalog.duplicates.thumbnail_cache import LocalFeatures
from diptych.catalog.store.entries import hashes_of
from diptych.matching.hashes import hamming, near_pairs
from diptych.matching.visual_words import VisualWordIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers

    Hashes = NDArray[np.uint64]
    Pairs = NDArray[np.int64]

DIFFERENCE_BITS, PERCEPTUAL_BITS, CELL_BITS = 10, 10, 8
NEIGHBOURS, SHARING = 10, 10  # by vectors, by words
MOST = 24  # by one hash, for one picture
_ALWAYS = 3e9  # comparisons that take a few seconds; beyond, hashes are looked up by their parts
_SLICE = 2**24
_NONE = np.zeros(0, np.uint64)
# Of the 64 bits of a perceptual hash those of odd horizontal frequencies: mirrored, their sign changes.
_ODD = np.uint64(int("10101010" * 8, 2))


def mirror_difference_hash(hashes: Hashes) -> Hashes:
    """Difference hashes of the mirrored pictures, about: every row backwards, brighter for darker.

    Examples
    --------
    >>> [hex(one) for one in mirror_difference_hash(np.array([0x80, 2**64 - 1], np.uint64)).tolist()]
    ['0xfffffffffffffffe', '0x0']
    """
    bits = np.unpackbits(hashes.astype("<u8").view(np.uint8).reshape(-1, 8), axis=1).reshape(-1, 8, 8)
    packed = np.packbits(1 - bits[:, :, ::-1], axis=2).reshape(-1, 8)
    return np.ascontiguousarray(packed).view("<u8").astype(np.uint64).ravel()


def mirror_perceptual_hash(hashes: Hashes) -> Hashes:
    """Perceptual hashes of the mirrored pictures, about: odd frequencies change their sign.

    Examples
    --------
    >>> hex(mirror_perceptual_hash(np.array([0], np.uint64))[0])
    '0xaaaaaaaaaaaaaaaa'
    """
    return hashes ^ _ODD


@dataclass(frozen=True, eq=False)
class ExternalImage:
    """A picture that is not in the catalogue, as partners are proposed for it.

    Attributes
    ----------
    difference, perceptual : int
        Its hashes.
    traces : LocalFeatures
    row : (dim,) float32
        Its vector.
    """

    difference: int
    perceptual: int
    traces: LocalFeatures
    row: FloatArray


class Proposer:
    """Proposes partners for pictures of one space.

    Parameters
    ----------
    space : Space
    contents : sequence of int
        Every picture of the space, or those that may be proposed.
    allowed : (n,) int64, optional
        The rows of these pictures, where they are not all.
    """

    def __init__(self, space: Space, contents: Sequence[int], allowed: RowNumbers | None = None) -> None:
        self.space, self.contents, self._allowed = space, np.asarray(contents, np.int64), allowed
        self.hashes = hashes_of(space.database, contents)
        self._order = {content: number for number, content in enumerate(contents)}
        self._owners = {row: content for content, row in space.rows_of(contents).items()}

    def by_hash(self, fresh: NDArray[np.bool_]) -> Pairs:
        """Pairs of contents whose hashes are near, plain or mirrored, (P, 2); one of each is fresh.

        Parameters
        ----------
        fresh : (N,) bool
            Of `contents`.
        """
        told = self.hashes.known & (self.hashes.difference != 0)  # 0 is the hash of blank pictures
        asking, asked = np.flatnonzero(fresh & told), np.flatnonzero(told)
        found = []
        for hashes, mirrored, bits in (
            (self.hashes.difference, mirror_difference_hash, DIFFERENCE_BITS),
            (self.hashes.perceptual, mirror_perceptual_hash, PERCEPTUAL_BITS),
        ):
            for queries in (hashes[asking], mirrored(hashes[asking])):
                first, second = hash_matches(queries, hashes[asked], bits).T
                found.append(np.stack([asking[first], asked[second]], 1))
        return self.contents[_each_once(np.concatenate(found))]

    def index_features(self, traces: Mapping[int, LocalFeatures]) -> None:
        """Take the traces of pictures that were glanced at; whatever follows asks them."""
        each = [traces[one].cells if one in traces else _NONE for one in self.contents.tolist()]
        self._owner_of_cell = np.repeat(np.arange(len(each)), [len(one) for one in each])
        self._cells = np.concatenate([_NONE, *each])
        self._words = VisualWordIndex(
            self.contents.tolist(), {one: trace.words for one, trace in traces.items()}
        )

    def by_cells(self, fresh: NDArray[np.bool_]) -> Pairs:
        """Pairs of contents of which one is in a cell of the other, (P, 2); one of each is fresh.

        Parameters
        ----------
        fresh : (N,) bool
            Of `contents`.
        """
        owners, told = self._owner_of_cell, self.hashes.known & (self.hashes.perceptual != 0)
        found = []
        for holders, wholes in ((fresh[owners], told), (~fresh[owners], told & fresh)):
            asking, asked = np.flatnonzero(holders), np.flatnonzero(wholes)
            first, second = hash_matches(self._cells[asking], self.hashes.perceptual[asked], CELL_BITS).T
            found.append(np.stack([owners[asking[first]], asked[second]], 1))
        return self.contents[_each_once(np.concatenate(found))]

    def by_words(self, traces: Mapping[int, LocalFeatures]) -> Iterator[tuple[int, int]]:
        """(content, other) of those that share the rarest words with each of these."""
        for content, trace in traces.items():
            for other in self._words.nearest(trace.words, SHARING + 1):
                if other != content:
                    yield content, other

    def of_outsider(self, outsider: ExternalImage) -> dict[int, float]:
        """Partners of a picture that is not in the catalogue, and the cosines to them."""
        told = self.hashes.known & (self.hashes.difference != 0)
        plain = np.array([outsider.difference, outsider.perceptual], np.uint64)
        found = [
            np.flatnonzero(told)[hash_matches(query, of[told], bits)[:, 1]]
            for query, of, bits in (
                (plain[:1], self.hashes.difference, DIFFERENCE_BITS),
                (mirror_difference_hash(plain[:1]), self.hashes.difference, DIFFERENCE_BITS),
                (plain[1:], self.hashes.perceptual, PERCEPTUAL_BITS),
                (mirror_perceptual_hash(plain[1:]), self.hashes.perceptual, PERCEPTUAL_BITS),
                (outsider.traces.cells, self.hashes.perceptual, CELL_BITS),
            )
        ]
        found.append(self._owner_of_cell[hash_matches(plain[1:], self._cells, CELL_BITS)[:, 1]])
        partners = set(self.contents[np.concatenate(found)].tolist())
        partners.update(self._words.nearest(outsider.traces.words, SHARING))
        known, rows = self.space.vectors(sorted(partners))
        cosines = dict(zip(known, (rows @ outsider.row).tolist(), strict=True))
        near, scores = self.space.nearest(outsider.row[None], NEIGHBOURS, self._allowed)
        for row, cosine in zip(near[0].tolist(), scores[0].tolist(), strict=True):
            if row in self._owners:
                cosines[self._owners[row]] = cosine
        return cosines

    def by_vectors(self, contents: Sequence[int]) -> Iterator[tuple[int, int, float]]:
        """(content, neighbour, cosine) of the nearest of each of these."""
        known, rows = self.space.vectors(contents)
        if not known:
            return
        found, cosines = self.space.nearest(rows, NEIGHBOURS + 1)
        for content, near, scores in zip(known, found, cosines, strict=True):
            for row, cosine in zip(near.tolist(), scores.tolist(), strict=True):
                other = self._owners.get(row)
                if other is not None and other != content:
                    yield content, other, cosine

    def cosine(self, a: int, b: int) -> float:
        """Of the vectors of two contents."""
        rows = self.space.vectors([a, b])[1]
        return float(rows[0] @ rows[1])

    def bits(self, a: int, b: int, *, mirrored: bool = False) -> int | None:
        """In which the hashes of two contents differ, by the kind that differs less."""
        at = np.array([self._order[a], self._order[b]])
        if not self.hashes.known[at].all():
            return None
        kinds = (
            (self.hashes.difference[at], mirror_difference_hash),
            (self.hashes.perceptual[at], mirror_perceptual_hash),
        )
        return min(int(hamming(turn(two[:1])[0] if mirrored else two[0], two[1])) for two, turn in kinds)


def hash_matches(queries: Hashes, hashes: Hashes, bits: int) -> Pairs:
    """(query, hash) positions at most so many bits apart, (P, 2); of each query only the nearest `MOST`.

    Examples
    --------
    >>> hash_matches(np.array([0b111], np.uint64), np.array([0, 0b110], np.uint64), 1).tolist()
    [[0, 1]]
    """
    if not len(queries) or not len(hashes):
        return np.zeros((0, 2), np.int64)
    # Thousands of white pages have one hash, and all pairs of thousands are more than memory holds.
    asking, asks = np.unique(queries, return_inverse=True)
    asked, counts = np.unique(hashes, return_counts=True)
    pairs, apart = _between_different(asking, asked, bits)
    first, lengths = _runs(np.cumsum(counts) - counts, np.minimum(counts, MOST), pairs[:, 1])
    places = np.argsort(hashes, kind="stable")[first]
    near = _nearest_few(np.stack([np.repeat(pairs[:, 0], lengths), places], 1), np.repeat(apart, lengths))
    counts = np.bincount(near[:, 0], minlength=len(asking))
    first, lengths = _runs(np.cumsum(counts) - counts, counts, asks)
    return np.stack([np.repeat(np.arange(len(queries)), lengths), near[first, 1]], 1)


def _runs(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions in these runs, one run behind the other, and how long each is.

    Examples
    --------
    >>> _runs(np.array([0, 5]), np.array([2, 3]), np.array([1, 0, 1]))
    (array([5, 6, 7, 0, 1, 5, 6, 7]), array([3, 2, 3]))
    """
    wanted = lengths[chosen]
    within = np.arange(wanted.sum()) - np.repeat(np.cumsum(wanted) - wanted, wanted)
    return np.repeat(starts[chosen], wanted) + within, wanted


def _between_different(queries: Hashes, hashes: Hashes, bits: int) -> tuple[Pairs, NDArray[np.uint8]]:
    """`hash_matches` for hashes of which no two are equal, and in how many bits each pair differs."""
    if len(queries) * len(hashes) > _ALWAYS:
        pairs = near_pairs(np.concatenate([queries, hashes]), bits)
        across = (pairs[:, 0] < len(queries)) & (pairs[:, 1] >= len(queries))
        pairs = pairs[across] - np.array([0, len(queries)])
        pairs = _nearest_few(pairs, hamming(queries[pairs[:, 0]], hashes[pairs[:, 1]]))
        return pairs, hamming(queries[pairs[:, 0]], hashes[pairs[:, 1]])
    step = max(_SLICE // len(hashes), 1)
    parts = []
    for start in range(0, len(queries), step):
        differing = hamming(queries[start : start + step, None], hashes[None])
        near, offset = np.argwhere(differing <= bits), np.array([start, 0])
        parts.append(_nearest_few(near, differing[near[:, 0], near[:, 1]]) + offset)
    pairs = np.concatenate(parts)
    return pairs, hamming(queries[pairs[:, 0]], hashes[pairs[:, 1]])


def _nearest_few(pairs: Pairs, bits: NDArray[np.uint8]) -> Pairs:
    """Of each first one, the `MOST` nearest: thousands of copies of one picture are not all proposed."""
    pairs = pairs[np.lexsort((pairs[:, 1], bits, pairs[:, 0]))]
    starts = np.searchsorted(pairs[:, 0], pairs[:, 0])  # where its run begins
    return pairs[np.arange(len(pairs)) - starts < MOST]


def _each_once(pairs: Pairs) -> Pairs:
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0)
