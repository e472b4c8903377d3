"""Validation of a classifier's settings, single and combined.

As in scikit-learn, `__init__` only stores them; they are checked when `fit` is called or a file is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych.errors import InputError
from diptych.zeroshot import scoring

# Parameters that are saved with a classifier; batch_size and exact depend on the machine.
SAVED = ("templates", "activation", "multi_label", "against", "synonyms", "none_cutoff", "none_method")

_CHOICES = {
    "activation": ("auto", "softmax", "sigmoid"),
    "synonyms": ("mean", "max"),
    "none_method": ("auto", "mcm", "cosine"),
}


def check(settings: Mapping[str, Any], bias: float) -> None:
    """Refuse invalid settings; `bias` is the encoder's `logit_bias`.

    Raises
    ------
    InputError
    """
    for name, valid in _CHOICES.items():
        if settings[name] not in valid:
            raise InputError(f"{name} is {settings[name]!r}: expected {', '.join(valid)}")
    scoring.check_activation(settings["activation"], bias)
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
    low, high = scoring.confidence_range(method, classes)
    if not low - 1e-6 <= cutoff <= high + 1e-6:  # float32 confidences may exceed the bounds
        measure = "a softmax of the cosines" if method == "mcm" else "a cosine"
        raise InputError(
            f"a cut-off of {cutoff:g} for none of these: with {classes} class{'es' * (classes > 1)} the "
            f"confidence lies between {low:.3f} and {high:.3f} ({measure})"
        )
    return float(cutoff)
