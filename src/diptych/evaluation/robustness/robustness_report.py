"""What a comparison of models under shift shows: statements, tables, and the plot of the paper's figure 13.

Takes a `RobustnessComparison`; nothing is measured here.
"""

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
from diptych.evaluation.robustness.shifts import Standing
from diptych.reports import Cell, Curve, Estimate, Heatmap, Mark, Plot, Report, Scatter, Section, Table
from diptych.stats.significance import LEVEL, MINIMUM, SAME, Claim, Verdict, decide, interval_p

PLACES = 60  # of a line, where it is drawn


def robustness_report(
    found: RobustnessComparison, *, facts: Mapping[str, str] | None = None, caveat: str = ""
) -> Report:
    """A comparison as a report.

    Parameters
    ----------
    found : RobustnessComparison
    facts : mapping, optional
        For the foot: command, fingerprints, versions.
    caveat : str
        A sentence that a reader of the figures needs, such as what a model was trained on.

    Returns
    -------
    Report
        Models; effective robustness where there are ordinary models; each shift, or each corruption at each
        severity.
    """
    sections = [_models(found, caveat)]
    if found.lines:
        sections.append(_effective(found))
    sections.append(_corruptions(found) if found.group.paired else _shifts(found))
    title = f"Robustness on {found.group.reference.name}"
    return Report(title, sections, _values(found, caveat), facts or {})


def _models(found: RobustnessComparison, caveat: str) -> Section:
    """One line a model."""
    chance = found.standings[0].reference.chance["acc1"]
    rows: list[list[Cell]] = [
        [one.model + (" (ordinary)" if one.ordinary else ""), one.reference, one.shifted, one.drop]
        for one in found.models[found.main]
    ]
    count = len(found.group.shifts)
    kind = f"{count} corrupted copies of it" if found.group.paired else f"{counted(count, 'shift')}"
    text = [
        f"Accuracy on {found.group.reference.name} ({found.standings[0].reference.n:,} pictures, chance "
        f"{chance:.3f}) and its mean over {kind}.",
        *_verdicts(found),
        *_limits(found),
        *([caveat] if caveat else []),
    ]
    columns = ["model", "reference", "under shift", "drop"]
    tables = {"models": Table(columns, rows, "In brackets 95 percent intervals.")}
    if found.baseline:
        more: list[list[Cell]] = [
            [one.model, one.relative, one.effective] if found.lines else [one.model, one.relative]
            for one in found.models[found.main]
        ]
        told = f"Relative: accuracy under shift less that of {found.baseline}, on the same pictures."
        names = ["model", "relative robustness", *(["effective robustness"] if found.lines else [])]
        tables["robustness"] = Table(names, more, told)
    return Section("Models", text, tables)


def _limits(found: RobustnessComparison) -> list[str]:
    """Samples and pictures left out, which the figures do not show."""
    standing = found.standings[0]
    results = [standing.reference, *([] if found.group.paired else standing.shifts)]
    unread = {one.dataset: len(one.failures) for one in results if one.failures}
    counts = ", ".join(f"{count:,} of {name}" for name, count in unread.items())
    return [
        *sampled(results),
        *([f"Pictures left out because they could not be used: {counts}."] if unread else []),
    ]


def robustness_verdicts(found: RobustnessComparison) -> dict[str, dict[str, Verdict]]:
    """Whether each model loses accuracy, and how it stands to ordinary models, corrected together.

    Returns
    -------
    dict
        Model -> "drop" and, where there is a line, "effective" -> verdict on that difference from 0. All of
        them are one family (Holm 1979), whose size grows with the number of models.
    """
    claims = {
        (one.model, name): Claim(estimate, 0.0, interval_p(estimate), SAME)
        for one in found.models[found.main]
        if not one.ordinary
        for name, estimate in (("drop", one.drop), ("effective", one.effective))
        if estimate is not None
    }
    verdicts: dict[str, dict[str, Verdict]] = {}
    for (model, name), verdict in decide(claims).items():
        verdicts.setdefault(model, {})[name] = verdict
    return verdicts


def _verdicts(found: RobustnessComparison) -> list[str]:
    """What the figures say of each model in question, poor results as plainly as good ones."""
    told = []
    usual = [one.reference.value for one in found.models[found.main] if one.ordinary]
    verdicts = robustness_verdicts(found)
    for one in found.models[found.main]:
        if one.ordinary:
            continue
        drop, kept = one.drop, one.shifted.value / max(one.reference.value, 1e-9)
        text = f"{one.model} loses {drop} and keeps {kept:.0%} of its accuracy"
        if (drop.n or 0) < MINIMUM:
            text += f", measured on {drop.n} pictures: not enough to say"
        elif verdicts[one.model]["drop"] not in ("above", "below"):
            text += ", a drop that is not shown to differ from none"
        if one.effective is not None:
            reading = _reading(verdicts[one.model]["effective"], one.effective.n or 0)
            text += f"; its effective robustness is {one.effective}, {reading}"
            if not min(usual) <= one.reference.value <= max(usual):
                text += (
                    f". But no ordinary model is like it: theirs lie between {min(usual):.3f} and "
                    f"{max(usual):.3f} on the reference, and a line that is extended is a guess"
                )
        told.append(text + ".")
    count = sum(map(len, verdicts.values()))
    if count > 1:
        told.append(
            f"These {count} comparisons are corrected for their number (Holm 1979): the chance that even one "
            f"of them is called a difference and is none is {LEVEL:.0%}. The intervals in brackets are not."
        )
    if not found.lines:
        told.append(
            "There are no ordinary models to draw a line through, so nothing is said of effective "
            "robustness: that a model of higher accuracy loses less is to be expected."
        )
    return told


def _reading(verdict: Verdict, n: int) -> str:
    """How a model stands to ordinary ones, in words."""
    if n < MINIMUM:
        return f"measured on {counted(n, 'picture')}, not enough to say how it stands to ordinary models"
    words = {
        "above": "above what ordinary models of its accuracy have",
        "below": "below what ordinary models of its accuracy have",
        "at": "about what ordinary models of its accuracy have",
    }
    return words.get(verdict, "not shown to differ from what ordinary models of its accuracy have")


def _effective(found: RobustnessComparison) -> Section:
    """Lines, distances from them, plots."""
    rows: list[list[Cell]] = [
        [name, line.slope, line.intercept, line.residual, line.models] for name, line in found.lines.items()
    ]
    text = [
        "Effective robustness is accuracy under shift less what the line of ordinary models says of the "
        "accuracy on the reference (Taori et al. 2020, arXiv 2007.00644). The line is fitted by least "
        "squares between logits; accuracies are kept half a picture away from 0 and 1, which have none.",
    ]
    count = next(iter(found.lines.values())).models
    if count < 5:
        text.append(f"The line goes through {count} models: few, so a small distance from it means little.")
    if count < 3:
        text.append(
            "A line through two models has no band: it counts as known, and intervals are too narrow."
        )
    beyond: list[list[Cell]] = [
        [one.model, name, one.effective]
        for name, models in found.models.items()
        for one in models
        if not one.ordinary
    ]
    tables = {
        "effective": Table(["model", "shift", "effective robustness"], beyond),
        "lines": Table(["shift", "slope", "intercept", "residual", "models"], rows, "Between logits."),
    }
    plots: dict[str, Plot] = {}
    for number, name in enumerate(reversed(list(found.models))):  # the one that stands for the others first
        plots[f"line-{number}" if number else "line"] = scatter(found, name)
    return Section("Effective robustness", text, tables, plots)


def scatter(found: RobustnessComparison, series: str) -> Scatter:
    """Accuracy under shift over accuracy on the reference, with the line and its band (paper, figure 13)."""
    models, line = found.models[series], found.lines.get(series)
    values = [v for one in models for v in (one.reference.value, one.shifted.value)]
    places = np.linspace(max(min(values) - 0.25, 0.002), min(max(values) + 0.25, 0.998), PLACES)
    lines = {"y = x": Curve(places.tolist(), places.tolist(), dashed=True)}
    if line is not None:
        lines = {"ordinary models": _drawn(line, places, found.standings[0].reference.n), **lines}
    marks = {"ordinary": [_mark(one) for one in models if one.ordinary]}
    marks |= {one.model: [_mark(one)] for one in models if not one.ordinary}
    marks = {name: group for name, group in marks.items() if group}
    told = series if len(found.models) > 1 else "under shift"
    return Scatter(
        marks=marks,
        lines=lines,
        x=f"accuracy on {found.group.reference.name}",
        y=f"accuracy, {told}",
        logit=True,
    )


def _drawn(line: Line, places: np.ndarray[Any, Any], n: int) -> Curve:
    y = line.predict(places, n).tolist()
    if not len(line.resampled):
        return Curve(places.tolist(), y)
    low, high = line.band(places, n)
    return Curve(places.tolist(), y, low.tolist(), high.tolist())


def _mark(one: Robustness) -> Mark:
    def ends(value: Estimate) -> tuple[float, float]:
        return value.low or 0.0, value.high or 0.0

    return Mark(one.reference.value, one.shifted.value, ends(one.reference), ends(one.shifted))


def _shifts(found: RobustnessComparison) -> Section:
    """Every model on every shift."""
    narrowed = any(one.narrowed for one in found.standings)
    rows: list[list[Cell]] = []
    for one in found.standings:
        for result in one.shifts:
            reference = one.reference_of(result)
            among = [_figure(reference)] if narrowed else []
            rows.append([one.model, result.dataset, *among, _figure(result), result.n])
    columns = ["model", "shift", *(["reference"] if narrowed else []), "accuracy", "n"]
    told = "Where a shift has fewer classes, the reference is measured among these." if narrowed else ""
    return Section("Shifts", [], {"shifts": Table(columns, rows, told)})


def _figure(result: Result) -> Estimate:
    low, high = result.intervals["acc1"]
    return Estimate(result.metrics["acc1"], low, high, result.n)


def _corruptions(found: RobustnessComparison) -> Section:
    """A table and a heat map, corruptions by severities, of each model asked about; families of all."""
    asked = [one.model for one in found.models[found.main] if not one.ordinary]
    tables: dict[str, Table] = {}
    plots: dict[str, Plot] = {}
    families = [name for name in found.models if name != found.main]
    if families:
        rows: list[list[Cell]] = [
            [one.model, *(found.models[name][number].shifted.value for name in families)]
            for number, one in enumerate(found.models[found.main])
        ]
        tables["families"] = Table(["model", *families], rows, "Mean accuracy over a family of corruptions.")
    for number, standing in enumerate(one for one in found.standings if one.model in asked):
        names, severities, values = grid(found, standing)
        stem = "corruptions" + (f"-{number + 1}" if len(asked) > 1 else "")
        told = (
            f"{standing.model}: accuracy at each severity; without corruption {_figure(standing.reference)}."
        )
        cells: list[list[Cell]] = [
            [name.replace("_", " "), *row, float(np.nanmean(row))]
            for name, row in zip(names, values, strict=True)
        ]
        columns = ["corruption", *(f"{severity}" for severity in severities), "mean"]
        tables[stem] = Table(columns, cells, told)
        plots[f"{stem}-map"] = Heatmap(
            rows=[name.replace("_", " ") for name in names],
            columns=[str(severity) for severity in severities],
            values=values,
            x="severity",
            title=standing.model,
        )
    text = [
        "Corruptions of Hendrycks and Dietterich 2019 (arXiv 1903.12261), made on the fly by this package's "
        f"own code: not ImageNet-C's or CIFAR-10-C's files, and frost is drawn. {_seen(found)}",
    ]
    return Section("Corruptions", text, tables, plots)


def _seen(found: RobustnessComparison) -> str:
    shift = found.group.shifts[0]
    if not isinstance(shift, CorruptedDataset) or shift.squares.side is None:
        return "Pictures were cropped to a square at their own size, then corrupted."
    return (
        f"Pictures were cropped to a square, reduced to {shift.squares.side} pixels where they are larger, "
        "then corrupted; lengths in pixels go with the side."
    )


def grid(found: RobustnessComparison, standing: Standing) -> tuple[list[str], list[int], list[list[float]]]:
    """Corruptions, severities and accuracies, a row for each corruption; NaN where it was not measured."""
    cells = {
        (shift.corruption, shift.severity): result.metrics["acc1"]
        for shift, result in zip(found.group.shifts, standing.shifts, strict=True)
        if isinstance(shift, CorruptedDataset)
    }
    names = list(dict.fromkeys(name for name, _ in cells))
    severities = sorted({severity for _, severity in cells})
    values = [[cells.get((name, severity), float("nan")) for severity in severities] for name in names]
    return names, severities, values


def _values(found: RobustnessComparison, caveat: str) -> dict[str, Any]:
    """The figures as plain values."""
    models: list[dict[str, Any]] = []
    verdicts = robustness_verdicts(found)
    for number, standing in enumerate(found.standings):
        per = {name: rows[number] for name, rows in found.models.items()}
        models.append(
            {
                "model": standing.model,
                "identity": standing.reference.identity,
                "ordinary": per[found.main].ordinary,
                "verdicts": verdicts.get(standing.model, {}),
                "series": {name: _plain(one) for name, one in per.items()},
                "reference": _one(standing.reference),
                "shifts": [_one(result) for result in standing.shifts],
            }
        )
    lines = {
        name: {"slope": line.slope, "intercept": line.intercept, "residual": line.residual, "n": line.models}
        for name, line in found.lines.items()
    }
    told = {"caveat": caveat} if caveat else {}
    return {"baseline": found.baseline, "main": found.main, **told, "lines": lines, "models": models}


def _plain(one: Robustness) -> dict[str, Any]:
    names: Sequence[str] = ("reference", "shifted", "drop", "relative", "effective")
    return {name: getattr(one, name) for name in names}


def _one(result: Result) -> dict[str, Any]:
    return {
        "dataset": result.dataset,
        "data_fingerprint": result.data_fingerprint,
        "accuracy": _figure(result),
        "chance": result.chance["acc1"],
        "failures": len(result.failures),
    }
