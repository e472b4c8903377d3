"""Intervals of the difference of two figures from 0 to 1, of the same pictures or of others. Pure functions.

Legend: N cases, C classes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import InputError
from diptych.reports import Estimate
from diptych.stats.intervals import PSEUDO_CASES, Z95, class_cases, ends, unit_values


def difference(first: Estimate, second: Estimate, correlation: float = 0.0) -> Estimate:
    """First minus second of two proportions (Newcombe 1998, method 10; Zou and Donner 2008 where paired).

    Parameters
    ----------
    first, second : Estimate
        With intervals; without them the difference has none either.
    correlation : float
        Between the two on the same pictures; 0 for different pictures.

    Examples
    --------
    >>> from diptych.stats.intervals import proportion
    >>> print(difference(proportion([1] * 56 + [0] * 14), proportion([1] * 48 + [0] * 32)))  # his example (a)
    0.200 [0.052, 0.334]
    """
    gap = first.value - second.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Estimate(gap)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one**2 + other**2 - 2 * correlation * one * other))

    below = reach(first.value - first.low, second.high - second.value)
    above = reach(first.high - first.value, second.value - second.low)
    n = (first.n or 0) + (second.n or 0)
    cases = min(first.effective or first.n or 0, second.effective or second.n or 0)
    return Estimate(gap, gap - below, gap + above, n=n, effective=cases)


def paired_difference(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Mean of first minus second on the same pictures, numbers from 0 to 1, with a 95 percent interval.

    Two pairs are added, one for each side, which gives an interval to pairs that all agree (Bonett and Price
    2012, Br. J. Math. Stat. Psychol. 65).

    Examples
    --------
    >>> print(paired_difference([1] * 50, [1] * 50))             # no width would claim too much
    0.000 [-0.053, 0.053]
    """
    one, other = unit_values(first), unit_values(second)
    if one.shape != other.shape:
        raise InputError(f"{one.size} values against {other.size}: expected the same pictures")
    gaps = one - other
    count, value = gaps.size + 2, float(gaps.mean())
    middle = float(gaps.sum()) / count
    reach = Z95 * math.sqrt(max(0.0, (float((gaps**2).sum()) + 2) / count - middle**2) / count)
    low, high = min(value, middle - reach), max(value, middle + reach)
    return Estimate(value, max(-1.0, low), min(1.0, high), n=gaps.size, effective=gaps.size)


def paired_class_difference(first: ArrayLike, second: ArrayLike, labels: ArrayLike) -> Estimate:
    """Mean over classes of the mean of first minus second, with a 95 percent interval.

    Absent classes do not count. The variances of the classes add, each shrunk by `PSEUDO_CASES` cases to the
    pooled one of `paired_difference`: a class of one picture has no variance of its own.

    Parameters
    ----------
    first, second : (N,) floats from 0 to 1
        Of the same pictures.
    labels : (N,) integers

    Returns
    -------
    Estimate
        `effective` is how many cases the mean is worth (`class_cases`).

    Examples
    --------
    >>> print(paired_class_difference([1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1]))
    0.375 [-0.171, 0.921]
    """
    one, other = unit_values(first), unit_values(second)
    _, owner, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    if one.shape != other.shape or owner.shape != one.shape:
        raise InputError(
            f"{one.size} values against {other.size}, {owner.size} labels: expected as many of each"
        )
    gaps = one - other
    means = np.bincount(owner, gaps) / counts  # (C,)
    squares = np.bincount(owner, (gaps - means[owner]) ** 2)
    pooled = (float((gaps**2).sum()) + 2) / (gaps.size + 2) - (float(gaps.sum()) / (gaps.size + 2)) ** 2
    variances = (squares + PSEUDO_CASES * pooled) / (counts - 1 + PSEUDO_CASES)
    value = float(means.mean())
    reach = Z95 * math.sqrt(float((variances / counts).sum())) / len(counts)
    low, high = max(-1.0, value - reach), min(1.0, value + reach)
    return Estimate(value, low, high, n=gaps.size, effective=class_cases(counts))


def paired_area_difference(first: ArrayLike, second: ArrayLike, labels: ArrayLike) -> Estimate:
    """First minus second of two areas under the ROC curve on the same pictures.

    An area is the mean over right rows, and over wrong rows, of their placements (`rankings.placements`); the
    variances of the two means of differences add (DeLong et al. 1988, Biometrics 44).

    Parameters
    ----------
    first, second : (N,) floats from 0 to 1
        Placements of the same pictures by two models.
    labels : (N,) integers
        Two different ones.

    Returns
    -------
    Estimate
        `effective` is the number of pictures of the rarer class.

    Examples
    --------
    >>> print(paired_area_difference([1.0] * 60, [0.5] * 60, [0, 1] * 30))
    0.500 [0.320, 0.592]
    """
    one, other, owner = unit_values(first), unit_values(second), np.asarray(labels)
    classes = np.unique(owner)
    if len(classes) != 2:
        raise InputError(f"pictures of {len(classes)} classes: an area under the ROC curve is of two")
    sides = [paired_difference(one[owner == label], other[owner == label]) for label in classes]
    value = (sides[0].value + sides[1].value) / 2
    below = math.hypot(*(side.value - ends(side)[0] for side in sides))
    above = math.hypot(*(ends(side)[1] - side.value for side in sides))
    cases = min(side.n or 0 for side in sides)
    return Estimate(value, max(-1.0, value - below), min(1.0, value + above), n=one.size, effective=cases)
