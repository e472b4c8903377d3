"""Significance tests and verdicts: exact against enumeration; no verdict from noise or few pictures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.reports import Estimate
from diptych.stats.intervals import proportion
from diptych.stats.significance import (
    NOT_ENOUGH,
    Claim,
    against_chance,
    beside_chance,
    binomial_p,
    decide,
    holm,
    mcnemar,
    paired_claim,
    sign_flip_p,
)


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_counts_all_tosses(first: int, second: int) -> None:
    tosses = first + second
    apart = abs(first - second)
    heads = [sum(item) for item in itertools.product((0, 1), repeat=min(tosses, 12))]
    if tosses <= 12:
        wanted = np.mean([abs(2 * head - tosses) >= apart for head in heads])
        assert mcnemar(first, second) == pytest.approx(wanted)
    assert mcnemar(first, second) == mcnemar(second, first)
    assert 0 < mcnemar(first, second) <= 1
    assert sign_flip_p([-1] * first + [1] * second + [0] * 3) == mcnemar(first, second)


def test_flips_of_signs_agree_with_all_of_them() -> None:
    values = np.array([0.5, 0.25, 0.2, -0.1, 0.7, 0.05, -0.3, 0.6, 0.9, 0.15])
    signs = np.array(list(itertools.product((-1, 1), repeat=len(values))))
    exact = (abs(signs @ values) >= values.sum() - 1e-9).mean()
    assert sign_flip_p(values) == pytest.approx(exact, abs=0.005)
    many = np.concatenate([values, np.linspace(1e-6, 1e-3, 300)])  # more items than are drawn at once
    assert sign_flip_p(many, flips=4000) == pytest.approx(exact, abs=0.02)
    assert sign_flip_p(np.zeros(5)) == 1.0


def test_the_binomial_test_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for right, n, chance in ((3, 40, 0.1), (12, 40, 0.1), (20, 40, 0.5), (200, 5000, 0.05), (0, 100, 0.1)):
        upper, lower = stats.binom.sf(right - 1, n, chance), stats.binom.cdf(right, n, chance)
        result = binomial_p(Estimate(right / n, n=n), chance)
        assert result == pytest.approx(min(1, 2 * min(upper, lower)), rel=1e-6, abs=1e-11)
    assert binomial_p(Estimate(0.5, n=10), 1.0) == 1.0


def test_holm_stops_at_the_first_that_fails() -> None:
    assert (holm([0.04, 0.001, 0.02]) <= 0.05).tolist() == [True, True, True]
    assert (holm([0.04, 0.001, 0.03]) <= 0.05).tolist() == [False, True, False]
    assert holm([]).tolist() == []


@pytest.mark.parametrize("claims", [1, 4, 10])
def test_a_family_of_models_that_guess_is_rarely_given_a_verdict(claims: int) -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        rows = {k: proportion(rng.random(int(rng.choice([30, 100, 300]))) < 0.1) for k in range(claims)}
        result = decide({k: against_chance(item, 0.1) for k, item in rows.items()})
        wrong += any(item in ("above", "below") for item in result.values())
    assert wrong <= 0.07 * 300


def test_paired_differences_of_equal_answers_are_rarely_a_finding() -> None:
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        base = rng.random((6, 50)) < 0.6
        other = np.where(rng.random((6, 50)) < 0.5, base, rng.random((6, 50)) < 0.6)
        result = decide({k: paired_claim(base[k], other[k]) for k in range(6)})
        wrong += any(item in ("above", "below") for item in result.values())
    assert wrong <= 0.07 * 300


@pytest.mark.parametrize("n", [3, 10, 29])
@pytest.mark.parametrize("p", [0.0, 0.1, 1.0])
def test_few_pictures_are_never_enough(n: int, p: float) -> None:
    hits = np.ones(n) if p == 1 else np.zeros(n) if p == 0 else np.arange(n) == 0
    assert decide({0: against_chance(proportion(hits), 0.1)}) == {0: NOT_ENOUGH}
    assert decide({0: paired_claim(hits, 1.0 - hits)}) == {0: NOT_ENOUGH}
    rows, owner = np.repeat(hits, 50), np.repeat(np.arange(n), 50)  # many rows of few pictures
    assert decide({0: against_chance(proportion(rows, owner), 0.1)}) == {0: NOT_ENOUGH}


def test_verdicts_of_clear_data() -> None:
    better = against_chance(proportion([1] * 50 + [0] * 50), 0.1)
    worse = against_chance(proportion([1] * 2 + [0] * 98), 0.5)
    guessing = against_chance(proportion([1] * 50 + [0] * 450), 0.1)
    unclear = against_chance(proportion([1] * 18 + [0] * 22), 0.5)
    assert list(decide({0: better, 1: worse, 2: guessing, 3: unclear}).values()) == [
        "above",
        "below",
        "at",
        NOT_ENOUGH,
    ]
    equal = paired_claim([1] * 300 + [0] * 100, [1] * 300 + [0] * 100)
    assert decide({0: equal}) == {0: "at"}
    assert decide({0: Claim(Estimate(0.2, n=100), 0.0, 1.0, 0.05)}) == {0: NOT_ENOUGH}


def test_words_beside_chance() -> None:
    assert beside_chance(Estimate(0.05, 0.01, 0.09), 0.1, "below").endswith("chance 0.100: below chance")


def test_sums_that_equal_the_observed_one_count() -> None:
    # Means of three draws are thirds, which rounding separates: 2 * 0.333333333 is not 0.666666667.
    for differences in ([1 / 3] * 9 + [-2 / 3] * 4, [2 / 3] * 6 + [-1 / 3] * 9):
        thirds = np.rint(np.array(differences) * 3).astype(int)
        sums = np.array(list(itertools.product([1, -1], repeat=len(thirds)))) @ thirds
        exact = float((abs(sums) >= abs(thirds.sum())).mean())
        assert sign_flip_p(differences, flips=200_000) == pytest.approx(exact, abs=0.004)
