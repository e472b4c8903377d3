"""Logistic regression on rows, by scikit-learn's L-BFGS, and the search for its strength of L2.

scikit-learn's C is 1 / lambda: the loss is C times the sum over pictures, plus half the squared weights.
Where rows come from, and which of them teach and which choose, is the caller's.

Both kinds of fit stop where no entry of the gradient of the sum is over 1e-4. That was scikit-learn's rule
when the paper was written; since 1.4 it is the gradient of the mean (pull request 26721), which for N
pictures is N times as loose: with the default tolerance fits end long before their best weights.

Four things make them fast and leave the best weights where they are; `benchmarks/probe.py` measures them
together.

- Rows are moved so that their mean is zero. The intercept, which L2 leaves alone, takes that up. Features of
  a tower are mostly positive: without their common part L-BFGS needs a fifth to a third of the steps.
- Of fewer pictures than features, as with a few shots, rows are turned into coordinates of the space they
  span. The best weights lie in it (what is at right angles to all rows costs L2 and changes no logit), and
  neither L2 nor a step of L-BFGS depends on the axes.
- In a search, a fit begins where that of the nearest stronger regularisation ended, up to `WARM`. The rule
  above holds weights to within 1e-4 * C * sqrt(their number) of the best ones: beyond, on rows that can be
  separated, a fit ends where its beginning leads it, so it begins at zero, as the one that is reported does.
- A search computes in float32, the fit that is reported in float64. Up to `WARM` both named the same number
  of validation pictures right, give or take one of 300, in half the time; but a reported figure is to come
  out again on another machine, and the logits of a weak regularisation grow into the thousands.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DataError, InputError
from diptych.evaluation import metrics
from diptych.evaluation.peak import GRID, find_peak
from diptych.extras import require

Rows = NDArray[np.floating]
Labels = NDArray[np.int64]

MOST_ITERATIONS = 1000  # appendix A.3
WARM = 100.0  # C
TOLERANCE = 1e-4  # largest entry of the gradient of the sum over pictures


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
        Within `MOST_ITERATIONS`.
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
        scikit-learn is not installed.

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
    model, converged = _solve(moved if basis is None else moved @ basis, labels, c)
    weights = model.coef_ if basis is None else model.coef_ @ basis.T  # (K, D)
    intercepts = model.intercept_ - weights @ centre
    return Fit(c, model.classes_, weights, intercepts, int(model.n_iter_[0]), converged)


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
    models: dict[int, Any] = {}
    tried: dict[int, Tried] = {}

    def score(place: int) -> float:
        stronger = [other for other in models if other < place]
        start = models[max(stronger)] if stronger and GRID[place] <= WARM else None
        models[place], converged = _solve(taught, labels, GRID[place], start)
        model = models[place]
        table = _table((asked @ model.coef_.T + model.intercept_).astype(np.float64), model.classes_, count)
        accuracy = metrics.accuracy(table, truth)
        tried[place] = Tried(GRID[place], accuracy, int(model.n_iter_[0]), converged)
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


def _solve(rows: Rows, labels: Labels, c: float, start: Any = None) -> tuple[Any, bool]:
    """scikit-learn's model, and whether it converged; its warning about that is turned into the latter."""
    linear = require("sklearn.linear_model", extra="evaluation", purpose="fit linear probes")
    exceptions = require("sklearn.exceptions", extra="evaluation", purpose="fit linear probes")
    model = linear.LogisticRegression(
        C=c, max_iter=MOST_ITERATIONS, tol=TOLERANCE / len(rows), warm_start=start is not None
    )
    if start is not None:
        model.coef_, model.intercept_ = start.coef_, start.intercept_
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.fit(rows, labels)
    unfinished = [one for one in told if issubclass(one.category, exceptions.ConvergenceWarning)]
    for one in told:
        if one not in unfinished:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return model, not unfinished


def _table(logits: NDArray[np.float64], classes: Labels, count: int) -> NDArray[np.float64]:
    """Logits of the classes that were seen at their places, (N, count)."""
    if logits.shape[1] == 1:  # of two classes the second's is learnt, beside 0 for the first
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    table = np.full((len(logits), count), -np.inf)
    table[:, classes] = logits
    return table
