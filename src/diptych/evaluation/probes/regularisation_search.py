"""Search of the regularisation strength (paper, appendix A.3): a coarse grid, refined around the maximum.

The caller provides the score of a grid position, such as the accuracy of a fit on validation images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from diptych.errors import InputError

DECADES = (-6, 6)
PER_DECADE = 8
# 96 steps, including both ends. The paper counts 96 values, leaving one end out.
GRID = tuple(10.0 ** (DECADES[0] + step / PER_DECADE) for step in range(12 * PER_DECADE + 1))
COARSE = 2 * PER_DECADE  # the first round takes steps of two decades: 1e-6, 1e-4, ..., 1e6
MAX_TRIALS = 15  # 7 in the first round, then 2 in each of 4


@dataclass(frozen=True)
class GridSearch:
    """Result of a search on a grid.

    Attributes
    ----------
    position : int
        Position of the best score on the grid.
    scores : dict of int to float
        Position -> score of all trials, in the order of the positions.
    """

    position: int
    scores: dict[int, float]


def search_grid(score: Callable[[int], float], size: int = len(GRID), coarse: int = COARSE) -> GridSearch:
    """Find the best position of a grid whose scores have one maximum.

    The first round scores every `coarse`-th position. Each further round halves the step and scores both
    neighbours of the best position so far, until the step is 1. For example `coarse` 16 on 97 positions: 0,
    16, 32, ..., 96; if 32 is the best, then 24 and 40, and so on with steps of 4, 2 and 1. Of equal scores
    the last position wins; with positions in the order of C, that is the weakest regularisation.

    Parameters
    ----------
    score : callable
        From a position, 0 to `size` - 1, to a score, larger is better. It is called once per position, in the
        first round in rising order.
    size : int
        Number of positions; a multiple of `coarse`, plus 1.
    coarse : int
        Step of the first round, a power of two.

    Returns
    -------
    GridSearch
        At most 15 of the paper's 97 values are scored.

    Raises
    ------
    InputError
        A step that is not a power of two, or does not lead from the first to the last position.

    Notes
    -----
    If the scores have several maxima, as accuracies on few images usually do, the result is a position that
    neither neighbour exceeds, not always the best of all.
    With few validation images many positions have the same score, often all from 1e-6 upwards, where L2
    hardly restricts the fit. CoOp's published search (Zhou et al. 2022, arXiv 2109.01134) takes the weakest,
    too.

    Examples
    --------
    >>> result = search_grid(lambda position: -abs(position - 37))
    >>> result.position, f"{GRID[result.position]:.3g}", len(result.scores)
    (37, '0.0422', 15)
    """
    if coarse < 1 or coarse & (coarse - 1) or size < 1 or (size - 1) % coarse:
        raise InputError(
            f"{size} positions in steps of {coarse}: expected a power of two that leads from the first to "
            "the last"
        )
    scores = {position: score(position) for position in range(0, size, coarse)}
    best = _best(scores)
    step = coarse // 2
    while step:
        for position in (best - step, best + step):
            if 0 <= position < size and position not in scores:
                scores[position] = score(position)
        best = _best(scores)
        step //= 2
    return GridSearch(best, dict(sorted(scores.items())))


def _best(scores: dict[int, float]) -> int:
    """The last of the positions with the best score."""
    return max(scores, key=lambda position: (scores[position], position))
