"""Logistic regression on rows, and the search for its strength of L2.

The loss is the sum of cross-entropies over pictures, plus half the squared weights times lambda; C = 1 /
lambda, scikit-learn's name. The intercept is free. Where rows come from, and which of them teach and which
choose, is the caller's; how a minimum is found is `lbfgs`'s.

A fit stops where no entry of the gradient of that sum is over 1e-4, or where a step no longer lowers it by
more than rounding does. The first was scikit-learn's rule when the paper was written; since 1.4 it is the
gradient of the mean (pull request 26721), which for N pictures is N times as loose: with the default
tolerance its fits end long before their best weights.

Four things make fits fast and leave the best weights where they are; `benchmarks/probe.py` measures them
together.

- Rows are moved so that their mean is zero. The intercept, which L2 leaves alone, takes that up. Features of
  a tower are mostly positive: without their common part L-BFGS needs a fifth to a third of the steps.
- Of fewer pictures than features, as with a few shots, rows are turned into coordinates of the space they
  span. The best weights lie in it (what is at right angles to all rows costs L2 and changes no logit), and
  neither L2 nor a step of L-BFGS depends on the axes.
- In a search, a fit begins where that of the nearest stronger regularisation ended, up to `WARM`. The rule
  above holds weights to within 1e-4 * C * sqrt(their number) of the best ones: beyond, on rows that can be
  separated, a fit ends where its beginning leads it, so it begins at zero, as the one that is reported does.
- A search computes logits and gradients in float32, and ends where float32 can no longer tell the loss from
  a lower one; the fit that is reported computes in float64. Up to `WARM` both named the same number of
  validation pictures right, give or take one of 300 (columns that differ in size by more than five powers of
  ten are beyond a search, not beyond a fit); but a reported figure is to come out again on another
  machine, and the logits of a weak regularisation grow into the thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DataError, InputError
from diptych.evaluation.probes.lbfgs import Vector, minimise
from diptych.evaluation.probes.regularisation_search import GRID, find_peak
from diptych.stats import metrics

Rows: TypeAlias = NDArray[np.floating]
Labels: TypeAlias = NDArray[np.int64]

MOST_ITERATIONS = 1000  # appendix A.3
WARM = 100.0  # C
TOLERANCE = 1e-4  # largest entry of the gradient of the sum over pictures
ROUNDING = 1e-7  # part of a loss that float32 tells


@dataclass(frozen=True, eq=False)
class Fit:
    """A linear classifier that was learnt.

    Attributes
    ----------
    c : float
        1 / lambda.
    classes : (K,) integers
        Those it has seen; the others it never names.
    weights : (K, D) or, of two classes, (1, D)
    intercepts : (K,) or (1,)
    iterations : int
    converged : bool
        By one of the two rules above, within `MOST_ITERATIONS`.
    """

    c: float
    classes: Labels
    weights: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    iterations: int
    converged: bool

    def scores(self, rows: Rows, count: int) -> NDArray[np.float64]:
        """Logits of `count` classes, (N, count); minus infinity for one that was never seen."""
        logits = rows.astype(np.float64) @ self.weights.T + self.intercepts
        return _table(logits, self.classes, count)


@dataclass(frozen=True)
class Tried:
    """One strength, and what came of it on the validation pictures."""

    c: float
    accuracy: float
    iterations: int
    converged: bool


@dataclass(frozen=True)
class Searched:
    """The strength that was chosen, and all that were tried, the strongest regularisation first."""

    c: float
    tried: tuple[Tried, ...]


def fit(rows: Rows, labels: Labels, c: float) -> Fit:
    """Learn to tell the classes of these rows apart, in float64, from weights of zero.

    Parameters
    ----------
    rows : (N, D) floats
    labels : (N,) integers
    c : float
        1 / lambda.

    Raises
    ------
    DataError
        Rows of fewer than two classes, or that are not finite.
    InputError
        A strength that is not over 0.
    MissingExtraError
        SciPy is not installed.

    Examples
    --------
    >>> rows, labels = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    >>> found = fit(rows, labels, c=1.0)
    >>> found.scores(rows, 2).argmax(axis=1).tolist(), found.converged
    ([0, 0, 1, 1], True)
    """
    if not 0 < c < np.inf:
        raise InputError(f"C is {c:g}: expected a number over 0, such as those from 1e-6 to 1e6")
    checked = _checked(rows, labels)
    centre = checked.astype(np.float64).mean(axis=0)
    moved = checked - centre
    basis = _span(moved)
    problem = _Problem.of(moved if basis is None else moved @ basis, labels)
    found = minimise(problem.loss(c), np.zeros(problem.parameters), tolerance=TOLERANCE, most=MOST_ITERATIONS)
    weights, intercepts = problem.linear(found.place)
    weights = weights if basis is None else weights @ basis.T  # (K, D)
    return Fit(c, problem.classes, weights, intercepts - weights @ centre, found.steps, found.converged)


def search(
    rows: Rows,
    labels: Labels,
    validation: Rows,
    truth: Labels,
    learnt: Callable[[int], object] | None = None,
) -> Searched:
    """The strength of L2 whose fit names most validation rows right, by the paper's search (`peak`).

    Parameters
    ----------
    rows, labels : (N, D) and (N,)
        What teaches.
    validation, truth : (V, D) and (V,)
        What chooses, V over 0.
    learnt : callable, optional
        Called with 1 after each fit.

    Returns
    -------
    Searched
        At most 15 of the 97 strengths were tried. Of equally good ones the weakest
        regularisation counts.
    """
    checked = _checked(rows, labels)
    centre = checked.mean(axis=0, dtype=np.float64)
    taught, asked = ((part - centre).astype(np.float32) for part in (checked, validation))
    if (basis := _span(taught)) is not None:
        taught, asked = taught @ basis, asked @ basis
    count = int(max(labels.max(), truth.max())) + 1
    problem = _Problem.of(taught, labels)
    places: dict[int, Vector] = {}
    tried: dict[int, Tried] = {}

    def score(at: int) -> float:
        stronger = [other for other in places if other < at]
        warm = stronger and GRID[at] <= WARM
        found = minimise(
            problem.loss(GRID[at]),
            places[max(stronger)] if warm else np.zeros(problem.parameters),
            tolerance=TOLERANCE,
            most=MOST_ITERATIONS,
            rounding=ROUNDING,
        )
        places[at] = found.place
        weights, intercepts = problem.linear(found.place)
        told = Fit(GRID[at], problem.classes, weights, intercepts, found.steps, found.converged)
        accuracy = metrics.accuracy(told.scores(asked, count), truth)
        tried[at] = Tried(GRID[at], accuracy, found.steps, found.converged)
        if learnt is not None:
            learnt(1)
        return accuracy

    peak = find_peak(score)
    return Searched(GRID[peak.place], tuple(tried[place] for place in peak.scores))


def _span(rows: Rows) -> Rows | None:
    """Orthonormal columns that span the rows, (D, N); None where there are as many rows as columns."""
    if len(rows) >= rows.shape[1]:
        return None
    basis: Rows = np.linalg.qr(rows.T)[0]
    return basis


def _checked(rows: Rows, labels: Labels) -> Rows:
    if len(np.unique(labels)) < 2:
        raise DataError("a linear probe tells classes apart: expected pictures of two classes to learn from")
    if not np.isfinite(rows).all():
        raise DataError("some features are not finite: the encoder's output is broken")
    return rows


@dataclass(frozen=True, eq=False)
class _Problem:
    """What a fit is to minimise; it computes in the precision of its rows.

    Parameters of K classes are K columns of weights and, under them, K intercepts, in one vector. Of two
    classes only the second has a column, beside a logit of 0 for the first, as in scikit-learn: two columns
    would be their own opposites, and together pay half of the L2 of one that does the work of both.
    """

    rows: Rows  # (N, D)
    places: Labels  # (N,) of each row's class among `classes`
    classes: Labels  # (K,)

    @classmethod
    def of(cls, rows: Rows, labels: Labels) -> _Problem:
        classes, places = np.unique(labels, return_inverse=True)
        return cls(rows, places, classes)

    @property
    def columns(self) -> int:
        return len(self.classes) if len(self.classes) > 2 else 1

    @property
    def parameters(self) -> int:
        return (int(self.rows.shape[1]) + 1) * self.columns

    def linear(self, parameters: Vector) -> tuple[Vector, Vector]:
        """Weights, a row for each column, and intercepts."""
        table = parameters.reshape(-1, self.columns)
        return table[:-1].T, table[-1]

    def loss(self, c: float) -> Callable[[Vector], tuple[float, Vector]]:
        """From parameters to the loss and its gradient."""
        rows, own = self.rows, (np.arange(len(self.rows)), self.places)
        binary = self.columns == 1

        def value_and_gradient(parameters: Vector) -> tuple[float, Vector]:
            table = parameters.reshape(-1, self.columns)  # (D + 1, K)
            weights = table[:-1]
            logits = rows @ weights.astype(rows.dtype) + table[-1].astype(rows.dtype)  # (N, K)
            if binary:
                logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
            logits -= logits.max(axis=1, keepdims=True)
            right = logits[own]  # (N,)
            shares = np.exp(logits, out=logits)
            totals = shares.sum(axis=1)
            entropy = float((np.log(totals) - right).sum(dtype=np.float64))
            shares /= totals[:, None]
            shares[own] -= 1  # the gradient of the entropies by the logits
            if binary:
                shares = shares[:, 1:]
            gradient = np.empty_like(table)
            gradient[:-1] = rows.T @ shares
            gradient[-1] = shares.sum(axis=0)
            gradient[:-1] += weights / c
            return entropy + float((weights**2).sum()) / (2 * c), gradient.ravel()

        return value_and_gradient


def _table(logits: NDArray[np.float64], classes: Labels, count: int) -> NDArray[np.float64]:
    """Logits of the classes that were seen at their places, (N, count)."""
    if logits.shape[1] == 1:  # of two classes the second's is learnt, beside 0 for the first
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    table = np.full((len(logits), count), -np.inf)
    table[:, classes] = logits
    return table
