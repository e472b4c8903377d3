"""Cluster the embeddings of a catalogue: projection by PCA, spherical k-means, Ward's method.

Embeddings are first projected to 50 principal components (`Projection`), so that a hundred thousand fit in
memory and compare fast. `naming` names the clusters, `layout` positions them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diptych.encoder import normalize
from diptych.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.catalog.relevance import Rows
    from diptych.encoder import FloatArray

BLOCK_ROWS = 8192
SHORT = 50  # dimensions after the projection
ROUNDS = 25  # most iterations of k-means
SEED_ROWS = 20_000  # rows among which the initial centres are chosen


@dataclass(frozen=True, eq=False)
class Projection:
    """Principal component analysis: subtract the mean, project to the directions of largest variance.

    Attributes
    ----------
    mean : (dim,) float32
    axes : (dim, short) float32
        Principal components by decreasing variance; the sign makes the largest number of each positive.

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
        """Fit the projection to rows (N, dim), which may be half precision and memory-mapped."""
        total = np.zeros(rows.shape[1], np.float64)
        squares = np.zeros((rows.shape[1], rows.shape[1]), np.float64)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS].astype(np.float32)
            total += block.sum(0, dtype=np.float64)
            squares += block.T @ block
        mean = total / max(len(rows), 1)
        # Covariance as E[x x^T] - mean mean^T, in one pass over the rows; float64 absorbs the cancellation.
        covariance = squares / max(len(rows), 1) - np.outer(mean, mean)
        axes = np.linalg.eigh(covariance)[1][:, ::-1][:, : min(short, rows.shape[1])]
        largest = np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0)
        return cls(mean.astype(np.float32), (axes * np.where(largest < 0, -1, 1)).astype(np.float32))

    def short(self, rows: Rows) -> FloatArray:
        """Project rows and normalise them, (N, short) float32."""
        projected = np.empty((len(rows), self.axes.shape[1]), np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows[start : start + BLOCK_ROWS].astype(np.float32)
            projected[start : start + BLOCK_ROWS] = (block - self.mean) @ self.axes
        return normalize(projected)


def k_means(rows: FloatArray, clusters: int, *, seed: int = 0) -> tuple[NDArray[np.intp], FloatArray]:
    """Spherical k-means: assign rows of length one to the centre of largest cosine (Dhillon and Modha 2001).

    `rows` (N, short) are of length one. Returns the cluster of each row, (N,), and the centres, (clusters,
    short), of length one; no cluster is empty if there are enough different rows.

    Notes
    -----
    Initial centres by greedy k-means++ (Arthur and Vassilvitskii 2007): the best of a few rows drawn with
    probabilities proportional to their distance. A centre that loses all members moves to the row with the
    lowest cosine to its own centre.
    """
    if not 1 <= clusters <= len(rows):
        raise InputError(f"{clusters} clusters of {len(rows)} pictures: expected 1 to {len(rows)}")
    rng = np.random.default_rng(seed)
    centres = _first_centres(rows, clusters, rng)
    members = np.full(len(rows), -1)
    for _ in range(ROUNDS):
        new, cosines = assign(rows, centres)
        for empty in np.flatnonzero(np.bincount(new, minlength=clusters) == 0):
            worst = int(cosines.argmin())
            new[worst], cosines[worst] = empty, 1.0  # 1: not chosen again for another empty cluster
        moved = np.count_nonzero(new != members)
        members = new
        centres = means(rows, members, clusters)
        if moved <= len(rows) // 1000:
            break
    return members, centres


def assign(rows: FloatArray, centres: FloatArray) -> tuple[NDArray[np.intp], FloatArray]:
    """The nearest centre of each row, and the cosine to it, (N,) each."""
    nearest = np.empty(len(rows), np.intp)
    nearest_cosines = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        cosines = rows[start : start + BLOCK_ROWS] @ centres.T
        best = cosines.argmax(1)
        nearest[start : start + BLOCK_ROWS] = best
        nearest_cosines[start : start + BLOCK_ROWS] = np.take_along_axis(cosines, best[:, None], 1)[:, 0]
    return nearest, nearest_cosines


def means(rows: FloatArray, members: NDArray[np.intp], clusters: int) -> FloatArray:
    """Normalised mean of the rows of each cluster, (clusters, dim); zeros for an empty one."""
    order = np.argsort(members, kind="stable")
    counts = np.bincount(members, minlength=clusters)
    sums = np.zeros((clusters, rows.shape[1]), np.float32)
    # `reduceat` sums the runs of sorted rows. It cannot sum empty runs, so those are left out. E.g. members
    # [2, 0, 2] of 3 clusters: counts [1, 0, 2], starts [0, 1].
    filled = counts > 0
    starts = np.concatenate([[0], np.cumsum(counts[filled])[:-1]])
    sums[filled] = np.add.reduceat(rows[order].astype(np.float32), starts, axis=0)
    return normalize(sums)


def _first_centres(rows: FloatArray, clusters: int, rng: np.random.Generator) -> FloatArray:
    pool = rows
    if len(rows) > max(SEED_ROWS, clusters):
        pool = rows[np.sort(rng.choice(len(rows), max(SEED_ROWS, clusters), replace=False))]
    chosen = [int(rng.integers(len(pool)))]
    distances = _distances(pool, pool[chosen])[:, 0]
    tries = 2 + int(np.log(clusters))
    for _ in range(clusters - 1):
        total = distances.sum(dtype=np.float64)
        weights = distances / total if total > 0 else None  # None: only equal rows are remaining
        drawn = rng.choice(len(pool), tries, p=weights)
        remaining = np.minimum(distances[:, None], _distances(pool, pool[drawn]))  # (S, tries)
        best = int(remaining.sum(0, dtype=np.float64).argmin())
        chosen.append(int(drawn[best]))
        distances = remaining[:, best]
    return pool[chosen].copy()


def _distances(rows: FloatArray, others: FloatArray) -> NDArray[np.float64]:
    """Half the squared distance between rows of length one, (N, M): |a - b|**2 / 2 = 1 - a.b."""
    distances = 1 - (rows @ others.T).astype(np.float64)
    return np.where(distances > 1e-6, distances, 0.0)  # rounding errors of equal rows must not be drawn


def join(positions: FloatArray, sizes: NDArray[np.intp], groups: int) -> NDArray[np.intp]:
    """Merge clusters into fewer groups by Ward's method (1963): the least increase of variance first.

    `positions` are (K, any), `sizes` the numbers of members, (K,). Returns the group of each, (K,), from 0.

    Examples
    --------
    >>> join(np.float32([[0, 0], [9, 9], [0, 1], [9, 8]]), np.array([1, 1, 1, 1]), 2).tolist()
    [0, 1, 0, 1]
    """
    centres, weights = positions.astype(np.float64), np.maximum(sizes, 1).astype(np.float64)
    group = np.arange(len(positions))
    active = np.ones(len(positions), bool)
    for _ in range(len(positions) - groups):
        squares = ((centres[:, None] - centres[None]) ** 2).sum(-1)
        cost = squares * (weights[:, None] * weights[None] / (weights[:, None] + weights[None]))
        cost[~active] = cost[:, ~active] = np.inf
        np.fill_diagonal(cost, np.inf)
        a, b = sorted(divmod(int(cost.argmin()), len(positions)))
        centres[a] = (weights[a] * centres[a] + weights[b] * centres[b]) / (weights[a] + weights[b])
        weights[a] += weights[b]
        active[b] = False
        group[group == b] = a
    return np.unique(group, return_inverse=True)[1]
