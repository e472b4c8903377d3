"""Metrics: tables worked by hand, ties, and comparison with direct implementations of the definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.stats import metrics

#                  dog   cat   car   row's label, rank
TABLE = np.array([[0.9, 0.05, 0.05],  # dog: 1st
                  [0.6, 0.30, 0.10],  # cat: 2nd
                  [0.2, 0.50, 0.30],  # car: 2nd
                  [0.4, 0.35, 0.25]])  # car: 3rd  # fmt: skip
LABELS = np.array([0, 1, 2, 2])


def test_accuracy_by_hand() -> None:
    assert [metrics.accuracy(TABLE, LABELS, k) for k in (1, 2, 3, 9)] == [0.25, 0.75, 1.0, 1.0]


def test_per_class_by_hand() -> None:
    assert metrics.per_class_recall(TABLE, LABELS).tolist() == [1.0, 0.0, 0.0]
    assert metrics.mean_per_class_recall(TABLE, LABELS) == pytest.approx(1 / 3)
    # A class without rows (cat) is left out of the mean; it does not count as 0.
    assert metrics.mean_per_class_recall(TABLE[[0, 2]], [0, 2]) == 0.5


def test_confusion_by_hand() -> None:
    predictions = TABLE.argmax(1)  # dog dog cat dog
    assert metrics.confusion_matrix(predictions, LABELS, 3).tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0]]


def test_ties_count_by_expectation() -> None:
    assert metrics.hits([[1, 1, 0, 0]], [0], 1).tolist() == [0.5]
    assert metrics.hits([[1, 1, 0, 0]], [2], 2).tolist() == [0.0]
    assert metrics.hits([[1, 1, 0, 0]], [2], 3).tolist() == [0.5]
    assert metrics.accuracy(np.zeros((10, 4)), [3] * 10, 1) == 0.25
    assert metrics.accuracy(np.zeros((10, 4)), [3] * 10, 3) == 0.75


def test_numbers_that_differ_by_rounding_tie_on_request() -> None:
    scores = np.float32([[0.5, 0.5 + 6e-8, 0.5 - 6e-8, 0.4999, 0.5001]])
    assert metrics.hits(scores, [0], 2).tolist() == [0.0]
    assert metrics.hits(scores, [0], 2, tolerance=metrics.ROUNDING).tolist() == [pytest.approx(1 / 3)]
    owners = [0, 1, 2, 3, 4]
    assert metrics.retrieval_hits(scores, [0], owners, [2], tolerance=1e-6).tolist() == [
        [pytest.approx(1 / 3)]
    ]


def test_recall_both_ways_by_hand() -> None:
    # Two pictures; captions 0 and 1 belong to the first, caption 2 to the second.
    similarity = np.array([[0.1, 0.8, 0.9],
                           [0.2, 0.3, 0.1]])  # fmt: skip
    pictures, captions = [0, 1], [0, 0, 1]
    # picture 0: captions in order 2, 1, 0 -> at 2; picture 1: 1, 0, 2 -> at 3
    assert [metrics.recall_at_k(similarity, pictures, captions, k) for k in (1, 2, 3)] == [0.0, 0.5, 1.0]
    # captions: 0 -> picture 1 first (miss at 1); 1 -> picture 0 (hit); 2 -> picture 0 first (miss)
    assert metrics.recall_at_k(similarity.T, captions, pictures, 1) == pytest.approx(1 / 3)
    assert metrics.recall_at_k(similarity.T, captions, pictures, 2) == 1.0


def test_several_right_answers_in_one_tied_group() -> None:
    # 2 right and 2 wrong with equal scores, 2 ranks: 1 - (2/4)(1/3)
    assert metrics.recall_at_k([[1, 1, 1, 1]], [0], [0, 0, 1, 2], 2) == pytest.approx(5 / 6)


def orderings(scores: list[int], right: set[int], k: int) -> float:
    """The definition: the share of orders compatible with the scores whose first k have a right answer."""
    n = len(scores)
    sorted_orders = [
        order
        for order in itertools.permutations(range(n))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    return sum(bool(right & set(order[:k])) for order in sorted_orders) / len(sorted_orders)


@settings(max_examples=60)
@given(st.data())
def test_expectation_over_ties_is_the_mean_over_all_orders(data: st.DataObject) -> None:
    scores = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=5))
    right = data.draw(st.sets(st.integers(0, len(scores) - 1), min_size=1))
    k = data.draw(st.integers(1, 6))
    owners = [0 if i in right else 1 + i for i in range(len(scores))]
    assert metrics.recall_at_k([scores], [0], owners, k) == pytest.approx(orderings(scores, right, k))
    label = min(right)
    assert metrics.accuracy([scores], [label], k) == pytest.approx(orderings(scores, {label}, k))


@settings(max_examples=50)
@given(st.integers(1, 20), st.integers(2, 9), st.integers(0, 1000))
def test_order_of_classes_and_monotone_scales_change_nothing(n: int, c: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, labels = rng.integers(0, 4, (n, c)) / 4, rng.integers(0, c, n)
    shuffle = rng.permutation(c)
    assert metrics.accuracy(scores, labels) == pytest.approx(
        metrics.accuracy(np.exp(scores[:, shuffle]), np.argsort(shuffle)[labels])
    )
    recalls = [metrics.accuracy(scores, labels, k) for k in range(1, c + 1)]
    assert recalls == sorted(recalls)
    assert recalls[-1] == pytest.approx(1)


def test_chance_is_what_random_scores_get() -> None:
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(20), 5)
    got = [metrics.recall_at_k(rng.random((20, 100)), np.arange(20), owners, 5) for _ in range(300)]
    assert np.mean(got) == pytest.approx(metrics.chance_of_hit(100, [5], 5), abs=0.01)
    assert metrics.chance_of_hit(7, [1], 10) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy([[1, np.nan]], [0]), "are NaN"),
        (lambda: metrics.recall_at_k([[np.nan]], [0], [0], 1), "are NaN"),
        (lambda: metrics.accuracy([[1, 2]], [2]), "2 columns"),
        (lambda: metrics.accuracy([[1, 2]], [-1]), "2 columns"),
        (lambda: metrics.accuracy([[1, 2]], [0, 1]), "shape"),
        (lambda: metrics.accuracy(np.zeros((0, 2)), []), "shape"),
        (lambda: metrics.accuracy([[1, 2]], [0], 0), "k is 0"),
        (lambda: metrics.recall_at_k([[1, 2]], [5], [0, 1], 1), "no matching candidate"),
        (lambda: metrics.recall_at_k([[1, 2]], [0, 1], [0, 1], 1), "shape"),
        (lambda: metrics.confusion_matrix([0], [3], 2), "expected 0 to 1"),
        (lambda: metrics.confusion_matrix([0, 1], [0], 2), "one for each"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
    st.integers(1, 20),
)
def test_calibration_is_the_textbook_sum(pairs: list[tuple[float, bool]], bins: int) -> None:
    sure = np.array([item for item, _ in pairs])
    right = np.array([float(item) for _, item in pairs])
    error = 0.0
    edges = [index / bins for index in range(bins + 1)]
    place = [min(max(int(np.ceil(item * bins)) - 1, 0), bins - 1) for item in sure]
    for index in range(bins):
        inside = np.array(place) == index
        if inside.any():
            assert sure[inside].max() <= edges[index + 1] + 1e-12
            error += inside.mean() * abs(sure[inside].mean() - right[inside].mean())
    result = metrics.calibration(sure, right, bins)
    assert result.ece == pytest.approx(error)
    assert sum(result.rows) == len(pairs)


def test_calibration_of_a_model_that_knows_how_sure_to_be() -> None:
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.2, 1, 40_000)
    assert metrics.calibration(sure, rng.random(40_000) < sure).ece < 0.015
    assert metrics.calibration(sure, np.zeros(40_000)).ece == pytest.approx(sure.mean())
    with pytest.raises(InputError):
        metrics.calibration([0.5, float("nan")], [1, 0])


def test_confusions_count_wrong_answers() -> None:
    result = metrics.confusions([0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 0, 1], 3)
    assert result == [(2, 0, 2), (0, 1, 1), (2, 1, 1)]
    assert metrics.confusions([0, 1], [0, 1], 2) == []
