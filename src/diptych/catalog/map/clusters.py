"""Clusters of a catalogue's rows: what lies together, and the words that say it.

Rows become short ones first (`Projection`), so that a hundred thousand fit in memory and compare fast; then
spherical k-means. A cluster's name is the word that fits it better than it fits the rest of the collection,
which is not the word that fits it best: in an album of dogs every cluster would be called "dog". Where things
are drawn is `layout`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diptych.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.catalog.relevance import Rows
    from diptych.encoder import FloatArray

BLOCK_ROWS = 8192
SHORT = 50  # numbers of a short row
ROUNDS = 25  # of k-means at most
SEED_ROWS = 20_000  # that the first centres are chosen among


@dataclass(frozen=True, eq=False)
class Projection:
    """Rows without what all of them share, on the directions in which they differ most.

    Attributes
    ----------
    mean : (dim,) float32
    axes : (dim, short) float32
        Principal components, the widest first, each with its largest number above zero.

    Examples
    --------
    >>> rows = np.array([[0.8, 0.6, 0], [0.8, -0.6, 0]], np.float32)
    >>> Projection.of(rows, 1).short(rows).T.tolist()
    [[1.0, -1.0]]
    """

    mean: FloatArray
    axes: FloatArray

    @classmethod
    def of(cls, rows: Rows, short: int = SHORT) -> Projection:
        """The projection of rows (N, dim), which may be half precision and on disk."""
        total = np.zeros(rows.shape[1], np.float64)
        squares = np.zeros((rows.shape[1], rows.shape[1]), np.float64)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS].astype(np.float32)
            total += block.sum(0, dtype=np.float64)
            squares += block.T @ block
        mean = total / max(len(rows), 1)
        spread = squares / max(len(rows), 1) - np.outer(mean, mean)
        axes = np.linalg.eigh(spread)[1][:, ::-1][:, : min(short, rows.shape[1])]
        largest = np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0)
        return cls(mean.astype(np.float32), (axes * np.where(largest < 0, -1, 1)).astype(np.float32))

    def short(self, rows: Rows) -> FloatArray:
        """Short rows of length one, (N, short) float32."""
        found = np.empty((len(rows), self.axes.shape[1]), np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS].astype(np.float32)
            found[start : start + BLOCK_ROWS] = (block - self.mean) @ self.axes
        return _unit(found)


def k_means(rows: FloatArray, clusters: int, *, seed: int = 0) -> tuple[NDArray[np.intp], FloatArray]:
    """Spherical k-means: rows of length one to the centre of the largest cosine (Dhillon and Modha 2001).

    Parameters
    ----------
    rows : (N, short) float32
        Of length one.
    clusters : int
    seed : int

    Returns
    -------
    members : (N,) integers
        The cluster of each row; each has a member, if there are as many different rows.
    centres : (clusters, short) float32
        Of length one.

    Notes
    -----
    First centres as the greedy k-means++ chooses them (Arthur and Vassilvitskii 2007): the best of a few
    rows drawn by their distance. A centre that loses all its members goes where a row fits its own worst.
    """
    if not 1 <= clusters <= len(rows):
        raise InputError(f"{clusters} clusters of {len(rows)} pictures: expected from 1 to as many as those")
    rng = np.random.default_rng(seed)
    centres = _first_centres(rows, clusters, rng)
    members = np.full(len(rows), -1)
    for _ in range(ROUNDS):
        new, fits = assign(rows, centres)
        for empty in np.flatnonzero(np.bincount(new, minlength=clusters) == 0):
            worst = int(fits.argmin())
            new[worst], fits[worst] = empty, 1.0
        moved = np.count_nonzero(new != members)
        members = new
        centres = means(rows, members, clusters)
        if moved <= len(rows) // 1000:
            break
    return members, centres


def assign(rows: FloatArray, centres: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """The nearest centre of each row, and the cosine to it, (N,) each."""
    nearest = np.empty(len(rows), np.intp)
    fits = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        cosines = rows[start : start + BLOCK_ROWS] @ centres.T
        best = cosines.argmax(1)
        nearest[start : start + BLOCK_ROWS] = best
        fits[start : start + BLOCK_ROWS] = np.take_along_axis(cosines, best[:, None], 1)[:, 0]
    return nearest, fits


def means(rows: FloatArray, members: NDArray[np.intp], clusters: int) -> FloatArray:
    """Mean on the sphere of each cluster's rows, (clusters, dim)."""
    order = np.argsort(members, kind="stable")
    counts = np.bincount(members, minlength=clusters)
    sums = np.zeros((clusters, rows.shape[1]), np.float32)
    there = counts > 0
    starts = np.concatenate([[0], np.cumsum(counts[there])[:-1]])
    sums[there] = np.add.reduceat(rows[order].astype(np.float32), starts, axis=0)
    return _unit(sums)


def _first_centres(rows: FloatArray, clusters: int, rng: np.random.Generator) -> FloatArray:
    among = rows
    if len(rows) > max(SEED_ROWS, clusters):
        among = rows[np.sort(rng.choice(len(rows), max(SEED_ROWS, clusters), replace=False))]
    chosen = [int(rng.integers(len(among)))]
    far = _away(among, among[chosen])[:, 0]
    tries = 2 + int(np.log(clusters))
    for _ in range(clusters - 1):
        total = far.sum(dtype=np.float64)
        weights = far / total if total > 0 else None  # None: only equal rows are left
        tried = rng.choice(len(among), tries, p=weights)
        left = np.minimum(far[:, None], _away(among, among[tried]))  # (S, tries)
        best = int(left.sum(0, dtype=np.float64).argmin())
        chosen.append(int(tried[best]))
        far = left[:, best]
    return among[chosen].copy()


def _away(rows: FloatArray, others: FloatArray) -> NDArray[np.float64]:
    """Half the squared distance of each row to each other, (N, M)."""
    apart = 1 - (rows @ others.T).astype(np.float64)
    return np.where(apart > 1e-6, apart, 0.0)


def join(places: FloatArray, sizes: NDArray[np.intp], groups: int) -> NDArray[np.intp]:
    """Clusters put together into fewer groups, the nearest first (Ward 1963).

    Parameters
    ----------
    places : (K, any) float32
    sizes : (K,) integers
        Members of each.
    groups : int

    Returns
    -------
    (K,) integers
        The group of each, from 0.

    Examples
    --------
    >>> join(np.float32([[0, 0], [9, 9], [0, 1], [9, 8]]), np.array([1, 1, 1, 1]), 2).tolist()
    [0, 1, 0, 1]
    """
    centres, weights = places.astype(np.float64), np.maximum(sizes, 1).astype(np.float64)
    group = np.arange(len(places))
    alive = np.ones(len(places), bool)
    for _ in range(len(places) - groups):
        squares = ((centres[:, None] - centres[None]) ** 2).sum(-1)
        cost = squares * (weights[:, None] * weights[None] / (weights[:, None] + weights[None]))
        cost[~alive] = cost[:, ~alive] = np.inf
        np.fill_diagonal(cost, np.inf)
        a, b = sorted(divmod(int(cost.argmin()), len(places)))
        centres[a] = (weights[a] * centres[a] + weights[b] * centres[b]) / (weights[a] + weights[b])
        weights[a] += weights[b]
        alive[b] = False
        group[group == b] = a
    return np.unique(group, return_inverse=True)[1]


def _unit(rows: FloatArray) -> FloatArray:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    found: FloatArray = rows / np.maximum(length, np.finfo(np.float32).tiny)
    return found
