"""Models side by side where pictures shift: what each loses, gains on a baseline, has beyond the ordinary.

(CLIP paper, section 3.3; Taori et al. 2020, arXiv 2007.00644.) What a model makes of a reference and its
shifts is measured in `shifts.py`; lines and logits are `effective.py`'s, what it looks like
`robustness_report.py`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diptych.errors import InputError
from diptych.evaluation.effective import (
    RESAMPLES,
    Line,
    effective_interval,
    effective_robustness,
    fit_line,
)
from diptych.evaluation.shifts import Floats, ShiftGroup, Standing
from diptych.reports import Estimate


@dataclass(frozen=True)
class Robustness:
    """How robust one model is, in one series of shifts.

    Attributes
    ----------
    model : str
    ordinary : bool
        The line was fitted to it.
    reference, shifted : Estimate
        Accuracies; over several shifts their means.
    drop : Estimate
        Reference less shifted.
    relative : Estimate or None
        Shifted less the baseline's; None without a baseline, or of the baseline itself.
    effective : Estimate or None
        Shifted less what the line says; None without ordinary models.
    """

    model: str
    ordinary: bool
    reference: Estimate
    shifted: Estimate
    drop: Estimate
    relative: Estimate | None
    effective: Estimate | None


@dataclass(frozen=True)
class RobustnessComparison:
    """Models side by side.

    Attributes
    ----------
    group : ShiftGroup
    standings : sequence of Standing
        The models asked about first, then the ordinary ones.
    baseline : str
        The model that relative robustness is against; "" if there is none.
    lines : mapping of series to Line
        Empty without ordinary models.
    models : mapping of series to sequence of Robustness
        In the order of `standings`.
    """

    group: ShiftGroup
    standings: Sequence[Standing]
    baseline: str
    lines: Mapping[str, Line]
    models: Mapping[str, Sequence[Robustness]]

    @property
    def main(self) -> str:
        """The series that stands for the others."""
        return list(self.models)[-1]


def compare_robustness(
    group: ShiftGroup,
    standings: Sequence[Standing],
    ordinary: Sequence[Standing] = (),
    *,
    baseline: str = "",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RobustnessComparison:
    """Set models side by side, and against the line of the ordinary ones.

    Parameters
    ----------
    group : ShiftGroup
        That was measured.
    standings : sequence of Standing
        The models in question.
    ordinary : sequence of Standing
        Models trained in the ordinary way, on data like the reference: the line is theirs. Two at least, or
        none: then there is no effective robustness.
    baseline : str
        Name of the model for relative robustness; by default the first ordinary one, else the first.
    resamples, seed : int
        For the intervals.

    Raises
    ------
    InputError
        No model, two of one name, one ordinary model or ones of equal accuracy, or a baseline that is none.
    """
    every = [*standings, *ordinary]
    names = [one.model for one in every]
    if not every:
        raise InputError("no model to compare: measure one at least")
    if len(set(names)) < len(names):
        raise InputError(f"two models of one name among {', '.join(names)}: give each its own")
    against = baseline or (ordinary[0].model if ordinary else names[0] if len(names) > 1 else "")
    if against and against not in names:
        raise InputError(f"baseline {against!r} is none of the models: {', '.join(names)}")
    drawn = {one.model: one.draws(resamples, seed) for one in every}
    lines: dict[str, Line] = {}
    models: dict[str, list[Robustness]] = {}
    for name, columns in group.series.items():
        if ordinary:
            lines[name] = _line(ordinary, columns, resamples, seed)
        rest = (against, every, drawn, lines.get(name), seed)
        models[name] = [_robustness(one, n >= len(standings), columns, *rest) for n, one in enumerate(every)]
    return RobustnessComparison(group, every, against, lines, models)


def _line(ordinary: Sequence[Standing], columns: Sequence[int], resamples: int, seed: int) -> Line:
    means = np.array([one.accuracies()[:, columns].mean(1) for one in ordinary])  # (M, 2)
    shifted_n = min(ordinary[0].shifts[column].n for column in columns)
    reference, shifted = means[:, 0].tolist(), means[:, 1].tolist()
    return fit_line(reference, shifted, ordinary[0].reference.n, shifted_n, resamples=resamples, seed=seed)


def _robustness(
    one: Standing,
    ordinary: bool,
    columns: Sequence[int],
    against: str,
    every: Sequence[Standing],
    drawn: Mapping[str, Floats],
    line: Line | None,
    seed: int,
) -> Robustness:
    n, shifted_n = one.reference.n, min(one.shifts[column].n for column in columns)
    reference, shifted = one.accuracies()[:, columns].mean(1)
    draws = drawn[one.model][:, :, columns].mean(2)  # (B, 2)
    relative = effective = None
    if against and against != one.model:
        base = next(other for other in every if other.model == against)
        gained = shifted - base.accuracies()[1, columns].mean()
        relative = _estimate(gained, draws[:, 1] - drawn[against][:, 1][:, columns].mean(1), shifted_n)
    if line is not None:
        low, high = effective_interval(draws[:, 0], draws[:, 1], line, n, seed=seed)
        effective = Estimate(effective_robustness(reference, shifted, line, n), low, high, shifted_n)
    return Robustness(
        one.model,
        ordinary,
        _estimate(reference, draws[:, 0], n),
        _estimate(shifted, draws[:, 1], shifted_n),
        _estimate(reference - shifted, draws[:, 0] - draws[:, 1], shifted_n),
        relative,
        effective,
    )


def _estimate(value: float, draws: Floats, n: int) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), n)
