"""Two-dimensional layout of embeddings by t-SNE.

t-SNE (van der Maaten and Hinton 2008) with three known changes that lay out a hundred thousand rows in
minutes with NumPy alone: neighbours are searched in the nearest clusters of a k-means; the nearest neighbours
attract each other with equal weights (Böhm, Berens and Kobak 2022 found no difference); repulsion is computed
on a grid by Fourier transform (after Linderman et al. 2019, who interpolate with polynomials; here masses are
distributed linearly to four grid points). The initial positions are the first two principal components,
without randomness (Kobak and Berens 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.map.clusters import k_means

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

NEIGHBOURS = 15
LISTS_SEARCHED = 12  # nearest clusters in which the neighbours of a row are searched
EARLY_STEPS, LATE_STEPS = 120, 380  # early steps have a stronger attraction, so that neighbours meet
EXAGGERATION = 12.0  # factor of the attraction in early steps
LATE_EXAGGERATION = 1.2  # in late steps; above 1, clusters separate (Böhm et al. 2022)
FEW, WIDE = 250, 64  # up to FEW rows on a grid wider than WIDE, the sum over all pairs is faster
CELL = 0.5  # side of a grid cell, in units of t-SNE
MOST_CELLS = 768  # most cells along a side


@dataclass(frozen=True, eq=False)
class Graph:
    """Neighbour graph: directed edges sorted by their source, each pair in both directions.

    E.g. edges 0-1 and 0-2: near = [0, 0, 1, 2], far = [1, 2, 0, 0], starts = [0, 2, 3].

    Attributes
    ----------
    starts : (N,) integers
        Index of the first edge of each row.
    near, far : (E,) integers
        Source and target of each edge.
    pull : (E,) float32
        Weight of each edge; they sum to one.
    """

    starts: NDArray[np.intp]
    near: NDArray[np.int32]
    far: NDArray[np.int32]
    pull: FloatArray


def neighbours(rows: FloatArray, count: int = NEIGHBOURS, *, seed: int = 0) -> NDArray[np.int32]:
    """The nearest other rows of each row of length one, (N, count), nearest first.

    Up to 4,000 rows, the search is exhaustive; beyond, in the clusters of a k-means.
    """
    lists = max(1, round(len(rows) ** 0.5 / 2)) if len(rows) > 4000 else 1
    members, centres = k_means(rows, lists, seed=seed)
    order = np.argsort(members, kind="stable")
    edges = np.searchsorted(members[order], np.arange(lists + 1))
    inside = [order[edges[i] : edges[i + 1]] for i in range(lists)]
    nearest = np.empty((len(rows), count), np.int32)
    nearest_lists = np.argsort(-(centres @ centres.T), axis=1, kind="stable")
    for own, near in zip(inside, nearest_lists, strict=True):
        candidates = np.concatenate([inside[i] for i in near[:LISTS_SEARCHED]])
        more = LISTS_SEARCHED
        while len(candidates) <= count:  # tiny clusters: search further ones
            candidates = np.concatenate([candidates, inside[near[more]]])
            more += 1
        for start in range(0, len(own), 1024):
            mine = own[start : start + 1024]
            cosines = rows[mine] @ rows[candidates].T
            cosines[mine[:, None] == candidates[None]] = -np.inf  # not its own neighbour
            best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
            sort = np.argsort(-np.take_along_axis(cosines, best, 1), axis=1, kind="stable")
            nearest[mine] = candidates[np.take_along_axis(best, sort, 1)]
    return nearest


def graph_of(near: NDArray[np.int32]) -> Graph:
    """Symmetric graph: an edge has weight 2 if both rows are neighbours of each other, else 1."""
    count = len(near)
    # An edge (a, b) is encoded as a * N + b, so that sorting and counting work on integers.
    source = np.repeat(np.arange(count, dtype=np.int64), near.shape[1])
    other = near.reshape(-1).astype(np.int64)
    codes = np.concatenate([source * count + other, other * count + source])
    pairs, multiplicity = np.unique(codes, return_counts=True)
    first, second = np.divmod(pairs, count)
    pull = (multiplicity / multiplicity.sum()).astype(np.float32)
    return Graph(
        np.searchsorted(first, np.arange(count)), first.astype(np.int32), second.astype(np.int32), pull
    )


def lay_out(
    rows: FloatArray, *, seed: int = 0, progress: Callable[[int], None] | None = None
) -> tuple[FloatArray, NDArray[np.int32]]:
    """Lay out rows in two dimensions; return the positions, (N, 2), and the neighbours of each row, (N, k).

    Rows (N, short) are of length one, their dimensions by decreasing variance. Positions are centred at zero;
    neighbours are some tenths to a few units apart. `progress` is called after every step; there are
    `EARLY_STEPS + LATE_STEPS`.
    """
    if len(rows) < 4:
        return np.array([[0, 0], [1, 0], [0, 1]], np.float32)[: len(rows)], np.zeros((len(rows), 0), np.int32)
    near = neighbours(rows, min(NEIGHBOURS, len(rows) - 1), seed=seed)
    graph = graph_of(near)
    positions = np.zeros((2, len(rows)), np.float32)
    widest = rows[:, :2].T
    positions[: len(widest)] = widest / max(float(widest[0].std()), 1e-6) * 1e-4
    velocity, gains = np.zeros_like(positions), np.ones_like(positions)
    for step in range(EARLY_STEPS + LATE_STEPS):
        early = step < EARLY_STEPS
        exaggeration = np.float32(EXAGGERATION if early else LATE_EXAGGERATION)
        gradient = exaggeration * _attract(positions, graph) - _repel(positions)
        # Adaptive gains: smaller where the velocity has the sign of the gradient, that is, after an
        # overshoot.
        same = (gradient > 0) == (velocity > 0)
        gains = np.maximum(np.where(same, gains * 0.8, gains + 0.2), 0.01).astype(np.float32)
        rate = max(len(rows) / EXAGGERATION, 20.0)  # learning rate of Belkina et al. 2019
        velocity = np.float32(0.5 if early else 0.8) * velocity - np.float32(rate) * gains * gradient
        positions += velocity
        positions -= positions.mean(1, keepdims=True)
        if progress:
            progress(1)
    return np.ascontiguousarray(positions.T), near


def _attract(positions: FloatArray, graph: Graph) -> FloatArray:
    """Gradient of the attraction between neighbours, (2, N)."""
    x = positions[0][graph.near] - positions[0][graph.far]  # (E,)
    y = positions[1][graph.near] - positions[1][graph.far]
    weight = graph.pull / (1 + x * x + y * y)
    gradient: FloatArray = np.stack(
        [np.add.reduceat(weight * x, graph.starts), np.add.reduceat(weight * y, graph.starts)]
    )
    return np.float32(4) * gradient


def _repel(positions: FloatArray) -> FloatArray:
    """Gradient of the repulsion between all pairs, to be subtracted, (2, N)."""
    low, high = positions.min(1), positions.max(1)
    extent = float((high - low).max())
    cell = CELL * max(1, math.ceil(extent / CELL / (MOST_CELLS - 3)))
    side = _fast(int(extent / cell) + 3)
    if side > WIDE and positions.shape[1] <= FEW:
        return _repel_pairwise(positions)
    grid = _Grid((positions - low[:, None]) / cell, side)
    total, push_x, push_y = grid.convolve(_kernels(side, cell))
    pairs = max(float(total.sum()) - positions.shape[1], 1.0)  # minus 1 / (1 + 0) of each with itself
    gradient: FloatArray = np.stack([push_x, push_y]) * np.float32(4 / pairs)
    return gradient


def _repel_pairwise(positions: FloatArray) -> FloatArray:
    """The same, summed over all pairs."""
    differences = positions[:, :, None] - positions[:, None]  # (2, N, N)
    near = 1 / (1 + (differences * differences).sum(0))
    np.fill_diagonal(near, 0)
    total = max(float(near.sum()), 1.0)
    gradient: FloatArray = (near * near * differences).sum(2) * np.float32(4 / total)
    return gradient


class _Grid:
    """Points distributed linearly to the four corners of their cells, on a grid of side x side.

    E.g. a point at (2.25, 5.0) puts 0.75 on the grid point (2, 5) and 0.25 on (3, 5). Grid point (i, j) has
    the flat index i * side + j.
    """

    def __init__(self, positions: FloatArray, side: int) -> None:
        self.side = side
        corner = positions.astype(np.int32)
        right, up = positions - corner
        first = corner[0] * side + corner[1]
        self.cells = np.stack([first, first + side, first + 1, first + side + 1])  # (4, N)
        self.weights = np.stack([(1 - right) * (1 - up), right * (1 - up), (1 - right) * up, right * up])

    def convolve(self, kernels: NDArray[np.complex64]) -> FloatArray:
        """Convolve the mass of all points with each kernel, and read the result at each point, (3, N).

        The transform has twice the side, so that the cyclic convolution does not wrap around.
        """
        side = self.side
        mass = np.zeros(side * side, np.float64)
        for cells, weights in zip(self.cells, self.weights, strict=True):
            mass += np.bincount(cells, weights, side * side)
        spectrum = np.fft.rfft2(mass.reshape(side, side).astype(np.float32), (2 * side, 2 * side))
        sums = np.zeros((len(kernels), self.cells.shape[1]), np.float32)
        for row, kernel in zip(sums, kernels, strict=True):
            field = np.fft.irfft2(spectrum * kernel, (2 * side, 2 * side))[:side, :side].astype(np.float32)
            field = field.reshape(-1)
            for cells, weights in zip(self.cells, self.weights, strict=True):
                row += field[cells] * weights
        return sums


@lru_cache(maxsize=1)
def _kernels(side: int, cell: float) -> NDArray[np.complex64]:
    """Spectra of 1 / (1 + d^2), and of its square times the displacement along each axis."""
    displacement = np.fft.fftfreq(2 * side, 1 / (2 * side)).astype(np.float32) * np.float32(cell)
    x, y = displacement[:, None], displacement[None]
    near = 1 / (1 + x * x + y * y)
    return np.stack([np.fft.rfft2(kernel) for kernel in (near, near**2 * x, near**2 * y)]).astype(
        np.complex64
    )


def _fast(side: int) -> int:
    """The next side with a fast Fourier transform; there are few, so that cached kernels last longer."""
    sizes: list[int] = [size for power in range(4, 12) for size in (2**power, 3 * 2 ** (power - 1))]
    return next(size for size in sizes if size >= side)
