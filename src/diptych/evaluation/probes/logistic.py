"""Logistic regression on image features, and the search for its L2 strength.

The loss is the sum of the cross-entropies over images, plus lambda / 2 times the squared weights; C = 1 /
lambda, as in scikit-learn. The intercept is not regularised.

A fit stops if no entry of the gradient of that sum exceeds 1e-4, or if a step decreases the loss by no more
than rounding errors. The first was scikit-learn's rule when the paper was written; since 1.4 it uses the
gradient of the mean (pull request 26721), which for N images is N times as loose: with the default tolerance
its fits stop long before the minimum.

Four measures make fits fast without changing the minimum; `benchmarks/probe.py` times them together.

- Features are centred. The intercept, which is not regularised, absorbs the shift. Features of an image tower
  are mostly positive; once centred, L-BFGS needs a fifth to a third of the steps.
- With fewer images than features, as in few-shot probes, features are replaced by coordinates in the space
  they span: 16 images of width 512 become 16 x 16. The best weights lie in that space, because a component
  orthogonal to all features increases the L2 term and changes no logit; neither L2 nor L-BFGS depends on the
  choice of axes.
- In a search, a fit starts from the solution of the next stronger regularisation, up to C = `WARM`. The
  stopping rule keeps weights within 1e-4 * C * sqrt(their number) of the minimum. For larger C on separable
  features the result would depend on the start, so these fits start from zero, as the reported fit does.
- A search computes logits and gradients in float32 and stops if a decrease of the loss is below float32's
  precision; the reported fit computes in float64. Up to C = `WARM` both classified the same number of
  validation images correctly, except for one of 300 (a search does not support columns whose scales differ by
  more than five orders of magnitude, a fit does). Reported figures must be reproducible on other machines,
  and with weak regularisation logits grow into the thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DataError, InputError
from diptych.evaluation.probes.lbfgs import Vector, minimise
from diptych.evaluation.probes.regularisation_search import GRID, search_grid
from diptych.stats import metrics

Features: TypeAlias = NDArray[np.floating]
Labels: TypeAlias = NDArray[np.int64]

MAX_ITERATIONS = 1000  # appendix A.3
WARM = 100.0  # C
TOLERANCE = 1e-4  # largest entry of the gradient of the sum over pictures
ROUNDING = 1e-7  # relative precision of a loss in float32


@dataclass(frozen=True, eq=False)
class LinearFit:
    """A fitted linear classifier.

    Attributes
    ----------
    c : float
        1 / lambda.
    classes : (K,) integers
        Classes of the training labels; others are never predicted.
    weights : (K, D) or, of two classes, (1, D)
    intercepts : (K,) or (1,)
    converged : bool
        By one of the two rules above, within `MAX_ITERATIONS`.
    """

    c: float
    classes: Labels
    weights: NDArray[np.float64]
    intercepts: NDArray[np.float64]
    iterations: int
    converged: bool

    def scores(self, features: Features, count: int) -> NDArray[np.float64]:
        """Logits of `count` classes, (N, count); minus infinity for classes without training images."""
        logits = features.astype(np.float64) @ self.weights.T + self.intercepts
        return _table(logits, self.classes, count)


@dataclass(frozen=True)
class StrengthTrial:
    """A strength and its accuracy on the validation images."""

    c: float
    accuracy: float
    iterations: int
    converged: bool


@dataclass(frozen=True)
class StrengthSearch:
    """Result of a search: the chosen strength, and all trials, the strongest regularisation first."""

    c: float
    tried: tuple[StrengthTrial, ...]


def fit(features: Features, labels: Labels, c: float) -> LinearFit:
    """Fit a linear classifier in float64, starting from zero weights.

    Parameters
    ----------
    features : (N, D) floats
    labels : (N,) integers
    c : float
        1 / lambda.

    Raises
    ------
    DataError
        Fewer than two classes, or features that are not finite.
    InputError
        A strength that is not above 0.
    MissingExtraError
        SciPy is not installed.

    Examples
    --------
    >>> features, labels = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    >>> classifier = fit(features, labels, c=1.0)
    >>> classifier.scores(features, 2).argmax(axis=1).tolist(), classifier.converged
    ([0, 0, 1, 1], True)
    """
    if not 0 < c < np.inf:
        raise InputError(f"C is {c:g}: expected a number above 0, such as 1e-6 to 1e6")
    checked = _checked(features, labels)
    centre = checked.astype(np.float64).mean(axis=0)
    centred = checked - centre
    basis = _span(centred)
    problem = _Problem.of(centred if basis is None else centred @ basis, labels)
    minimum = minimise(
        problem.loss(c), np.zeros(problem.parameters), tolerance=TOLERANCE, max_steps=MAX_ITERATIONS
    )
    weights, intercepts = problem.linear(minimum.point)
    weights = weights if basis is None else weights @ basis.T  # (K, D)
    return LinearFit(
        c, problem.classes, weights, intercepts - weights @ centre, minimum.steps, minimum.converged
    )


def search(
    features: Features,
    labels: Labels,
    validation: Features,
    validation_labels: Labels,
    progress: Callable[[int], object] | None = None,
) -> StrengthSearch:
    """Search the L2 strength with the best validation accuracy, by `regularisation_search.search_grid`.

    Parameters
    ----------
    features, labels : (N, D) and (N,)
        Training data.
    validation, validation_labels : (V, D) and (V,)
        Validation data, V above 0.
    progress : callable, optional
        Called with 1 after each fit.

    Returns
    -------
    StrengthSearch
        With at most 15 of the 97 strengths. Of equally good ones the weakest regularisation is chosen.
    """
    checked = _checked(features, labels)
    centre = checked.mean(axis=0, dtype=np.float64)
    train, held_out = ((part - centre).astype(np.float32) for part in (checked, validation))
    if (basis := _span(train)) is not None:
        train, held_out = train @ basis, held_out @ basis
    count = int(max(labels.max(), validation_labels.max())) + 1
    problem = _Problem.of(train, labels)
    solutions: dict[int, Vector] = {}
    tried: dict[int, StrengthTrial] = {}

    def score(index: int) -> float:
        stronger = [other for other in solutions if other < index]
        warm = stronger and GRID[index] <= WARM
        minimum = minimise(
            problem.loss(GRID[index]),
            solutions[max(stronger)] if warm else np.zeros(problem.parameters),
            tolerance=TOLERANCE,
            max_steps=MAX_ITERATIONS,
            rounding=ROUNDING,
        )
        solutions[index] = minimum.point
        weights, intercepts = problem.linear(minimum.point)
        fit_at = LinearFit(
            GRID[index], problem.classes, weights, intercepts, minimum.steps, minimum.converged
        )
        accuracy = metrics.accuracy(fit_at.scores(held_out, count), validation_labels)
        tried[index] = StrengthTrial(GRID[index], accuracy, minimum.steps, minimum.converged)
        if progress is not None:
            progress(1)
        return accuracy

    result = search_grid(score)
    return StrengthSearch(GRID[result.position], tuple(tried[index] for index in result.scores))


def _span(features: Features) -> Features | None:
    """Orthonormal basis of the space that N features of width D span, (D, N); None if N >= D."""
    if len(features) >= features.shape[1]:
        return None
    basis: Features = np.linalg.qr(features.T)[0]
    return basis


def _checked(features: Features, labels: Labels) -> Features:
    if len(np.unique(labels)) < 2:
        raise DataError("expected training pictures of two classes or more for a linear probe")
    if not np.isfinite(features).all():
        raise DataError("some features are not finite: the encoder's output is broken")
    return features


@dataclass(frozen=True, eq=False)
class _Problem:
    """Loss of a fit, computed in the precision of the features.

    The parameters of K classes are a (D + 1, K) table in one vector: D rows of weights, then the intercepts.
    With two classes there is one column, for the second class; the logit of the first is 0, as in
    scikit-learn. Two columns w / 2 and -w / 2 would give the same probabilities with half the L2 term of one
    column w, so the same C would regularise less.
    """

    features: Features  # (N, D)
    class_indices: Labels  # (N,) index of each label in `classes`
    classes: Labels  # (K,)

    @classmethod
    def of(cls, features: Features, labels: Labels) -> _Problem:
        classes, class_indices = np.unique(labels, return_inverse=True)
        return cls(features, class_indices, classes)

    @property
    def columns(self) -> int:
        return len(self.classes) if len(self.classes) > 2 else 1

    @property
    def parameters(self) -> int:
        return (int(self.features.shape[1]) + 1) * self.columns

    def linear(self, parameters: Vector) -> tuple[Vector, Vector]:
        """Weights, (columns, D), and intercepts, (columns,)."""
        table = parameters.reshape(-1, self.columns)
        return table[:-1].T, table[-1]

    def loss(self, c: float) -> Callable[[Vector], tuple[float, Vector]]:
        """Return a function from parameters to the loss and its gradient."""
        features, own_positions = self.features, (np.arange(len(self.features)), self.class_indices)
        binary = self.columns == 1

        def value_and_gradient(parameters: Vector) -> tuple[float, Vector]:
            table = parameters.reshape(-1, self.columns)  # (D + 1, K)
            weights = table[:-1]
            logits = features @ weights.astype(features.dtype) + table[-1].astype(features.dtype)  # (N, K)
            if binary:
                logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
            logits -= logits.max(axis=1, keepdims=True)
            label_logits = logits[own_positions]  # (N,)
            probabilities = np.exp(logits, out=logits)
            totals = probabilities.sum(axis=1)
            entropy = float((np.log(totals) - label_logits).sum(dtype=np.float64))
            probabilities /= totals[:, None]
            probabilities[own_positions] -= 1  # gradient of the cross-entropies with respect to the logits
            if binary:
                probabilities = probabilities[:, 1:]
            gradient = np.empty_like(table)
            gradient[:-1] = features.T @ probabilities
            gradient[-1] = probabilities.sum(axis=0)
            gradient[:-1] += weights / c
            return entropy + float((weights**2).sum()) / (2 * c), gradient.ravel()

        return value_and_gradient


def _table(logits: NDArray[np.float64], classes: Labels, count: int) -> NDArray[np.float64]:
    """Put the logits of the training classes in their columns of a table, (N, count)."""
    if logits.shape[1] == 1:  # of two classes: the first has the logit 0
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    table = np.full((len(logits), count), -np.inf)
    table[:, classes] = logits
    return table
