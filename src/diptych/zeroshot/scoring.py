"""Probabilities, confidences and cut-offs from cosines, and which settings of a classifier are valid.

As in scikit-learn, the classifier's `__init__` only stores its settings; they are checked when `fit` is
called or a file is read.

Legend: N pictures, C classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.encoder import normalize
from diptych.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from diptych.encoder import FloatArray

# Parameters that are saved with a classifier; batch_size and exact depend on the machine.
SAVED = ("templates", "activation", "multi_label", "against", "synonyms", "none_cutoff", "none_method")

_CHOICES = {
    "activation": ("auto", "softmax", "sigmoid"),
    "synonyms": ("mean", "max"),
    "none_method": ("auto", "mcm", "cosine"),
}


def sphere_mean(rows: ArrayLike, starts: NDArray[np.intp]) -> FloatArray:
    """Normalised mean of the normalised rows of each group; groups are consecutive, from `starts` on.

    Examples
    --------
    >>> sphere_mean([[2, 0], [0, 1], [0, 3]], np.array([0, 2])).astype(float).round(4).tolist()
    [[0.7071, 0.7071], [0.0, 1.0]]
    """
    return normalize(np.add.reduceat(normalize(rows), starts, axis=0))


def softmax(logits: ArrayLike) -> FloatArray:
    """Softmax along the last axis, safe against overflow."""
    table = np.asarray(logits, dtype=np.float32)
    powers = np.exp(table - table.max(axis=-1, keepdims=True))
    result: FloatArray = powers / powers.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: ArrayLike) -> FloatArray:
    """Sigmoid, 1 / (1 + exp(-x)), safe against overflow.

    Examples
    --------
    >>> sigmoid([-1000.0, 0.0, 1000.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    half = np.float32(0.5)
    result: FloatArray = half * (1 + np.tanh(half * np.asarray(logits, dtype=np.float32)))
    return result


def confidence(cosines: FloatArray, method: str) -> FloatArray:
    """Confidence of the best class, (N,), which is compared with the cut-off for "none of these".

    "mcm" is maximum concept matching: the largest softmax over the cosines at temperature 1 (Ming et al.
    2022, arXiv 2211.13445). It compares the best cosine with the others, which removes what an image has in
    common with every text. With the model's own scale almost all images would get 1. It needs two classes:
    cosines 0.30 and 0.20 give exp(0.3) / (exp(0.3) + exp(0.2)) = 0.525.

    "cosine" is the largest cosine itself: for one class, and for models trained with the sigmoid loss,
    whose cosines are comparable between images.
    """
    best: FloatArray = (softmax(cosines) if method == "mcm" else cosines).max(axis=1)
    return best


def confidence_range(method: str, classes: int) -> tuple[float, float]:
    """Smallest and largest possible `confidence`.

    For "mcm": all cosines are equal, or the best is 1 and the others are -1.

    Examples
    --------
    >>> [round(bound, 3) for bound in confidence_range("mcm", 10)]
    [0.1, 0.451]
    """
    if method != "mcm":
        return -1.0, 1.0
    return 1 / classes, float(1 / (1 + (classes - 1) * np.exp(-2.0)))


def quantile_cutoff(confidences: FloatArray, quantile: float) -> float:
    """Cut-off at a quantile of these confidences: 0.05 keeps 95 of 100 such images."""
    if not confidences.size or not 0 <= quantile < 1:
        raise InputError(
            f"quantile {quantile} of {confidences.size} pictures: expected 0 <= quantile < 1 and at least "
            "one picture"
        )
    return float(np.quantile(confidences, quantile))


def separating_cutoff(inside: FloatArray, outside: FloatArray) -> float:
    """Cut-off with the highest sum of (inside kept) and (outside refused): Youden's index (1950).

    Examples
    --------
    >>> round(separating_cutoff(np.float32([0.6, 0.7, 0.8]), np.float32([0.1, 0.2, 0.65])), 2)
    0.4
    """
    if not inside.size or not outside.size:
        raise InputError(
            f"{inside.size} pictures inside the classes and {outside.size} outside: expected some of both"
        )
    levels = np.unique(np.concatenate([inside, outside])).astype(np.float64)
    candidates = np.concatenate([[levels[0]], (levels[1:] + levels[:-1]) / 2])  # the lowest, and midpoints
    kept = 1 - np.searchsorted(np.sort(inside), candidates) / inside.size
    refused = np.searchsorted(np.sort(outside), candidates) / outside.size
    return float(candidates[np.argmax((kept + refused).round(9))])


def check_settings(settings: Mapping[str, Any], bias: float) -> None:
    """Refuse invalid settings; `bias` is the encoder's `logit_bias`.

    Raises
    ------
    InputError
    """
    for name, valid in _CHOICES.items():
        if settings[name] not in valid:
            raise InputError(f"{name} is {settings[name]!r}: expected {', '.join(valid)}")
    if settings["activation"] == "sigmoid" and bias == 0:  # cosines are above 0, mostly
        raise InputError(
            'activation is "sigmoid", and this model has no logit_bias (trained with softmax): every label '
            'would score over 50; use "auto", and multi_label=True to judge each label by itself'
        )
    if not settings["against"]:
        raise InputError('against is empty: expected "background", "negation" or texts')
    if not isinstance(settings["none_cutoff"], int | float | None):
        raise InputError(f"none_cutoff is {settings['none_cutoff']!r}: expected a number or None")


def check_cutoff(cutoff: float, method: str, classes: int, *, multi_label: bool) -> float:
    """Return the cut-off as a float.

    Raises
    ------
    InputError
        A number outside the range of possible confidences, or a multi-label classifier.

    Examples
    --------
    >>> check_cutoff(50, "mcm", 2, multi_label=False)
    Traceback (most recent call last):
        ...
    diptych.errors.InputError: a cut-off of 50 for none of these: with 2 classes the confidence lies between \
0.500 and 0.881 (a softmax of the cosines)
    """
    if multi_label:
        raise InputError("a multi-label classifier needs no cut-off for none: it may answer with no label")
    low, high = confidence_range(method, classes)
    if not low - 1e-6 <= cutoff <= high + 1e-6:  # float32 confidences may exceed the bounds
        measure = "a softmax of the cosines" if method == "mcm" else "a cosine"
        raise InputError(
            f"a cut-off of {cutoff:g} for none of these: with {classes} class{'es' * (classes > 1)} the "
            f"confidence lies between {low:.3f} and {high:.3f} ({measure})"
        )
    return float(cutoff)
