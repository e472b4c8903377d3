"""Disparities between groups of people: rates with intervals, the widest gap, and a permutation test.

Each test shuffles the group labels among the pictures. The statistic of a pair divides the gap by the
standard error from the variances of its own two groups (Welch 1947); with a pooled variance the test rejects
too often where groups differ in both size and variance (Chung and Romano 2016). A p-value compares the
observed statistic with the largest statistic over all pairs in each shuffle (Westfall and Young 1993), which
corrects for the number of pairs: of 10 groups, 45 pairs, chance alone finds a pair at the level 0.05 in 5 %
of the tables, not in most of them. Over several tables of one page the caller corrects with
`Disparity.among`. Groups below a minimum size are reported, but neither ranked nor compared.

Legend: N pictures, G groups, M measures, P pairs of groups, B shuffles.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.reports import Estimate
from diptych.stats.differences import difference
from diptych.stats.intervals import proportion, wilson
from diptych.stats.strata import standardised, stratified_gap

MINIMUM = 30
SHUFFLES = 9999
_BLOCK = 2**22  # numbers of shuffled groups at a time, 16 MB
_EQUAL = 1e-4  # tolerance of statistics, relative and absolute: sums are float32, and equal gaps must count
_PSEUDO = 2.0  # pictures of pooled variance added to each group: a group of equal answers has variance 0


@dataclass(frozen=True)
class Gap:
    """Gap between two groups: the rate of the first minus that of the second.

    Attributes
    ----------
    gap : Estimate
        The interval is simultaneous for all pairs of the table (Newcombe's, with Bonferroni's correction).
    p : float
        Probability of a statistic at least this large for any pair if groups were assigned at random.
    adjusted, adjusted_p : Estimate and float, or None
        The same gap within strata of the other attributes (`strata.py`).
    """

    high: str
    low: str
    gap: Estimate
    p: float
    adjusted: Estimate | None = None
    adjusted_p: float | None = None

    def among(self, tests: int) -> Gap:
        """Correct for a number of tests: p-values times that number (Bonferroni)."""
        adjusted = None if self.adjusted_p is None else min(1.0, self.adjusted_p * tests)
        return replace(self, p=min(1.0, self.p * tests), adjusted_p=adjusted)


@dataclass(frozen=True)
class Disparity:
    """One measure by the groups of one attribute.

    Attributes
    ----------
    shares : mapping of str to Estimate
        Group -> its rate, including the small groups.
    small : sequence of str
        Groups below the minimum size: reported, but neither ranked nor compared.
    widest : Gap or None
        Between the highest and the lowest ranked group; None where fewer than two are ranked.
    findings : sequence of Gap
        Pairs whose p is at most the level, the smallest p first.
    p : float or None
        Smallest p of all pairs.
    adjusted_for : str
        The other attributes; "" without any.
    adjusted : mapping of str to float
        Group -> its rate, standardised to the composition of all pictures in the other attributes.
    """

    measure: str
    attribute: str
    shares: Mapping[str, Estimate]
    small: Sequence[str]
    widest: Gap | None
    findings: Sequence[Gap]
    p: float | None
    pairs: Sequence[Gap] = ()
    adjusted_for: str = ""
    adjusted: Mapping[str, float] = field(default_factory=dict)

    def among(self, tests: int, level: float) -> Disparity:
        """Correct for a number of tests: p-values times that number (Bonferroni), findings selected again."""
        corrected = [gap.among(tests) for gap in self.pairs]
        widest = self.widest and self.widest.among(tests)
        return replace(
            self,
            widest=widest,
            p=None if self.p is None else min(1.0, self.p * tests),
            findings=tuple(
                sorted((gap for gap in corrected if gap.p <= level), key=lambda gap: (gap.p, -gap.gap.value))
            ),
            pairs=(),
        )


def disparities(
    values: Mapping[str, ArrayLike],
    names: Sequence[str],
    codes: NDArray[np.int64],
    attribute: str,
    *,
    strata: NDArray[np.int64] | None = None,
    adjusted_for: str = "",
    minimum: int = MINIMUM,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> list[Disparity]:
    """Compare the groups of one attribute by several measures, each with its own test.

    Parameters
    ----------
    values : mapping of str to (N,) numbers from 0 to 1
        Measure -> value of each picture.
    names : sequence of G str
    codes : (N,) integers
        Group of each picture; -1 for none.
    strata : (N,) integers, optional
        Stratum of each picture: equal for pictures that agree in all other attributes (`adjusted_for`); -1
        for none.
    minimum : int
        Minimum size of a group that is ranked.

    Examples
    --------
    >>> codes = np.repeat([0, 1, 2], [50, 50, 3])
    >>> called = np.concatenate([np.zeros(50), np.ones(25), np.zeros(25), np.ones(3)])
    >>> found = disparities({"thief": called}, ["a", "b", "c"], codes, "toy", shuffles=999)[0].among(1, 0.05)
    >>> found.widest.high, found.widest.low, found.widest.gap.value, found.small, found.p
    ('b', 'a', 0.5, ('c',), 0.001)
    """
    if not values:
        return []
    table = np.stack([np.asarray(each, dtype=np.float64) for each in values.values()], axis=1)  # (N, M)
    if table.shape[0] != codes.shape[0]:
        raise InputError(f"{table.shape[0]} values for {codes.shape[0]} pictures: expected one for each")
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    ranked = [group for group, size in enumerate(sizes) if size >= max(minimum, 1)]
    pair_p = _pair_p(table, codes, np.array(ranked), shuffles, seed) if len(ranked) > 1 else None  # (P, M)
    results = []
    for number, measure in enumerate(values):
        column = table[:, number]
        shares = {
            name: proportion(column[codes == group]) for group, name in enumerate(names) if sizes[group]
        }
        small = tuple(name for group, name in enumerate(names) if 0 < sizes[group] < minimum)
        ranked_names = [names[group] for group in ranked]
        pairs = [] if pair_p is None else _gaps(shares, ranked_names, pair_p[:, number])
        adjusted: dict[str, float] = {}
        if strata is not None:
            masks = {names[group]: codes == group for group in ranked}
            pairs = [_adjusted(pair, column, masks, strata, len(pairs)) for pair in pairs]
            rates = standardised(column, codes, strata, len(names)).tolist()
            adjusted = {name: rates[group] for group, name in enumerate(names) if sizes[group]}
        results.append(
            Disparity(
                measure,
                attribute,
                shares,
                small,
                max(pairs, key=lambda pair: pair.gap.value, default=None),
                (),
                min((pair.p for pair in pairs), default=None),
                tuple(pairs),
                adjusted_for,
                adjusted,
            )
        )
    return results


def _adjusted(
    gap: Gap,
    values: NDArray[np.float64],
    masks: Mapping[str, NDArray[np.bool_]],
    strata: NDArray[np.int64],
    pairs: int,
) -> Gap:
    """Add the gap within strata; its p is corrected for the number of pairs (Bonferroni)."""
    within = stratified_gap(values, masks[gap.high], masks[gap.low], strata, _quantile(pairs))
    return gap if within is None else replace(gap, adjusted=within[0], adjusted_p=min(1.0, within[1] * pairs))


def shuffled_sums(
    values: NDArray[np.float32], onehot: NDArray[np.float32], shuffles: int, seed: int | Sequence[int]
) -> Iterator[NDArray[np.float64]]:
    """Yield the sums of values in each group after shuffling the group labels, in blocks of (block, G, M).

    Parameters
    ----------
    values : (N, M)
    onehot : (N, G)
    """
    rng = np.random.default_rng(seed)
    count, groups = onehot.shape
    block = max(1, _BLOCK // max(1, count * groups))
    for start in range(0, shuffles, block):
        rows = min(block, shuffles - start)
        orders = rng.permuted(np.broadcast_to(np.arange(count, dtype=np.int32), (rows, count)), axis=1)
        mixed = onehot[orders].transpose(0, 2, 1).reshape(rows * groups, count)  # (block * G, N)
        yield (mixed @ values).reshape(rows, groups, -1).astype(np.float64)


def _pair_p(
    table: NDArray[np.float64], codes: NDArray[np.int64], ranked: NDArray[np.intp], shuffles: int, seed: int
) -> NDArray[np.float64]:
    """Permutation p-values of each pair of ranked groups and each measure, (P, M).

    The observed statistic and the shuffles both count: with 999 shuffles, of which none has a pair with a
    larger statistic, p is (1 + 0) / (1 + 999) = 0.001 and never 0.
    """
    ranked_pictures = np.isin(codes, ranked)
    values = table[ranked_pictures]
    onehot = (codes[ranked_pictures][:, None] == ranked).astype(np.float32)  # (n, G)
    sizes = onehot.sum(axis=0, dtype=np.float64)
    first, second = np.triu_indices(len(ranked), 1)

    def statistic(
        sums: NDArray[np.float64], squares: NDArray[np.float64], pooled: float
    ) -> NDArray[np.float64]:
        """Welch's statistic of every pair, (..., P), from sums and sums of squares per group, (..., G)."""
        means = sums / sizes
        within = np.maximum(squares - sums * means, 0) + _PSEUDO * pooled
        errors = within / (sizes - 1 + _PSEUDO) / sizes
        gaps = abs(means[..., first] - means[..., second])
        apart = np.sqrt(errors[..., first] + errors[..., second])
        statistics: NDArray[np.float64] = np.divide(gaps, apart, out=np.zeros_like(gaps), where=apart > 0)
        return statistics

    clearer = np.zeros((len(first), values.shape[1]))
    for measure, column in enumerate(values.T):
        pooled = float(column.var())
        sums = [(onehot.T @ column_values).astype(np.float64) for column_values in (column, column**2)]
        observed = statistic(sums[0], sums[1], pooled)  # (P,)
        for drawn, squares in _shuffled(column, onehot, shuffles, [seed, measure]):
            most = statistic(drawn, squares, pooled).max(axis=1)  # (block,)
            clearer[:, measure] += (most[:, None] >= observed * (1 - _EQUAL) - _EQUAL).sum(axis=0)
    p: NDArray[np.float64] = (1 + clearer) / (1 + shuffles)
    return p


def _shuffled(
    values: NDArray[np.float64], onehot: NDArray[np.float32], shuffles: int, seed: Sequence[int]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield sums of one measure and of its squares in shuffled groups, (block, G) each."""
    if not np.isin(values, (0, 1)).all():
        both = np.stack([values, values**2], axis=1).astype(np.float32)
        for block in shuffled_sums(both, onehot, shuffles, seed):
            yield block[..., 0], block[..., 1]
        return
    # Of values 0 and 1 only the number of ones in each group matters, and a shuffle distributes them like
    # draws without replacement: with groups of 50 and 50 pictures and 25 ones, a draw may give (11, 14).
    # Sampling these counts directly costs the same for every N.
    sizes = onehot.sum(axis=0, dtype=np.float64).astype(np.int64)
    hits = np.random.default_rng(seed).multivariate_hypergeometric(
        sizes, int(values.sum()), size=shuffles, method="marginals"
    )
    yield hits.astype(np.float64), hits.astype(np.float64)


def _quantile(pairs: int) -> float:
    """Normal quantile of intervals that are simultaneous for all pairs: 1.96 for 1 pair, 2.39 for 3."""
    return NormalDist().inv_cdf(1 - 0.025 / max(1, pairs))


def _gaps(shares: Mapping[str, Estimate], ranked: Sequence[str], p: NDArray[np.float64]) -> list[Gap]:
    """Every pair of ranked groups, the higher one first."""
    pairs = list(itertools.combinations(ranked, 2))
    z = _quantile(len(pairs))
    gaps = []
    for (first, second), p_value in zip(pairs, p, strict=True):
        high, low = (first, second) if shares[first].value >= shares[second].value else (second, first)
        gaps.append(Gap(high, low, gap_between(shares[high], shares[low], z), float(p_value)))
    return gaps


def gap_between(first: Estimate, second: Estimate, z: float) -> Estimate:
    """Difference of two proportions of different pictures, with an interval at the quantile `z`.

    Examples
    --------
    >>> print(gap_between(proportion([1] * 56 + [0] * 14), proportion([1] * 48 + [0] * 32), 1.96))
    0.200 [0.052, 0.334]
    """
    upper, lower = (
        Estimate(side.value, *wilson(side.value, side.n or 1, z), n=side.n, effective=side.effective)
        for side in (first, second)
    )
    return difference(upper, lower)
