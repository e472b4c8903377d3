"""A figure with its interval, and on which side of chance it lies. Pure functions of arrays.

Shares get Wilson's interval, which stays honest where all of a few answers are right or wrong: resampling
gives such a row an interval of no width. Means of anything else are resampled.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import InputError
from diptych.reports import Estimate

Verdict: TypeAlias = Literal["below", "at", "above"]
_Z = 1.959963984540054  # 95 percent, both sides


def share(hits: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """Mean of hits between 0 and 1 with Wilson's 95 percent interval (1927, JASA 22).

    Parameters
    ----------
    hits : (N,) floats
        0 or 1, or the probability of a hit where answers tied.
    groups : (N,) integers, optional
        Rows of one group are not independent (two questions about one picture): the interval is widened by
        the design effect (Kish 1965), the variance between groups over that of independent rows. Never
        narrowed.

    Returns
    -------
    Estimate
        n is the number of rows.

    Raises
    ------
    InputError
        No hits, or hits that are no shares.

    Examples
    --------
    >>> print(share([1] * 10))
    1.000 [0.722, 1.000]
    >>> print(share([0.5] * 100))
    0.500 [0.404, 0.596]
    >>> print(share([1, 1, 0, 0] * 25, [i // 2 for i in range(100)]))     # 50 pictures, not 100
    0.500 [0.365, 0.635]
    """
    rows = np.asarray(hits, dtype=np.float64)
    if rows.ndim != 1 or not rows.size or not (rows.min() >= 0 and rows.max() <= 1):
        raise InputError(f"hits of shape {rows.shape}: expected at least one number, all from 0 to 1")
    value = float(rows.mean())
    size = rows.size if groups is None else _effective(rows, value, np.asarray(groups))
    return Estimate(value, *wilson(value, size), n=rows.size)


def wilson(value: float, n: float, z: float = _Z) -> tuple[float, float]:
    """Wilson's interval of a share of `n`; 95 percent unless another quantile `z` is asked for.

    Examples
    --------
    >>> low, high = wilson(0.5, 100)
    >>> round(low, 4), round(high, 4)
    (0.4038, 0.5962)
    """
    middle = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(value * (1 - value) / n + z**2 / (4 * n**2))
    return max(0.0, min(middle - reach, value)), min(1.0, max(middle + reach, value))


def mean(values: ArrayLike) -> Estimate:
    """Mean with a resampled 95 percent interval: for errors and for differences of one picture's answers.

    Examples
    --------
    >>> mean([0.0, 0.0, 0.0]).low
    0.0
    """
    rows = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(0).integers(0, rows.size, (1000, rows.size))
    low, high = np.quantile(rows[draws].mean(axis=1), [0.025, 0.975])
    return Estimate(float(rows.mean()), float(low), float(high), n=rows.size)


def correlation(first: ArrayLike, second: ArrayLike) -> Estimate | None:
    """Pearson's, with Fisher's interval (1921); None where one of the rows does not vary.

    Examples
    --------
    >>> print(correlation([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]))
    0.800 [-0.280, 0.986]
    >>> correlation([1, 1, 1], [1, 2, 3]) is None
    True
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    value = float(np.clip(np.corrcoef(x, y)[0, 1], -1, 1))
    if x.size < 4 or abs(value) > 1 - 1e-12:
        return Estimate(value, n=x.size)
    middle, reach = math.atanh(value), _Z / math.sqrt(x.size - 3)
    return Estimate(value, math.tanh(middle - reach), math.tanh(middle + reach), n=x.size)


def difference(first: Estimate, second: Estimate) -> Estimate:
    """First minus second of two shares counted on different pictures (Newcombe 1998, method 10).

    Examples
    --------
    >>> print(difference(share([1] * 56 + [0] * 14), share([1] * 48 + [0] * 32)))   # his example (a)
    0.200 [0.052, 0.334]
    """
    gap = first.value - second.value
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return Estimate(gap)
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return Estimate(gap, gap - below, gap + above, n=(first.n or 0) + (second.n or 0))


def verdict(estimate: Estimate, chance: float) -> Verdict:
    """On which side of chance the whole interval lies; "at" where chance is inside.

    One model in twenty that answers by lot is called below or above.

    Examples
    --------
    >>> verdict(Estimate(0.3, 0.2, 0.4), 0.1), verdict(Estimate(0.3, 0.2, 0.4), 0.25)
    ('above', 'at')
    """
    low = estimate.value if estimate.low is None else estimate.low
    high = estimate.value if estimate.high is None else estimate.high
    return "above" if low > chance else "below" if high < chance else "at"


def against(estimate: Estimate, chance: float) -> str:
    """The figure beside chance, in words.

    Examples
    --------
    >>> against(Estimate(0.3, 0.2, 0.4), 0.25)
    '0.300 [0.200, 0.400], chance 0.250: at chance'
    """
    return f"{estimate}, chance {chance:.3f}: {verdict(estimate, chance)} chance"


def _effective(rows: np.ndarray, value: float, groups: np.ndarray) -> float:
    """How many independent rows these are worth."""
    _, owner = np.unique(groups, return_inverse=True)
    count = int(owner.max()) + 1
    independent = value * (1 - value) * rows.size
    if independent == 0 or count == 1:
        return count
    between = float((np.bincount(owner, rows - value) ** 2).sum()) * count / (count - 1)
    return rows.size / max(1.0, between / independent)
