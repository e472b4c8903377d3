"""Effective robustness: how far a model lies above the line of ordinary models (Taori et al. 2020).

(arXiv 2007.00644; CLIP paper, section 3.3 and figure 13.) Among models trained in the ordinary way, accuracy
under a shift is foretold by accuracy on the reference: on logit-scaled axes by a line. What a model has
beyond that line is its effective robustness. Pure functions of accuracies; where these come from is
`robustness.py`'s business.

An accuracy of 0 or 1 has no logit. Counted on n pictures, accuracies are kept half a picture away from both
ends: between 1 / (2n) and 1 - 1 / (2n).
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
    """log(p / (1 - p)) of accuracies counted on `n` pictures, kept half a picture away from 0 and 1.

    Examples
    --------
    >>> logit([0.5, 0.75, 1.0], 100).round(4).tolist()        # the last one as 0.995
    [0.0, 1.0986, 5.2933]
    """
    shares, counts = np.asarray(accuracy, np.float64), np.asarray(n, np.float64)
    if not ((shares >= 0) & (shares <= 1)).all() or not (counts >= 1).all():
        raise InputError(
            f"accuracies {shares.tolist()} on {counts.tolist()} pictures: expected 0 to 1, on some"
        )
    margin = 0.5 / counts
    clipped = np.clip(shares, margin, 1 - margin)
    found: Floats = np.log(clipped / (1 - clipped))
    return found


def expit(x: ArrayLike) -> Floats:
    """1 / (1 + exp(-x)), safe against overflow; the inverse of `logit`."""
    found: Floats = 0.5 * (1 + np.tanh(0.5 * np.asarray(x, np.float64)))
    return found


@dataclass(frozen=True)
class Line:
    """What ordinary models have under a shift, by what they have on the reference.

    Attributes
    ----------
    slope, intercept : float
        Between logits.
    models : int
        It was fitted to.
    residual : float
        Root mean square distance of these from it, in logits.
    resampled : (B, 2) floats
        Slopes and intercepts of as many draws of the models with replacement; none of two models.
    """

    slope: float
    intercept: float
    models: int
    residual: float
    resampled: Floats

    def predict(self, reference: ArrayLike, n: ArrayLike) -> Floats:
        """Accuracy under the shift of an ordinary model that has this one on `n` pictures."""
        return expit(self.slope * logit(reference, n) + self.intercept)

    def band(self, reference: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[Floats, Floats]:
        """Where the line may lie, given that the models are a sample: a percentile interval at each place."""
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
    """The line of ordinary models: least squares between logits.

    Parameters
    ----------
    reference, shifted : (M,) floats
        Accuracies of M models, in the same order.
    n, shifted_n : int
        Pictures they were counted on.
    resamples, seed : int
        Of the models, for the band.

    Raises
    ------
    InputError
        Fewer than two models, or all with one accuracy on the reference.

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
            f"{len(reference)} ordinary models: a line takes two or more, of unlike accuracy (three or more "
            "for a band); train some small ones, see recipes/robustness.py"
        )
    x, y = logit(reference, n), logit(shifted, shifted_n or n)
    if np.ptp(x) < 1e-9:
        raise InputError(
            f"all {len(x)} ordinary models have the accuracy {reference[0]:.3f} on the reference: no line "
            "goes through one place; take models of unlike size or training"
        )
    slope, intercept = _least_squares(x, y)
    residual = float(np.sqrt(np.mean((y - slope * x - intercept) ** 2)))
    drawn = _resampled(x, y, resamples, np.random.default_rng(seed)) if len(x) > 2 else np.zeros((0, 2))
    return Line(slope, intercept, len(x), residual, drawn)


def predicted_draws(reference: Floats, line: Line, n: int, *, seed: int = 0) -> Floats:
    """What the line says of accuracies on draws of the pictures, each with a draw of the line, (B,).

    Parameters
    ----------
    reference : (B,) floats
    line : Line
        Without a band it counts as known.
    n : int
        Pictures of the reference.
    seed : int
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
    """Lines through draws of the models, (count, 2); a draw of one accuracy alone is drawn again."""
    found: list[tuple[float, float]] = []
    while len(found) < count:
        rows = rng.integers(0, len(x), len(x))
        if np.ptp(x[rows]) > 1e-9:
            found.append(_least_squares(x[rows], y[rows]))
    return np.array(found).reshape(-1, 2)
