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
from diptych.evaluation.robustness.effective import RESAMPLES, Line, fit_line, predicted_draws
from diptych.evaluation.robustness.shifts import Floats, ShiftGroup, Standing
from diptych.reports import Estimate
from diptych.stats.differences import difference
from diptych.stats.intervals import class_cases, ends, resampled_proportion


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
    n = one.reference.n
    draws = drawn[one.model][:, :, columns].mean(2)  # (B, 2)
    reference, shifted = _accuracies(one, columns, draws)
    relative = effective = None
    if against and against != one.model:
        base = next(other for other in every if other.model == against)
        base_draws = drawn[against][:, :, columns].mean(2)
        _, base_shifted = _accuracies(base, columns, base_draws)
        relative = _less(shifted, base_shifted, draws[:, 1], base_draws[:, 1])
    if line is not None:
        # The interval of what the line says: of the line's own draws, and never narrower than the
        # reference's, which resampling makes too narrow at 0 and 1.
        predicted = predicted_draws(draws[:, 0], line, n, seed=seed)
        reach = [*np.quantile(predicted, [0.025, 0.975]), *line.predict(ends(reference), n)]
        expected = Estimate(line.predict(reference.value, n).item(), float(min(reach)), float(max(reach)), n)
        effective = _less(shifted, expected, draws[:, 1], predicted)
    drop = _less(reference, shifted, draws[:, 0], draws[:, 1])
    return Robustness(one.model, ordinary, reference, shifted, drop, relative, effective)


def _accuracies(one: Standing, columns: Sequence[int], draws: Floats) -> list[Estimate]:
    """Of the reference and of the shifts, as means over some of the shifts."""
    sizes = [one.shifts[column].n for column in columns]
    # Corruptions are of one set of pictures: several of them are no more pictures.
    cases = (float(one.reference.n), float(min(sizes)) if one.paired else class_cases(sizes))
    counts = (one.reference.n, min(sizes))
    return [
        resampled_proportion(float(value), draws[:, side], cases[side], counts[side], cap=False)
        for side, value in enumerate(one.accuracies()[:, columns].mean(1))
    ]


def _less(first: Estimate, second: Estimate, draws: Floats, others: Floats) -> Estimate:
    """First less second, which vary together as their draws do."""
    varies = np.ptp(draws) > 0 and np.ptp(others) > 0
    n = min(first.n or 0, second.n or 0)
    # Never quite 1: that two never differed on these pictures is not that they never do.
    shared = float(np.corrcoef(draws, others)[0, 1]) * n / (n + 4) if varies else 0.0
    gap = difference(first, second, shared)
    return Estimate(gap.value, gap.low, gap.high, n)
