"""Confidence intervals of differences of two figures from 0 to 1, paired or independent. Pure functions.

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
    """Difference of two proportions (Newcombe 1998, method 10; Zou and Donner 2008 where paired).

    The ends come from the Wilson intervals of both proportions, so that the interval is not symmetric and
    stays within -1 to 1. In the example, 56/70 = 0.8 [0.692, 0.877] and 48/80 = 0.6 [0.490, 0.700]: the lower
    end is 0.2 - sqrt((0.8 - 0.692)^2 + (0.700 - 0.6)^2) = 0.052.

    Parameters
    ----------
    first, second : Estimate
        Without intervals the difference has none either.
    correlation : float
        Between the outcomes on the same pictures; 0 for different pictures.

    Examples
    --------
    >>> from diptych.stats.intervals import proportion
    >>> print(difference(proportion([1] * 56 + [0] * 14), proportion([1] * 48 + [0] * 32)))  # his example (a)
    0.200 [0.052, 0.334]
    """
    gap = first.value - second.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Estimate(gap)

    def reach(first_side: float, second_side: float) -> float:
        return math.sqrt(
            max(0.0, first_side**2 + second_side**2 - 2 * correlation * first_side * second_side)
        )

    below = reach(first.value - first.low, second.high - second.value)
    above = reach(first.high - first.value, second.value - second.low)
    n = (first.n or 0) + (second.n or 0)
    cases = min(first.effective or first.n or 0, second.effective or second.n or 0)
    return Estimate(gap, gap - below, gap + above, n=n, effective=cases)


def paired_difference(first: ArrayLike, second: ArrayLike) -> Estimate:
    """Mean of first minus second on the same pictures, with a 95 percent interval.

    Two pseudo-pairs are added, one with +1 and one with -1 (Bonett and Price 2012, Br. J. Math. Stat.
    Psychol. 65). Without them, pairs that all agree would have variance 0 and an interval of no width: 50
    equal pairs get a variance of 2 / 52 and the interval +-1.96 * sqrt(2 / 52 / 52) = +-0.053.

    Parameters
    ----------
    first, second : (N,) floats from 0 to 1

    Examples
    --------
    >>> print(paired_difference([1] * 50, [1] * 50))
    0.000 [-0.053, 0.053]
    """
    first_values, second_values = unit_values(first), unit_values(second)
    if first_values.shape != second_values.shape:
        raise InputError(
            f"{first_values.size} values against {second_values.size}: expected the same pictures"
        )
    gaps = first_values - second_values
    count, value = gaps.size + 2, float(gaps.mean())
    middle = float(gaps.sum()) / count
    reach = Z95 * math.sqrt(max(0.0, (float((gaps**2).sum()) + 2) / count - middle**2) / count)
    low, high = min(value, middle - reach), max(value, middle + reach)
    return Estimate(value, max(-1.0, low), min(1.0, high), n=gaps.size, effective=gaps.size)


def paired_class_difference(first: ArrayLike, second: ArrayLike, labels: ArrayLike) -> Estimate:
    """Mean over classes of the mean of first minus second, with a 95 percent interval.

    Classes without pictures are left out. The variances of the class means add up; each is shrunk towards the
    pooled variance of `paired_difference` with the weight of `PSEUDO_CASES` cases, because a class of one
    picture has no variance of its own.

    Parameters
    ----------
    first, second : (N,) floats from 0 to 1
        Of the same pictures.
    labels : (N,) integers

    Returns
    -------
    Estimate
        `effective` is the effective number of cases (`class_cases`).

    Examples
    --------
    >>> print(paired_class_difference([1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 1]))
    0.375 [-0.171, 0.921]
    """
    first_values, second_values = unit_values(first), unit_values(second)
    _, class_index, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    if first_values.shape != second_values.shape or class_index.shape != first_values.shape:
        raise InputError(
            f"{first_values.size} values against {second_values.size}, {class_index.size} labels: "
            "expected as many of each"
        )
    gaps = first_values - second_values
    means = np.bincount(class_index, gaps) / counts  # (C,)
    squares = np.bincount(class_index, (gaps - means[class_index]) ** 2)
    pooled = (float((gaps**2).sum()) + 2) / (gaps.size + 2) - (float(gaps.sum()) / (gaps.size + 2)) ** 2
    variances = (squares + PSEUDO_CASES * pooled) / (counts - 1 + PSEUDO_CASES)
    value = float(means.mean())
    reach = Z95 * math.sqrt(float((variances / counts).sum())) / len(counts)
    low, high = max(-1.0, value - reach), min(1.0, value + reach)
    return Estimate(value, low, high, n=gaps.size, effective=class_cases(counts))


def paired_area_difference(first: ArrayLike, second: ArrayLike, labels: ArrayLike) -> Estimate:
    """Difference of two areas under the ROC curve on the same pictures.

    An area is the mean placement of the positives, and also that of the negatives (`rankings.placements`).
    The variances of the two mean differences add up (DeLong et al. 1988, Biometrics 44).

    Parameters
    ----------
    first, second : (N,) floats from 0 to 1
        Placements of the same pictures by two models.
    labels : (N,) integers
        Of exactly two classes.

    Returns
    -------
    Estimate
        `effective` is the number of pictures of the rarer class.

    Examples
    --------
    >>> print(paired_area_difference([1.0] * 60, [0.5] * 60, [0, 1] * 30))
    0.500 [0.320, 0.592]
    """
    first_values, second_values, targets = unit_values(first), unit_values(second), np.asarray(labels)
    classes = np.unique(targets)
    if len(classes) != 2:
        raise InputError(f"pictures of {len(classes)} classes: an area under the ROC curve is of two")
    sides = [
        paired_difference(first_values[targets == label], second_values[targets == label])
        for label in classes
    ]
    value = (sides[0].value + sides[1].value) / 2
    below = math.hypot(*(side.value - ends(side)[0] for side in sides))
    above = math.hypot(*(ends(side)[1] - side.value for side in sides))
    cases = min(side.n or 0 for side in sides)
    return Estimate(
        value, max(-1.0, value - below), min(1.0, value + above), n=first_values.size, effective=cases
    )
