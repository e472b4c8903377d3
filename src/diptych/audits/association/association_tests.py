"""The arithmetic of association: effect sizes, their p-values, distances between groups. Pure functions.

Sources: Caliskan et al. 2017 (arXiv 1608.07187) for the effect, Steed and Caliskan 2021 (arXiv 2010.15052)
for pictures.

Legend: n things, G groups, T tests, D the width of the space.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray

from diptych.audits.association.association_result import AssociationEffect, GroupDistance
from diptych.errors import InputError
from diptych.reports import Estimate
from diptych.stats.disparity import shuffled_sums

_EXACT = 20_000  # partitions: up to here all are counted, beyond they are drawn
_RESAMPLES = 1000
_EQUAL = 1e-6  # a partition that gives the observed difference again is no smaller than it
_FEWER = 1999  # shuffles of whole rows, which cost D times as much

Rows = NDArray[np.float32]
Floats = NDArray[np.float64]


def association_scores(rows: Rows, a: Rows, b: Rows) -> Floats:
    """How much nearer each row lies to A than to B: mean cosine with A minus mean cosine with B, (n,).

    Examples
    --------
    >>> one, other = np.float32([[1, 0]]), np.float32([[0, 1]])
    >>> association_scores(np.float32([[1, 0], [0.6, 0.8]]), one, other).round(2).tolist()
    [1.0, -0.2]
    """
    found: Floats = (rows @ a.mean(axis=0) - rows @ b.mean(axis=0)).astype(np.float64)
    return found


def weat_effect(
    name: str,
    sides: tuple[str, str, str, str],
    x: Rows,
    y: Rows,
    a: Rows,
    b: Rows,
    shuffles: int,
    seed: int = 0,
) -> AssociationEffect:
    """WEAT: its effect size and p-value.

    Parameters
    ----------
    name : str
    sides : tuple of four str
        What x, y, a and b are called.
    x, y, a, b : (n, D) unit rows
    shuffles, seed : int
        Where there are too many partitions of X and Y to count all.

    Returns
    -------
    Effect
        d = (mean s(x) - mean s(y)) / deviation of s over both, with s from `nearer`; about -2 to 2.

    Examples
    --------
    >>> one, other = np.float32([[1, 0]] * 4), np.float32([[0, 1]] * 4)
    >>> found = weat_effect("toy", ("x", "y", "a", "b"), one, other, one, other, 999)
    >>> round(found.d.value, 2), round(found.p, 3)      # 2 of 70 partitions are as clear
    (1.87, 0.029)
    """
    first, second = association_scores(x, a, b), association_scores(y, a, b)
    p = partition_p_value(first, second, shuffles, seed)
    return AssociationEffect(
        name, "texts", *sides, effect_size(first, second, seed), len(first), len(second), p, p
    )


def effect_size(first: Floats, second: Floats, seed: int = 0) -> Estimate:
    """Difference of the means over the deviation of all, with an interval resampled within both sides.

    Examples
    --------
    >>> effect_size(np.array([1.0, 3.0]), np.array([1.0, 3.0])).value
    0.0
    """
    if min(len(first), len(second)) < 2:
        raise InputError(f"{len(first)} against {len(second)}: an effect needs at least two on each side")
    rng = np.random.default_rng(seed)
    one = first[rng.integers(0, len(first), (_RESAMPLES, len(first)))]
    other = second[rng.integers(0, len(second), (_RESAMPLES, len(second)))]
    low, high = np.quantile(_sizes(one, other), [0.025, 0.975])
    return Estimate(
        float(_sizes(first[None], second[None])[0]), float(low), float(high), len(first) + len(second)
    )


def _sizes(first: Floats, second: Floats) -> Floats:
    """Effect size of each row of (R, n) and (R, m)."""
    gap = first.mean(axis=1) - second.mean(axis=1)
    spread = np.concatenate([first, second], axis=1).std(axis=1, ddof=1)
    found: Floats = np.divide(gap, spread, out=np.zeros_like(gap), where=spread > 1e-9)
    return found


def partition_p_value(first: Floats, second: Floats, shuffles: int, seed: int = 0) -> float:
    """How often a partition into two sides of these sizes is as clear, either way round.

    All partitions are counted where there are at most 20,000; else they are drawn.

    Examples
    --------
    >>> round(partition_p_value(np.array([1.0, 2.0]), np.array([3.0, 4.0]), 99), 3)      # 2 of 6
    0.333
    """
    every = np.concatenate([first, second])
    every = every - every.mean()
    observed = abs(every[: len(first)].sum())
    if math.comb(len(every), len(first)) <= _EXACT:
        places = np.array(list(itertools.combinations(range(len(every)), len(first))))
        return float((abs(every[places].sum(axis=1)) >= observed - _EQUAL).mean())
    groups = np.repeat([0, 1], [len(first), len(second)])
    return float(shuffle_p_values(every[:, None], groups, 2, shuffles, seed)[0, 0])


def shuffle_p_values(
    values: Floats, groups: NDArray[np.integer], count: int, shuffles: int, seed: int = 0
) -> Floats:
    """For each group against all others, and each test: how often a shuffle is as clear, (G, T).

    The difference is taken over its own standard error (Welch), for groups may differ in size and variance.
    """
    onehot = (groups[:, None] == np.arange(count)).astype(np.float32)  # (n, G)
    centred = (values - values.mean(axis=0)).astype(np.float32)
    centred = centred / np.maximum(abs(centred).max(axis=0), 1e-12)
    both = np.concatenate([centred, centred**2], axis=1)  # (n, 2 T)
    sizes = onehot.sum(axis=0, dtype=np.float64)[:, None]  # (G, 1)
    tests, total = values.shape[1], both.sum(axis=0, dtype=np.float64)

    def statistic(sums: Floats) -> Floats:
        found = np.zeros((*sums.shape[:-1], tests))
        for part, size in ((sums, sizes), (total - sums, len(values) - sizes)):
            mean = part[..., :tests] / size
            squares = np.maximum(part[..., tests:] - size * mean**2, 0)
            found += squares / np.maximum(size - 1, 1) / size
        gap = abs(sums[..., :tests] / sizes - (total - sums)[..., :tests] / (len(values) - sizes))
        larger: Floats = np.divide(gap, np.sqrt(found), out=np.zeros_like(gap), where=found > 1e-12)
        return larger

    observed = statistic((onehot.T @ both).astype(np.float64))
    clearer = np.zeros(observed.shape)
    for sums in shuffled_sums(both, onehot, shuffles, seed):
        clearer += (statistic(sums) >= observed * (1 - 1e-4) - 1e-9).sum(axis=0)
    p: Floats = (1 + clearer) / (1 + shuffles)
    return p


def group_distances(
    attribute: str,
    names: list[str],
    groups: NDArray[np.integer],
    rows: Rows,
    shuffles: int,
    seed: int = 0,
) -> list[GroupDistance]:
    """How far the means of groups lie apart, for every pair.

    The squared distance of two means is too large by the scatter within the groups, which is taken off; what
    is left is told in units of that scatter. p counts shuffles in which any pair is as clear.

    Examples
    --------
    >>> rows = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    >>> groups = np.arange(200) % 2
    >>> rows[groups == 0, 0] += 3
    >>> found = group_distances("toy", ["a", "b"], groups, rows, 999)[0]
    >>> 0.9 < found.distance < 1.2, found.p
    (True, 0.001)
    """
    onehot = (groups[:, None] == np.arange(len(names))).astype(np.float32)
    sizes = onehot.sum(axis=0, dtype=np.float64)
    centred = (rows - rows.mean(axis=0)).astype(np.float32)
    table = np.concatenate([centred, (centred**2).sum(axis=1, keepdims=True)], axis=1)  # (n, D + 1)
    first, second = np.triu_indices(len(names), 1)
    weight = 1 / sizes[first] + 1 / sizes[second]

    def squared(sums: Floats) -> tuple[Floats, Floats]:
        """Squared distances of the means, and what scatter alone would make of them (..., P)."""
        means = sums[..., :-1] / sizes[:, None]  # (..., G, D)
        random_positions = np.maximum(sums[..., -1] - sizes * (means**2).sum(axis=-1), 1e-12)
        errors = random_positions / np.maximum(sizes - 1, 1) / sizes  # of each group's own
        apart: Floats = ((means[..., first, :] - means[..., second, :]) ** 2).sum(axis=-1)
        return apart, errors[..., first] + errors[..., second]

    sums = (onehot.T @ table).astype(np.float64)
    means = sums[:, :-1] / sizes[:, None]
    within = float(((centred - means[groups]) ** 2).sum() / (len(rows) - len(names)))
    apart, error = squared(sums)
    clearer = np.zeros(len(first))
    drawn = min(shuffles, _FEWER)
    for block in shuffled_sums(table, onehot, drawn, seed):
        distance, spread = squared(block)
        most = (distance / spread).max(axis=1)
        clearer += (most[:, None] >= apart / error * (1 - _EQUAL)).sum(axis=0)
    p = (1 + clearer) / (1 + drawn)
    distance = np.sqrt(np.maximum(apart - within * weight, 0) / max(within, 1e-12))
    return [
        GroupDistance(attribute, names[one], names[other], float(distance[place]), float(p[place]))
        for place, (one, other) in enumerate(zip(first, second, strict=True))
    ]
