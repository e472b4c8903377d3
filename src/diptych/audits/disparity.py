"""Groups of people compared: shares with intervals, the widest gap, and whether it is more than chance.

The tests shuffle the groups among the pictures. Of every shuffle the largest statistic over all pairs of
groups counts (Westfall and Young 1993), so that many groups do not make a finding by themselves; over several
tables of one page the caller corrects with `Disparity.among`. Groups under a least size are told and take no
part: three people are no group.

Legend: N pictures, G groups, M measures, P pairs of groups, B shuffles.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.audits.verdicts import share, wilson
from diptych.errors import InputError
from diptych.reports import Estimate

MINIMUM = 30
SHUFFLES = 9999
_BLOCK = 2**22  # numbers of shuffled groups at a time, 16 MB
_EQUAL = 1e-5  # a shuffle that gives the observed gap again is no smaller than it; sums are float32


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
    """

    high: str
    low: str
    gap: Estimate
    p: float


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
    """

    measure: str
    attribute: str
    shares: Mapping[str, Estimate]
    small: Sequence[str]
    widest: Gap | None
    findings: Sequence[Gap]
    p: float | None
    pairs: Sequence[Gap] = ()

    def among(self, tests: int, level: float) -> Disparity:
        """The same as one of several tests: p times their number (Bonferroni), and the findings left."""
        found = [replace(one, p=min(1.0, one.p * tests)) for one in self.pairs]
        widest = self.widest and replace(self.widest, p=min(1.0, self.widest.p * tests))
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
        shares = {
            name: share(table[codes == place, number]) for place, name in enumerate(names) if sizes[place]
        }
        small = tuple(name for place, name in enumerate(names) if 0 < sizes[place] < minimum)
        pairs = [] if p is None else _gaps(shares, [names[place] for place in ranked], p[:, number])
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
            )
        )
    return found


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
    centred = (values - values.mean(axis=0)).astype(np.float32)  # shuffling leaves the mean alone
    onehot = (codes[mine][:, None] == ranked).astype(np.float32)  # (n, G)
    sizes = onehot.sum(axis=0, dtype=np.float64)
    first, second = np.triu_indices(len(ranked), 1)
    unit = 1 / np.sqrt(1 / sizes[first] + 1 / sizes[second])  # (P,)

    def statistic(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        means = sums / sizes[:, None]  # (..., G, M)
        found: NDArray[np.float64] = abs(means[..., first, :] - means[..., second, :]) * unit[:, None]
        return found

    observed = statistic((onehot.T @ centred).astype(np.float64))  # (P, M)
    clearer = np.zeros(observed.shape)
    for measure in range(observed.shape[1]):
        for sums in _shuffled(values[:, measure], onehot, shuffles, [seed, measure]):
            most = statistic(sums).max(axis=1)  # (block, 1)
            clearer[:, measure] += (most >= observed[:, measure] - _EQUAL).sum(axis=0)
    p: NDArray[np.float64] = (1 + clearer) / (1 + shuffles)
    return p


def _shuffled(
    values: NDArray[np.float64], onehot: NDArray[np.float32], shuffles: int, seed: Sequence[int]
) -> Iterator[NDArray[np.float64]]:
    """Centred sums of one measure in shuffled groups, (block, G, 1)."""
    mean = values.mean()
    if not np.isin(values, (0, 1)).all():
        yield from shuffled_sums((values - mean)[:, None].astype(np.float32), onehot, shuffles, seed)
        return
    # Of yes and no only the number of yes in each group counts: drawn at once, whatever N is.
    sizes = onehot.sum(axis=0, dtype=np.float64).astype(np.int64)
    hits = np.random.default_rng(seed).multivariate_hypergeometric(
        sizes, int(values.sum()), size=shuffles, method="marginals"
    )
    yield (hits - mean * sizes)[:, :, None].astype(np.float64)


def _gaps(shares: Mapping[str, Estimate], ranked: Sequence[str], p: NDArray[np.float64]) -> list[Gap]:
    """Every pair of ranked groups, the higher one first."""
    pairs = list(itertools.combinations(ranked, 2))
    z = NormalDist().inv_cdf(1 - 0.025 / len(pairs))
    found = []
    for (one, other), chance in zip(pairs, p, strict=True):
        high, low = (one, other) if shares[one].value >= shares[other].value else (other, one)
        found.append(Gap(high, low, gap_between(shares[high], shares[low], z), float(chance)))
    return found


def gap_between(first: Estimate, second: Estimate, z: float) -> Estimate:
    """First minus second of two shares counted on different pictures (Newcombe 1998, method 10).

    Examples
    --------
    >>> print(gap_between(share([1] * 56 + [0] * 14), share([1] * 48 + [0] * 32), 1.96))
    0.200 [0.052, 0.334]
    """
    one, other = wilson(first.value, first.n or 1, z), wilson(second.value, second.n or 1, z)
    gap = first.value - second.value
    below = math.hypot(first.value - one[0], other[1] - second.value)
    above = math.hypot(one[1] - first.value, second.value - other[0])
    return Estimate(gap, gap - below, gap + above, (first.n or 0) + (second.n or 0))
