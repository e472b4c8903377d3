"""Significance tests and verdicts, for evaluation and audits. Pure functions.

A verdict needs `MINIMUM` cases and a p-value that is corrected by Holm's method for all claims of its family.
"At chance" is a separate claim: the whole interval lies near chance. What the data do not decide is "not
enough to say".

Legend: N cases.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.reports import Estimate
from diptych.stats.differences import difference, paired_difference
from diptych.stats.intervals import ends

NOT_ENOUGH: Literal["not enough to say"] = "not enough to say"
Verdict: TypeAlias = Literal["above", "below", "at", "not enough to say"]
Key = TypeVar("Key", bound=Hashable)

LEVEL = 0.05
MINIMUM = 30  # independent cases that a verdict needs
MARGIN = 0.2  # fraction of the range from chance to 1: an interval within it is "at chance"
SAME = 0.05  # two accuracies are called equal if the whole interval of their difference is below this
_FLIPS = 19_999
_FEW_SIZES = 256


def binomial_p(estimate: Estimate, chance: float) -> float:
    """Exact two-sided binomial test of a proportion against chance, on its effective number of cases.

    Examples
    --------
    >>> from diptych.stats.intervals import proportion
    >>> binomial_p(proportion([1] * 9 + [0]), 0.5)                 # 2 * (1 + 10) / 2**10
    0.021484375
    """
    n = math.floor((estimate.effective or estimate.n or 0) + 1e-9)
    if n < 1 or not 0 < chance < 1:
        return 1.0
    k = np.arange(n)
    steps = np.log((n - k) / (k + 1)) + math.log(chance / (1 - chance))
    mass = np.exp(n * math.log1p(-chance) + np.concatenate([[0.0], np.cumsum(steps)]))  # (n + 1,)
    right = estimate.value * n
    # A count of hits that is not whole (8.5 of 10) is rounded towards chance: the larger p.
    upper, lower = mass[math.floor(right + 1e-9) :].sum(), mass[: math.ceil(right - 1e-9) + 1].sum()
    return min(1.0, round(2 * float(min(upper, lower)), 12))


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact two-sided test (1947): without a difference, disagreements are tosses of a fair coin.

    Examples
    --------
    >>> mcnemar(1, 9)                  # 2 * (1 + 10) / 2**10
    0.021484375
    >>> mcnemar(0, 0), mcnemar(5, 5)
    (1.0, 1.0)
    """
    tosses, fewer = only_first + only_second, min(only_first, only_second)
    if 2 * fewer >= tosses:
        return 1.0
    term = total = 1  # binomial coefficients, as whole numbers: exact however small p is
    for k in range(fewer):
        term = term * (tosses - k) // (k + 1)
        total += term
    return float(min(1.0, 2 * total / 2**tosses))


def sign_flip_p(differences: ArrayLike, *, flips: int = _FLIPS, seed: int = 0) -> float:
    """Two-sided permutation test of the mean of paired differences, by random flips of their signs.

    If all differences are equal in size, such as those of hits and misses, the result is `mcnemar`'s,
    exactly.

    Parameters
    ----------
    differences : (N,) floats
    flips, seed : int
        Number of random sign flips, if the sizes differ, and their seed.

    Examples
    --------
    >>> sign_flip_p([-1] + [1] * 9 + [0] * 50)
    0.021484375
    >>> sign_flip_p([0.2] * 100 + [-1.0] * 21) > 0.5    # 100 small gains and 21 large losses cancel
    True
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[abs(values) > 1e-12]
    sizes, counts = np.unique(abs(values).round(9), return_counts=True)
    if len(sizes) < 2:
        return mcnemar(int((values < 0).sum()), int((values > 0).sum()))
    # A sum that equals the observed one counts. Sizes are rounded (thirds, of three draws, to 0.333333333),
    # so equal sums differ by up to 5e-10 a value.
    rng, observed = np.random.default_rng(seed), abs(values.sum()) - 1e-9 * len(values)
    if len(sizes) <= _FEW_SIZES:
        # The number of positive signs among differences of one size is binomial. Sampling these numbers costs
        # the same for every N: sizes [0.2, 1.0], counts [100, 21] take two numbers a flip, not 121.
        sums = (2 * rng.binomial(counts, 0.5, size=(flips, len(sizes))) - counts) @ sizes
        return float((1 + (abs(sums) >= observed).sum()) / (1 + flips))
    step, larger = max(1, 2**22 // len(values)), 0
    for start in range(0, flips, step):
        signs = rng.integers(0, 2, (min(step, flips - start), len(values)), dtype=np.int8) * 2 - 1
        larger += int((abs(signs @ values) >= observed).sum())
    return (1 + larger) / (1 + flips)


def class_sign_flip_p(differences: ArrayLike, labels: ArrayLike) -> float:
    """Two-sided sign-flip test of the mean over classes of their mean paired differences.

    A difference is weighted by one over the size of its class. If classes differ in opposite directions, sign
    flips overstate the variance, so that p is too large rather than too small.

    Parameters
    ----------
    differences : (N,) floats
    labels : (N,) integers

    Examples
    --------
    >>> class_sign_flip_p([1] * 9 + [-1], [0, 1] * 5)              # classes of one size: `sign_flip_p`
    0.021484375
    """
    _, class_index, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    return sign_flip_p(np.asarray(differences, dtype=np.float64) * (counts.min() / counts[class_index]))


def interval_p(difference: Estimate) -> float:
    """Two-sided p of a difference of 0, from the normal distribution with its 95 percent interval.

    Examples
    --------
    >>> round(interval_p(Estimate(0.2, 0.0, 0.4)), 3), interval_p(Estimate(0.0, -0.1, 0.1))
    (0.05, 1.0)
    """
    low, high = ends(difference)
    reach = difference.value - low if difference.value > 0 else high - difference.value
    return math.erfc(1.959963984540054 * abs(difference.value) / max(reach, 1e-12) / math.sqrt(2))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Correct p-values for their number (Holm 1979): the chance of even one false finding stays at the level.

    The smallest p is multiplied by the number of tests, the next by one less, and so on; corrected values
    never fall. Holm's method controls the same error as Bonferroni's, without assumptions on dependence, and
    rejects at least as much.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()         # 3 * 0.01, 2 * 0.03, max(1 * 0.04, 0.06)
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    corrected = np.empty(len(values))
    corrected[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(corrected, 1.0)


@dataclass(frozen=True)
class Claim:
    """Comparison of a figure with a null value, with everything a verdict needs.

    Attributes
    ----------
    null : float
        The null value: chance, or 0 for a difference.
    p : float
        Of the figure if the null value is true.
    margin : float
        An interval within `null` +- `margin` gives the verdict "at".
    cases : int or None
        Number of cases that is compared with `MINIMUM`; by default the estimate's effective number.
    """

    estimate: Estimate
    null: float
    p: float
    margin: float
    cases: int | None = None

    @property
    def enough(self) -> bool:
        """Whether there are enough cases for any verdict."""
        estimate = self.estimate
        effective = estimate.effective if estimate.effective is not None else estimate.n or 0
        return (effective if self.cases is None else self.cases) + 1e-9 >= MINIMUM


def against_chance(estimate: Estimate, chance: float, *, cases: int | None = None) -> Claim:
    """Claim that an accuracy is above or below chance (binomial test)."""
    return Claim(estimate, chance, binomial_p(estimate, chance), MARGIN * (1 - chance), cases)


def independent_claim(first: Estimate, second: Estimate, *, cases: int | None = None) -> Claim:
    """Claim that the first of two proportions of different pictures is higher (score test)."""
    sizes = [estimate.effective or estimate.n or 1 for estimate in (first, second)]
    pooled = (first.value * sizes[0] + second.value * sizes[1]) / sum(sizes)
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / sizes[0] + 1 / sizes[1]))
    z = abs(first.value - second.value) / deviation if deviation else 0.0
    return Claim(difference(first, second), 0.0, math.erfc(z / math.sqrt(2)), SAME, cases)


def paired_claim(first: ArrayLike, second: ArrayLike) -> Claim:
    """Claim that the first mean is higher than the second on the same pictures (sign-flip test)."""
    first_values, second_values = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return Claim(
        paired_difference(first_values, second_values), 0.0, sign_flip_p(first_values - second_values), SAME
    )


def decide(claims: Mapping[Key, Claim], level: float = LEVEL) -> dict[Key, Verdict]:
    """Return a verdict on every claim of a family, corrected for their number (Holm).

    `level` bounds the probability of even one false "above" or "below". Claims of fewer than `MINIMUM` cases
    are "not enough to say" and do not count in the correction.

    Examples
    --------
    >>> from diptych.stats.intervals import proportion
    >>> claim = against_chance(proportion([1] * 60 + [0] * 40), 0.1)
    >>> few = against_chance(proportion([1] * 10), 0.1)
    >>> decide({"all": claim, "few": few})
    {'all': 'above', 'few': 'not enough to say'}
    """
    large = {key: claim for key, claim in claims.items() if claim.enough}
    corrected = dict(zip(large, holm([claim.p for claim in large.values()]).tolist(), strict=True))
    return {
        key: _verdict(claim, corrected[key], level) if key in large else NOT_ENOUGH
        for key, claim in claims.items()
    }


def _verdict(claim: Claim, p: float, level: float) -> Verdict:
    estimate, null = claim.estimate, claim.null
    if p <= level and estimate.value != null:
        return "above" if estimate.value > null else "below"
    low, high = (estimate.value if end is None else end for end in (estimate.low, estimate.high))
    within = null - claim.margin < low and high < null + claim.margin
    return "at" if within else NOT_ENOUGH


def beside_chance(estimate: Estimate, chance: float, verdict: Verdict) -> str:
    """Describe a figure, its interval, chance and the verdict in words.

    Examples
    --------
    >>> beside_chance(Estimate(0.3, 0.2, 0.4), 0.25, "not enough to say")
    '0.300 [0.200, 0.400], chance 0.250: not enough to say'
    """
    side = verdict if verdict == NOT_ENOUGH else f"{verdict} chance"
    return f"{estimate}, chance {chance:.3f}: {side}"
