"""Report of models under distribution shift: statements, tables, and the plot of the paper's figure 13."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diptych.errors import counted
from diptych.evaluation.results.result import Result
from diptych.evaluation.results.results_report import sampled
from diptych.evaluation.robustness.corrupted_sets import CorruptedDataset
from diptych.evaluation.robustness.effective import Line
from diptych.evaluation.robustness.shift_gaps import Robustness, RobustnessComparison
from diptych.evaluation.robustness.shifts import ShiftResults
from diptych.reports import Cell, Curve, Estimate, Heatmap, Mark, Plot, Report, Scatter, Section, Table
from diptych.stats.significance import LEVEL, MINIMUM, SAME, Claim, Verdict, decide, interval_p

LINE_POINTS = 60  # at which a line is plotted


def robustness_report(
    comparison: RobustnessComparison, *, facts: Mapping[str, str] | None = None, caveat: str = ""
) -> Report:
    """Build the report of a comparison.

    Parameters
    ----------
    facts : mapping, optional
        For the foot: command, fingerprints, versions.
    caveat : str
        A limitation to print beside the figures, such as the training data of a model.

    Returns
    -------
    Report
        Models; effective robustness, if there are ordinary models; each shift, or each corruption at each
        severity.
    """
    sections = [_models(comparison, caveat)]
    if comparison.lines:
        sections.append(_effective(comparison))
    sections.append(_corruptions(comparison) if comparison.group.paired else _shifts(comparison))
    title = f"Robustness on {comparison.group.reference.name}"
    return Report(title, sections, _values(comparison, caveat), facts or {})


def _models(comparison: RobustnessComparison, caveat: str) -> Section:
    """Section with a table of the models, one per row."""
    chance = comparison.model_results[0].reference.chance["acc1"]
    rows: list[list[Cell]] = [
        [model.model + (" (ordinary)" if model.ordinary else ""), model.reference, model.shifted, model.drop]
        for model in comparison.models[comparison.main]
    ]
    count = len(comparison.group.shifts)
    kind = f"{count} corrupted copies of it" if comparison.group.paired else f"{counted(count, 'shift')}"
    text = [
        f"Accuracy on {comparison.group.reference.name} "
        f"({comparison.model_results[0].reference.n:,} pictures, chance {chance:.3f}) "
        f"and its mean over {kind}.",
        *_verdicts(comparison),
        *_limits(comparison),
        *([caveat] if caveat else []),
    ]
    columns = ["model", "reference", "under shift", "drop"]
    tables = {"models": Table(columns, rows, "In brackets 95 percent intervals.")}
    if comparison.baseline:
        more: list[list[Cell]] = [
            [model.model, model.relative, model.effective] for model in comparison.models[comparison.main]
        ]
        caption = f"Relative: accuracy under shift less that of {comparison.baseline}, on the same pictures."
        names = ["model", "relative robustness", "effective robustness"]
        tables["robustness"] = Table(names, more, caption).compact("effective robustness")
    return Section("Models", text, tables)


def _limits(comparison: RobustnessComparison) -> list[str]:
    """Sentences on samples and on images that were left out."""
    model_result = comparison.model_results[0]
    results = [model_result.reference, *([] if comparison.group.paired else model_result.shifts)]
    unread = {result.dataset: len(result.failures) for result in results if result.failures}
    counts = ", ".join(f"{count:,} of {name}" for name, count in unread.items())
    return [
        *sampled(results),
        *([f"Pictures left out because they could not be used: {counts}."] if unread else []),
    ]


def robustness_verdicts(comparison: RobustnessComparison) -> dict[str, dict[str, Verdict]]:
    """Verdicts on each model's drop and effective robustness, corrected together.

    Returns
    -------
    dict
        Model -> "drop" and, if there is a line, "effective" -> verdict on the difference from 0. All of them
        are one family (Holm 1979), whose size grows with the number of models.
    """
    claims = {
        (model.model, name): Claim(estimate, 0.0, interval_p(estimate), SAME)
        for model in comparison.models[comparison.main]
        if not model.ordinary
        for name, estimate in (("drop", model.drop), ("effective", model.effective))
        if estimate is not None
    }
    verdicts: dict[str, dict[str, Verdict]] = {}
    for (model, name), verdict in decide(claims).items():
        verdicts.setdefault(model, {})[name] = verdict
    return verdicts


def _verdicts(comparison: RobustnessComparison) -> list[str]:
    """Sentences on each model in question."""
    sentences = []
    ordinary_accuracies = [
        model.reference.value for model in comparison.models[comparison.main] if model.ordinary
    ]
    verdicts = robustness_verdicts(comparison)
    for model in comparison.models[comparison.main]:
        if model.ordinary:
            continue
        drop, kept = model.drop, model.shifted.value / max(model.reference.value, 1e-9)
        text = f"{model.model} loses {drop} and keeps {kept:.0%} of its accuracy"
        if (drop.n or 0) < MINIMUM:
            text += f", measured on {drop.n} pictures: not enough to say"
        elif verdicts[model.model]["drop"] not in ("above", "below"):
            text += ", a drop that is not shown to differ from zero"
        if model.effective is not None:
            reading = _reading(verdicts[model.model]["effective"], model.effective.n or 0)
            text += f"; its effective robustness is {model.effective}, {reading}"
            if not min(ordinary_accuracies) <= model.reference.value <= max(ordinary_accuracies):
                text += (
                    ". But no ordinary model has a similar accuracy: theirs lie between "
                    f"{min(ordinary_accuracies):.3f} and {max(ordinary_accuracies):.3f} on the "
                    "reference, so the line is extrapolated"
                )
        sentences.append(text + ".")
    count = sum(map(len, verdicts.values()))
    if count > 1:
        sentences.append(
            f"These {count} comparisons are corrected for their number (Holm 1979): the probability of even "
            f"one false difference is at most {LEVEL:.0%}. The intervals in brackets are not corrected."
        )
    if not comparison.lines:
        sentences.append(
            "There are no ordinary models to fit a line to, so effective robustness is not computed: a model "
            "of higher accuracy is expected to lose less."
        )
    return sentences


def _reading(verdict: Verdict, n: int) -> str:
    """Describe a verdict on effective robustness in words."""
    if n < MINIMUM:
        return f"measured on {counted(n, 'picture')}, not enough to compare it with ordinary models"
    words = {
        "above": "above what ordinary models of its accuracy have",
        "below": "below what ordinary models of its accuracy have",
        "at": "about what ordinary models of its accuracy have",
    }
    return words.get(verdict, "not shown to differ from what ordinary models of its accuracy have")


def _effective(comparison: RobustnessComparison) -> Section:
    """Section with the fitted lines, the distances of models from them, and plots."""
    rows: list[list[Cell]] = [
        [name, line.slope, line.intercept, line.residual, line.models]
        for name, line in comparison.lines.items()
    ]
    text = [
        "Effective robustness is the accuracy under shift minus the prediction of the line of ordinary "
        "models from the accuracy on the reference (Taori et al. 2020, arXiv 2007.00644). The line is "
        "fitted by least squares between logits; accuracies are clipped half a picture away from 0 and "
        "1, which have none.",
    ]
    count = next(iter(comparison.lines.values())).models
    if count < 5:
        text.append(f"The line goes through {count} models: few, so a small distance from it means little.")
    if count < 3:
        text.append(
            "A line through two models has no band: it is taken as exact, and intervals are too narrow."
        )
    beyond: list[list[Cell]] = [
        [model.model, name, model.effective]
        for name, models in comparison.models.items()
        for model in models
        if not model.ordinary
    ]
    tables = {
        "effective": Table(["model", "shift", "effective robustness"], beyond),
        "lines": Table(["shift", "slope", "intercept", "residual", "models"], rows, "Between logits."),
    }
    plots: dict[str, Plot] = {}
    for number, name in enumerate(reversed(list(comparison.models))):  # the main series first
        plots[f"line-{number}" if number else "line"] = scatter(comparison, name)
    return Section("Effective robustness", text, tables, plots)


def scatter(comparison: RobustnessComparison, series: str) -> Scatter:
    """Accuracy under shift over accuracy on the reference, with the line and its band (paper, figure 13)."""
    models, line = comparison.models[series], comparison.lines.get(series)
    values = [v for model in models for v in (model.reference.value, model.shifted.value)]
    positions = np.linspace(max(min(values) - 0.25, 0.002), min(max(values) + 0.25, 0.998), LINE_POINTS)
    lines = {"y = x": Curve(positions.tolist(), positions.tolist(), dashed=True)}
    if line is not None:
        lines = {
            "ordinary models": _line_curve(line, positions, comparison.model_results[0].reference.n),
            **lines,
        }
    marks = {"ordinary": [_mark(model) for model in models if model.ordinary]}
    marks |= {model.model: [_mark(model)] for model in models if not model.ordinary}
    marks = {name: group for name, group in marks.items() if group}
    series_name = series if len(comparison.models) > 1 else "under shift"
    return Scatter(
        marks=marks,
        lines=lines,
        x=f"accuracy on {comparison.group.reference.name}",
        y=f"accuracy, {series_name}",
        logit=True,
    )


def _line_curve(line: Line, positions: np.ndarray[Any, Any], n: int) -> Curve:
    y = line.predict(positions, n).tolist()
    if not len(line.resampled):
        return Curve(positions.tolist(), y)
    low, high = line.band(positions, n)
    return Curve(positions.tolist(), y, low.tolist(), high.tolist())


def _mark(model: Robustness) -> Mark:
    def bounds(value: Estimate) -> tuple[float, float]:
        return value.low or 0.0, value.high or 0.0

    return Mark(model.reference.value, model.shifted.value, bounds(model.reference), bounds(model.shifted))


def _shifts(comparison: RobustnessComparison) -> Section:
    """Section with the accuracy of every model on every shift."""
    narrowed = any(model_result.narrowed for model_result in comparison.model_results)
    rows: list[list[Cell]] = []
    for model_result in comparison.model_results:
        for result in model_result.shifts:
            reference = model_result.reference_of(result)
            among = _figure(reference) if narrowed else None
            rows.append([model_result.model, result.dataset, among, _figure(result), result.n])
    columns = ["model", "shift", "reference", "accuracy", "n"]
    caption = "If a shift has fewer classes, the reference is measured on these classes." if narrowed else ""
    return Section("Shifts", [], {"shifts": Table(columns, rows, caption).compact("reference")})


def _figure(result: Result) -> Estimate:
    low, high = result.intervals["acc1"]
    return Estimate(result.metrics["acc1"], low, high, result.n)


def _corruptions(comparison: RobustnessComparison) -> Section:
    """Section with a table and a heat map of each model in question, corruptions by severities."""
    names_in_question = [model.model for model in comparison.models[comparison.main] if not model.ordinary]
    tables: dict[str, Table] = {}
    plots: dict[str, Plot] = {}
    families = [name for name in comparison.models if name != comparison.main]
    if families:
        rows: list[list[Cell]] = [
            [model.model, *(comparison.models[name][number].shifted.value for name in families)]
            for number, model in enumerate(comparison.models[comparison.main])
        ]
        tables["families"] = Table(["model", *families], rows, "Mean accuracy over a family of corruptions.")
    for number, model_result in enumerate(
        model for model in comparison.model_results if model.model in names_in_question
    ):
        names, severities, values = grid(comparison, model_result)
        stem = "corruptions" + (f"-{number + 1}" if len(names_in_question) > 1 else "")
        clean = _figure(model_result.reference)
        caption = f"{model_result.model}: accuracy at each severity; without corruption {clean}."
        cells: list[list[Cell]] = [
            [name.replace("_", " "), *row, float(np.nanmean(row))]
            for name, row in zip(names, values, strict=True)
        ]
        columns = ["corruption", *(f"{severity}" for severity in severities), "mean"]
        tables[stem] = Table(columns, cells, caption)
        plots[f"{stem}-map"] = Heatmap(
            rows=[name.replace("_", " ") for name in names],
            columns=[str(severity) for severity in severities],
            values=values,
            x="severity",
            title=model_result.model,
        )
    text = [
        "Corruptions of Hendrycks and Dietterich 2019 (arXiv 1903.12261), made on the fly by this package's "
        "own code: not ImageNet-C's or CIFAR-10-C's files, and frost is synthetic. "
        f"{_preparation_text(comparison)}",
    ]
    return Section("Corruptions", text, tables, plots)


def _preparation_text(comparison: RobustnessComparison) -> str:
    shift = comparison.group.shifts[0]
    if not isinstance(shift, CorruptedDataset) or shift.base.side is None:
        return "Pictures were cropped to a square at their own size, then corrupted."
    return (
        f"Pictures were cropped to a square, reduced to {shift.base.side} pixels where they are larger, "
        "then corrupted; lengths in pixels are proportional to the side."
    )


def grid(
    comparison: RobustnessComparison, model_result: ShiftResults
) -> tuple[list[str], list[int], list[list[float]]]:
    """Corruptions, severities and accuracies, one row per corruption; NaN if not measured."""
    cells = {
        (shift.corruption, shift.severity): result.metrics["acc1"]
        for shift, result in zip(comparison.group.shifts, model_result.shifts, strict=True)
        if isinstance(shift, CorruptedDataset)
    }
    names = list(dict.fromkeys(name for name, _ in cells))
    severities = sorted({severity for _, severity in cells})
    values = [[cells.get((name, severity), float("nan")) for severity in severities] for name in names]
    return names, severities, values


def _values(comparison: RobustnessComparison, caveat: str) -> dict[str, Any]:
    """Plain values of the comparison for JSON."""
    models: list[dict[str, Any]] = []
    verdicts = robustness_verdicts(comparison)
    for number, model_result in enumerate(comparison.model_results):
        per = {name: rows[number] for name, rows in comparison.models.items()}
        models.append(
            {
                "model": model_result.model,
                "identity": model_result.reference.identity,
                "ordinary": per[comparison.main].ordinary,
                "verdicts": verdicts.get(model_result.model, {}),
                "series": {name: _plain(robustness) for name, robustness in per.items()},
                "reference": _result_values(model_result.reference),
                "shifts": [_result_values(result) for result in model_result.shifts],
            }
        )
    lines = {
        name: {"slope": line.slope, "intercept": line.intercept, "residual": line.residual, "n": line.models}
        for name, line in comparison.lines.items()
    }
    notes = {"caveat": caveat} if caveat else {}
    return {
        "baseline": comparison.baseline,
        "main": comparison.main,
        **notes,
        "lines": lines,
        "models": models,
    }


def _plain(robustness: Robustness) -> dict[str, Any]:
    names: Sequence[str] = ("reference", "shifted", "drop", "relative", "effective")
    return {name: getattr(robustness, name) for name in names}


def _result_values(result: Result) -> dict[str, Any]:
    return {
        "dataset": result.dataset,
        "data_fingerprint": result.data_fingerprint,
        "accuracy": _figure(result),
        "chance": result.chance["acc1"],
        "failures": len(result.failures),
    }
