"""Intervals of figures from 0 to 1, for evaluation and audits. Pure functions.

Every interval is a Wilson interval (1927, JASA 22) on an effective number of cases, as is done for surveys
(Dean and Pagano 2015, J. Surv. Stat. Methodol. 3): resampling gives a row of equal answers an interval of no
width. Differences of two figures are `differences.py`'s business; whether a figure differs from chance or
from another one is `significance.py`'s.

Legend: N cases, C classes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.extras import require
from diptych.reports import Estimate

Z95 = 1.959963984540054  # 95 percent, both sides
_FEW = 10.0  # hits or misses that tell as much of single classes as of all together
PSEUDO_CASES = 2.0  # cases of pooled variance added to each sample: without them equal answers have none


def wilson(value: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Wilson's interval of a proportion of `n` cases; 95 percent unless another quantile `z` is given.

    Examples
    --------
    >>> low, high = wilson(0.5, 100)
    >>> round(low, 4), round(high, 4)
    (0.4038, 0.5962)
    """
    middle = (value + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * math.sqrt(max(0.0, value * (1 - value)) / n + z**2 / (4 * n**2))
    return max(0.0, min(middle - reach, value)), min(1.0, max(middle + reach, value))


def wilson_cases(value: float, low: float, high: float) -> float:
    """How many cases a Wilson interval is of: the inverse of `wilson`, for a figure read from a file.

    Examples
    --------
    >>> round(wilson_cases(0.9, *wilson(0.9, 40.0)), 6), round(wilson_cases(1.0, *wilson(1.0, 40.0)), 6)
    (40.0, 40.0)
    """
    end = low if value - low > high - value else high  # the nearer end may be cut off at 0 or 1
    return Z95**2 * end * (1 - end) / max(abs(value - end), 1e-12) ** 2


def ends(estimate: Estimate) -> tuple[float, float]:
    """The interval of an estimate that has one."""
    if estimate.low is None or estimate.high is None:
        raise InputError(f"{estimate} has no interval")
    return estimate.low, estimate.high


def proportion(hits: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """Mean of hits between 0 and 1 with Wilson's 95 percent interval.

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
        No hits, or hits outside 0 to 1.

    Examples
    --------
    >>> print(proportion([1] * 10))
    1.000 [0.722, 1.000]
    >>> print(proportion([0.5] * 100))
    0.500 [0.404, 0.596]
    >>> print(proportion([1, 1, 0, 0] * 25, [i // 2 for i in range(100)]))     # 50 pictures, not 100
    0.500 [0.365, 0.635]
    """
    rows = unit_values(hits)
    value = float(rows.mean())
    size = float(rows.size if groups is None else _effective(rows, value, np.asarray(groups)))
    return Estimate(value, *wilson(value, size), n=rows.size, effective=size)


def bounded_mean(values: ArrayLike, highest: float = 1.0) -> Estimate:
    """Mean of numbers from 0 to `highest`, such as errors, with a 95 percent interval.

    The effective number of cases is that of a proportion with the variance of these values.

    Examples
    --------
    >>> print(bounded_mean([0.0] * 30, 9.0))
    0.000 [0.000, 1.022]
    """
    rows = unit_values(np.asarray(values, dtype=np.float64) / highest)
    value = float(rows.mean())
    low, high = wilson(value, _cases(rows))
    return Estimate(value * highest, low * highest, high * highest, n=rows.size, effective=rows.size)


def mean_over_classes(hits: ArrayLike, labels: ArrayLike) -> Estimate:
    """Mean over classes of the mean of their hits, with a 95 percent interval; absent classes do not count.

    The variance is put together from those of the classes, each shrunk by `PSEUDO_CASES` to the pooled one.
    Where hits or misses are few, what is not known of single classes counts more than what is: the pooled
    variance takes over. Coverage in simulations is 0.92 to 1, for balanced and for very uneven classes.

    Parameters
    ----------
    hits : (N,) floats from 0 to 1
    labels : (N,) integers

    Examples
    --------
    >>> print(mean_over_classes([1, 1, 1, 0], [0, 0, 0, 1]))
    0.500 [0.127, 0.873]
    >>> print(mean_over_classes([1] * 100, [i % 10 for i in range(100)]))
    1.000 [0.963, 1.000]
    """
    rows = unit_values(hits)
    _, owner, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    means = np.bincount(owner, rows) / counts
    squares = np.bincount(owner, (rows - means[owner]) ** 2)  # sums, (C,)
    value = float(means.mean())
    pooled = value * (1 - value)
    variances = (squares + PSEUDO_CASES * pooled) / (counts - 1 + PSEUDO_CASES)
    variance, cases = float((variances / counts).sum()) / len(counts) ** 2, class_cases(counts)
    rarer = cases * min(value, 1 - value)  # hits or misses
    known = rarer / (rarer + _FEW)
    size = effective_cases(value, known * variance + (1 - known) * pooled / cases, cases)
    return Estimate(value, *wilson(value, size), n=rows.size, effective=size)


def over_draws(estimate: Estimate, draws: ArrayLike) -> Estimate:
    """Widen the interval of a mean over random draws of training pictures by what the draws differ.

    An interval over test pictures alone holds for these draws on other test pictures. For other draws the
    variance is s^2 / D larger, where s^2 is estimated from D draws only, so the quantile is Student's with
    Welch and Satterthwaite's degrees of freedom (Welch 1947, Biometrika 34).

    Parameters
    ----------
    estimate : Estimate
        Mean over draws, with its interval over test pictures.
    draws : (D,) floats
        The figure of each draw. One draw does not tell how draws differ: nothing is added.

    Raises
    ------
    InputError
        The estimate has no interval.

    Examples
    --------
    >>> within = proportion([1, 0] * 500)
    >>> print(within, over_draws(within, [0.5, 0.5, 0.5]), over_draws(within, [0.48, 0.50, 0.52]), sep=" | ")
    0.500 [0.469, 0.531] | 0.500 [0.469, 0.531] | 0.500 [0.459, 0.541]
    """
    values, value = np.asarray(draws, dtype=np.float64), estimate.value
    within = value * (1 - value) / wilson_cases(value, *ends(estimate))
    between = float(values.var(ddof=1)) / values.size if values.size > 1 else 0.0
    if between == 0 or within == 0:
        return estimate
    freedom = (within + between) ** 2 / (between**2 / (values.size - 1))
    special = require("scipy.special", extra="evaluation", purpose="compute intervals over draws")
    factor = float(special.stdtrit(freedom, 0.975)) / Z95
    size = value * (1 - value) / ((within + between) * factor**2)
    return Estimate(value, *wilson(value, size), n=estimate.n, effective=size)


def class_cases(counts: ArrayLike) -> float:
    """How many cases a mean over classes of these sizes is worth where the classes are equally hard.

    Examples
    --------
    >>> class_cases([10, 10]), round(class_cases([1, 99]), 2)      # one picture decides half of the mean
    (20.0, 3.96)
    """
    sizes = np.asarray(counts, dtype=np.float64)
    return float(len(sizes) ** 2 / (1 / sizes).sum())


def effective_cases(value: float, variance: float, otherwise: float) -> float:
    """How many independent yes-or-no cases have this variance of their mean; `otherwise` where it is 0."""
    spread = value * (1 - value)
    return spread / variance if variance > 1e-12 and spread > 1e-12 else otherwise


def resampled_proportion(value: float, resampled: ArrayLike, cases: float, n: int, *, cap: bool) -> Estimate:
    """Interval of a figure from 0 to 1 that is no mean of rows: average precision, area under a curve.

    Parameters
    ----------
    value : float
    resampled : (B,) floats
        The figure on bootstrap samples; NaN where it is not defined. Only their variance is used.
    cases : float
        What the figure is worth where nothing varies, such as the number of right rows.
    n : int
        Rows, for the estimate.
    cap : bool
        Never count more cases than `cases`: average precision of few right rows is biased upwards, and needs
        it (Boyd, Eng and Page 2013, ECML PKDD).

    Examples
    --------
    >>> print(resampled_proportion(1.0, [1.0] * 50, 20, 100, cap=False))
    1.000 [0.839, 1.000]
    """
    known = np.asarray(resampled, dtype=np.float64)
    known = known[~np.isnan(known)]
    spread = value * (1 - value)
    variance = float(known.var(ddof=1)) if known.size > 1 else spread / cases
    variance = (cases * variance + PSEUDO_CASES * spread / cases) / (cases + PSEUDO_CASES)
    size = effective_cases(value, variance, cases)
    size = min(size, cases) if cap else size
    return Estimate(value, *wilson(value, size), n=n, effective=size)


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
    middle, reach = math.atanh(value), Z95 / math.sqrt(x.size - 3)
    return Estimate(value, math.tanh(middle - reach), math.tanh(middle + reach), n=x.size)


def unit_values(values: ArrayLike) -> NDArray[np.float64]:
    """A row of numbers from 0 to 1."""
    rows = np.asarray(values, dtype=np.float64)
    if rows.ndim != 1 or not rows.size or not (rows.min() >= 0 and rows.max() <= 1 + 1e-9):
        raise InputError(f"values of shape {rows.shape}: expected at least one number, all from 0 to 1")
    return np.minimum(rows, 1.0)


def _cases(rows: NDArray[np.float64]) -> float:
    """Yes-or-no cases that have the variance of these rows; about their number where they are such."""
    n, value = rows.size, float(rows.mean())
    squares = float(((rows - value) ** 2).sum())
    variance = (squares + PSEUDO_CASES * value * (1 - value)) / (n - 1 + PSEUDO_CASES) / n
    return effective_cases(value, variance, n)


def _effective(rows: NDArray[np.float64], value: float, groups: NDArray[np.generic]) -> float:
    """How many independent rows these are worth."""
    _, owner = np.unique(groups, return_inverse=True)
    count = int(owner.max()) + 1
    independent = value * (1 - value) * rows.size
    if independent == 0 or count == 1:
        return count
    between = float((np.bincount(owner, rows - value) ** 2).sum()) * count / (count - 1)
    return rows.size / max(1.0, between / independent)
