"""Tests and verdicts, for evaluation and audits. Pure functions.

A verdict needs `MINIMUM` cases and a p-value that is corrected by Holm's rule for all claims of its family.
"At chance" is a claim of its own: the whole interval lies near chance. What the data do not decide is "not
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
MINIMUM = 30  # independent cases: with fewer there is no verdict, however clear they look
MARGIN = 0.2  # of the way from chance to perfect: an interval within it is "at chance"
SAME = 0.05  # two accuracies whose difference surely is less are called equal
_FLIPS = 19_999
_FEW_SIZES = 256


def binomial_p(estimate: Estimate, chance: float) -> float:
    """Exact binomial test of a proportion against chance, two-sided, on its effective number of cases.

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
    # Between two counts the less extreme one decides.
    upper, lower = mass[math.floor(right + 1e-9) :].sum(), mass[: math.ceil(right - 1e-9) + 1].sum()
    return min(1.0, round(2 * float(min(upper, lower)), 12))


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test (1947), two-sided: disagreements as tosses of a fair coin.

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
    """Permutation test of the mean of paired differences, two-sided: their signs as tosses of a fair coin.

    Where all differences have one size, such as those of hits and misses, it is `mcnemar`, exactly.

    Parameters
    ----------
    differences : (N,) floats
    flips, seed : int
        Draws of the signs where sizes differ.

    Examples
    --------
    >>> sign_flip_p([-1] + [1] * 9 + [0] * 50)
    0.021484375
    >>> sign_flip_p([0.2] * 100 + [-1.0] * 21) > 0.5    # many small gains, few large losses: nothing in sum
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
        # How many of each size are positive is binomial: drawn at once, whatever N is.
        sums = (2 * rng.binomial(counts, 0.5, size=(flips, len(sizes))) - counts) @ sizes
        return float((1 + (abs(sums) >= observed).sum()) / (1 + flips))
    step, larger = max(1, 2**22 // len(values)), 0
    for start in range(0, flips, step):
        signs = rng.integers(0, 2, (min(step, flips - start), len(values)), dtype=np.int8) * 2 - 1
        larger += int((abs(signs @ values) >= observed).sum())
    return (1 + larger) / (1 + flips)


def class_sign_flip_p(differences: ArrayLike, labels: ArrayLike) -> float:
    """Sign-flip test of the mean over classes of their mean paired differences, two-sided.

    A difference counts by one over the size of its class. Where classes differ in opposite directions, flips
    of the signs overstate the variance, so that p is too large rather than too small.

    Parameters
    ----------
    differences : (N,) floats
    labels : (N,) integers

    Examples
    --------
    >>> class_sign_flip_p([1] * 9 + [-1], [0, 1] * 5)              # classes of one size: `sign_flip_p`
    0.021484375
    """
    _, owner, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    return sign_flip_p(np.asarray(differences, dtype=np.float64) * (counts.min() / counts[owner]))


def interval_p(difference: Estimate) -> float:
    """P of a difference of 0, two-sided, by the normal distribution that its 95 percent interval stands for.

    Examples
    --------
    >>> round(interval_p(Estimate(0.2, 0.0, 0.4)), 3), interval_p(Estimate(0.0, -0.1, 0.1))
    (0.05, 1.0)
    """
    low, high = ends(difference)
    reach = difference.value - low if difference.value > 0 else high - difference.value
    return math.erfc(1.959963984540054 * abs(difference.value) / max(reach, 1e-12) / math.sqrt(2))


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """P-values corrected for their number (Holm 1979): all at most `level` hold together at that level.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()         # 3 * 0.01, then 2 * 0.03, then no less than that
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    found = np.empty(len(values))
    found[order] = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return np.minimum(found, 1.0)


@dataclass(frozen=True)
class Claim:
    """A figure set against a value, with all that a verdict on it needs.

    Attributes
    ----------
    estimate : Estimate
    null : float
        The value: chance, or 0 for a difference.
    p : float
        Of the figure where `null` is the truth.
    margin : float
        An interval within this of `null` is "at".
    cases : int or None
        How many there are, for `MINIMUM`; by default those that the estimate is worth.
    """

    estimate: Estimate
    null: float
    p: float
    margin: float
    cases: int | None = None

    @property
    def enough(self) -> bool:
        """Whether there are enough cases for any verdict."""
        one = self.estimate
        worth = one.effective if one.effective is not None else one.n or 0
        return (worth if self.cases is None else self.cases) + 1e-9 >= MINIMUM


def against_chance(estimate: Estimate, chance: float, *, cases: int | None = None) -> Claim:
    """The claim that an accuracy is above or below chance."""
    return Claim(estimate, chance, binomial_p(estimate, chance), MARGIN * (1 - chance), cases)


def independent_claim(first: Estimate, second: Estimate, *, cases: int | None = None) -> Claim:
    """The claim that the first of two proportions of different pictures is higher (score test)."""
    sizes = [one.effective or one.n or 1 for one in (first, second)]
    pooled = (first.value * sizes[0] + second.value * sizes[1]) / sum(sizes)
    deviation = math.sqrt(pooled * (1 - pooled) * (1 / sizes[0] + 1 / sizes[1]))
    z = abs(first.value - second.value) / deviation if deviation else 0.0
    return Claim(difference(first, second), 0.0, math.erfc(z / math.sqrt(2)), SAME, cases)


def paired_claim(first: ArrayLike, second: ArrayLike) -> Claim:
    """The claim that the first is higher than the second on the same pictures."""
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return Claim(paired_difference(one, other), 0.0, sign_flip_p(one - other), SAME)


def decide(claims: Mapping[Key, Claim], level: float = LEVEL) -> dict[Key, Verdict]:
    """A verdict on every claim of a family; `level` is the chance of even one wrong "above" or "below".

    Claims of fewer than `MINIMUM` cases are "not enough to say" and do not count as tried.

    Examples
    --------
    >>> from diptych.stats.intervals import proportion
    >>> claim = against_chance(proportion([1] * 60 + [0] * 40), 0.1)
    >>> few = against_chance(proportion([1] * 10), 0.1)
    >>> decide({"all": claim, "few": few})
    {'all': 'above', 'few': 'not enough to say'}
    """
    large = {key: one for key, one in claims.items() if one.enough}
    corrected = dict(zip(large, holm([one.p for one in large.values()]).tolist(), strict=True))
    return {
        key: _verdict(one, corrected[key], level) if key in large else NOT_ENOUGH
        for key, one in claims.items()
    }


def _verdict(claim: Claim, p: float, level: float) -> Verdict:
    one, null = claim.estimate, claim.null
    if p <= level and one.value != null:
        return "above" if one.value > null else "below"
    low, high = (one.value if end is None else end for end in (one.low, one.high))
    within = null - claim.margin < low and high < null + claim.margin
    return "at" if within else NOT_ENOUGH


def beside_chance(estimate: Estimate, chance: float, verdict: Verdict) -> str:
    """The figure beside chance, in words.

    Examples
    --------
    >>> beside_chance(Estimate(0.3, 0.2, 0.4), 0.25, "not enough to say")
    '0.300 [0.200, 0.400], chance 0.250: not enough to say'
    """
    side = verdict if verdict == NOT_ENOUGH else f"{verdict} chance"
    return f"{estimate}, chance {chance:.3f}: {side}"
