"""Confidence intervals: compared with published tables, and their coverage in seeded simulations."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.reports import Estimate
from diptych.stats.differences import difference, paired_difference
from diptych.stats.intervals import (
    bounded_mean,
    correlation,
    ends,
    mean_over_classes,
    over_draws,
    proportion,
    resampled_proportion,
    wilson,
)
from diptych.stats.rankings import Ranking, resampled

REPEATS = 300


def covered(estimates: list[Estimate], truth: float) -> float:
    """The share of intervals that contain the true value; an interval of zero width fails."""
    pairs = [ends(item) for item in estimates]
    assert all(low < high for low, high in pairs)  # no interval without a width
    return float(np.mean([low - 1e-12 <= truth <= high + 1e-12 for low, high in pairs]))


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (29, 29, 0.8830, 1.0)],
)
def test_wilson_as_newcombe_printed_it(right: int, n: int, low: float, high: float) -> None:
    # Newcombe 1998, Statistics in Medicine 17: 857-872, table I, method 3.
    assert wilson(right / n, n) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@pytest.mark.parametrize("p", [0.0, 0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("n", [10, 50, 500])
def test_coverage_of_accuracy_and_of_the_mean_per_class(p: float, n: int) -> None:
    rng = np.random.default_rng(0)
    draws = (rng.random((REPEATS, n)) < p).astype(float)
    assert covered([proportion(row) for row in draws], p) >= 0.91  # 0.917 at n = 10 and p = 0.02: discrete
    balanced, uneven = np.arange(n) % 5, np.minimum((np.arange(n) * 40 // n) // 2, 4)
    for labels in (balanced, uneven):
        assert covered([mean_over_classes(row, labels) for row in draws], p) >= 0.91


def test_coverage_of_the_mean_per_class_where_classes_differ() -> None:
    rng = np.random.default_rng(1)
    for sizes in ([5] * 20, [50] * 8, [1, 2, 3, 5, 10, 20, 40, 80]):
        p = np.linspace(0.1, 1.0, len(sizes))
        labels = np.repeat(np.arange(len(sizes)), sizes)
        rows = [(rng.random(len(labels)) < p[labels]).astype(float) for _ in range(REPEATS)]
        assert covered([mean_over_classes(row, labels) for row in rows], float(p.mean())) >= 0.93


@pytest.mark.parametrize("spread", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("draws", [3, 10])
def test_coverage_of_means_over_draws(spread: float, draws: int) -> None:
    """A probit model: each draw has its own level, and each picture its own difficulty in all draws."""
    rng = np.random.default_rng(7)
    hard = rng.standard_normal((REPEATS, 1, 500))
    noise = rng.standard_normal((REPEATS, draws, 500))
    level = 0.5 + spread * rng.standard_normal((REPEATS, draws, 1))
    hits = ((hard + noise) / 2**0.5 < level).astype(float)
    truth = NormalDist().cdf(0.5 / (1 + spread**2) ** 0.5)
    alone = [bounded_mean(item.mean(0)) for item in hits]
    assert covered(list(map(over_draws, alone, hits.mean(2))), truth) >= 0.93
    if spread == 0.2:
        assert covered(alone, truth) < 0.7  # the interval over pictures ignores other draws


@pytest.mark.parametrize("p", [0.02, 0.5, 0.98, 1.0])
@pytest.mark.parametrize("pictures", [10, 100])
def test_coverage_of_recall_of_several_captions(p: float, pictures: int) -> None:
    rng = np.random.default_rng(2)
    # Beta-binomial: captions of one picture are correlated.
    chance = np.ones((REPEATS, pictures)) if p == 1 else rng.beta(2 * p, 2 * (1 - p), (REPEATS, pictures))
    hits = (rng.random((REPEATS, pictures, 5)) < chance[:, :, None]).astype(float)
    owner = np.repeat(np.arange(pictures), 5)
    assert covered([proportion(row.reshape(-1), owner) for row in hits], p) >= 0.9


@pytest.mark.parametrize(("shift", "truth"), [(0.0, 0.5), (1.0, 0.7602), (3.5, 0.9933)])
def test_coverage_of_the_area_under_the_curve(shift: float, truth: float) -> None:
    rng = np.random.default_rng(3)
    results = []
    for _ in range(100):
        right = rng.random(60) < 0.4
        ranked = Ranking(rng.normal(size=60) + shift * right, right.astype(int))
        area, drawn = ranked.area(), resampled(ranked.area, 60, resamples=60)
        results.append(resampled_proportion(area, drawn, min(right.sum(), (~right).sum()), 60, cap=False))
    assert covered(results, truth) >= 0.9


def test_average_precision_without_a_mistake_has_an_interval() -> None:
    ranked = Ranking(np.arange(40), np.repeat([0, 1], [30, 10]))
    drawn = resampled(ranked.average_precision, 40, resamples=100)
    single = resampled_proportion(ranked.average_precision(), drawn, 10, 40, cap=True)
    assert (single.value, ends(single)) == (1.0, wilson(1.0, 10))


@pytest.mark.parametrize("p", [0.5, 0.95, 1.0])
@pytest.mark.parametrize("n", [30, 200])
def test_coverage_of_paired_differences(p: float, n: int) -> None:
    rng = np.random.default_rng(4)
    both = rng.random((REPEATS, n))
    first = (both < p).astype(float)
    second = np.where(rng.random((REPEATS, n)) < 0.8, first, rng.random((REPEATS, n)) < 0.7 * p)
    truth = p - (0.8 * p + 0.2 * 0.7 * p)
    assert covered([paired_difference(*rows) for rows in zip(first, second, strict=True)], truth) >= 0.93
    same = paired_difference(first[0], first[0])
    assert same.value == 0
    assert ends(same)[0] < 0 < ends(same)[1]


def test_errors_and_shares_of_answers_keep_to_their_variance() -> None:
    rng = np.random.default_rng(5)
    assert covered([bounded_mean(rng.integers(0, 10, 60), 9.0) for _ in range(REPEATS)], 4.5) >= 0.92
    narrow = bounded_mean(rng.integers(4, 6, 60), 9.0)
    assert ends(narrow)[1] - ends(narrow)[0] < 0.5
    assert ends(bounded_mean([0.0] * 30, 9.0))[1] == pytest.approx(9 * wilson(0.0, 30)[1])


def test_rows_of_one_picture_are_not_counted_as_many() -> None:
    hits, owner = np.repeat([1.0, 0.0], 500), np.arange(1000) // 50  # 20 pictures of 50 equal rows
    alone, grouped = proportion(hits), proportion(hits, owner)
    assert grouped.value == alone.value == 0.5
    assert grouped.high - grouped.low > 5 * (alone.high - alone.low)  # type: ignore[operator]
    # Rows that cancel within a picture must not narrow the interval.
    assert str(proportion([1, 0] * 50, np.arange(100) // 2)) == str(proportion([1, 0] * 50))
    assert proportion([1.0] * 40, np.arange(40) // 4).low == pytest.approx(wilson(1.0, 10)[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_a_figure_lies_in_its_interval_and_the_interval_in_0_to_1(hits: list[float]) -> None:
    for item in (proportion(hits), bounded_mean(hits), mean_over_classes(hits, np.arange(len(hits)) % 3)):
        low, high = ends(item)
        assert 0 <= low <= item.value + 1e-12
        assert item.value - 1e-12 <= high <= 1


@pytest.mark.parametrize("hits", [[], [1.5], [-0.1], [[1.0]], [float("nan")]])
def test_what_is_no_proportion(hits: list[float]) -> None:
    with pytest.raises(InputError, match="expected at least one number"):
        proportion(hits)


def test_differences_of_other_pictures() -> None:
    assert ends(difference(proportion([1] * 90 + [0] * 10), proportion([1] * 50 + [0] * 50)))[0] > 0
    assert difference(Estimate(0.5), Estimate(0.25)) == Estimate(0.25)
    with pytest.raises(InputError, match="same pictures"):
        paired_difference([1, 0], [1])
    with pytest.raises(InputError, match="no interval"):
        ends(Estimate(0.5))


def test_correlation_has_an_interval_where_there_is_one() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=200)
    result = correlation(x, x + rng.normal(size=200))
    assert result is not None
    assert ends(result)[0] > 0
    assert correlation([1.0, 1.0, 1.0], [1, 2, 3]) is None
    perfect = correlation([1, 2, 3, 4], [2, 4, 6, 8])
    assert perfect is not None
    assert perfect.value == pytest.approx(1.0)
