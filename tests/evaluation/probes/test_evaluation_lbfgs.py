"""L-BFGS minimiser: known minima, comparison with SciPy, and functions without a minimum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize, rosen, rosen_der
from sklearn.linear_model import LogisticRegression

from diptych.evaluation.probes import logistic
from diptych.evaluation.probes.lbfgs import minimise


def valley(place: np.ndarray) -> tuple[float, np.ndarray]:
    """Rosenbrock's function, with its minimum at (1, 1, ...)."""
    return float(rosen(place)), rosen_der(place)


@pytest.mark.parametrize("size", [2, 10, 100])
def test_it_finds_the_end_of_rosenbrocks_valley(size: int) -> None:
    result = minimise(valley, np.full(size, -0.5), tolerance=1e-6, max_steps=1000, rounding=0)
    assert result.converged
    assert abs(valley(result.point)[1]).max() <= 1e-6
    theirs = minimize(rosen, np.full(size, -0.5), jac=rosen_der, method="L-BFGS-B", options={"gtol": 1e-6})
    assert rosen(result.point) <= theirs.fun + 1e-9
    assert result.steps <= 2 * theirs.nit + 20


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 12),
    st.floats(0, 4),
)
def test_a_bowl_of_any_shape_is_solved(seed: int, size: int, decades: float) -> None:
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(size, size)))[0]
    bend = axes * np.logspace(0, decades, size) @ axes.T  # positive definite
    target = rng.normal(size=size)

    def bowl(place: np.ndarray) -> tuple[float, np.ndarray]:
        away = place - target
        return float(away @ bend @ away) / 2, bend @ away

    result = minimise(bowl, np.zeros(size), tolerance=1e-7, max_steps=2000, rounding=0)
    assert result.point == pytest.approx(target, abs=1e-5)
    assert not result.converged or abs(bowl(result.point)[1]).max() <= 1e-3


def test_at_the_minimum_nothing_is_walked() -> None:
    result = minimise(valley, np.ones(3), tolerance=1e-6, max_steps=10)
    assert (result.steps, result.converged, result.point.tolist()) == (0, True, [1, 1, 1])


def test_steps_are_counted_and_too_few_are_told() -> None:
    result = minimise(valley, np.full(10, -0.5), tolerance=1e-6, max_steps=3)
    assert (result.steps, result.converged) == (3, False)
    assert valley(result.point)[0] < valley(np.full(10, -0.5))[0]


def test_a_function_that_computes_in_less_ends_where_it_cannot_tell() -> None:
    def coarse(place: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = valley(place.astype(np.float32))
        return float(np.float32(1000 + value)), gradient.astype(np.float64)

    result = minimise(coarse, np.full(4, -0.5), tolerance=1e-12, max_steps=1000, rounding=1e-7)
    assert result.converged
    assert result.steps < 200
    assert valley(result.point)[0] < 1e-2


def test_the_start_is_left_as_it_was() -> None:
    start = np.full(5, -0.5)
    minimise(valley, start, tolerance=1e-6, max_steps=50)
    assert (start == -0.5).all()


def test_a_gradient_that_lies_is_no_minimum() -> None:
    def turned(place: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = valley(place)
        return value, -gradient

    result = minimise(turned, np.full(4, -0.5), tolerance=1e-6, max_steps=100)
    assert not result.converged


@pytest.mark.parametrize("size", [1e3, 1e5, 1e6])
def test_features_of_very_different_sizes_are_learnt(size: float) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    rows = rng.normal(size=(300, 20)) + 0.6 * labels[:, None]
    rows[:, 0] *= size
    result = logistic.fit(rows, labels, 1.0)
    right = (result.scores(rows, 2).argmax(1) == labels).mean()
    theirs = LogisticRegression(C=1.0, max_iter=5000, tol=1e-9).fit(rows - rows.mean(0), labels)
    assert result.iterations > 5
    assert right >= theirs.score(rows - rows.mean(0), labels) - 0.02
    if size == 1e6:
        return  # beyond the precision of float32, in which the search computes
    searched = logistic.search(rows[:200], labels[:200], rows[200:], labels[200:])
    assert max(item.accuracy for item in searched.tried) > 0.8
