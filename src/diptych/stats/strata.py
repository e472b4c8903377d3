"""Groups compared among pictures that are alike in everything else the table tells.

Age groups differ in how many women are in them: a gap by age may be one by gender. Two groups are compared
within strata, pictures of one value of every other attribute, and the comparisons are put together (Mantel
and Haenszel 1959). What the values and the strata are is the caller's business.

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
    """First minus second within strata, and the p of the test of Cochran, Mantel and Haenszel, two-sided.

    Parameters
    ----------
    values : (N,) numbers from 0 to 1
    first, second : (N,) bools
        Pictures of the two groups.
    strata : (N,) integers
        -1 for pictures that have none, which are left out.
    z : float
        Quantile of the interval.

    Returns
    -------
    Estimate and float, or None
        None where no stratum has both groups.

    Examples
    --------
    >>> women = np.repeat([1, 0], 50)                     # right for women only; the old are mostly women
    >>> old = np.r_[np.arange(50) < 40, np.arange(50) < 10]
    >>> right = women.astype(float)
    >>> print(right[old].mean() - right[~old].mean())
    0.6000000000000001
    >>> stratified_gap(right, old, ~old, women)[0].value
    0.0
    """
    kept = (first | second) & (strata >= 0)
    if not kept.any():
        return None
    place = np.unique(strata[kept], return_inverse=True)[1]
    mine, values = first[kept].astype(np.float64), values[kept]
    sizes = np.stack([np.bincount(place, mine), np.bincount(place, 1 - mine)])  # (2, S)
    sums = np.stack([np.bincount(place, mine * values), np.bincount(place, (1 - mine) * values)])
    shared = sizes.min(axis=0) > 0
    sizes, sums = sizes[:, shared], sums[:, shared]
    if not shared.any():
        return None
    total = sizes.sum(axis=0)
    weights = sizes.prod(axis=0) / total
    rates = (sums / sizes * weights).sum(axis=1) / weights.sum()  # (2,)
    cases = weights.sum() ** 2 / (weights**2 / sizes).sum(axis=1)
    counted = int(total.sum())
    sides = [
        Estimate(float(rate), *wilson(float(rate), float(n), z), n=counted, effective=float(n))
        for rate, n in zip(rates, cases, strict=True)
    ]
    gap = difference(sides[0], sides[1])
    return Estimate(gap.value, gap.low, gap.high, counted, gap.effective), _cmh(sizes, sums)


def _cmh(sizes: NDArray[Any], sums: NDArray[Any]) -> float:
    """P of the sums of the first group, (2, S), given those of each stratum."""
    total, right = sizes.sum(axis=0), sums.sum(axis=0)
    expected = sizes[0] * right / total
    spread = sizes.prod(axis=0) * right * (total - right) / (total**2 * np.maximum(total - 1, 1))
    if spread.sum() <= 1e-12:
        return 1.0
    z = abs(float((sums[0] - expected).sum())) / math.sqrt(float(spread.sum()))
    return math.erfc(z / math.sqrt(2))


def standardised(values: Floats, codes: Codes, strata: Codes, groups: int) -> Floats:
    """Rate of each group if it were composed as everyone is, (G,): observed over expected, times the overall.

    Expected is what the group would have with everyone's rates in its strata (indirect standardisation). NaN
    for groups without pictures or where nobody is expected.

    Examples
    --------
    >>> women = np.repeat([1, 0], 50)
    >>> old = np.r_[np.arange(50) < 40, np.arange(50) < 10].astype(np.int64)
    >>> standardised(women.astype(float), old, women, 2).round(3).tolist()       # 0.8 and 0.2 as they stand
    [0.5, 0.5]
    """
    kept = (codes >= 0) & (strata >= 0)
    if not kept.any():
        return np.full(groups, np.nan)
    values, codes = values[kept], codes[kept]
    place = np.unique(strata[kept], return_inverse=True)[1]
    rates = np.bincount(place, values) / np.bincount(place)
    observed = np.bincount(codes, values, groups)
    expected = np.bincount(codes, rates[place], groups)
    ratio: Floats = np.divide(observed, expected, out=np.full(groups, np.nan), where=expected > 1e-12)
    return ratio * float(values.mean())
