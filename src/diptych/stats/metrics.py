"""Accuracy, recall and calibration: pure functions of score matrices.

Ties are resolved by expectation: if the right answer has the same score as others, the row counts as the
probability of a hit when the tied answers are in random order. A model that gives every class the same score
gets exactly chance, never 0 or 1 (`argsort` of a constant row always returns class 0 first). Scores tie if
they are equal or, for cosines from a matrix product, within `ROUNDING`: equal columns may differ in the last
bits, depending on their position in the matrix.

Legend: N rows (pictures, queries), C classes, M candidates, K captions of one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError

# Float32 dot products of unit vectors differ by a few times 1e-7 between orders of summation.
ROUNDING = 1e-6

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def hit_probability(greater: ArrayLike, tied: ArrayLike, positives: ArrayLike, k: int) -> Floats:
    """Probability that a best-scored right answer is among the first `k`, with ties in random order.

    Parameters
    ----------
    greater : (N,) integers
        How many wrong answers score higher than the best right one.
    tied : (N,) integers
        How many wrong answers have its score.
    positives : (N,) integers
        How many right answers have its score, at least 1.
    k : int
        Length of the list of answers.

    Returns
    -------
    (N,) array
        1 - C(tied, m) / C(tied + positives, m) with m = k - greater positions left for the tied group. For
        example 2 wrong and 2 right answers tied for 2 positions: 1 - C(2, 2) / C(4, 2) = 1 - 1 / 6.

    Examples
    --------
    >>> hit_probability([0, 1, 0], [0, 0, 1], [1, 1, 1], 1).tolist()
    [1.0, 0.0, 0.5]
    >>> round(float(hit_probability(0, 2, 2, 2)), 4)      # 1 - (2*1) / (4*3)
    0.8333
    """
    if k < 1:
        raise InputError(f"k is {k}: expected at least 1")
    above, wrong, right = (np.asarray(x, dtype=np.float64) for x in (greater, tied, positives))
    places = np.minimum(k - above, wrong + right)
    miss = np.ones(np.broadcast_shapes(above.shape, wrong.shape, right.shape))
    for i in range(k):  # probability that the i-th position goes to a wrong answer, like all before
        miss = np.where(i < places, miss * np.maximum(wrong - i, 0) / np.maximum(wrong + right - i, 1), miss)
    single = np.maximum(places, 0) / (wrong + 1)  # for one right answer, without rounding errors
    return np.where(right == 1, single, 1.0 - miss)


def hits(scores: ArrayLike, labels: ArrayLike, k: int = 1, *, tolerance: float = 0.0) -> Floats:
    """Probability for each row that its label is among the `k` best scores; ties as in the module docstring.

    Parameters
    ----------
    scores : (N, C) floats
        Larger is better; any monotone scale will do.
    labels : (N,) integers
        The right column of each row.
    k : int
        Number of answers that count.
    tolerance : float
        Scores no further apart than this tie.

    Returns
    -------
    (N,) array

    Raises
    ------
    InputError
        Shapes that do not fit, labels outside the columns, or NaN among the scores.

    Examples
    --------
    >>> hits([[3, 2, 1], [3, 2, 1], [5, 5, 1]], [0, 1, 0]).tolist()
    [1.0, 0.0, 0.5]
    """
    table, right = _checked(scores, labels)
    own = table[np.arange(len(right)), right][:, None]  # (N, 1)
    greater = (table > own + tolerance).sum(1)
    tied = (table >= own - tolerance).sum(1) - greater - 1
    return hit_probability(greater, tied, np.ones(len(right)), k)


def accuracy(scores: ArrayLike, labels: ArrayLike, k: int = 1) -> float:
    """Top-k accuracy: the mean of `hits`.

    Examples
    --------
    >>> accuracy([[0.9, 0.1], [0.8, 0.2]], [0, 1])
    0.5
    >>> accuracy([[1, 1, 1, 1]], [2])              # all classes tie: chance
    0.25
    """
    return float(hits(scores, labels, k).mean())


def mean_per_class_recall(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean over classes of the recall of the class; classes without rows are left out.

    Examples
    --------
    >>> mean_per_class_recall([[1, 0], [1, 0], [1, 0], [1, 0]], [0, 0, 0, 1])   # 1 and 0, not 3/4
    0.5
    """
    recalls = per_class_recall(scores, labels)
    return float(recalls[~np.isnan(recalls)].mean())


def per_class_recall(scores: ArrayLike, labels: ArrayLike) -> Floats:
    """Recall of each class, (C,); NaN for a class without rows.

    Examples
    --------
    >>> per_class_recall([[1, 0, 0], [1, 0, 0]], [0, 1]).tolist()
    [1.0, 0.0, nan]
    """
    table, right = _checked(scores, labels)
    return class_means(hits(table, right), right, table.shape[1])


def class_means(values: Floats, labels: Integers, classes: int) -> Floats:
    """Mean of `values` over the rows of each class, (classes,); NaN where there are none."""
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=values, minlength=classes)
    means: Floats = np.divide(sums, counts, out=np.full(classes, np.nan), where=counts > 0)
    return means


def confusion_matrix(predictions: ArrayLike, labels: ArrayLike, classes: int) -> Integers:
    """Count how often class i (row) was predicted as class j (column), (C, C).

    Examples
    --------
    >>> confusion_matrix([0, 1, 1], [0, 0, 1], 2).tolist()
    [[1, 1], [0, 1]]
    """
    called, right = (np.asarray(x, dtype=np.int64) for x in (predictions, labels))
    if called.shape != right.shape or called.ndim != 1:
        raise InputError(f"{called.shape} predictions for {right.shape} labels: expected one for each")
    both = np.concatenate([called, right])
    if both.size and not (both.min() >= 0 and both.max() < classes):
        raise InputError(
            f"labels from {both.min()} to {both.max()} with {classes} classes: expected 0 to {classes - 1}"
        )
    table: Integers = np.bincount(right * classes + called, minlength=classes * classes).astype(np.int64)
    return table.reshape(classes, classes)


def retrieval_hits(
    scores: ArrayLike, rows: ArrayLike, columns: ArrayLike, ks: Sequence[int], *, tolerance: float = 0.0
) -> Floats:
    """Probability for each query and each k that a match is among the k best candidates.

    Parameters
    ----------
    scores : (N, M) floats
        Queries by candidates.
    rows, columns : (N,) and (M,) integers
        Identifier of each query and candidate: a row and a column match if their identifiers are equal. For
        example pictures 0..N-1 as rows, and for each caption (column) the number of its picture.
    tolerance : float
        Scores no further apart than this tie.

    Returns
    -------
    (N, len(ks)) array
        Of several matches one is enough, as in CLIP_benchmark and Karpathy's recall@k.

    Examples
    --------
    >>> similarity = [[0.9, 0.1, 0.2, 0.8], [0.7, 0.3, 0.6, 0.5]]   # 2 pictures, 2 captions each
    >>> retrieval_hits(similarity, [0, 1], [0, 0, 1, 1], [1, 2]).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    table = np.asarray(scores)
    query_owners, candidate_owners = np.asarray(rows), np.asarray(columns)
    if table.shape != (*query_owners.shape, *candidate_owners.shape) or table.ndim != 2:
        raise InputError(
            f"scores of shape {table.shape} for {query_owners.size} queries and "
            f"{candidate_owners.size} candidates: expected (queries, candidates)"
        )
    _no_nan(table)
    match = query_owners[:, None] == candidate_owners[None, :]  # (N, M)
    if not match.any(1).all():
        raise InputError(
            f"query {int(np.argmin(match.any(1)))} has no matching candidate: recall is not defined"
        )
    best = np.where(match, table, -np.inf).max(1, keepdims=True)  # (N, 1)
    greater = (table > best + tolerance).sum(1)
    level = abs(table - best) <= tolerance
    right = (level & match).sum(1)
    tied = level.sum(1) - right
    return np.stack([hit_probability(greater, tied, right, k) for k in ks], axis=1)


def recall_at_k(scores: ArrayLike, rows: ArrayLike, columns: ArrayLike, k: int) -> float:
    """Recall@k: fraction of queries with a match among the `k` best candidates.

    For the other direction pass `scores.T, columns, rows`.

    Examples
    --------
    >>> import numpy as np
    >>> similarity = np.array([[0.9, 0.1, 0.2, 0.8], [0.7, 0.3, 0.6, 0.5]])
    >>> pictures, captions = [0, 1], [0, 0, 1, 1]
    >>> recall_at_k(similarity, pictures, captions, 1), recall_at_k(similarity.T, captions, pictures, 1)
    (0.5, 0.5)
    """
    return float(retrieval_hits(scores, rows, columns, [k]).mean())


def chance_of_hit(candidates: int, matches: ArrayLike, k: int) -> float:
    """Expected recall@k of random scores, averaged over queries with `matches` right of `candidates`.

    Examples
    --------
    >>> chance_of_hit(1000, [1], 10)
    0.01
    >>> round(chance_of_hit(5000, [5, 5], 10), 5)      # a little less than 10 * 5 / 5000
    0.00996
    """
    right = np.asarray(matches)
    return float(hit_probability(np.zeros(right.shape), candidates - right, right, min(k, candidates)).mean())


@dataclass(frozen=True)
class Calibration:
    """Calibration of a classifier: confidence against accuracy (Guo et al. 2017, arXiv 1706.04599).

    Attributes
    ----------
    ece : float
        Expected calibration error: mean of |confidence - accuracy| over bins, weighted by their rows.
    confidence, accuracy : sequences of B floats
        Means of each bin that has rows, in order of rising confidence.
    rows : sequence of B integers
        Number of rows of each bin.
    """

    ece: float
    confidence: Sequence[float]
    accuracy: Sequence[float]
    rows: Sequence[int]


def calibration(confidences: ArrayLike, correct: ArrayLike, bins: int = 15) -> Calibration:
    """Compute the calibration in `bins` equal intervals from 0 to 1; a bin includes its upper edge.

    Parameters
    ----------
    confidences : (N,) floats
        Probability of the predicted class.
    correct : (N,) floats
        Whether the prediction was right, 0 or 1; between them where answers tied.

    Examples
    --------
    >>> result = calibration([0.9, 0.9, 0.9, 0.9, 0.5], [1, 1, 1, 0, 1], bins=10)
    >>> round(result.ece, 3), result.rows         # 4/5 * (0.9 - 0.75) + 1/5 * (1 - 0.5)
    (0.22, [1, 4])
    """
    confidence, right = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    if confidence.shape != right.shape or confidence.ndim != 1 or not confidence.size:
        raise InputError(f"confidences of shape {confidence.shape} for outcomes of shape {right.shape}")
    _no_nan(confidence)
    bin_index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(bin_index, minlength=bins)
    occupied = counts > 0
    means = np.bincount(bin_index, confidence, bins)[occupied] / counts[occupied]
    accuracies = np.bincount(bin_index, right, bins)[occupied] / counts[occupied]
    weights = counts[occupied] / counts.sum()
    error = float((weights * abs(means - accuracies)).sum())
    return Calibration(error, means.tolist(), accuracies.tolist(), counts[occupied].tolist())


def confusions(
    labels: ArrayLike, answers: ArrayLike, classes: int, most: int = 20
) -> list[tuple[int, int, int]]:
    """List the most frequent wrong answers: (right class, answer, count), most frequent first.

    Examples
    --------
    >>> confusions([0, 0, 0, 1], [1, 1, 2, 1], 3)
    [(0, 1, 2), (0, 2, 1)]
    """
    right, given = np.asarray(labels, dtype=np.int64), np.asarray(answers, dtype=np.int64)
    wrong = right != given
    pairs, counts = np.unique(right[wrong] * classes + given[wrong], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return [(int(pairs[i]) // classes, int(pairs[i]) % classes, int(counts[i])) for i in order]


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.floating], Integers]:
    """Return scores and labels as arrays of matching shapes; InputError where they do not match."""
    table, right = np.asarray(scores), np.asarray(labels, dtype=np.int64)
    if table.ndim != 2 or right.shape != table.shape[:1] or not right.size:
        raise InputError(
            f"scores of shape {table.shape} for labels of shape {right.shape}: expected (N, C) and (N,)"
        )
    if right.min() < 0 or right.max() >= table.shape[1]:
        raise InputError(f"labels from {right.min()} to {right.max()} for {table.shape[1]} columns of scores")
    _no_nan(table)
    return table, right


def _no_nan(table: NDArray[np.floating]) -> None:
    """Refuse NaN: it compares as neither greater nor less, so it would count as a hit."""
    if np.isnan(table).any():
        raise InputError(f"{int(np.isnan(table).sum())} scores are NaN: the encoder's output is broken")
