"""Labels attached to pictures at a threshold, and which of them go to one group rather than another.

The paper's study of members of Congress (section 7.1, figure 18): a label is attached where it has at least
some probability among all labels, 0.5 or 4 percent. The tests are chi-squared, their null distribution comes
from shuffling the groups, and of each shuffle the largest statistic over all labels and thresholds counts:
many labels do not make a finding by themselves.

Legend: N pictures, L labels, T thresholds, G groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError
from diptych.reports import Estimate
from diptych.stats.disparity import MINIMUM, SHUFFLES, shuffled_sums
from diptych.stats.intervals import proportion

THRESHOLDS = (0.005, 0.04)  # the paper's


@dataclass(frozen=True)
class LabelUse:
    """How often a label is attached, by group.

    Attributes
    ----------
    label : str
    threshold : float
        Least probability at which it is attached.
    shares : mapping of str to Estimate
        Of the ranked groups.
    chi2 : float
        Of attached or not by group; 0 where it is attached to all pictures or none.
    p : float
        Corrected for all labels and thresholds.
    """

    label: str
    threshold: float
    shares: Mapping[str, Estimate]
    chi2: float
    p: float

    @property
    def high(self) -> str:
        """The group it is attached to most often."""
        return max(self.shares, key=lambda name: self.shares[name].value)

    @property
    def low(self) -> str:
        """The group it is attached to least often."""
        return min(self.shares, key=lambda name: self.shares[name].value)


@dataclass(frozen=True)
class LabelUseComparison:
    """The use of every label at every threshold by the groups of one attribute.

    Attributes
    ----------
    attribute : str
    groups : mapping of str to int
        Ranked groups and their sizes.
    thresholds : sequence of float
    per_picture : sequence of float
        Labels attached to a picture on average, at each threshold.
    uses : sequence of LabelUse
        The clearest difference first.
    """

    attribute: str
    groups: Mapping[str, int]
    thresholds: Sequence[float]
    per_picture: Sequence[float]
    uses: Sequence[LabelUse]

    def among(self, tests: int) -> LabelUseComparison:
        """The same as one of several tests of a page: p times their number."""
        return replace(self, uses=tuple(replace(one, p=min(1.0, one.p * tests)) for one in self.uses))


def compare_label_use(
    probabilities: NDArray[np.floating],
    labels: Sequence[str],
    names: Sequence[str],
    codes: NDArray[np.int64],
    attribute: str,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    minimum: int = MINIMUM,
    shuffles: int = SHUFFLES,
    seed: int = 0,
) -> LabelUseComparison | None:
    """Compare the use of labels between the groups of one attribute; None with fewer than two ranked groups.

    Parameters
    ----------
    probabilities : (N, L)
    labels : sequence of L str
    names : sequence of G str
    codes : (N,) integers
        Group of each picture; -1 for none.
    attribute : str
    thresholds : sequence of T numbers between 0 and 1
        Set before the pictures are looked at, and told in the result.
    minimum, shuffles, seed : int
        As for `disparities`.

    Examples
    --------
    >>> rows = np.tile([[0.9, 0.1], [0.1, 0.9]], (40, 1))
    >>> found = compare_label_use(rows, ["doctor", "nurse"], ["men", "women"], np.tile([0, 1], 40), "toy",
    ...                  thresholds=(0.5,), shuffles=999)
    >>> [(one.label, one.high, round(one.chi2), one.p) for one in found.uses]
    [('doctor', 'men', 80, 0.001), ('nurse', 'women', 80, 0.001)]
    """
    wrong = [one for one in thresholds if not 0 < one < 1]
    if wrong or not thresholds:
        raise InputError(f"thresholds {list(thresholds)}: expected probabilities between 0 and 1")
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    ranked = [place for place, size in enumerate(sizes) if size >= max(minimum, 1)]
    mine = np.isin(codes, ranked)
    if len(ranked) < 2:
        return None
    given = np.stack([probabilities[mine] >= one for one in thresholds], axis=2)  # (n, L, T)
    onehot = (codes[mine][:, None] == np.array(ranked)).astype(np.float32)  # (n, G)
    flat = given.reshape(len(given), -1)
    chi2, p = _tested(flat.astype(np.float32), onehot, shuffles, seed)
    uses = []
    for column, (label, threshold) in enumerate((x, y) for x in labels for y in thresholds):
        shares = {names[place]: proportion(flat[codes[mine] == place, column]) for place in ranked}
        uses.append(LabelUse(label, threshold, shares, float(chi2[column]), float(p[column])))
    return LabelUseComparison(
        attribute,
        {names[place]: int(sizes[place]) for place in ranked},
        tuple(thresholds),
        tuple(float(x) for x in given.sum(axis=1).mean(axis=0)),
        tuple(sorted(uses, key=lambda one: (one.p, -one.chi2))),
    )


def _tested(
    given: NDArray[np.float32], onehot: NDArray[np.float32], shuffles: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Chi-squared of every column, and how often a shuffle has a larger one in any column."""
    mean = given.mean(axis=0, dtype=np.float64)
    spread = mean * (1 - mean)
    alive = spread > 0  # attached to all pictures or to none: nothing to compare
    chi2, p = np.zeros(len(mean)), np.ones(len(mean))
    if not alive.any():
        return chi2, p
    centred = (given[:, alive] - mean[alive]).astype(np.float32)
    sizes = onehot.sum(axis=0, dtype=np.float64)

    def statistic(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = (sums**2 / sizes[:, None]).sum(axis=-2) / spread[alive]
        return found

    chi2[alive] = statistic((onehot.T @ centred).astype(np.float64))
    larger = np.zeros(int(alive.sum()))
    for sums in shuffled_sums(centred, onehot, shuffles, seed):
        larger += (statistic(sums).max(axis=1)[:, None] >= chi2[alive] * (1 - 1e-5)).sum(axis=0)
    p[alive] = (1 + larger) / (1 + shuffles)
    return chi2, p
