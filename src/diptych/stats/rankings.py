"""Ranking metrics: average precision (also VOC 2007's at eleven points) and the area under the ROC curve.

Pure functions. `figure` computes any metric by its name. Rows with equal scores enter the ranking together,
so that a model that gives every row the same score gets chance: the fraction of positives as average
precision, and an area of one half.

Legend: N rows (pictures), C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError
from diptych.stats import metrics
from diptych.stats.metrics import Floats

Curve = tuple[Floats, Floats]


class Ranking:
    """Ranking of the rows by their score for one class; sorted once, evaluated with many weights.

    Parameters
    ----------
    scores : (N,) floats
        Larger means more confident.
    targets : (N,) numbers
        1 for positives, 0 for negatives, below 0 for rows that are ignored (VOC's "difficult").

    Raises
    ------
    InputError
        Shapes that do not fit, scores that are NaN, or no positive.
    """

    def __init__(self, scores: ArrayLike, targets: ArrayLike) -> None:
        values, right = np.asarray(scores, dtype=np.float64), np.asarray(targets)
        if values.ndim != 1 or values.shape != right.shape:
            raise InputError(
                f"scores of shape {values.shape} for targets of shape {right.shape}: expected (N,)"
            )
        if np.isnan(values).any():
            raise InputError(f"{int(np.isnan(values).sum())} scores are not numbers (NaN)")
        counted = np.flatnonzero(right >= 0)
        if not (right > 0).any():
            raise InputError(f"none of {len(counted)} rows is positive: average precision is not defined")
        order = np.argsort(-values[counted], kind="stable")
        self._rows = counted[order]
        self._right = (right[self._rows] > 0).astype(np.float64)
        steps = values[self._rows][1:] != values[self._rows][:-1]
        self._ends = np.append(np.flatnonzero(steps), len(self._rows) - 1)  # last row of each score
        self._count = len(values)

    def _curve(self, weights: ArrayLike | None) -> Curve:
        """Cumulative weights of positives and of all rows at each distinct score, from the highest score."""
        chosen = np.ones(self._count) if weights is None else np.asarray(weights, dtype=np.float64)
        own = chosen[self._rows]
        return np.cumsum(own * self._right)[self._ends], np.cumsum(own)[self._ends]

    def average_precision(self, weights: ArrayLike | None = None) -> float:
        """Average precision: mean over positives of the precision at each; `weights`, (N,), count rows."""
        right, every = self._curve(weights)
        if right[-1] <= 0:  # a bootstrap sample without a positive
            return float("nan")
        return float((np.diff(right, prepend=0.0) * _precision(right, every)).sum() / right[-1])

    def eleven_points(self, weights: ArrayLike | None = None) -> float:
        """Mean over recalls 0, 0.1, ..., 1 of the highest precision at that recall or more (VOC 2007)."""
        right, every = self._curve(weights)
        if right[-1] <= 0:
            return float("nan")
        best = np.maximum.accumulate(_precision(right, every)[::-1])[::-1]
        # Both sides times 10 are whole numbers: 3 / 10 >= 0.3 would depend on rounding.
        reached = np.searchsorted(10 * right, np.arange(11) * right[-1], side="left")
        return float(best[reached].mean())

    def area(self, weights: ArrayLike | None = None) -> float:
        """Area under the ROC curve: probability that a positive scores above a negative, ties half."""
        right, every = self._curve(weights)
        wrong = every - right
        if right[-1] <= 0 or wrong[-1] <= 0:
            return float("nan")
        below = wrong[-1] - (wrong + np.concatenate([[0.0], wrong[:-1]])) / 2
        return float((np.diff(right, prepend=0.0) * below).sum() / (right[-1] * wrong[-1]))


def _precision(right: Floats, every: Floats) -> Floats:
    precision: Floats = np.divide(right, every, out=np.zeros_like(right), where=every > 0)
    return precision


def average_precision(scores: ArrayLike, targets: ArrayLike) -> float:
    """Area under the steps of the precision-recall curve, as in scikit-learn and CLIP_benchmark.

    Examples
    --------
    >>> round(average_precision([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]), 4)      # (1/1 + 2/3) / 2
    0.8333
    >>> average_precision([1, 1, 1, 1], [1, 0, 0, 0])                        # the fraction of positives
    0.25
    """
    return Ranking(scores, targets).average_precision()


def eleven_point_precision(scores: ArrayLike, targets: ArrayLike) -> float:
    """Interpolated average precision of PASCAL VOC 2007 at eleven recalls (development kit, section 3.4).

    Examples
    --------
    >>> round(eleven_point_precision([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0]), 4)   # (6 * 1 + 5 * 2/3) / 11
    0.8485
    """
    return Ranking(scores, targets).eleven_points()


def mean_over_classes(
    scores: ArrayLike, targets: ArrayLike, of: Callable[[ArrayLike, ArrayLike], float] = average_precision
) -> float:
    """Mean over classes (columns) of a metric of one class; classes without a positive are left out.

    Parameters
    ----------
    scores, targets : (N, C)
        As for `Ranking`.

    Examples
    --------
    >>> mean_over_classes([[3, 1], [2, 2], [1, 3]], [[1, 0], [0, 0], [0, 1]])
    1.0
    """
    table, right = np.asarray(scores), np.asarray(targets)
    if table.ndim != 2 or table.shape != right.shape:
        raise InputError(f"scores of shape {table.shape} for targets of shape {right.shape}: expected (N, C)")
    columns = np.flatnonzero((right > 0).any(axis=0))
    if not columns.size:
        raise InputError(f"none of {len(right)} rows is positive in any class")
    return float(np.mean([of(table[:, i], right[:, i]) for i in columns]))


def roc_auc(scores: ArrayLike, targets: ArrayLike) -> float:
    """Area under the ROC curve (Mann and Whitney 1947): ties count half.

    Parameters
    ----------
    scores : (N,) or (N, 2) floats
        Of the second class; of two columns, the second minus the first is taken.
    targets : (N,) integers
        0 or 1.

    Examples
    --------
    >>> roc_auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """
    values, right = np.asarray(scores, dtype=np.float64), np.asarray(targets)
    if values.ndim == 2 and values.shape[1] == 2:
        values = values[:, 1] - values[:, 0]
    if not (right == 0).any():
        raise InputError(
            f"none of {right.size} rows is negative: the area under the ROC curve is not defined"
        )
    return Ranking(values, right).area()


def placements(scores: ArrayLike, targets: ArrayLike) -> Floats:
    """Fraction of rows of the other class that each row is ranked correctly against, (N,); ties count half.

    The mean placement of the positives is the area under the ROC curve, and so is that of the negatives
    (DeLong et al. 1988): a placement is the contribution of one picture to the area.

    Parameters
    ----------
    scores : (N,) floats
        Of the second class.
    targets : (N,) integers
        0 or 1, both of which occur.

    Examples
    --------
    >>> placements([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]).tolist()
    [1.0, 0.5, 0.5, 1.0]
    """
    values, right = np.asarray(scores, dtype=np.float64), np.asarray(targets) > 0
    fractions = np.empty(len(values))
    for side, others in ((right, np.sort(values[~right])), (~right, np.sort(values[right]))):
        # "left" counts the others strictly below, "right" those not above: their mean counts ties half.
        below = np.searchsorted(others, values[side], "left") + np.searchsorted(others, values[side], "right")
        fractions[side] = below / (2 * len(others))
    fractions[~right] = 1 - fractions[~right]
    return fractions


FIGURES: Mapping[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "acc1": metrics.accuracy,
    "acc5": lambda scores, labels: metrics.accuracy(scores, labels, 5),
    "mean_acc1_acc5": lambda scores, labels: (
        (metrics.accuracy(scores, labels) + metrics.accuracy(scores, labels, 5)) / 2
    ),
    "mean_per_class_recall": metrics.mean_per_class_recall,
    "mean_average_precision": mean_over_classes,
    "mean_average_precision_11_point": lambda scores, targets: mean_over_classes(
        scores, targets, eleven_point_precision
    ),
    "roc_auc": roc_auc,
}
"""Metrics of scores, (N, C), by their names in results."""


def figure(name: str, scores: ArrayLike, labels: ArrayLike) -> float:
    """Compute the metric of a name, such as that of a known data set (`registry.KnownDataset.metric`).

    Parameters
    ----------
    name : str
        One of `FIGURES`.
    scores : (N, C)
    labels : (N,) integers, or (N, C) targets where a row may have several classes

    Raises
    ------
    InputError
        No metric of that name, or arrays that do not fit.

    Examples
    --------
    >>> figure("mean_per_class_recall", [[1, 0], [1, 0], [1, 0], [1, 0]], [0, 0, 0, 1])
    0.5
    """
    if name not in FIGURES:
        raise InputError(f"metric {name!r}: expected one of {', '.join(FIGURES)}")
    return FIGURES[name](scores, labels)


def resampled(
    statistic: Callable[[NDArray[np.int64]], float], rows: int, *, resamples: int = 400, seed: int = 0
) -> Floats:
    """Evaluate a statistic on bootstrap samples (Efron 1979), (resamples,).

    A sample of N rows with replacement is passed as counts: of 4 rows, the draw 0, 0, 3, 1 is [2, 1, 0, 1]. A
    ranking weighted by these counts is that of the sample, without sorting again.

    Parameters
    ----------
    statistic : callable
        From the count of each row in a sample, (rows,), to a number; NaN where it is not defined.

    Examples
    --------
    >>> ranked = Ranking(range(100), [i % 2 for i in range(100)])
    >>> areas = resampled(ranked.area, 100)
    >>> areas.shape, round(float(areas.std()), 2)
    ((400,), 0.06)
    """
    rng = np.random.default_rng(seed)
    samples = (np.bincount(rng.integers(0, rows, rows), minlength=rows) for _ in range(resamples))
    return np.array([statistic(counts) for counts in samples], dtype=np.float64)
