"""L-BFGS: the minimum of a smooth function of many variables, from its values and gradients.

The direction of a step is the gradient times a guess of the inverse curvature, which the last `MEMORY` steps
and what they changed of the gradient give without any matrix (Nocedal and Wright, Numerical Optimization,
2nd ed., algorithm 7.4). How far to go along it is `scipy.optimize.line_search`'s business: until the strong
Wolfe conditions hold, with the constants of the book. What the function is, is the caller's.

SciPy has the method too, but only with bounds (L-BFGS-B), whose bookkeeping costs 26 ms a step at 130,000
variables, where a value and a gradient of a probe of 101 classes together cost 5.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.extras import require

Vector: TypeAlias = NDArray[np.float64]

MEMORY = 10  # steps that the guess of the curvature rests on
CURVATURE = 0.9  # of the strong Wolfe conditions, as is the next
DECREASE = 1e-4
MOST_LOOKS = 20  # along one direction
SHORTEST = 20  # powers of ten that a step straight down may be shorter


@dataclass(frozen=True, eq=False)
class Minimum:
    """Where a search for a minimum ended.

    Attributes
    ----------
    place : (P,) floats
    steps : int
    converged : bool
        The gradient is small enough, or the value no longer falls by more than rounding does; False where
        steps ran out, or where nothing lower was found though the gradient promises it.
    """

    place: Vector
    steps: int
    converged: bool


def minimise(
    function: Callable[[Vector], tuple[float, Vector]],
    start: Vector,
    *,
    tolerance: float,
    most: int,
    rounding: float = 64 * float(np.finfo(np.float64).eps),
) -> Minimum:
    """Walk downhill to a minimum.

    Parameters
    ----------
    function : callable
        From a place (P,) to the value there and the gradient, (P,), a new array at each call.
    start : (P,) floats
    tolerance : float
        The end is where no entry of the gradient is over it.
    most : int
        Steps at most.
    rounding : float
        The end is also where a step lowers the value by no more than this part of it; more than the default
        for a function that computes in less than float64.

    Raises
    ------
    MissingExtraError
        SciPy is not installed.

    Examples
    --------
    >>> def parabola(x):
    ...     return float((x - 3) @ (x - 3)), 2 * (x - 3)
    >>> bowl = minimise(parabola, np.zeros(2), tolerance=1e-6, most=9)
    >>> bowl.place.round(6).tolist(), bowl.converged
    ([3.0, 3.0], True)
    """
    line_search = require("scipy.optimize", extra="evaluation", purpose="fit linear probes").line_search
    seen = _Seen(function)
    place, value, gradient = start, seen.value(start), seen.gradient(start)
    changes: deque[tuple[Vector, Vector, float]] = deque(maxlen=MEMORY)
    for step in range(most):
        if abs(gradient).max(initial=0) <= tolerance:
            return Minimum(place, step, True)
        direction = _direction(gradient, changes)
        hoped = -float(gradient @ direction)  # how much lower, were the function straight
        after = _along(line_search, seen, place, direction)
        if after is None:
            changes.clear()  # what was remembered misleads, or rounding hides what is lower: straight down
            after = _down(seen, place, _direction(gradient, changes))
        if after is None:
            return Minimum(place, step, hoped <= rounding * abs(value))
        before, place = (place, value, gradient), after
        value, gradient = seen.value(place), seen.gradient(place)
        moved, turned = place - before[0], gradient - before[2]
        if (product := float(moved @ turned)) > 0:  # by the second Wolfe condition, but for rounding
            changes.append((moved, turned, 1 / product))
        if before[1] - value <= rounding * max(abs(before[1]), abs(value)):
            return Minimum(place, step + 1, True)
    return Minimum(place, most, bool(abs(gradient).max(initial=0) <= tolerance))


def _along(line_search: Callable[..., Any], seen: _Seen, place: Vector, direction: Vector) -> Vector | None:
    """A lower place by the strong Wolfe conditions; None where the search found none."""
    value, gradient = seen.value(place), seen.gradient(place)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*line search", RuntimeWarning)  # None says it, or the value does
        length = line_search(
            seen.value, seen.gradient, place, direction, gradient, value, c2=CURVATURE, maxiter=MOST_LOOKS
        )[0]
    if length is None:
        return None
    after: Vector = place + length * direction
    return after if seen.value(after) <= value else None


def _down(seen: _Seen, place: Vector, direction: Vector) -> Vector | None:
    """The first lower place in ever shorter steps; None where rounding hides it.

    SciPy's search looks ten times between two bounds, which is too few where curvatures differ by many orders
    of magnitude, as of features of very different sizes.
    """
    value, slope = seen.value(place), float(seen.gradient(place) @ direction)
    for power in range(SHORTEST):
        length = 10.0**-power
        after: Vector = place + length * direction
        if seen.value(after) < value + DECREASE * length * slope:
            return after
    return None


def _direction(gradient: Vector, changes: deque[tuple[Vector, Vector, float]]) -> Vector:
    """Minus the guessed inverse curvature times the gradient: the two-loop recursion, algorithm 7.4."""
    direction = -gradient
    if not changes:  # nothing is known of the curvature: a short step
        return direction / max(1.0, float(abs(gradient).sum()))
    shares = []
    for moved, turned, scale in reversed(changes):
        shares.append(scale * float(moved @ direction))
        direction -= shares[-1] * turned
    _, turned, scale = changes[-1]
    direction /= scale * float(turned @ turned)  # equation 7.20
    for (moved, turned, scale), share in zip(changes, reversed(shares), strict=True):
        direction += (share - scale * float(turned @ direction)) * moved
    return direction


class _Seen:
    """A function that gives value and gradient together, for a caller that asks for one after the other."""

    def __init__(self, function: Callable[[Vector], tuple[float, Vector]]) -> None:
        self._function = function
        self._place: Vector | None = None

    def value(self, place: Vector) -> float:
        self._look(place)
        return self._value

    def gradient(self, place: Vector) -> Vector:
        self._look(place)
        return self._gradient

    def _look(self, place: Vector) -> None:
        if self._place is None or not np.array_equal(place, self._place):
            self._value, self._gradient = self._function(place)
            self._place = place
