"""Comparison of models under distribution shift: drop, relative robustness and effective robustness.

(CLIP paper, section 3.3; Taori et al. 2020, arXiv 2007.00644.) Accuracies are measured in `shifts.py`, lines
are fitted in `effective.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diptych.errors import InputError
from diptych.evaluation.robustness.effective import RESAMPLES, Line, fit_line, predicted_draws
from diptych.evaluation.robustness.shifts import Floats, ShiftGroup, ShiftResults
from diptych.reports import Estimate
from diptych.stats.differences import difference
from diptych.stats.intervals import class_cases, ends, resampled_proportion


@dataclass(frozen=True)
class Robustness:
    """Robustness of one model to one series of shifts.

    Attributes
    ----------
    ordinary : bool
        Whether the line was fitted to it.
    reference, shifted : Estimate
        Accuracies; means over the shifts of the series.
    drop : Estimate
        Reference minus shifted.
    relative : Estimate or None
        Shifted minus that of the baseline; None without a baseline, or for the baseline itself.
    effective : Estimate or None
        Shifted minus the prediction of the line; None without ordinary models.
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
    """Robustness of several models.

    Attributes
    ----------
    model_results : sequence of ShiftResults
        The models in question, then the ordinary ones.
    baseline : str
        The model for relative robustness; "" if there is none.
    lines : mapping of series to Line
        Empty without ordinary models.
    models : mapping of series to sequence of Robustness
        In the order of `model_results`.
    """

    group: ShiftGroup
    model_results: Sequence[ShiftResults]
    baseline: str
    lines: Mapping[str, Line]
    models: Mapping[str, Sequence[Robustness]]

    @property
    def main(self) -> str:
        """The main series, the mean over all shifts."""
        return list(self.models)[-1]


def compare_robustness(
    group: ShiftGroup,
    model_results: Sequence[ShiftResults],
    ordinary: Sequence[ShiftResults] = (),
    *,
    baseline: str = "",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> RobustnessComparison:
    """Compare models with each other, and with the line of ordinary models.

    Parameters
    ----------
    group : ShiftGroup
        The measured data sets.
    model_results : sequence of ShiftResults
        The models in question.
    ordinary : sequence of ShiftResults
        Models with standard training on data like the reference, to which the line is fitted. At least two,
        or none: then there is no effective robustness.
    baseline : str
        Name of the model for relative robustness; by default the first ordinary one, else the first.
    resamples, seed : int
        For the intervals.

    Raises
    ------
    InputError
        No model, two with the same name, one ordinary model or several of equal accuracy, or an unknown
        baseline.
    """
    all_models = [*model_results, *ordinary]
    names = [model.model for model in all_models]
    if not all_models:
        raise InputError("no model to compare: measure at least one")
    if len(set(names)) < len(names):
        raise InputError(f"two models with the same name among {', '.join(names)}: give them different names")
    baseline_name = baseline or (ordinary[0].model if ordinary else names[0] if len(names) > 1 else "")
    if baseline_name and baseline_name not in names:
        raise InputError(f"baseline {baseline_name!r}: expected one of the models: {', '.join(names)}")
    bootstrap = {model.model: model.bootstrap_accuracies(resamples, seed) for model in all_models}
    lines: dict[str, Line] = {}
    models: dict[str, list[Robustness]] = {}
    for name, columns in group.series.items():
        if ordinary:
            lines[name] = _line(ordinary, columns, resamples, seed)
        arguments = (baseline_name, all_models, bootstrap, lines.get(name), seed)
        models[name] = [
            _robustness(model, number >= len(model_results), columns, *arguments)
            for number, model in enumerate(all_models)
        ]
    return RobustnessComparison(group, all_models, baseline_name, lines, models)


def _line(ordinary: Sequence[ShiftResults], columns: Sequence[int], resamples: int, seed: int) -> Line:
    means = np.array([model.accuracies()[:, columns].mean(1) for model in ordinary])  # (M, 2)
    shifted_n = min(ordinary[0].shifts[column].n for column in columns)
    reference, shifted = means[:, 0].tolist(), means[:, 1].tolist()
    return fit_line(reference, shifted, ordinary[0].reference.n, shifted_n, resamples=resamples, seed=seed)


def _robustness(
    model: ShiftResults,
    ordinary: bool,
    columns: Sequence[int],
    against: str,
    all_models: Sequence[ShiftResults],
    bootstrap: Mapping[str, Floats],
    line: Line | None,
    seed: int,
) -> Robustness:
    n = model.reference.n
    samples = bootstrap[model.model][:, :, columns].mean(2)  # (B, 2)
    reference, shifted = _accuracies(model, columns, samples)
    relative = effective = None
    if against and against != model.model:
        base = next(other for other in all_models if other.model == against)
        base_samples = bootstrap[against][:, :, columns].mean(2)
        _, base_shifted = _accuracies(base, columns, base_samples)
        relative = _difference(shifted, base_shifted, samples[:, 1], base_samples[:, 1])
    if line is not None:
        # The interval of the prediction: from bootstrap samples of the line, and at least as wide as that
        # from the reference's interval, because bootstrap intervals are too narrow near 0 and 1.
        predicted = predicted_draws(samples[:, 0], line, n, seed=seed)
        bounds = [*np.quantile(predicted, [0.025, 0.975]), *line.predict(ends(reference), n)]
        expected = Estimate(
            line.predict(reference.value, n).item(), float(min(bounds)), float(max(bounds)), n
        )
        effective = _difference(shifted, expected, samples[:, 1], predicted)
    drop = _difference(reference, shifted, samples[:, 0], samples[:, 1])
    return Robustness(model.model, ordinary, reference, shifted, drop, relative, effective)


def _accuracies(model: ShiftResults, columns: Sequence[int], samples: Floats) -> list[Estimate]:
    """Estimates of the mean accuracies on the reference and on the shifts of some columns."""
    sizes = [model.shifts[column].n for column in columns]
    # All corruptions use the same images, so that several corruptions do not add independent cases.
    cases = (float(model.reference.n), float(min(sizes)) if model.paired else class_cases(sizes))
    counts = (model.reference.n, min(sizes))
    return [
        resampled_proportion(float(value), samples[:, side], cases[side], counts[side], cap=False)
        for side, value in enumerate(model.accuracies()[:, columns].mean(1))
    ]


def _difference(first: Estimate, second: Estimate, first_samples: Floats, second_samples: Floats) -> Estimate:
    """First minus second, with the correlation of their bootstrap samples."""
    varies = np.ptp(first_samples) > 0 and np.ptp(second_samples) > 0
    n = min(first.n or 0, second.n or 0)
    # Shrunk below 1: two models that never differed on n pictures may differ on others; 0.96 of it for n =
    # 96.
    shared = float(np.corrcoef(first_samples, second_samples)[0, 1]) * n / (n + 4) if varies else 0.0
    gap = difference(first, second, shared)
    return Estimate(gap.value, gap.low, gap.high, n)
