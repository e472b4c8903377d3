"""Effective robustness: accuracy under a shift beyond the prediction for ordinary models (Taori et al. 2020).

(arXiv 2007.00644; CLIP paper, section 3.3 and figure 13.) For models with standard training, the accuracy
under a shift is a linear function of the accuracy on the reference, on logit-scaled axes. Effective
robustness is the distance of a model above this line. Pure functions of accuracies.

An accuracy of 0 or 1 has no finite logit. Accuracies on n images are clipped to 1 / (2n) and 1 - 1 / (2n):
half an image from both ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError

Floats = NDArray[np.float64]
RESAMPLES = 1000


def logit(accuracy: ArrayLike, n: ArrayLike) -> Floats:
    """Logit, log(p / (1 - p)), of accuracies on `n` images, clipped half an image away from 0 and 1.

    Examples
    --------
    >>> logit([0.5, 0.75, 1.0], 100).round(4).tolist()        # the last as 0.995
    [0.0, 1.0986, 5.2933]
    """
    accuracies, counts = np.asarray(accuracy, np.float64), np.asarray(n, np.float64)
    if not ((accuracies >= 0) & (accuracies <= 1)).all() or not (counts >= 1).all():
        raise InputError(
            f"accuracies {accuracies.tolist()} on {counts.tolist()} pictures: expected 0 to 1, on 1 or more"
        )
    margin = 0.5 / counts
    clipped = np.clip(accuracies, margin, 1 - margin)
    logits: Floats = np.log(clipped / (1 - clipped))
    return logits


def expit(x: ArrayLike) -> Floats:
    """Sigmoid, 1 / (1 + exp(-x)), safe against overflow; the inverse of `logit`."""
    probabilities: Floats = 0.5 * (1 + np.tanh(0.5 * np.asarray(x, np.float64)))
    return probabilities


@dataclass(frozen=True)
class Line:
    """Line that predicts accuracy under a shift from accuracy on the reference.

    Attributes
    ----------
    slope, intercept : float
        Between logits.
    models : int
        Number of models it was fitted to.
    residual : float
        Root mean square residual, in logits.
    resampled : (B, 2) floats
        Slopes and intercepts of bootstrap samples of the models; empty with two models.
    """

    slope: float
    intercept: float
    models: int
    residual: float
    resampled: Floats

    def predict(self, reference: ArrayLike, n: ArrayLike) -> Floats:
        """Predicted accuracy under the shift, from the accuracy on `n` images of the reference."""
        return expit(self.slope * logit(reference, n) + self.intercept)

    def band(self, reference: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
        """Percentile interval of the line at each accuracy, over bootstrap samples of the models."""
        if not len(self.resampled):
            raise InputError(f"a line through {self.models} models has no band: expected three or more")
        x = np.atleast_1d(logit(reference, n))
        drawn = expit(self.resampled[:, :1] * x + self.resampled[:, 1:])  # (B, places)
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


def fit_line(
    reference: Sequence[float],
    shifted: Sequence[float],
    n: int,
    shifted_n: int | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Line:
    """Fit the line of ordinary models by least squares between logits.

    Parameters
    ----------
    reference, shifted : (M,) floats
        Accuracies of M models, in the same order.
    n, shifted_n : int
        Numbers of images on which they were measured.
    resamples, seed : int
        Of the bootstrap over models, for the band.

    Raises
    ------
    InputError
        Fewer than two models, or all with the same accuracy on the reference.

    Examples
    --------
    >>> line = fit_line([0.5, 0.9], [0.2, 0.5], 1000)
    >>> round(line.slope, 3), round(line.intercept, 3)        # logits (0, -1.386) and (2.197, 0)
    (0.631, -1.386)
    >>> line.predict(0.9, 1000).round(3).item()
    0.5
    """
    if len(reference) != len(shifted):
        raise InputError(f"{len(reference)} accuracies on the reference, {len(shifted)} under the shift")
    if len(reference) < 2:
        raise InputError(
            f"{len(reference)} ordinary models: a line needs two or more of different accuracy (three or "
            "more for a band); train some small ones, see recipes/robustness.py"
        )
    x, y = logit(reference, n), logit(shifted, shifted_n or n)
    if np.ptp(x) < 1e-9:
        raise InputError(
            f"all {len(x)} ordinary models have the accuracy {reference[0]:.3f} on the reference, so no line "
            "can be fitted: take models that differ in size or training"
        )
    slope, intercept = _least_squares(x, y)
    residual = float(np.sqrt(np.mean((y - slope * x - intercept) ** 2)))
    drawn = _resampled(x, y, resamples, np.random.default_rng(seed)) if len(x) > 2 else np.zeros((0, 2))
    return Line(slope, intercept, len(x), residual, drawn)


def predicted_draws(reference: Floats, line: Line, n: int, *, seed: int = 0) -> Floats:
    """Predictions of the line for bootstrap accuracies, each with a bootstrap sample of the line, (B,).

    Parameters
    ----------
    reference : (B,) floats
    line : Line
        Without a band it is taken as exact.
    n : int
        Number of images of the reference.
    """
    count = len(reference)
    lines = np.tile([line.slope, line.intercept], (count, 1))
    if len(line.resampled):
        lines = line.resampled[np.random.default_rng(seed).integers(0, len(line.resampled), count)]
    return expit(lines[:, 0] * logit(reference, n) + lines[:, 1])


def _least_squares(x: Floats, y: Floats) -> tuple[float, float]:
    centred = x - x.mean()
    slope = float((centred * (y - y.mean())).sum() / (centred**2).sum())
    return slope, float(y.mean() - slope * x.mean())


def _resampled(x: Floats, y: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Lines of bootstrap samples of the models, (count, 2); samples with a single accuracy are redrawn."""
    lines: list[tuple[float, float]] = []
    while len(lines) < count:
        rows = rng.integers(0, len(x), len(x))
        if np.ptp(x[rows]) > 1e-9:
            lines.append(_least_squares(x[rows], y[rows]))
    return np.array(lines).reshape(-1, 2)
