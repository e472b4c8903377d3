"""How many labelled pictures a class zero-shot is worth (paper, section 3.1.5 and figure 7).

Pure functions of a few-shot curve and a level; where these come from is `few_shot`'s business.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from diptych.errors import InputError

_ROUNDING = 1e-9  # means of the same hits, taken in another order


@dataclass(frozen=True)
class Equal:
    """A number of shots, or on which side of the measured ones it lies.

    Attributes
    ----------
    shots : float
    relation : "=", "<" or ">"
        "<" 1: better is reached with the first measured number already; ">" 16: not with the last.

    Examples
    --------
    >>> str(Equal(16, ">")), str(Equal(3.14159)), str(Equal(1, "<"))
    ('> 16', '3.1', '< 1')
    """

    shots: float
    relation: Literal["=", "<", ">"] = "="

    def __str__(self) -> str:
        if self.relation == "=":
            return f"{self.shots:.1f}"
        return f"{self.relation} {self.shots:g}"


def equal_shots(shots: Sequence[float], accuracies: Sequence[float], level: float) -> Equal:
    """How many shots reach a level, by straight lines between measured points over the logarithm of shots.

    Parameters
    ----------
    shots : sequence of K numbers
        Pictures of each class, over 0, rising.
    accuracies : sequence of K floats
    level : float
        Of zero-shot.

    Returns
    -------
    Equal
        Where the curve first reaches the level. Below the first point and above the last nothing is
        guessed.

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
        return Equal(shots[0], "=" if level >= accuracies[0] - _ROUNDING else "<")
    points = list(zip(shots, accuracies, strict=True))
    for (low, under), (high, over) in itertools.pairwise(points):
        if over >= level - _ROUNDING:  # and every one before is below
            way = min((level - under) / (over - under), 1.0)
            return Equal(math.exp(math.log(low) + way * (math.log(high) - math.log(low))))
    return Equal(shots[-1], ">")
