"""Ranking metrics: average precision, 11-point precision and ROC area, by hand and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from diptych.datasets.registry import KNOWN
from diptych.errors import InputError
from diptych.stats.rankings import (
    Ranking,
    average_precision,
    eleven_point_precision,
    figure,
    mean_over_classes,
    placements,
    resampled,
    roc_auc,
)


def test_average_precision_by_hand() -> None:
    # Right rows at ranks 1, 3, 6: precisions 1/1, 2/3, 3/6.
    targets = [1, 0, 1, 0, 0, 1]
    assert average_precision(range(6, 0, -1), targets) == pytest.approx((1 + 2 / 3 + 3 / 6) / 3)
    assert average_precision([0, 0, 0, 0], [1, 0, 0, 1]) == 0.5  # all tied: the share of right rows


def test_eleven_points_by_hand() -> None:
    # Recalls reached: 1/3 (precision 1), 2/3 (2/3), 1 (1/2). Of 0, 0.1, ..., 1 four are at most 1/3 (0 to
    # 0.3), three more at most 2/3 (0.4, 0.5, 0.6), four are above.
    expected = (4 * 1 + 3 * 2 / 3 + 4 * 1 / 2) / 11
    assert eleven_point_precision(range(6, 0, -1), [1, 0, 1, 0, 0, 1]) == pytest.approx(expected)
    # A later, higher precision counts for the recalls before it.
    assert eleven_point_precision([4, 3, 2, 1], [0, 1, 1, 1]) == pytest.approx(3 / 4)


def test_a_recall_of_three_tenths_is_reached() -> None:
    # Ten right rows, seven of them last: recall 0.3 is reached at precision 1; in floats 3 * 0.1 > 3 / 10.
    targets = [1] * 3 + [0] * 90 + [1] * 7
    expected = (4 * 1.0 + 7 * 10 / 100) / 11
    assert eleven_point_precision(range(100, 0, -1), targets) == pytest.approx(expected)


def test_difficult_rows_do_not_count() -> None:
    with_difficult = Ranking([5, 4, 3, 2, 1], [1, -1, 0, -1, 1])
    assert with_difficult.average_precision() == average_precision([5, 3, 1], [1, 0, 1])
    assert with_difficult.area() == roc_auc([5, 3, 1], [1, 0, 1])


def test_roc_by_hand() -> None:
    assert roc_auc([1, 2, 2, 3], [0, 1, 0, 1]) == (1 + 0.5 + 1 + 1) / 4
    assert roc_auc([[0.9, 0.1], [0.2, 0.8]], [0, 1]) == 1.0
    assert roc_auc([7, 7, 7], [0, 1, 1]) == 0.5


SCORES = st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 1)), min_size=2, max_size=40)


@settings(max_examples=200)
@given(SCORES.filter(lambda rows: 0 < sum(right for _, right in rows) < len(rows)))
def test_both_agree_with_scikit_learn(rows: list[tuple[int, int]]) -> None:
    scores, targets = [score for score, _ in rows], [right for _, right in rows]
    assert average_precision(scores, targets) == pytest.approx(average_precision_score(targets, scores))
    assert roc_auc(scores, targets) == pytest.approx(roc_auc_score(targets, scores))


@settings(max_examples=150)
@given(SCORES.filter(lambda rows: 0 < sum(right for _, right in rows) < len(rows)), st.randoms())
def test_order_of_rows_and_scale_do_not_matter(rows: list[tuple[int, int]], random) -> None:
    scores, targets = [score for score, _ in rows], [right for _, right in rows]
    shuffled = rows.copy()
    random.shuffle(shuffled)
    other = [3.0 * score - 7 for score, _ in shuffled], [right for _, right in shuffled]
    for metric in (average_precision, eleven_point_precision, roc_auc):
        value = metric(scores, targets)
        assert metric(*other) == pytest.approx(value)
        assert 0 <= value <= 1
    # An interpolated precision is never below the precision.
    assert eleven_point_precision(scores, targets) >= max(0.0, sum(targets) / len(targets) - 1e-12)
    assert roc_auc([-score for score in scores], targets) == pytest.approx(1 - roc_auc(scores, targets))


@settings(max_examples=100)
@given(SCORES.filter(lambda rows: any(right for _, right in rows)), st.data())
def test_a_weight_is_a_repeated_row(rows: list[tuple[int, int]], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    scores, targets = (np.array(column) for column in zip(*rows, strict=True))
    again = np.repeat(np.arange(len(rows)), weights)
    ranked = Ranking(scores, targets)
    if not targets[again].any():
        assert np.isnan(ranked.average_precision(weights))
        assert np.isnan(ranked.eleven_points(weights))
        return
    repeated = Ranking(scores[again], targets[again])
    assert ranked.average_precision(weights) == pytest.approx(repeated.average_precision())
    assert ranked.eleven_points(weights) == pytest.approx(repeated.eleven_points())
    assert ranked.area(weights) == pytest.approx(repeated.area(), nan_ok=True)


def test_classes_without_a_right_row_are_left_out() -> None:
    scores, targets = np.array([[3, 1, 1], [2, 2, 9], [1, 3, 5]]), np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0]])
    assert mean_over_classes(scores, targets) == pytest.approx((1 + 1 / 2) / 2)
    with pytest.raises(InputError, match="none of 3 rows is positive"):
        mean_over_classes(scores, np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: average_precision([1, 2], [0, 0]), "none of 2 rows is positive"),
        (lambda: average_precision([1, 2], [1]), "expected"),
        (lambda: average_precision([float("nan"), 2], [1, 0]), "NaN"),
        (lambda: roc_auc([1, 2], [1, 1]), "none of 2 rows is negative"),
        (lambda: roc_auc([[1, 2, 3], [1, 2, 3]], [0, 1]), "expected"),
        (lambda: mean_over_classes([1, 2], [1, 0]), "expected"),
        (lambda: figure("acc2", [[1, 0]], [0]), "metric 'acc2': expected one of acc1, acc5"),
    ],
)
def test_what_has_no_value_is_told(call, told: str) -> None:
    with pytest.raises(InputError, match=told):
        call()


def test_the_figure_every_entry_wants_can_be_had() -> None:
    scores = np.array([[3.0, 1.0], [2.0, 5.0], [1.0, 2.0]])
    classes, several = [0, 1, 0], np.eye(2)[[0, 1, 0]]
    for item in KNOWN.values():
        if item.task != "retrieval":
            assert 0 < figure(item.metric, scores, several if item.task == "multilabel" else classes) <= 1
    assert figure("acc1", scores, classes) == pytest.approx(2 / 3)
    assert figure("mean_per_class_recall", scores, classes) == pytest.approx(3 / 4)


def test_the_interval_shrinks_with_rows_and_holds_the_value() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for rows in (50, 800):
        targets = rng.integers(0, 2, rows)
        ranked = Ranking(targets + rng.normal(0, 1, rows), targets)
        areas = resampled(ranked.area, rows, resamples=300)
        assert areas.min() < ranked.area() < areas.max()
        widths.append(areas.std())
    assert widths[1] < widths[0] / 2


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=30))
def test_the_area_is_the_mean_of_the_placements_of_either_class(rows: list[tuple[int, bool]]) -> None:
    scores, targets = np.array([score for score, _ in rows]), np.array([right for _, right in rows])
    if targets.all() or not targets.any():
        return
    placed, area = placements(scores, targets), roc_auc(scores, targets)
    assert placed[targets].mean() == pytest.approx(area)
    assert placed[~targets].mean() == pytest.approx(area)
