"""A catalogue as a map: where each picture lies, what lies together, and what that is called.

Two levels of names, as maps of countries have: *places* are clusters of rows (`clusters`), *regions* are
places that lie side by side on the map (`layout`). Words come from `naming`, thumbnails from `thumbnails`;
the page is the command line's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.map.clusters import BLOCK_ROWS, Projection, join, k_means
from diptych.catalog.map.layout import EARLY, LATE, lay_out
from diptych.catalog.map.naming import Vocabulary, name_clusters
from diptych.catalog.search.searcher import Searcher
from diptych.catalog.store.filters import Filter, allowed_rows
from diptych.errors import CatalogError, InputError
from diptych.progress import silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.catalog.database.spaces import Space
    from diptych.encoder import FloatArray
    from diptych.vectors.segments import HalfArray, RowNumbers

    Stage = Callable[[str, int | None], AbstractContextManager[Callable[[int], None]]]

MOST = 100_000  # pictures of a map
FEWEST, MOST_PLACES, MOST_REGIONS = 4, 240, 20
_DENSE = 16  # cells along a place's side, where its densest spot is looked for


@dataclass(frozen=True)
class Cluster:
    """A place or a region of the map.

    Attributes
    ----------
    words : tuple of str
        Its name, and further words that tell it from the rest.
    size : int
        Pictures.
    x, y : float
        Where most of it lies.
    """

    words: tuple[str, ...]
    size: int
    x: float
    y: float


@dataclass(frozen=True, eq=False)
class CollectionMap:
    """Pictures on a map.

    Attributes
    ----------
    contents : (N,) int64
        Their numbers in the catalogue.
    places : (N, 2) float32
        From 0 to 1 along the longer side.
    members : (N,) integers
        The cluster of each picture.
    clusters : tuple of Cluster
    region : (K,) integers
        The region of each cluster.
    regions : tuple of Cluster
    total : int
        Pictures that could have been on it; more than N where it is a sample.
    """

    contents: NDArray[np.int64]
    places: FloatArray
    members: NDArray[np.intp]
    clusters: tuple[Cluster, ...]
    region: NDArray[np.intp]
    regions: tuple[Cluster, ...]
    total: int


def make_map(
    searcher: Searcher,
    words: Sequence[str],
    *,
    regions: int | None = None,
    where: Filter | None = None,
    most: int = MOST,
    seed: int = 0,
    stage: Stage | None = None,
) -> CollectionMap:
    """Lay the pictures of a catalogue out, put together what belongs together, and name it.

    Parameters
    ----------
    searcher : Searcher
    words : sequence of str
        What clusters may be called.
    regions : int, optional
        How many; by default by the number of pictures.
    where : Filter, optional
        Only these pictures.
    most : int
        Of more pictures, so many are drawn by `seed`.
    seed : int
        The same map for the same pictures and seed.
    stage : callable, optional
        `stage(what, total)` gives a context with a progress function.

    Returns
    -------
    CollectionMap

    Raises
    ------
    CatalogError
        Too few pictures.
    InputError
        More regions than pictures.
    """
    rows, total = _rows(searcher, where, most, seed)
    if len(rows) < FEWEST:
        raise CatalogError(f"{len(rows)} pictures make no map: expected at least {FEWEST}")
    if regions is not None and not 1 <= regions <= len(rows) // 2:
        raise InputError(f"{regions} clusters of {len(rows)} pictures: expected from 1 to half as many")
    owners = searcher.space.contents_of(rows.tolist())
    rows = rows[[int(row) in owners for row in rows]]
    vectors = _half(searcher.space, rows)  # (N, dim)
    short = Projection.of(vectors).short(vectors)
    with (stage or silent)("drawing the map", EARLY + LATE) as advance:
        places, _ = lay_out(short, seed=seed, progress=advance)
    places = _to_one(places)
    fine, coarse = how_many(len(rows), regions)
    members, _ = k_means(short, fine, seed=seed)
    spots = np.stack([_densest(places[members == k]) for k in range(fine)])
    region = join(spots, np.bincount(members, minlength=fine), coarse)
    named = _named(vectors, members, region, Vocabulary.of(searcher.encoder, words))
    return CollectionMap(
        np.array([owners[int(row)] for row in rows], np.int64),
        places,
        members,
        _clusters(named[0], members, places),
        region,
        _clusters(named[1], region[members], places),
        total,
    )


def how_many(pictures: int, regions: int | None = None) -> tuple[int, int]:
    """How many clusters and how many regions so many pictures have.

    Examples
    --------
    >>> [how_many(n) for n in (10, 1000, 10_000, 100_000)]
    [(4, 2), (26, 7), (83, 12), (240, 20)]
    >>> how_many(1000, 12)
    (72, 12)
    """
    if regions is not None:
        return min(6 * regions, max(regions, pictures // 2)), regions
    fine = int(np.clip(0.83 * pictures**0.5, min(4, pictures), MOST_PLACES))
    return fine, int(np.clip(round(1.3 * fine**0.5), 1, MOST_REGIONS)) if fine > 4 else max(1, fine // 2)


def _rows(searcher: Searcher, where: Filter | None, most: int, seed: int) -> tuple[RowNumbers, int]:
    rows = allowed_rows(searcher.space, where) if where else searcher.space.live_rows()
    total = len(rows)
    if total > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return rows, total


def _half(space: Space, rows: RowNumbers) -> HalfArray:
    """Rows in half the memory, (N, dim)."""
    found = np.empty((len(rows), space.info.dim), np.float16)
    for start in range(0, len(rows), BLOCK_ROWS):
        found[start : start + BLOCK_ROWS] = space.gather(rows[start : start + BLOCK_ROWS])
    return found


def _to_one(places: FloatArray) -> FloatArray:
    """From 0 to 1 along the longer side, in the middle along the other."""
    low, high = places.min(0), places.max(0)
    longer = max(float((high - low).max()), 1e-6)
    found: FloatArray = (places - (low + high) / 2) / np.float32(longer) + np.float32(0.5)
    return found.astype(np.float32)


def _densest(places: FloatArray) -> FloatArray:
    """The spot around which most of these points lie: a mean may fall between two islands."""
    if not len(places):
        return np.full(2, 0.5, np.float32)
    low = places.min(0)
    cell = max(float((places.max(0) - low).max()) / _DENSE, 1e-6)
    at = ((places - low) / cell).astype(np.int64)
    counts = np.zeros((_DENSE + 3, _DENSE + 3))
    np.add.at(counts, (at[:, 0] + 1, at[:, 1] + 1), 1)
    around = sum(np.roll(counts, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    best = np.array(np.unravel_index(int(np.argmax(around)), counts.shape)) - 1
    near = np.abs(at - best).max(1) <= 1
    found: FloatArray = (places[near] if near.any() else places).mean(0)
    return found


def _named(
    vectors: HalfArray, members: NDArray[np.intp], region: NDArray[np.intp], words: Vocabulary
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Words of clusters and of regions."""
    sizes = np.bincount(members, minlength=len(region))
    inner = words.shares(vectors, members, len(region))  # (K, W)
    weights = np.zeros((region.max() + 1, len(region)), np.float32)
    weights[region, np.arange(len(region))] = sizes
    outer = weights @ inner / weights.sum(1, keepdims=True)
    above = name_clusters(words.words, outer, weights.sum(1), several=5)
    return name_clusters(words.words, inner, sizes), above


def _clusters(
    named: Sequence[tuple[str, ...]], members: NDArray[np.intp], places: FloatArray
) -> tuple[Cluster, ...]:
    found = []
    for k, words in enumerate(named):
        mine = places[members == k]
        x, y = _densest(mine)
        found.append(Cluster(words, len(mine), float(x), float(y)))
    return tuple(found)
