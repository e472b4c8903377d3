"""Where rows lie on a map of two dimensions: like near like, as t-SNE draws it.

t-SNE (van der Maaten and Hinton 2008) with three known changes that make a hundred thousand rows a matter of
minutes with NumPy alone: the neighbours come from the lists of a k-means; each row pulls at its nearest
neighbours equally (Böhm, Berens and Kobak 2022 found no difference); all rows push each other through a grid
and its Fourier transform (after Linderman et al. 2019, there with polynomials, here with masses shared among
four cells). It begins with the two widest directions and has no chance in it (Kobak and Berens 2019).
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
LISTS_SEEN = 12  # of the k-means's, nearest first, that a row looks for neighbours in
EARLY, LATE = 120, 380  # steps: the first with stronger pull, so that what belongs together meets
EXAGGERATION = 12.0
TIGHTER = 1.2  # late pull: beyond 1 clusters stand apart, as a map wants it (Böhm et al. 2022)
FEW, WIDE = 250, 64  # so few rows on a grid so many cells wide are faster without it
CELL = 0.5  # of the grid, in t-SNE's unit
MOST_CELLS = 768  # along a side


@dataclass(frozen=True, eq=False)
class Graph:
    """Who pulls at whom: edges in the order of their first end, each pair both ways.

    Attributes
    ----------
    starts : (N,) integers
        Where each row's edges begin.
    near, far : (E,) integers
    pull : (E,) float32
        Sums to one.
    """

    starts: NDArray[np.intp]
    near: NDArray[np.int32]
    far: NDArray[np.int32]
    pull: FloatArray


def neighbours(rows: FloatArray, count: int = NEIGHBOURS, *, seed: int = 0) -> NDArray[np.int32]:
    """The nearest other rows of each row, (N, count), nearest first.

    Parameters
    ----------
    rows : (N, short) float32
        Of length one.
    count : int
        At most N - 1.
    seed : int
        Of the k-means whose lists are searched; below some thousand rows all of them are.
    """
    lists = max(1, round(len(rows) ** 0.5 / 2)) if len(rows) > 4000 else 1
    members, centres = k_means(rows, lists, seed=seed)
    order = np.argsort(members, kind="stable")
    edges = np.searchsorted(members[order], np.arange(lists + 1))
    inside = [order[edges[i] : edges[i + 1]] for i in range(lists)]
    found = np.empty((len(rows), count), np.int32)
    beside = np.argsort(-(centres @ centres.T), axis=1, kind="stable")
    for own, near in zip(inside, beside, strict=True):
        seen = np.concatenate([inside[i] for i in near[:LISTS_SEEN]])
        more = LISTS_SEEN
        while len(seen) <= count:  # lists of a few rows
            seen = np.concatenate([seen, inside[near[more]]])
            more += 1
        for start in range(0, len(own), 1024):
            mine = own[start : start + 1024]
            cosines = rows[mine] @ rows[seen].T
            cosines[mine[:, None] == seen[None]] = -np.inf
            best = np.argpartition(-cosines, count - 1, axis=1)[:, :count]
            sort = np.argsort(-np.take_along_axis(cosines, best, 1), axis=1, kind="stable")
            found[mine] = seen[np.take_along_axis(best, sort, 1)]
    return found


def graph_of(near: NDArray[np.int32]) -> Graph:
    """Everyone pulls at their neighbours, and these pull back."""
    count = len(near)
    one = np.repeat(np.arange(count, dtype=np.int64), near.shape[1])
    other = near.reshape(-1).astype(np.int64)
    pairs, twice = np.unique(np.concatenate([one * count + other, other * count + one]), return_counts=True)
    first, second = np.divmod(pairs, count)
    pull = (twice / twice.sum()).astype(np.float32)
    return Graph(
        np.searchsorted(first, np.arange(count)), first.astype(np.int32), second.astype(np.int32), pull
    )


def lay_out(
    rows: FloatArray, *, seed: int = 0, progress: Callable[[int], None] | None = None
) -> tuple[FloatArray, NDArray[np.int32]]:
    """Places of rows on a map.

    Parameters
    ----------
    rows : (N, short) float32
        Of length one, the widest directions first.
    seed : int
    progress : callable, optional
        Told of every step, of `EARLY + LATE`.

    Returns
    -------
    places : (N, 2) float32
        Around zero; near rows are some tenths to a few units apart.
    near : (N, k) integers
        The neighbours they were made from.
    """
    if len(rows) < 4:
        return np.array([[0, 0], [1, 0], [0, 1]], np.float32)[: len(rows)], np.zeros((len(rows), 0), np.int32)
    near = neighbours(rows, min(NEIGHBOURS, len(rows) - 1), seed=seed)
    graph = graph_of(near)
    places = np.zeros((2, len(rows)), np.float32)
    widest = rows[:, :2].T
    places[: len(widest)] = widest / max(float(widest[0].std()), 1e-6) * 1e-4
    speed, gains = np.zeros_like(places), np.ones_like(places)
    for step in range(EARLY + LATE):
        early = step < EARLY
        pulls = np.float32(EXAGGERATION if early else TIGHTER)
        force = pulls * _attract(places, graph) - _repel(places)
        same = (force > 0) == (speed > 0)  # it still goes uphill
        gains = np.maximum(np.where(same, gains * 0.8, gains + 0.2), 0.01).astype(np.float32)
        rate = max(len(rows) / EXAGGERATION, 20.0)  # Belkina et al. 2019
        speed = np.float32(0.5 if early else 0.8) * speed - np.float32(rate) * gains * force
        places += speed
        places -= places.mean(1, keepdims=True)
        if progress:
            progress(1)
    return np.ascontiguousarray(places.T), near


def _attract(places: FloatArray, graph: Graph) -> FloatArray:
    """Where neighbours pull, as a gradient, (2, N)."""
    x = places[0][graph.near] - places[0][graph.far]  # (E,)
    y = places[1][graph.near] - places[1][graph.far]
    weight = graph.pull / (1 + x * x + y * y)
    found: FloatArray = np.stack(
        [np.add.reduceat(weight * x, graph.starts), np.add.reduceat(weight * y, graph.starts)]
    )
    return np.float32(4) * found


def _repel(places: FloatArray) -> FloatArray:
    """How all push each other, as the gradient to be taken away, (2, N)."""
    low, high = places.min(1), places.max(1)
    extent = float((high - low).max())
    cell = CELL * max(1, math.ceil(extent / CELL / (MOST_CELLS - 3)))
    side = _fast(int(extent / cell) + 3)
    if side > WIDE and places.shape[1] <= FEW:
        return _repel_pairwise(places)
    grid = _Grid((places - low[:, None]) / cell, side)
    total, push_x, push_y = grid.convolve(_kernels(side, cell))
    pairs = max(float(total.sum()) - places.shape[1], 1.0)  # without what each is to itself
    found: FloatArray = np.stack([push_x, push_y]) * np.float32(4 / pairs)
    return found


def _repel_pairwise(places: FloatArray) -> FloatArray:
    """The same from all pairs of rows."""
    apart = places[:, :, None] - places[:, None]  # (2, N, N)
    near = 1 / (1 + (apart * apart).sum(0))
    np.fill_diagonal(near, 0)
    found: FloatArray = (near * near * apart).sum(2) * np.float32(4 / max(float(near.sum()), 1.0))
    return found


class _Grid:
    """Points shared among the four corners of their cells, of a grid of side x side."""

    def __init__(self, places: FloatArray, side: int) -> None:
        self.side = side
        corner = places.astype(np.int32)
        right, up = places - corner
        first = corner[0] * side + corner[1]
        self.cells = np.stack([first, first + side, first + 1, first + side + 1])  # (4, N)
        self.shares = np.stack([(1 - right) * (1 - up), right * (1 - up), (1 - right) * up, right * up])

    def convolve(self, kernels: NDArray[np.complex64]) -> FloatArray:
        """What each kernel sums up over all points, at each point, (3, N)."""
        side = self.side
        mass = np.zeros(side * side, np.float64)
        for cells, shares in zip(self.cells, self.shares, strict=True):
            mass += np.bincount(cells, shares, side * side)
        spectrum = np.fft.rfft2(mass.reshape(side, side).astype(np.float32), (2 * side, 2 * side))
        found = np.zeros((len(kernels), self.cells.shape[1]), np.float32)
        for row, kernel in zip(found, kernels, strict=True):
            field = np.fft.irfft2(spectrum * kernel, (2 * side, 2 * side))[:side, :side].astype(np.float32)
            field = field.reshape(-1)
            for cells, shares in zip(self.cells, self.shares, strict=True):
                row += field[cells] * shares
        return found


@lru_cache(maxsize=1)
def _kernels(side: int, cell: float) -> NDArray[np.complex64]:
    """Spectra of 1 / (1 + d^2), and of its square times the way along each axis."""
    away = np.fft.fftfreq(2 * side, 1 / (2 * side)).astype(np.float32) * np.float32(cell)
    x, y = away[:, None], away[None]
    near = 1 / (1 + x * x + y * y)
    return np.stack([np.fft.rfft2(one) for one in (near, near**2 * x, near**2 * y)]).astype(np.complex64)


def _fast(side: int) -> int:
    """The next side whose Fourier transform is fast, and one of few, so that kernels last some steps."""
    sizes: list[int] = [size for power in range(4, 12) for size in (2**power, 3 * 2 ** (power - 1))]
    return next(size for size in sizes if size >= side)
