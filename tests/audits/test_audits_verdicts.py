"""Intervals and verdicts, against tables worked by others and against many draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.audits.verdicts import against, correlation, difference, mean, share, verdict, wilson
from diptych.errors import InputError
from diptych.reports import Estimate


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (29, 29, 0.8830, 1.0)],
)
def test_wilson_as_newcombe_printed_it(right: int, n: int, low: float, high: float) -> None:
    # Newcombe 1998, Statistics in Medicine 17: 857-872, table I, method 3.
    found = wilson(right / n, n)
    assert found == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_a_model_that_answers_by_lot_is_rarely_called_anything_but_at_chance() -> None:
    rng = np.random.default_rng(0)
    told = [verdict(share(rng.random(300) < 0.1), 0.1) for _ in range(400)]
    assert 0.91 < told.count("at") / 400 < 0.985  # 95 percent, not always
    better = [verdict(share(rng.random(300) < 0.25), 0.1) for _ in range(100)]
    assert better.count("above") == 100
    assert [verdict(share(rng.random(300) < 0.01), 0.1) for _ in range(50)].count("below") == 50


def test_rows_of_one_picture_are_not_counted_as_many() -> None:
    hits, owner = np.repeat([1.0, 0.0], 500), np.arange(1000) // 50  # 20 pictures of 50 equal rows
    alone, grouped = share(hits), share(hits, owner)
    assert grouped.value == alone.value == 0.5
    assert grouped.high - grouped.low > 5 * (alone.high - alone.low)  # type: ignore[operator]
    # Rows that make up for each other must not narrow the interval.
    assert str(share([1, 0] * 50, np.arange(100) // 2)) == str(share([1, 0] * 50))
    assert share([1.0] * 40, np.arange(40) // 4).low == pytest.approx(wilson(1.0, 10)[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_a_share_lies_in_its_interval_and_the_interval_in_0_to_1(hits: list[float]) -> None:
    one = share(hits)
    assert one.low is not None
    assert one.high is not None
    assert 0 <= one.low <= one.value + 1e-12
    assert one.value - 1e-12 <= one.high <= 1


@pytest.mark.parametrize("hits", [[], [1.5], [-0.1], [[1.0]], [float("nan")]])
def test_what_is_no_share(hits: list[float]) -> None:
    with pytest.raises(InputError, match="expected at least one number"):
        share(hits)


def test_differences() -> None:
    assert verdict(difference(share([1] * 90 + [0] * 10), share([1] * 50 + [0] * 50)), 0.0) == "above"
    assert verdict(difference(share([1] * 5 + [0] * 5), share([1] * 4 + [0] * 6)), 0.0) == "at"
    assert difference(Estimate(0.5), Estimate(0.25)) == Estimate(0.25)
    one = mean(np.array([1.0] * 60 + [0.0] * 40) - 0.5)
    assert verdict(one, 0.0) in ("at", "above")
    assert verdict(mean([0.2, 0.3, 0.1, 0.2]), 0.0) == "above"


def test_correlation_is_told_where_there_is_one() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=200)
    found = correlation(x, x + rng.normal(size=200))
    assert found is not None
    assert verdict(found, 0.0) == "above"
    assert correlation([1.0, 1.0, 1.0], [1, 2, 3]) is None
    perfect = correlation([1, 2, 3, 4], [2, 4, 6, 8])
    assert perfect is not None
    assert perfect.value == pytest.approx(1.0)


def test_words_beside_chance() -> None:
    assert against(Estimate(0.05, 0.01, 0.09), 0.1).endswith("chance 0.100: below chance")
    assert verdict(Estimate(0.1), 0.1) == "at"
