"""The paper's search for a strength of L2 (appendix A.3): a grid, and a walk to its peak in few steps.

What is scored at a place of the grid, and what that costs, is the caller's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from diptych.errors import InputError

DECADES = (-6, 6)
PER_DECADE = 8
# 96 steps, both ends included. The paper counts 96 values: one end is left out of the count.
GRID = tuple(10.0 ** (DECADES[0] + step / PER_DECADE) for step in range(12 * PER_DECADE + 1))
COARSE = 2 * PER_DECADE  # the first round goes in steps of two decades: 1e-6, 1e-4, ..., 1e6
MOST_TRIED = 15  # 7 in the first round, then 2 in each of 4


@dataclass(frozen=True)
class Peak:
    """Where a search ended.

    Attributes
    ----------
    place : int
        Of the grid.
    scores : dict of int to float
        Place -> score of everything that was tried, in the order of the places.
    """

    place: int
    scores: dict[int, float]


def find_peak(score: Callable[[int], float], size: int = len(GRID), coarse: int = COARSE) -> Peak:
    """The best place of a grid whose scores rise to one peak and fall again.

    The first round tries every `coarse`-th place, from the first to the last. Each further round halves the
    step and tries both neighbours of the best place so far, until the step is one place. Of equally good
    places the last counts; with places in the order of C, that is the weakest regularisation.

    Parameters
    ----------
    score : callable
        From a place, 0 to `size` - 1, to a number, larger is better; called once for each place that is
        tried, in the first round from the first to the last.
    size : int
        Places of the grid; `coarse` times a whole number, and one more.
    coarse : int
        Step of the first round, a power of two.

    Returns
    -------
    Peak
        Of the paper's grid of 97 values at most 15 are tried.

    Raises
    ------
    InputError
        A step that is no power of two, or that does not go from the first place to the last.

    Notes
    -----
    Where the scores do not rise to one peak, as accuracies on few pictures never quite do, it is a place
    that neither neighbour beats, not always the best of all.
    With few validation pictures many places are equally good, often all from 1e-6 up, where L2 leaves little
    to learn. CoOp's published search (Zhou et al. 2022, arXiv 2109.01134) takes the weakest one, too.

    Examples
    --------
    >>> found = find_peak(lambda place: -abs(place - 37))
    >>> found.place, f"{GRID[found.place]:.3g}", len(found.scores)
    (37, '0.0422', 15)
    """
    if coarse < 1 or coarse & (coarse - 1) or size < 1 or (size - 1) % coarse:
        raise InputError(
            f"{size} places in steps of {coarse}: expected a power of two that leads from the first place "
            "to the last"
        )
    tried = {place: score(place) for place in range(0, size, coarse)}
    best = _best(tried)
    step = coarse // 2
    while step:
        for place in (best - step, best + step):
            if 0 <= place < size and place not in tried:
                tried[place] = score(place)
        best = _best(tried)
        step //= 2
    return Peak(best, dict(sorted(tried.items())))


def _best(tried: dict[int, float]) -> int:
    """The last of the best places."""
    return max(tried, key=lambda place: (tried[place], place))
