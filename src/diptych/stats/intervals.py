"""Confidence intervals of figures from 0 to 1, for evaluation and audits. Pure functions.

Every interval is a Wilson interval (1927, JASA 22) on an effective number of cases, as in surveys (Dean and
Pagano 2015, J. Surv. Stat. Methodol. 3). The percentile bootstrap and the normal approximation give 10 right
answers of 10 an interval of no width, [1, 1]; Wilson's is [0.722, 1]. Differences of two figures: see
`differences.py`; tests against chance or another figure: `significance.py`.

Legend: N cases, C classes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.extras import require
from diptych.reports import Estimate

Z95 = 1.959963984540054  # normal quantile of a two-sided 95 percent interval
_FEW = 10.0  # hits or misses at which the classes' own variance and the pooled one have equal weight
PSEUDO_CASES = 2.0  # cases of pooled variance added to each sample: equal answers alone have variance 0


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
    """Number of cases of a Wilson interval: the inverse of `wilson`, for a figure read from a file.

    Examples
    --------
    >>> round(wilson_cases(0.9, *wilson(0.9, 40.0)), 6), round(wilson_cases(1.0, *wilson(1.0, 40.0)), 6)
    (40.0, 40.0)
    """
    end = low if value - low > high - value else high  # the nearer end may be cut off at 0 or 1
    return Z95**2 * end * (1 - end) / max(abs(value - end), 1e-12) ** 2


def ends(estimate: Estimate) -> tuple[float, float]:
    """Return the interval of an estimate; InputError if it has none."""
    if estimate.low is None or estimate.high is None:
        raise InputError(f"{estimate} has no interval")
    return estimate.low, estimate.high


def proportion(hits: ArrayLike, groups: ArrayLike | None = None) -> Estimate:
    """Proportion: mean of hits between 0 and 1, with Wilson's 95 percent interval.

    Parameters
    ----------
    hits : (N,) floats
        0 or 1, or the probability of a hit where answers tied.
    groups : (N,) integers, optional
        Cases of one group are not independent (two questions about one picture): the interval is widened by
        the design effect (Kish 1965), the variance between groups over that of independent cases. It is
        never narrowed.

    Returns
    -------
    Estimate
        `n` is the number of hits, `effective` that of independent cases.

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
    values = unit_values(hits)
    value = float(values.mean())
    size = float(values.size if groups is None else _effective(values, value, np.asarray(groups)))
    return Estimate(value, *wilson(value, size), n=values.size, effective=size)


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
    """Mean over classes of the mean of their hits, with a 95 percent interval; absent classes are left out.

    The variance is the sum of the variances of the class means, each shrunk towards the pooled variance with
    the weight of `PSEUDO_CASES` cases. Where hits or misses are few, the variances of single classes are
    mostly 0 by accident, so the pooled variance replaces them: with h effective hits (or misses, the fewer)
    the weight of the classes' own variance is h / (h + 10), for example 0.5 with 10 and 0.9 with 90. Coverage
    in simulations is 0.92 to 1, for balanced and for very uneven classes.

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
    values = unit_values(hits)
    _, class_index, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    means = np.bincount(class_index, values) / counts
    squares = np.bincount(class_index, (values - means[class_index]) ** 2)  # sums, (C,)
    value = float(means.mean())
    pooled = value * (1 - value)
    variances = (squares + PSEUDO_CASES * pooled) / (counts - 1 + PSEUDO_CASES)
    variance, cases = float((variances / counts).sum()) / len(counts) ** 2, class_cases(counts)
    rarer = cases * min(value, 1 - value)  # effective hits or misses, the fewer
    weight = rarer / (rarer + _FEW)
    size = effective_cases(value, weight * variance + (1 - weight) * pooled / cases, cases)
    return Estimate(value, *wilson(value, size), n=values.size, effective=size)


def over_draws(estimate: Estimate, figures: ArrayLike) -> Estimate:
    """Widen the interval of a mean over random draws of training pictures by the variance between draws.

    An interval over test pictures alone is valid for these draws on other test pictures. For other draws the
    variance is larger by s^2 / D. Since s^2 is estimated from only D draws, the quantile is Student's with
    the degrees of freedom of Welch and Satterthwaite (Welch 1947, Biometrika 34): (within + between)^2 /
    (between^2 / (D - 1)). For example, D = 3 figures 0.48, 0.50, 0.52 on 1,000 pictures: within = 0.25 / 1000
    = 0.00025, between = 0.0004 / 3 = 0.00013, so there are 16.5 degrees of freedom and the quantile is 2.11,
    not 1.96.

    Parameters
    ----------
    estimate : Estimate
        Mean over draws, with its interval over test pictures.
    figures : (D,) floats
        The figure of each draw. Of one draw there is no variance, and nothing is added.

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
    values, value = np.asarray(figures, dtype=np.float64), estimate.value
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
    """Effective number of cases of a mean over classes of these sizes, if the classes are equally hard.

    Examples
    --------
    >>> class_cases([10, 10]), round(class_cases([1, 99]), 2)      # one picture is half of the mean
    (20.0, 3.96)
    """
    sizes = np.asarray(counts, dtype=np.float64)
    return float(len(sizes) ** 2 / (1 / sizes).sum())


def effective_cases(value: float, variance: float, otherwise: float) -> float:
    """Number of independent yes-or-no cases whose mean has this variance; `otherwise` where it is 0.

    A mean of n such cases has the variance p * (1 - p) / n: with p = 0.5 and variance 0.0025, n is 100.
    """
    spread = value * (1 - value)
    return spread / variance if variance > 1e-12 and spread > 1e-12 else otherwise


def resampled_proportion(value: float, resampled: ArrayLike, cases: float, n: int, *, cap: bool) -> Estimate:
    """Interval of a figure that is not a mean of cases: average precision, area under the ROC curve.

    Only the variance of the bootstrap samples is used, not their percentiles: a figure of 1 is 1 in every
    sample, and its percentile interval would have no width.

    Parameters
    ----------
    resampled : (B,) floats
        The figure on bootstrap samples; NaN where it is not defined.
    cases : float
        Effective number of cases if the variance is 0, such as the number of positives.
    n : int
        Number of pictures, for the estimate.
    cap : bool
        Limit the effective number of cases to `cases`. Average precision with few positives is biased
        upwards and needs it (Boyd, Eng and Page 2013, ECML PKDD).

    Examples
    --------
    >>> print(resampled_proportion(1.0, [1.0] * 50, 20, 100, cap=False))
    1.000 [0.839, 1.000]
    """
    values = np.asarray(resampled, dtype=np.float64)
    values = values[~np.isnan(values)]
    spread = value * (1 - value)
    variance = float(values.var(ddof=1)) if values.size > 1 else spread / cases
    variance = (cases * variance + PSEUDO_CASES * spread / cases) / (cases + PSEUDO_CASES)
    size = effective_cases(value, variance, cases)
    size = min(size, cases) if cap else size
    return Estimate(value, *wilson(value, size), n=n, effective=size)


def correlation(first: ArrayLike, second: ArrayLike) -> Estimate | None:
    """Pearson's correlation with Fisher's interval (1921); None if one of the inputs is constant.

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
    """Return values as a one-dimensional array; InputError unless all are from 0 to 1."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not array.size or not (array.min() >= 0 and array.max() <= 1 + 1e-9):
        raise InputError(f"values of shape {array.shape}: expected at least one number, all from 0 to 1")
    return np.minimum(array, 1.0)


def _cases(values: NDArray[np.float64]) -> float:
    """Number of yes-or-no cases whose mean has the variance of these values' mean.

    About their number if all are 0 or 1, more if they vary less: values near 0.5 differ by less than 0 and 1.
    """
    n, value = values.size, float(values.mean())
    squares = float(((values - value) ** 2).sum())
    variance = (squares + PSEUDO_CASES * value * (1 - value)) / (n - 1 + PSEUDO_CASES) / n
    return effective_cases(value, variance, n)


def _effective(values: NDArray[np.float64], value: float, groups: NDArray[np.generic]) -> float:
    """Effective number of independent cases of values that are dependent within groups.

    The design effect is the variance of the group sums over that of independent values: 100 values in 50
    pairs of equal values have a design effect of about 2, so they count as about 50.
    """
    _, group_index = np.unique(groups, return_inverse=True)
    count = int(group_index.max()) + 1
    independent = value * (1 - value) * values.size
    if independent == 0 or count == 1:
        return count
    between = float((np.bincount(group_index, values - value) ** 2).sum()) * count / (count - 1)
    return values.size / max(1.0, between / independent)
