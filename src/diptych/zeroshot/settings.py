"""Which settings of a classifier are valid, alone and beside each other.

As in scikit-learn `__init__` only stores, so they are looked at when `fit` is called or a file is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diptych.errors import InputError
from diptych.zeroshot import scoring

# What a saved classifier carries of its parameters; the others are about the machine.
SAVED = ("templates", "activation", "multi_label", "against", "synonyms", "none_cutoff", "none_method")

_CHOICES = {
    "activation": ("auto", "softmax", "sigmoid"),
    "synonyms": ("mean", "max"),
    "none_method": ("auto", "mcm", "cosine"),
}


def check(settings: Mapping[str, Any], bias: float) -> None:
    """Refuse settings that are not among the valid ones; `bias` is the encoder's.

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
    """The cut-off as a float, when some confidences can be over it and some under.

    Raises
    ------
    InputError
        A number that no confidence reaches, or that all of them do; a classifier that needs none.

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
    if not low - 1e-6 <= cutoff <= high + 1e-6:  # what was measured in float32 may stand on the edge
        what = "a softmax of the cosines" if method == "mcm" else "a cosine"
        raise InputError(
            f"a cut-off of {cutoff:g} for none of these: with {classes} class{'es' * (classes > 1)} the "
            f"confidence lies between {low:.3f} and {high:.3f} ({what})"
        )
    return float(cutoff)
