"""Stratified comparison of groups, to separate one attribute from the others (Mantel and Haenszel 1959).

Attributes are confounded: if the older group has more women, a gap by age may be a gap by gender. Two groups
are compared within strata (pictures that agree in every other attribute), and the differences are averaged
over the strata. The caller chooses values and strata.

Legend: N pictures, G groups, S strata.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.reports import Estimate
from diptych.stats.differences import difference
from diptych.stats.intervals import wilson

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]


def stratified_gap(
    values: Floats, first: NDArray[np.bool_], second: NDArray[np.bool_], strata: Codes, z: float = 1.96
) -> tuple[Estimate, float] | None:
    """Difference of two groups within strata, and the two-sided p of the Cochran-Mantel-Haenszel test.

    Strata are weighted by n1 * n2 / (n1 + n2), the Mantel-Haenszel weights, which give the most precise mean
    of differences: a stratum with 40 and 10 pictures weighs 8, one with 25 and 25 weighs 12.5.

    Parameters
    ----------
    values : (N,) numbers from 0 to 1
    first, second : (N,) bools
        Pictures of the two groups.
    strata : (N,) integers
        -1 for pictures without a stratum, which are left out.
    z : float
        Normal quantile of the interval.

    Returns
    -------
    Estimate and float, or None
        None where no stratum has both groups.

    Examples
    --------
    >>> women = np.repeat([1, 0], 50)                     # right for women only; most of the old are women
    >>> old = np.r_[np.arange(50) < 40, np.arange(50) < 10]
    >>> right = women.astype(float)
    >>> print(right[old].mean() - right[~old].mean())
    0.6000000000000001
    >>> stratified_gap(right, old, ~old, women)[0].value
    0.0
    """
    usable = (first | second) & (strata >= 0)
    if not usable.any():
        return None
    stratum = np.unique(strata[usable], return_inverse=True)[1]
    in_first, values = first[usable].astype(np.float64), values[usable]
    sizes = np.stack([np.bincount(stratum, in_first), np.bincount(stratum, 1 - in_first)])  # (2, S)
    sums = np.stack([np.bincount(stratum, in_first * values), np.bincount(stratum, (1 - in_first) * values)])
    shared = sizes.min(axis=0) > 0
    sizes, sums = sizes[:, shared], sums[:, shared]
    if not shared.any():
        return None
    total = sizes.sum(axis=0)
    weights = sizes.prod(axis=0) / total
    rates = (sums / sizes * weights).sum(axis=1) / weights.sum()  # (2,)
    cases = weights.sum() ** 2 / (weights**2 / sizes).sum(axis=1)
    n = int(total.sum())
    sides = [
        Estimate(float(rate), *wilson(float(rate), float(size), z), n=n, effective=float(size))
        for rate, size in zip(rates, cases, strict=True)
    ]
    gap = difference(sides[0], sides[1])
    return Estimate(gap.value, gap.low, gap.high, n, gap.effective), _cmh(sizes, sums)


def _cmh(sizes: NDArray[Any], sums: NDArray[Any]) -> float:
    """P-value of the Cochran-Mantel-Haenszel test; `sizes` and `sums` of both groups are (2, S)."""
    total, right = sizes.sum(axis=0), sums.sum(axis=0)
    expected = sizes[0] * right / total
    spread = sizes.prod(axis=0) * right * (total - right) / (total**2 * np.maximum(total - 1, 1))
    if spread.sum() <= 1e-12:
        return 1.0
    z = abs(float((sums[0] - expected).sum())) / math.sqrt(float(spread.sum()))
    return math.erfc(z / math.sqrt(2))


def standardised(values: Floats, codes: Codes, strata: Codes, groups: int) -> Floats:
    """Indirectly standardised rate of each group, (G,): observed / expected * overall rate.

    The expected sum of a group is what the overall rate of each of its strata would give. NaN for groups
    without pictures or with an expected sum of 0.

    Examples
    --------
    >>> women = np.repeat([1, 0], 50)
    >>> old = np.r_[np.arange(50) < 40, np.arange(50) < 10].astype(np.int64)
    >>> standardised(women.astype(float), old, women, 2).round(3).tolist()       # 0.8 and 0.2 as they stand
    [0.5, 0.5]
    """
    usable = (codes >= 0) & (strata >= 0)
    if not usable.any():
        return np.full(groups, np.nan)
    values, codes = values[usable], codes[usable]
    stratum = np.unique(strata[usable], return_inverse=True)[1]
    rates = np.bincount(stratum, values) / np.bincount(stratum)
    observed = np.bincount(codes, values, groups)
    expected = np.bincount(codes, rates[stratum], groups)
    ratio: Floats = np.divide(observed, expected, out=np.full(groups, np.nan), where=expected > 1e-12)
    return ratio * float(values.mean())
