"""Gaps between groups: sizes by hand, agreement with exact tests, and the rate of false positives."""

from __future__ import annotations

import numpy as np
import pytest

from diptych.audits.bias.label_use import compare_label_use
from diptych.errors import InputError
from diptych.stats.disparity import disparities

TWO = np.repeat([0, 1], 50)


def yes(*counts: int, size: int = 50) -> np.ndarray:
    """Values of groups of `size` rows each; the first `count` rows of a group are 1."""
    return np.concatenate([np.arange(size) < count for count in counts]).astype(float)


def test_p_is_fishers_for_two_groups() -> None:
    stats = pytest.importorskip("scipy.stats")
    result = disparities({"x": yes(10, 20)}, ["a", "b"], TWO, "toy", shuffles=40_000)[0]
    exact = stats.fisher_exact([[10, 40], [20, 30]]).pvalue
    assert result.p == pytest.approx(exact, abs=0.004)


def test_p_of_values_between_yes_and_no() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    first, second = rng.random(40), rng.random(40) + 0.15
    values = np.concatenate([first, second]) / 1.2
    result = disparities({"x": values}, ["a", "b"], np.repeat([0, 1], 40), "toy", shuffles=4000)[0]
    assert result.p == pytest.approx(stats.ttest_ind(first, second).pvalue, abs=0.03)


def test_the_order_of_groups_does_not_matter() -> None:
    forth = disparities({"x": yes(5, 25)}, ["a", "b"], TWO, "toy", shuffles=99)[0].widest
    back = disparities({"x": yes(25, 5)}, ["b", "a"], TWO, "toy", shuffles=99)[0].widest
    assert forth is not None
    assert back is not None
    assert (forth.high, forth.low) == (back.high, back.low) == ("b", "a")
    assert forth.gap.value == back.gap.value == 0.4


def test_only_the_pairs_that_differ_are_findings() -> None:
    codes = np.repeat([0, 1, 2], 50)
    result = disparities({"x": yes(5, 6, 30)}, ["a", "b", "c"], codes, "toy", shuffles=999)[0].among(1, 0.05)
    assert {(item.high, item.low) for item in result.findings} == {("c", "a"), ("c", "b")}


def test_intervals_widen_with_the_number_of_pairs() -> None:
    two = disparities({"x": yes(5, 25)}, ["a", "b"], TWO, "toy", shuffles=9)[0].widest
    codes = np.repeat([0, 1, 2], 50)
    three = disparities({"x": yes(5, 25, 10)}, ["a", "b", "c"], codes, "toy", shuffles=9)[0].widest
    assert two is not None
    assert three is not None
    assert three.gap.value == two.gap.value
    assert three.gap.low < two.gap.low  # type: ignore[operator]


@pytest.mark.parametrize("groups", [2, 7])
def test_chance_is_called_a_finding_as_often_as_stated(groups: int) -> None:
    codes = np.repeat(np.arange(groups), 40)
    names = [str(number) for number in range(groups)]
    rng = np.random.default_rng(1)
    values = {str(seed): rng.random(codes.size) < 0.2 for seed in range(400)}
    p = [item.p for item in disparities(values, names, codes, "toy", shuffles=199)]
    share = np.mean([item is not None and item <= 0.05 for item in p])
    # Shares of small groups are discrete, so the test is conservative: below 0.05, but not zero.
    assert 0.005 < share < 0.085


def test_correction_for_several_tests() -> None:
    result = disparities({"x": yes(5, 25)}, ["a", "b"], TWO, "toy", shuffles=999)[0]
    assert result.p is not None
    assert result.among(10, 0.05).p == pytest.approx(10 * result.p)
    assert result.among(10_000, 0.05).p == 1.0
    assert result.among(10, 0.05).findings
    assert not result.among(10_000, 0.05).findings


def test_groups_of_three_people() -> None:
    codes = np.array([0] * 40 + [1] * 40 + [2] * 3 + [-1] * 5)
    values = np.concatenate([np.zeros(80), np.ones(3), np.ones(5)])
    result = disparities({"x": values}, ["a", "b", "c"], codes, "toy", shuffles=99)[0]
    assert result.small == ("c",)
    assert result.shares["c"].n == 3
    assert result.widest is not None
    assert {result.widest.high, result.widest.low} == {"a", "b"}
    assert result.p == 1.0


def test_one_group_is_not_compared() -> None:
    result = disparities({"x": yes(3)}, ["a"], np.zeros(50, dtype=int), "toy")[0]
    assert (result.widest, result.p) == (None, None)
    assert disparities({}, ["a"], np.zeros(50, dtype=int), "toy") == []


def test_values_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="expected one for each"):
        disparities({"x": [0.0]}, ["a"], TWO, "toy")


def test_many_labels_do_not_make_a_finding() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for seed in range(40):
        probabilities = rng.random((100, 30))
        result = compare_label_use(
            probabilities, [str(x) for x in range(30)], ["a", "b"], TWO, "toy", thresholds=(0.5, 0.8),
            shuffles=199, seed=seed,
        )  # fmt: skip
        assert result is not None
        wrong += min(item.p for item in result.uses) <= 0.1
    assert wrong <= 10  # 40 at 0.1: 4 expected; nearly all 40 without the correction for 60 tests


def test_chi_squared_is_scipys() -> None:
    stats = pytest.importorskip("scipy.stats")
    probabilities = np.stack([yes(10, 25), yes(30, 30)], axis=1)
    result = compare_label_use(
        probabilities, ["x", "y"], ["a", "b"], TWO, "toy", thresholds=(0.5,), shuffles=99
    )
    assert result is not None
    exact = stats.chi2_contingency([[10, 40], [25, 25]], correction=False).statistic
    by_label = {item.label: item.chi2 for item in result.uses}
    assert by_label["x"] == pytest.approx(exact, rel=1e-4)
    assert by_label["y"] == pytest.approx(0, abs=1e-6)
    assert result.per_picture == pytest.approx([0.95])


def test_a_label_on_every_picture_says_nothing() -> None:
    result = compare_label_use(np.ones((100, 2)), ["x", "y"], ["a", "b"], TWO, "toy", shuffles=9)
    assert result is not None
    assert {item.p for item in result.uses} == {1.0}
