"""Candidate pairs: by hashes (also mirrored), hashes of cells, visual words and nearest vectors.

Candidates are cheap and may be wrong, since `comparing` judges them; a pair that is not proposed here is
never found. New pictures are compared with all, old ones are not compared with each other again.
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

DIFFERENCE_BITS, PERCEPTUAL_BITS, CELL_BITS = 10, 10, 8  # largest Hamming distances
NEIGHBOURS, SHARING = 10, 10  # candidates by vectors, and by visual words
MOST = 24  # candidates by one hash of one picture
# Up to so many comparisons, a few seconds, all are made; beyond, hashes are indexed by bands.
_BRUTE_FORCE = 3e9
_SLICE = 2**24  # comparisons at once
_NO_CELLS = np.zeros(0, np.uint64)
# The bits of a perceptual hash that belong to odd horizontal frequencies, whose coefficients change their
# sign when the picture is mirrored: cos(pi * k * (1 - x)) = (-1)**k * cos(pi * k * x). Columns are k = 1..8,
# most significant first, so k = 1, 3, 5, 7 are the bits 10101010 of each row.
_ODD = np.uint64(int("10101010" * 8, 2))


def mirror_difference_hash(hashes: Hashes) -> Hashes:
    """Approximate difference hashes of the mirrored pictures: every row reversed and inverted.

    Examples
    --------
    >>> [hex(value) for value in mirror_difference_hash(np.array([0x80, 2**64 - 1], np.uint64)).tolist()]
    ['0xfffffffffffffffe', '0x0']
    """
    bits = np.unpackbits(hashes.astype("<u8").view(np.uint8).reshape(-1, 8), axis=1).reshape(-1, 8, 8)
    packed = np.packbits(1 - bits[:, :, ::-1], axis=2).reshape(-1, 8)
    return np.ascontiguousarray(packed).view("<u8").astype(np.uint64).ravel()


def mirror_perceptual_hash(hashes: Hashes) -> Hashes:
    """Approximate perceptual hashes of the mirrored pictures: odd frequencies change their sign.

    Examples
    --------
    >>> hex(mirror_perceptual_hash(np.array([0], np.uint64))[0])
    '0xaaaaaaaaaaaaaaaa'
    """
    return hashes ^ _ODD


@dataclass(frozen=True, eq=False)
class ExternalImage:
    """The features of a picture that is not in the catalogue.

    Attributes
    ----------
    difference, perceptual : int
        Its hashes.
    embedding : (dim,) float32
    """

    difference: int
    perceptual: int
    features: LocalFeatures
    embedding: FloatArray


class Proposer:
    """Proposes candidate pairs of the pictures of one space.

    Parameters
    ----------
    contents : sequence of int
        All pictures of the space, or those that may be proposed.
    allowed : (n,) int64, optional
        The rows of these pictures, if they are not all.
    """

    def __init__(self, space: Space, contents: Sequence[int], allowed: RowNumbers | None = None) -> None:
        self.space, self.contents, self._allowed = space, np.asarray(contents, np.int64), allowed
        self.hashes = hashes_of(space.database, contents)
        self._order = {content: number for number, content in enumerate(contents)}
        self._owners = {row: content for content, row in space.rows_of(contents).items()}

    def by_hash(self, fresh: NDArray[np.bool_]) -> Pairs:
        """Pairs of contents with similar hashes, plain or mirrored, (P, 2), at least one of them `fresh`.

        `fresh` is a mask of `contents`.
        """
        valid = self.hashes.valid & (self.hashes.difference != 0)  # 0 is the hash of blank pictures
        queries, targets = np.flatnonzero(fresh & valid), np.flatnonzero(valid)
        pairs = []
        for hashes, mirror, bits in (
            (self.hashes.difference, mirror_difference_hash, DIFFERENCE_BITS),
            (self.hashes.perceptual, mirror_perceptual_hash, PERCEPTUAL_BITS),
        ):
            for query_hashes in (hashes[queries], mirror(hashes[queries])):
                first, second = hash_matches(query_hashes, hashes[targets], bits).T
                pairs.append(np.stack([queries[first], targets[second]], 1))
        return self.contents[_unique_pairs(np.concatenate(pairs))]

    def index_features(self, features: Mapping[int, LocalFeatures]) -> None:
        """Index the local features of pictures; `by_cells`, `by_words` and `of_external` need it."""
        cells = [
            features[content].cells if content in features else _NO_CELLS
            for content in self.contents.tolist()
        ]
        self._owner_of_cell = np.repeat(np.arange(len(cells)), [len(own_cells) for own_cells in cells])
        self._cells = np.concatenate([_NO_CELLS, *cells])
        words = {content: own_features.words for content, own_features in features.items()}
        self._words = VisualWordIndex(self.contents.tolist(), words)

    def by_cells(self, fresh: NDArray[np.bool_]) -> Pairs:
        """Pairs of contents of which one appears in a cell of the other, (P, 2); at least one is fresh.

        Parameters
        ----------
        fresh : (N,) bool
            Of `contents`.
        """
        owners, valid = self._owner_of_cell, self.hashes.valid & (self.hashes.perceptual != 0)
        pairs = []
        # Cells of fresh pictures against all pictures, then cells of old pictures against the fresh ones.
        for cell_mask, picture_mask in ((fresh[owners], valid), (~fresh[owners], valid & fresh)):
            cells, pictures = np.flatnonzero(cell_mask), np.flatnonzero(picture_mask)
            first, second = hash_matches(self._cells[cells], self.hashes.perceptual[pictures], CELL_BITS).T
            pairs.append(np.stack([owners[cells[first]], pictures[second]], 1))
        return self.contents[_unique_pairs(np.concatenate(pairs))]

    def by_words(self, features: Mapping[int, LocalFeatures]) -> Iterator[tuple[int, int]]:
        """Yield (content, other) for the pictures that share the rarest visual words with each of these."""
        for content, own_features in features.items():
            for other in self._words.nearest(own_features.words, SHARING + 1):
                if other != content:
                    yield content, other

    def of_external(self, image: ExternalImage) -> dict[int, float]:
        """Candidates for a picture that is not in the catalogue, with their cosines to it."""
        valid = self.hashes.valid & (self.hashes.difference != 0)
        plain = np.array([image.difference, image.perceptual], np.uint64)
        positions = [
            np.flatnonzero(valid)[hash_matches(query, hashes[valid], bits)[:, 1]]
            for query, hashes, bits in (
                (plain[:1], self.hashes.difference, DIFFERENCE_BITS),
                (mirror_difference_hash(plain[:1]), self.hashes.difference, DIFFERENCE_BITS),
                (plain[1:], self.hashes.perceptual, PERCEPTUAL_BITS),
                (mirror_perceptual_hash(plain[1:]), self.hashes.perceptual, PERCEPTUAL_BITS),
                (image.features.cells, self.hashes.perceptual, CELL_BITS),
            )
        ]
        positions.append(self._owner_of_cell[hash_matches(plain[1:], self._cells, CELL_BITS)[:, 1]])
        candidates = set(self.contents[np.concatenate(positions)].tolist())
        candidates.update(self._words.nearest(image.features.words, SHARING))
        embedded, embeddings = self.space.vectors(sorted(candidates))
        cosines = dict(zip(embedded, (embeddings @ image.embedding).tolist(), strict=True))
        rows, scores = self.space.nearest(image.embedding[None], NEIGHBOURS, self._allowed)
        for row, cosine in zip(rows[0].tolist(), scores[0].tolist(), strict=True):
            if row in self._owners:
                cosines[self._owners[row]] = cosine
        return cosines

    def by_vectors(self, contents: Sequence[int]) -> Iterator[tuple[int, int, float]]:
        """Yield (content, neighbour, cosine) for the nearest neighbours of each of these."""
        embedded, embeddings = self.space.vectors(contents)
        if not embedded:
            return
        neighbours, cosines = self.space.nearest(embeddings, NEIGHBOURS + 1)  # 1 more: the picture itself
        for content, rows, scores in zip(embedded, neighbours, cosines, strict=True):
            for row, cosine in zip(rows.tolist(), scores.tolist(), strict=True):
                other = self._owners.get(row)
                if other is not None and other != content:
                    yield content, other, cosine

    def cosine(self, a: int, b: int) -> float:
        """Cosine of the vectors of two contents."""
        embeddings = self.space.vectors([a, b])[1]
        return float(embeddings[0] @ embeddings[1])

    def bits(self, a: int, b: int, *, mirrored: bool = False) -> int | None:
        """Hamming distance of the hashes of two contents; of the two kinds of hash, the smaller one."""
        at = np.array([self._order[a], self._order[b]])
        if not self.hashes.valid[at].all():
            return None
        kinds = (
            (self.hashes.difference[at], mirror_difference_hash),
            (self.hashes.perceptual[at], mirror_perceptual_hash),
        )
        return min(
            int(hamming(mirror(pair[:1])[0] if mirrored else pair[0], pair[1])) for pair, mirror in kinds
        )


def hash_matches(queries: Hashes, hashes: Hashes, bits: int) -> Pairs:
    """Positions (query, hash) within a Hamming distance, (P, 2); of each query only the nearest `MOST`.

    Examples
    --------
    >>> hash_matches(np.array([0b111], np.uint64), np.array([0, 0b110], np.uint64), 1).tolist()
    [[0, 1]]
    """
    if not len(queries) or not len(hashes):
        return np.zeros((0, 2), np.int64)
    # Equal hashes are matched once and expanded afterwards: thousands of white pages share one hash, and all
    # their pairs would not fit into memory. E.g. hashes [7, 4, 7]: unique [4, 7], counts [1, 2]; in sorted
    # order the positions are [1, 0, 2], so hash 7 is the run 1..2 of them, positions 0 and 2.
    unique_queries, query_groups = np.unique(queries, return_inverse=True)
    unique_hashes, counts = np.unique(hashes, return_counts=True)
    pairs, distances = _match_unique(unique_queries, unique_hashes, bits)
    first, lengths = _expand_runs(np.cumsum(counts) - counts, np.minimum(counts, MOST), pairs[:, 1])
    positions = np.argsort(hashes, kind="stable")[first]
    expanded = np.stack([np.repeat(pairs[:, 0], lengths), positions], 1)
    nearest = _nearest_few(expanded, np.repeat(distances, lengths))
    # The same in the other direction: every query gets the matches of its unique hash.
    counts = np.bincount(nearest[:, 0], minlength=len(unique_queries))
    first, lengths = _expand_runs(np.cumsum(counts) - counts, counts, query_groups)
    return np.stack([np.repeat(np.arange(len(queries)), lengths), nearest[first, 1]], 1)


def _expand_runs(
    starts: NDArray[np.int64], lengths: NDArray[np.int64], chosen: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The positions in the chosen runs, concatenated, and the length of each.

    Examples
    --------
    >>> _expand_runs(np.array([0, 5]), np.array([2, 3]), np.array([1, 0, 1]))
    (array([5, 6, 7, 0, 1, 5, 6, 7]), array([3, 2, 3]))
    """
    run_lengths = lengths[chosen]
    within = np.arange(run_lengths.sum()) - np.repeat(np.cumsum(run_lengths) - run_lengths, run_lengths)
    return np.repeat(starts[chosen], run_lengths) + within, run_lengths


def _match_unique(queries: Hashes, hashes: Hashes, bits: int) -> tuple[Pairs, NDArray[np.uint8]]:
    """`hash_matches` for distinct hashes; also the distance of each pair."""
    if len(queries) * len(hashes) > _BRUTE_FORCE:
        pairs = near_pairs(np.concatenate([queries, hashes]), bits)
        across = (pairs[:, 0] < len(queries)) & (pairs[:, 1] >= len(queries))
        pairs = pairs[across] - np.array([0, len(queries)])
        pairs = _nearest_few(pairs, hamming(queries[pairs[:, 0]], hashes[pairs[:, 1]]))
        return pairs, hamming(queries[pairs[:, 0]], hashes[pairs[:, 1]])
    step = max(_SLICE // len(hashes), 1)
    parts = []
    for start in range(0, len(queries), step):
        distances = hamming(queries[start : start + step, None], hashes[None])
        near, offset = np.argwhere(distances <= bits), np.array([start, 0])
        parts.append(_nearest_few(near, distances[near[:, 0], near[:, 1]]) + offset)
    pairs = np.concatenate(parts)
    return pairs, hamming(queries[pairs[:, 0]], hashes[pairs[:, 1]])


def _nearest_few(pairs: Pairs, bits: NDArray[np.uint8]) -> Pairs:
    """Of each query the `MOST` nearest pairs: thousands of copies of one picture are not all proposed."""
    pairs = pairs[np.lexsort((pairs[:, 1], bits, pairs[:, 0]))]
    starts = np.searchsorted(pairs[:, 0], pairs[:, 0])  # the position where the run of each query begins
    return pairs[np.arange(len(pairs)) - starts < MOST]


def _unique_pairs(pairs: Pairs) -> Pairs:
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0)
