"""Data efficiency: the number of labelled images per class that zero-shot equals (paper, figure 7).

Pure functions of a few-shot curve and the zero-shot accuracy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from diptych.errors import InputError

_ROUNDING = 1e-9  # means of the same hits differ by the order of summation


@dataclass(frozen=True)
class EquivalentShots:
    """Number of shots with the same accuracy, or a bound if it is outside the measured range.

    Attributes
    ----------
    relation : "=", "<" or ">"
        "<" 1: the first measured number of shots is better already; ">" 16: the last is still worse.

    Examples
    --------
    >>> str(EquivalentShots(16, ">")), str(EquivalentShots(3.14159)), str(EquivalentShots(1, "<"))
    ('> 16', '3.1', '< 1')
    """

    shots: float
    relation: Literal["=", "<", ">"] = "="

    def __str__(self) -> str:
        if self.relation == "=":
            return f"{self.shots:.1f}"
        return f"{self.relation} {self.shots:g}"


def equal_shots(shots: Sequence[float], accuracies: Sequence[float], level: float) -> EquivalentShots:
    """Number of shots that reach an accuracy, by linear interpolation over the logarithm of shots.

    Parameters
    ----------
    shots : sequence of K numbers
        Images per class, above 0, rising.
    accuracies : sequence of K floats
    level : float
        Accuracy of zero-shot.

    Returns
    -------
    EquivalentShots
        Where the curve first reaches the level; there is no extrapolation below the first or above the last
        point.

    Raises
    ------
    InputError
        No points, or numbers of shots that do not rise.

    Examples
    --------
    >>> str(equal_shots([1, 2, 4, 8, 16], [0.2, 0.3, 0.4, 0.5, 0.6], 0.45))    # 2 ** 2.5
    '5.7'
    >>> str(equal_shots([1, 2, 4], [0.2, 0.3, 0.4], 0.1)), str(equal_shots([1, 2, 4], [0.2, 0.3, 0.4], 0.5))
    ('< 1', '> 4')
    """
    if not shots or len(shots) != len(accuracies):
        raise InputError(f"{len(shots)} numbers of shots for {len(accuracies)} accuracies: expected one each")
    if shots[0] <= 0 or any(later <= earlier for earlier, later in itertools.pairwise(shots)):
        raise InputError(f"shots {', '.join(f'{k:g}' for k in shots)}: expected rising numbers over 0")
    if level <= accuracies[0] + _ROUNDING:
        return EquivalentShots(shots[0], "=" if level >= accuracies[0] - _ROUNDING else "<")
    points = list(zip(shots, accuracies, strict=True))
    for (low, under), (high, over) in itertools.pairwise(points):
        if over >= level - _ROUNDING:  # all earlier points are below
            fraction = min((level - under) / (over - under), 1.0)
            return EquivalentShots(math.exp(math.log(low) + fraction * (math.log(high) - math.log(low))))
    return EquivalentShots(shots[-1], ">")
