"""Map of a catalogue: a position for each picture, clusters, and names for them.

Two levels of names: *places* are clusters of embeddings (`clusters`), *regions* are groups of places that are
neighbours on the map (`layout`). Names come from `naming`, thumbnails from `thumbnails`; the command line
writes the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.map.clusters import BLOCK_ROWS, Projection, join, k_means
from diptych.catalog.map.layout import EARLY_STEPS, LATE_STEPS, lay_out
from diptych.catalog.map.naming import NameVocabulary, name_clusters
from diptych.catalog.search.searcher import Searcher
from diptych.catalog.store.filters import Filter, allowed_rows
from diptych.errors import CatalogError, InputError, counted
from diptych.progress import Stage, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.catalog.database.spaces import Space
    from diptych.encoder import FloatArray
    from diptych.vectors.segments import HalfArray, RowNumbers

MOST = 100_000  # pictures of a map
FEWEST, MOST_PLACES, MOST_REGIONS = 4, 240, 20
_DENSITY_CELLS = 16  # cells per side of the histogram in which the densest point of a cluster is searched


@dataclass(frozen=True)
class Cluster:
    """A place or a region of the map.

    Attributes
    ----------
    words : tuple of str
        Its name, and further characteristic words.
    size : int
        Number of pictures.
    x, y : float
        Its densest point.
    """

    words: tuple[str, ...]
    size: int
    x: float
    y: float


@dataclass(frozen=True, eq=False)
class CollectionMap:
    """Pictures with positions, clusters and names."""

    contents: NDArray[np.int64]  # (N,) int64, content numbers
    positions: FloatArray  # (N, 2) float32, from 0 to 1 along the longer side
    members: NDArray[np.intp]  # (N,) integers, the cluster of each picture
    clusters: tuple[Cluster, ...]
    region: NDArray[np.intp]  # (K,) integers, the region of each cluster
    regions: tuple[Cluster, ...]
    total: int  # pictures that pass the filter; more than N if the map shows a sample


def make_map(
    searcher: Searcher,
    words: Sequence[str],
    *,
    regions: int | None = None,
    filters: Filter | None = None,
    most: int = MOST,
    seed: int = 0,
    stage: Stage | None = None,
) -> CollectionMap:
    """Lay out the pictures of a catalogue, cluster them, and name the clusters.

    Parameters
    ----------
    words : sequence of str
        Candidate names.
    regions : int, optional
        Number of regions; by default it depends on the number of pictures.
    filters : Filter, optional
        Only these pictures.
    most : int
        Most pictures on the map; of more, a random sample is shown.
    seed : int
        Equal pictures and seeds give equal maps.

    Raises
    ------
    CatalogError
        Too few pictures.
    InputError
        More regions than pictures.
    """
    rows, total = _rows(searcher, filters, most, seed)
    if len(rows) < FEWEST:
        raise CatalogError(f"{counted(len(rows), 'picture')} cannot make a map: expected at least {FEWEST}")
    if regions is not None and not 1 <= regions <= len(rows) // 2:
        raise InputError(f"{regions} regions of {len(rows)} pictures: expected 1 to {len(rows) // 2}")
    owners = searcher.space.contents_of(rows.tolist())
    # Another process may have removed pictures between the two queries.
    rows = rows[[int(row) in owners for row in rows]]
    vectors = _half(searcher.space, rows)  # (N, dim)
    short = Projection.of(vectors).short(vectors)
    with (stage or silent)("drawing the map", EARLY_STEPS + LATE_STEPS) as advance:
        positions, _ = lay_out(short, seed=seed, progress=advance)
    positions = _scale_to_unit(positions)
    fine, coarse = how_many(len(rows), regions)
    members, _ = k_means(short, fine, seed=seed)
    # Places are joined into regions by their positions on the map, not by their embeddings: the name of a
    # region is written across one area.
    centres = np.stack([_densest(positions[members == k]) for k in range(fine)])
    region = join(centres, np.bincount(members, minlength=fine), coarse)
    named = _name_levels(vectors, members, region, NameVocabulary.of(searcher.encoder, words))
    return CollectionMap(
        np.array([owners[int(row)] for row in rows], np.int64),
        positions,
        members,
        _clusters(named[0], members, positions),
        region,
        _clusters(named[1], region[members], positions),
        total,
    )


def how_many(pictures: int, regions: int | None = None) -> tuple[int, int]:
    """The numbers of clusters and of regions for a number of pictures.

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


def _rows(searcher: Searcher, filters: Filter | None, most: int, seed: int) -> tuple[RowNumbers, int]:
    rows = allowed_rows(searcher.space, filters)
    total = len(rows)
    if total > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    return rows, total


def _half(space: Space, rows: RowNumbers) -> HalfArray:
    """Copy rows in half precision, (N, dim)."""
    # Block by block, as `gather` returns single precision: 100,000 rows of 512 numbers are 100 MB instead of
    # 200.
    embeddings = np.empty((len(rows), space.info.dim), np.float16)
    for start in range(0, len(rows), BLOCK_ROWS):
        embeddings[start : start + BLOCK_ROWS] = space.gather(rows[start : start + BLOCK_ROWS])
    return embeddings


def _scale_to_unit(positions: FloatArray) -> FloatArray:
    """Scale to 0..1 along the longer side, centred along the other."""
    low, high = positions.min(0), positions.max(0)
    longer = max(float((high - low).max()), 1e-6)
    scaled: FloatArray = (positions - (low + high) / 2) / np.float32(longer) + np.float32(0.5)
    return scaled.astype(np.float32)


def _densest(positions: FloatArray) -> FloatArray:
    """The point with the most points around it, since the mean may fall between two separate groups.

    Counts points in a grid of cells with a margin of one cell, and sums each 3 x 3 neighbourhood by shifting
    the counts in all nine directions.
    """
    if not len(positions):
        return np.full(2, 0.5, np.float32)
    low = positions.min(0)
    cell = max(float((positions.max(0) - low).max()) / _DENSITY_CELLS, 1e-6)
    at = ((positions - low) / cell).astype(np.int64)
    counts = np.zeros((_DENSITY_CELLS + 3, _DENSITY_CELLS + 3))
    np.add.at(counts, (at[:, 0] + 1, at[:, 1] + 1), 1)
    around = sum(np.roll(counts, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    best = np.array(np.unravel_index(int(np.argmax(around)), counts.shape)) - 1
    near = np.abs(at - best).max(1) <= 1
    densest: FloatArray = (positions[near] if near.any() else positions).mean(0)
    return densest


def _name_levels(
    vectors: HalfArray, members: NDArray[np.intp], region: NDArray[np.intp], words: NameVocabulary
) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """The words of clusters, and of regions."""
    sizes = np.bincount(members, minlength=len(region))
    inner = words.probabilities(vectors, members, len(region))  # (K, W)
    # (R, K): the sizes of the places of each region. The distribution of a region is the mean of those of its
    # places, by size. E.g. places of 30 and 10 pictures with p(dog) 0.8 and 0.4: 0.7.
    weights = np.zeros((region.max() + 1, len(region)), np.float32)
    weights[region, np.arange(len(region))] = sizes
    outer = weights @ inner / weights.sum(1, keepdims=True)
    above = name_clusters(words.words, outer, weights.sum(1), several=5)
    return name_clusters(words.words, inner, sizes), above


def _clusters(
    named: Sequence[tuple[str, ...]], members: NDArray[np.intp], positions: FloatArray
) -> tuple[Cluster, ...]:
    clusters = []
    for k, words in enumerate(named):
        mine = positions[members == k]
        x, y = _densest(mine)
        clusters.append(Cluster(words, len(mine), float(x), float(y)))
    return tuple(clusters)
