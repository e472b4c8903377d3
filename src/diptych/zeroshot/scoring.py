"""From cosines to probabilities, and from probabilities to "none of these". Pure functions of arrays.

Legend: N pictures, C classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.errors import InputError

Floats = NDArray[np.float32]


def unit(rows: ArrayLike) -> Floats:
    """Rows of length one; a row of zeros stays as it is."""
    table = np.asarray(rows, dtype=np.float32)
    length = np.linalg.norm(table, axis=-1, keepdims=True)
    result: Floats = table / np.maximum(length, np.finfo(np.float32).tiny)
    return result


def sphere_mean(rows: ArrayLike, starts: NDArray[np.intp]) -> Floats:
    """Mean on the sphere of consecutive groups of rows: each to length one, averaged, to length one again.

    Examples
    --------
    >>> sphere_mean([[2, 0], [0, 1], [0, 3]], np.array([0, 2])).astype(float).round(4).tolist()
    [[0.7071, 0.7071], [0.0, 1.0]]
    """
    return unit(np.add.reduceat(unit(rows), starts, axis=0))


def softmax(logits: ArrayLike) -> Floats:
    """Along the last axis, safe against overflow."""
    table = np.asarray(logits, dtype=np.float32)
    powers = np.exp(table - table.max(axis=-1, keepdims=True))
    result: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return result


def sigmoid(logits: ArrayLike) -> Floats:
    """1 / (1 + exp(-x)), safe against overflow.

    Examples
    --------
    >>> sigmoid([-1000.0, 0.0, 1000.0]).tolist()
    [0.0, 0.5, 1.0]
    """
    half: Floats = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * np.asarray(logits, dtype=np.float32)))
    return half


def check_activation(activation: str, bias: float) -> None:
    """Refuse the sigmoid for a model without a bias: every cosine above 0 would be a yes, and most are."""
    if activation == "sigmoid" and bias == 0:
        raise InputError(
            'activation is "sigmoid", and this model has no logit_bias (trained with softmax): every label '
            'would score over 50; use "auto", and multi_label=True to judge each label by itself'
        )


def confidence(cosines: Floats, method: str) -> Floats:
    """How sure the best answer is, (N,): what a cut-off for "none of these" is compared with.

    "mcm" is maximum concept matching: the largest softmax over the cosines at temperature 1 (Ming et al.
    2022, arXiv 2211.13445). It weighs the best cosine against the others, and so takes away
    what a picture has in common with every text; the model's own scale would push all pictures to 1. It
    needs two classes.

    "cosine" is the largest cosine itself: for one class, and for models trained with the sigmoid loss,
    whose cosines mean the same from picture to picture.
    """
    best: Floats = (softmax(cosines) if method == "mcm" else cosines).max(axis=1)
    return best


def confidence_range(method: str, classes: int) -> tuple[float, float]:
    """The least and the greatest `confidence` there can be.

    For "mcm" all cosines are equal, or the best is 1 and the others -1.

    Examples
    --------
    >>> [round(bound, 3) for bound in confidence_range("mcm", 10)]
    [0.1, 0.451]
    """
    if method != "mcm":
        return -1.0, 1.0
    return 1 / classes, float(1 / (1 + (classes - 1) * np.exp(-2.0)))


def quantile_cutoff(sure: Floats, quantile: float) -> float:
    """The cut-off below which `quantile` of these confidences fall: 0.05 keeps 95 of 100 such pictures."""
    if not sure.size or not 0 <= quantile < 1:
        raise InputError(
            f"quantile {quantile} of {sure.size} pictures: expected 0 <= quantile < 1 and some pictures"
        )
    return float(np.quantile(sure, quantile))


def separating_cutoff(inside: Floats, outside: Floats) -> float:
    """The cut-off with the best mean of (inside kept) and (outside refused): Youden's index (1950).

    Examples
    --------
    >>> round(separating_cutoff(np.float32([0.6, 0.7, 0.8]), np.float32([0.1, 0.2, 0.65])), 2)
    0.4
    """
    if not inside.size or not outside.size:
        raise InputError("a cut-off between two kinds of pictures needs some of both")
    levels = np.unique(np.concatenate([inside, outside])).astype(np.float64)
    candidates = np.concatenate([[levels[0]], (levels[1:] + levels[:-1]) / 2])
    kept = 1 - np.searchsorted(np.sort(inside), candidates) / inside.size
    refused = np.searchsorted(np.sort(outside), candidates) / outside.size
    return float(candidates[np.argmax((kept + refused).round(9))])
