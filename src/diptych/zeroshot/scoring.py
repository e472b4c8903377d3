"""Probabilities, confidences and cut-offs from cosines. Pure functions of arrays.

Legend: N pictures, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError

Floats = NDArray[np.float32]


def unit(rows: ArrayLike) -> Floats:
    """Normalise rows to length one; rows of zeros are kept."""
    table = np.asarray(rows, dtype=np.float32)
    length = np.linalg.norm(table, axis=-1, keepdims=True)
    result: Floats = table / np.maximum(length, np.finfo(np.float32).tiny)
    return result


def sphere_mean(rows: ArrayLike, starts: NDArray[np.intp]) -> Floats:
    """Normalised mean of the normalised rows of each group; groups are consecutive, from `starts` on.

    Examples
    --------
    >>> sphere_mean([[2, 0], [0, 1], [0, 3]], np.array([0, 2])).astype(float).round(4).tolist()
    [[0.7071, 0.7071], [0.0, 1.0]]
    """
    return unit(np.add.reduceat(unit(rows), starts, axis=0))


def softmax(logits: ArrayLike) -> Floats:
    """Softmax along the last axis, safe against overflow."""
    table = np.asarray(logits, dtype=np.float32)
    powers = np.exp(table - table.max(axis=-1, keepdims=True))
    result: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: ArrayLike) -> Floats:
    """Sigmoid, 1 / (1 + exp(-x)), safe against overflow.

    Examples
    --------
    >>> sigmoid([-1000.0, 0.0, 1000.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    half = np.float32(0.5)
    result: Floats = half * (1 + np.tanh(half * np.asarray(logits, dtype=np.float32)))
    return result


def check_activation(activation: str, bias: float) -> None:
    """Refuse the sigmoid for a model without a bias: cosines above 0, which most are, would score over 50."""
    if activation == "sigmoid" and bias == 0:
        raise InputError(
            'activation is "sigmoid", and this model has no logit_bias (trained with softmax): every label '
            'would score over 50; use "auto", and multi_label=True to judge each label by itself'
        )


def confidence(cosines: Floats, method: str) -> Floats:
    """Confidence of the best class, (N,), which is compared with the cut-off for "none of these".

    "mcm" is maximum concept matching: the largest softmax over the cosines at temperature 1 (Ming et al.
    2022, arXiv 2211.13445). It compares the best cosine with the others, which removes what an image has in
    common with every text. With the model's own scale almost all images would get 1. It needs two classes:
    cosines 0.30 and 0.20 give exp(0.3) / (exp(0.3) + exp(0.2)) = 0.525.

    "cosine" is the largest cosine itself: for one class, and for models trained with the sigmoid loss,
    whose cosines are comparable between images.
    """
    best: Floats = (softmax(cosines) if method == "mcm" else cosines).max(axis=1)
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


def quantile_cutoff(confidences: Floats, quantile: float) -> float:
    """Cut-off at a quantile of these confidences: 0.05 keeps 95 of 100 such images."""
    if not confidences.size or not 0 <= quantile < 1:
        raise InputError(
            f"quantile {quantile} of {confidences.size} pictures: expected 0 <= quantile < 1 and at least "
            "one picture"
        )
    return float(np.quantile(confidences, quantile))


def separating_cutoff(inside: Floats, outside: Floats) -> float:
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
    candidates = np.concatenate(
        [[levels[0]], (levels[1:] + levels[:-1]) / 2]
    )  # midpoints between confidences
    kept = 1 - np.searchsorted(np.sort(inside), candidates) / inside.size
    refused = np.searchsorted(np.sort(outside), candidates) / outside.size
    return float(candidates[np.argmax((kept + refused).round(9))])
