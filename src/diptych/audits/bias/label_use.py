"""Compare which labels are attached to the images of different groups, at probability thresholds.

The paper's study of members of Congress (section 7.1, figure 18): a label is attached if its probability
among all labels reaches a threshold, 0.5 or 4 percent. The statistic is chi-squared with a permutation null:
the groups are shuffled, and each shuffle contributes its largest statistic over all labels and thresholds
(max-T). This controls the family-wise error: with 100 labels, the 5 % level still holds for the whole
family.

Shapes: N images, L labels, T thresholds, G groups.
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
    """How often a label is attached at one threshold, by group.

    Attributes
    ----------
    threshold : float
        Minimum probability at which it is attached.
    shares : mapping of str to Estimate
        Share of images with the label, for each ranked group.
    chi2 : float
        Statistic of attached or not, by group; 0 if the label is attached to all images or to none.
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
        """Group to which the label is attached most often."""
        return max(self.shares, key=lambda name: self.shares[name].value)

    @property
    def low(self) -> str:
        """Group to which the label is attached least often."""
        return min(self.shares, key=lambda name: self.shares[name].value)


@dataclass(frozen=True)
class LabelUseComparison:
    """Use of every label at every threshold, by the groups of one attribute.

    Attributes
    ----------
    groups : mapping of str to int
        Ranked groups and their sizes.
    per_picture : sequence of float
        Mean number of labels attached to an image, at each threshold.
    uses : sequence of LabelUse
        Sorted by p, the smallest first.
    """

    attribute: str
    groups: Mapping[str, int]
    thresholds: Sequence[float]
    per_picture: Sequence[float]
    uses: Sequence[LabelUse]

    def among(self, tests: int) -> LabelUseComparison:
        """Copy with p corrected for the number of tests of a page (Bonferroni)."""
        return replace(self, uses=tuple(replace(use, p=min(1.0, use.p * tests)) for use in self.uses))


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
    thresholds : sequence of T numbers between 0 and 1
        Must be chosen before the images are seen; reported in the result.
    minimum, shuffles, seed : int
        As for `disparities`.

    Examples
    --------
    >>> rows = np.tile([[0.9, 0.1], [0.1, 0.9]], (40, 1))
    >>> result = compare_label_use(rows, ["doctor", "nurse"], ["men", "women"], np.tile([0, 1], 40), "toy",
    ...                  thresholds=(0.5,), shuffles=999)
    >>> [(use.label, use.high, round(use.chi2), use.p) for use in result.uses]
    [('doctor', 'men', 80, 0.001), ('nurse', 'women', 80, 0.001)]
    """
    invalid = [threshold for threshold in thresholds if not 0 < threshold < 1]
    if invalid or not thresholds:
        raise InputError(f"thresholds {list(thresholds)}: expected probabilities between 0 and 1")
    sizes = np.bincount(codes[codes >= 0], minlength=len(names))
    ranked = [group for group, size in enumerate(sizes) if size >= max(minimum, 1)]
    in_ranked = np.isin(codes, ranked)
    if len(ranked) < 2:
        return None
    is_attached = np.stack(
        [probabilities[in_ranked] >= threshold for threshold in thresholds], axis=2
    )  # (n, L, T)
    onehot = (codes[in_ranked][:, None] == np.array(ranked)).astype(np.float32)  # (n, G)
    flat = is_attached.reshape(len(is_attached), -1)
    chi2, p = _shuffle_test(flat.astype(np.float32), onehot, shuffles, seed)
    uses = []
    for column, (label, threshold) in enumerate((x, y) for x in labels for y in thresholds):
        shares = {names[group]: proportion(flat[codes[in_ranked] == group, column]) for group in ranked}
        uses.append(LabelUse(label, threshold, shares, float(chi2[column]), float(p[column])))
    return LabelUseComparison(
        attribute,
        {names[group]: int(sizes[group]) for group in ranked},
        tuple(thresholds),
        tuple(float(x) for x in is_attached.sum(axis=1).mean(axis=0)),
        tuple(sorted(uses, key=lambda use: (use.p, -use.chi2))),
    )


def _shuffle_test(
    is_attached: NDArray[np.float32], onehot: NDArray[np.float32], shuffles: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Chi-squared of every column, and its p-value from the maximum over columns of each shuffle."""
    mean = is_attached.mean(axis=0, dtype=np.float64)
    spread = mean * (1 - mean)
    varying = spread > 0  # a label attached to all images or to none has nothing to compare
    chi2, p = np.zeros(len(mean)), np.ones(len(mean))
    if not varying.any():
        return chi2, p
    centred = (is_attached[:, varying] - mean[varying]).astype(np.float32)
    sizes = onehot.sum(axis=0, dtype=np.float64)

    def statistic(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        chi2: NDArray[np.float64] = (sums**2 / sizes[:, None]).sum(axis=-2) / spread[varying]
        return chi2

    chi2[varying] = statistic((onehot.T @ centred).astype(np.float64))
    larger = np.zeros(int(varying.sum()))
    for sums in shuffled_sums(centred, onehot, shuffles, seed):
        larger += (statistic(sums).max(axis=1)[:, None] >= chi2[varying] * (1 - 1e-5)).sum(axis=0)
    p[varying] = (1 + larger) / (1 + shuffles)
    return chi2, p
