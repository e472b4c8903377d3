"""Groups of people compared: shares with intervals, the widest gap, and whether it is more than chance.

The tests shuffle the groups among the pictures. The statistic of a pair has the variances of its own two
groups (Welch 1947), which keeps shuffles right where groups differ in size and variance (Chung and Romano
2016). Of every shuffle the largest statistic over all pairs counts (Westfall and Young 1993), so that many
groups do not make a finding by themselves; over several tables of one page the caller corrects with
`Disparity.among`. Groups under a least size are told and take no part: three people are no group.

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
_EQUAL = 1e-4  # a shuffle that gives the observed gap again is no smaller than it; sums are float32
_PSEUDO = 2.0  # pictures of pooled variance added to each group: groups of equal answers have none


@dataclass(frozen=True)
class Gap:
    """Two groups, and how far the first lies above the second.

    Attributes
    ----------
    high, low : str
    gap : Estimate
        The interval holds for all pairs of the table together (Newcombe's, Bonferroni).
    p : float
        Of a gap as clear as this between any two groups when groups mean nothing.
    adjusted, adjusted_p : Estimate and float, or None
        The same gap among pictures that are alike in the other attributes (`strata.py`).
    """

    high: str
    low: str
    gap: Estimate
    p: float
    adjusted: Estimate | None = None
    adjusted_p: float | None = None

    def among(self, tests: int) -> Gap:
        """The same as one of several tests: p times their number (Bonferroni)."""
        adjusted = None if self.adjusted_p is None else min(1.0, self.adjusted_p * tests)
        return replace(self, p=min(1.0, self.p * tests), adjusted_p=adjusted)


@dataclass(frozen=True)
class Disparity:
    """One measure by the groups of one attribute.

    Attributes
    ----------
    measure, attribute : str
    shares : mapping of str to Estimate
        Every group, the small ones too.
    small : sequence of str
        Groups under the least size: told, not ranked, not compared.
    widest : Gap or None
        Between the highest and the lowest ranked group; None where fewer than two are ranked.
    findings : sequence of Gap
        Pairs whose p is at most the level, the clearest first.
    p : float or None
        Of the clearest pair.
    adjusted_for : str
        The other attributes; "" without any.
    adjusted : mapping of str to float
        Group -> its rate if it were composed as everyone is in these.
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
        """The same as one of several tests: p times their number (Bonferroni), and the findings left."""
        found = [one.among(tests) for one in self.pairs]
        widest = self.widest and self.widest.among(tests)
        return replace(
            self,
            widest=widest,
            p=None if self.p is None else min(1.0, self.p * tests),
            findings=tuple(
                sorted((one for one in found if one.p <= level), key=lambda one: (one.p, -one.gap.value))
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
    """Compare the groups of one attribute in several measures, each with its own test.

    Parameters
    ----------
    values : mapping of str to (N,) numbers from 0 to 1
        Measure -> what each picture contributes.
    names : sequence of G str
    codes : (N,) integers
        Group of each picture; -1 for none.
    attribute : str
    strata : (N,) integers, optional
        Pictures that are alike in all other attributes, `adjusted_for`; -1 for none.
    adjusted_for : str
    minimum : int
        Least size of a group that is ranked.
    shuffles, seed : int

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
    table = np.stack([np.asarray(one, dtype=np.float64) for one in values.values()], axis=1)  # (N, M)
    if table.shape[0] != codes.shape[0]:
        raise InputError(f"{table.shape[0]} values for {codes.shape[0]} pictures: expected one for each")
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    ranked = [place for place, size in enumerate(sizes) if size >= max(minimum, 1)]
    p = _pair_p(table, codes, np.array(ranked), shuffles, seed) if len(ranked) > 1 else None  # (P, M)
    found = []
    for number, measure in enumerate(values):
        column = table[:, number]
        shares = {
            name: proportion(column[codes == place]) for place, name in enumerate(names) if sizes[place]
        }
        small = tuple(name for place, name in enumerate(names) if 0 < sizes[place] < minimum)
        ranked_names = [names[place] for place in ranked]
        pairs = [] if p is None else _gaps(shares, ranked_names, p[:, number])
        adjusted: dict[str, float] = {}
        if strata is not None:
            masks = {names[place]: codes == place for place in ranked}
            pairs = [_adjusted(one, column, masks, strata, len(pairs)) for one in pairs]
            rates = standardised(column, codes, strata, len(names)).tolist()
            adjusted = {name: rates[place] for place, name in enumerate(names) if sizes[place]}
        found.append(
            Disparity(
                measure,
                attribute,
                shares,
                small,
                max(pairs, key=lambda one: one.gap.value, default=None),
                (),
                min((one.p for one in pairs), default=None),
                tuple(pairs),
                adjusted_for,
                adjusted,
            )
        )
    return found


def _adjusted(
    one: Gap,
    values: NDArray[np.float64],
    masks: Mapping[str, NDArray[np.bool_]],
    strata: NDArray[np.int64],
    pairs: int,
) -> Gap:
    """A gap with what is left of it within strata; p corrected for the pairs."""
    within = stratified_gap(values, masks[one.high], masks[one.low], strata, _quantile(pairs))
    return one if within is None else replace(one, adjusted=within[0], adjusted_p=min(1.0, within[1] * pairs))


def shuffled_sums(
    values: NDArray[np.float32], onehot: NDArray[np.float32], shuffles: int, seed: int | Sequence[int]
) -> Iterator[NDArray[np.float64]]:
    """Sums of values in each group after the groups were shuffled, (block, G, M), block after block.

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
    """For each pair of ranked groups and each measure: how often a shuffle has a clearer pair, (P, M)."""
    mine = np.isin(codes, ranked)
    values = table[mine]
    onehot = (codes[mine][:, None] == ranked).astype(np.float32)  # (n, G)
    sizes = onehot.sum(axis=0, dtype=np.float64)
    first, second = np.triu_indices(len(ranked), 1)

    def statistic(
        sums: NDArray[np.float64], squares: NDArray[np.float64], pooled: float
    ) -> NDArray[np.float64]:
        """Welch's of every pair, (..., P), from sums and sums of squares of the groups, (..., G)."""
        means = sums / sizes
        within = np.maximum(squares - sums * means, 0) + _PSEUDO * pooled
        errors = within / (sizes - 1 + _PSEUDO) / sizes
        gaps = abs(means[..., first] - means[..., second])
        apart = np.sqrt(errors[..., first] + errors[..., second])
        found: NDArray[np.float64] = np.divide(gaps, apart, out=np.zeros_like(gaps), where=apart > 0)
        return found

    clearer = np.zeros((len(first), values.shape[1]))
    for measure, column in enumerate(values.T):
        pooled = float(column.var())
        sums = [(onehot.T @ one).astype(np.float64) for one in (column, column**2)]
        observed = statistic(sums[0], sums[1], pooled)  # (P,)
        for drawn, squares in _shuffled(column, onehot, shuffles, [seed, measure]):
            most = statistic(drawn, squares, pooled).max(axis=1)  # (block,)
            clearer[:, measure] += (most[:, None] >= observed * (1 - _EQUAL) - _EQUAL).sum(axis=0)
    p: NDArray[np.float64] = (1 + clearer) / (1 + shuffles)
    return p


def _shuffled(
    values: NDArray[np.float64], onehot: NDArray[np.float32], shuffles: int, seed: Sequence[int]
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Sums of one measure and of its squares in shuffled groups, (block, G) each."""
    if not np.isin(values, (0, 1)).all():
        both = np.stack([values, values**2], axis=1).astype(np.float32)
        for block in shuffled_sums(both, onehot, shuffles, seed):
            yield block[..., 0], block[..., 1]
        return
    # Of yes and no only the number of yes in each group counts: drawn at once, whatever N is.
    sizes = onehot.sum(axis=0, dtype=np.float64).astype(np.int64)
    hits = np.random.default_rng(seed).multivariate_hypergeometric(
        sizes, int(values.sum()), size=shuffles, method="marginals"
    )
    yield hits.astype(np.float64), hits.astype(np.float64)


def _quantile(pairs: int) -> float:
    """Of intervals that hold for all pairs together."""
    return NormalDist().inv_cdf(1 - 0.025 / max(1, pairs))


def _gaps(shares: Mapping[str, Estimate], ranked: Sequence[str], p: NDArray[np.float64]) -> list[Gap]:
    """Every pair of ranked groups, the higher one first."""
    pairs = list(itertools.combinations(ranked, 2))
    z = _quantile(len(pairs))
    found = []
    for (one, other), chance in zip(pairs, p, strict=True):
        high, low = (one, other) if shares[one].value >= shares[other].value else (other, one)
        found.append(Gap(high, low, gap_between(shares[high], shares[low], z), float(chance)))
    return found


def gap_between(first: Estimate, second: Estimate, z: float) -> Estimate:
    """First minus second of two proportions of different pictures, with an interval of another quantile.

    Examples
    --------
    >>> print(gap_between(proportion([1] * 56 + [0] * 14), proportion([1] * 48 + [0] * 32), 1.96))
    0.200 [0.052, 0.334]
    """
    one, other = (
        Estimate(one.value, *wilson(one.value, one.n or 1, z), n=one.n, effective=one.effective)
        for one in (first, second)
    )
    return difference(one, other)
