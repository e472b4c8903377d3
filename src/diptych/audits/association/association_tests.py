"""Statistics of association tests: effect sizes, p-values, distances between groups. Pure functions.

Sources: Caliskan et al. 2017 (arXiv 1608.07187) for the effect, Steed and Caliskan 2021 (arXiv 2010.15052)
for pictures.

Shapes: n items, G groups, T tests, D embedding width.
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

_MAX_EXACT = 20_000  # partitions: up to this number all are enumerated, beyond it they are sampled
_RESAMPLES = 1000
_TOLERANCE = 1e-6  # rounding: a partition equal to the observed one counts as at least as extreme
_MAX_SHUFFLES = 1999  # shuffles of whole embeddings, which cost D times as much as of scores

Embeddings = NDArray[np.float32]
Floats = NDArray[np.float64]


def association_scores(embeddings: Embeddings, a: Embeddings, b: Embeddings) -> Floats:
    """s(w, A, B) of WEAT: mean cosine with A minus mean cosine with B, (n,).

    Examples
    --------
    >>> a, b = np.float32([[1, 0]]), np.float32([[0, 1]])
    >>> association_scores(np.float32([[1, 0], [0.6, 0.8]]), a, b).round(2).tolist()
    [1.0, -0.2]
    """
    scores: Floats = (embeddings @ a.mean(axis=0) - embeddings @ b.mean(axis=0)).astype(np.float64)
    return scores


def weat_effect(
    name: str,
    sides: tuple[str, str, str, str],
    x: Embeddings,
    y: Embeddings,
    a: Embeddings,
    b: Embeddings,
    shuffles: int,
    seed: int = 0,
) -> AssociationEffect:
    """Effect size and p-value of one WEAT test.

    Parameters
    ----------
    sides : tuple of four str
        Names of x, y, a and b.
    x, y, a, b : (n, D) unit embeddings
    shuffles, seed : int
        Used if there are too many partitions of X and Y to enumerate.

    Returns
    -------
    AssociationEffect
        d = (mean s(x) - mean s(y)) / standard deviation of s over both; s from `association_scores`. d lies
        between about -2 and 2.

    Examples
    --------
    >>> x, y = np.float32([[1, 0]] * 4), np.float32([[0, 1]] * 4)
    >>> result = weat_effect("toy", ("x", "y", "a", "b"), x, y, x, y, 999)
    >>> round(result.d.value, 2), round(result.p, 3)      # 2 of 70 partitions are as extreme
    (1.87, 0.029)
    """
    first, second = association_scores(x, a, b), association_scores(y, a, b)
    p = partition_p_value(first, second, shuffles, seed)
    return AssociationEffect(
        name, "texts", *sides, effect_size(first, second, seed), len(first), len(second), p, p
    )


def effect_size(first: Floats, second: Floats, seed: int = 0) -> Estimate:
    """Difference of the means over the pooled standard deviation, with a bootstrap interval.

    Examples
    --------
    >>> effect_size(np.array([1.0, 3.0]), np.array([1.0, 3.0])).value
    0.0
    """
    if min(len(first), len(second)) < 2:
        raise InputError(
            f"{len(first)} against {len(second)} items: an effect needs at least two on each side"
        )
    rng = np.random.default_rng(seed)
    first_draws = first[rng.integers(0, len(first), (_RESAMPLES, len(first)))]
    second_draws = second[rng.integers(0, len(second), (_RESAMPLES, len(second)))]
    low, high = np.quantile(_sizes(first_draws, second_draws), [0.025, 0.975])
    return Estimate(
        float(_sizes(first[None], second[None])[0]), float(low), float(high), len(first) + len(second)
    )


def _sizes(first: Floats, second: Floats) -> Floats:
    """Effect size of each of R resamples, from (R, n) and (R, m) to (R,)."""
    gap = first.mean(axis=1) - second.mean(axis=1)
    spread = np.concatenate([first, second], axis=1).std(axis=1, ddof=1)
    sizes: Floats = np.divide(gap, spread, out=np.zeros_like(gap), where=spread > 1e-9)
    return sizes


def partition_p_value(first: Floats, second: Floats, shuffles: int, seed: int = 0) -> float:
    """Two-sided permutation p-value: the share of partitions into sides of these sizes that are as extreme.

    All partitions are enumerated if there are at most 20,000; otherwise they are sampled.

    Examples
    --------
    >>> round(partition_p_value(np.array([1.0, 2.0]), np.array([3.0, 4.0]), 99), 3)      # 2 of 6
    0.333
    """
    scores = np.concatenate([first, second])
    scores = scores - scores.mean()
    observed = abs(scores[: len(first)].sum())
    if math.comb(len(scores), len(first)) <= _MAX_EXACT:
        subsets = np.array(list(itertools.combinations(range(len(scores)), len(first))))
        return float((abs(scores[subsets].sum(axis=1)) >= observed - _TOLERANCE).mean())
    groups = np.repeat([0, 1], [len(first), len(second)])
    return float(shuffle_p_values(scores[:, None], groups, 2, shuffles, seed)[0, 0])


def shuffle_p_values(
    values: Floats, groups: NDArray[np.integer], count: int, shuffles: int, seed: int = 0
) -> Floats:
    """Permutation p-value of each group against all others in each test, (G, T).

    The statistic is Welch's (difference over its own standard error): groups may differ in size and variance.
    """
    onehot = (groups[:, None] == np.arange(count)).astype(np.float32)  # (n, G)
    centred = (values - values.mean(axis=0)).astype(np.float32)
    centred = centred / np.maximum(abs(centred).max(axis=0), 1e-12)
    both = np.concatenate([centred, centred**2], axis=1)  # (n, 2 T)
    sizes = onehot.sum(axis=0, dtype=np.float64)[:, None]  # (G, 1)
    tests, total = values.shape[1], both.sum(axis=0, dtype=np.float64)

    def statistic(sums: Floats) -> Floats:
        variance = np.zeros((*sums.shape[:-1], tests))
        for group_sums, size in ((sums, sizes), (total - sums, len(values) - sizes)):
            mean = group_sums[..., :tests] / size
            squares = np.maximum(group_sums[..., tests:] - size * mean**2, 0)
            variance += squares / np.maximum(size - 1, 1) / size
        gap = abs(sums[..., :tests] / sizes - (total - sums)[..., :tests] / (len(values) - sizes))
        larger: Floats = np.divide(gap, np.sqrt(variance), out=np.zeros_like(gap), where=variance > 1e-12)
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
    embeddings: Embeddings,
    shuffles: int,
    seed: int = 0,
) -> list[GroupDistance]:
    """Distance between the group means for every pair of groups.

    The squared distance of two sample means is biased upwards by the variance within the groups: expected
    excess within * (1 / n1 + 1 / n2). It is subtracted, and the rest is divided by the within-group standard
    deviation. p is corrected for all pairs: it counts shuffles in which any pair is as extreme.

    Examples
    --------
    >>> embeddings = np.random.default_rng(0).normal(size=(200, 8)).astype(np.float32)
    >>> groups = np.arange(200) % 2
    >>> embeddings[groups == 0, 0] += 3
    >>> result = group_distances("toy", ["a", "b"], groups, embeddings, 999)[0]
    >>> 0.9 < result.distance < 1.2, result.p
    (True, 0.001)
    """
    onehot = (groups[:, None] == np.arange(len(names))).astype(np.float32)
    sizes = onehot.sum(axis=0, dtype=np.float64)
    centred = (embeddings - embeddings.mean(axis=0)).astype(np.float32)
    table = np.concatenate([centred, (centred**2).sum(axis=1, keepdims=True)], axis=1)  # (n, D + 1)
    first, second = np.triu_indices(len(names), 1)
    weight = 1 / sizes[first] + 1 / sizes[second]

    def squared(sums: Floats) -> tuple[Floats, Floats]:
        """Squared distances of the means, and their expectation from sampling noise alone, (..., P)."""
        means = sums[..., :-1] / sizes[:, None]  # (..., G, D)
        random_positions = np.maximum(sums[..., -1] - sizes * (means**2).sum(axis=-1), 1e-12)
        errors = random_positions / np.maximum(sizes - 1, 1) / sizes  # variance of each group's own mean
        squared_distance: Floats = ((means[..., first, :] - means[..., second, :]) ** 2).sum(axis=-1)
        return squared_distance, errors[..., first] + errors[..., second]

    sums = (onehot.T @ table).astype(np.float64)
    means = sums[:, :-1] / sizes[:, None]
    within = float(((centred - means[groups]) ** 2).sum() / (len(embeddings) - len(names)))
    squared_distance, error = squared(sums)
    clearer = np.zeros(len(first))
    shuffles_used = min(shuffles, _MAX_SHUFFLES)
    for block in shuffled_sums(table, onehot, shuffles_used, seed):
        distance, spread = squared(block)
        largest = (distance / spread).max(axis=1)
        clearer += (largest[:, None] >= squared_distance / error * (1 - _TOLERANCE)).sum(axis=0)
    p = (1 + clearer) / (1 + shuffles_used)
    distance = np.sqrt(np.maximum(squared_distance - within * weight, 0) / max(within, 1e-12))
    return [
        GroupDistance(attribute, names[i], names[j], float(distance[index]), float(p[index]))
        for index, (i, j) in enumerate(zip(first, second, strict=True))
    ]
