"""Results as a report: one overview, and what each protocol found besides its figures.

Measures nothing; `report.py` has the results and `diptych.reports` the page.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from diptych.evaluation.report import Result
from diptych.reports import Curve, Curves, Estimate, Plot, Report, Section, Table


def results_report(
    results: Sequence[Result], *, title: str = "Results", facts: Mapping[str, str] | None = None
) -> Report:
    """A report of any results: an overview, and a section for each that has details.

    Parameters
    ----------
    results : sequence of Result
        Of one model.
    title : str
    facts : mapping of str to str, optional
        What stands at the foot.
    """
    parts = [overview(results), *(part for result in results if (part := details(result)) is not None)]
    return Report(title, parts, {"results": [result.to_dict() for result in results]}, facts or {})


def overview(results: Sequence[Result]) -> Section:
    """Every figure with its interval and chance, and plainly what is no better than chance."""
    rows = [
        (
            row["dataset"],
            row["metric"],
            Estimate(row["value"], row["low"], row["high"], row["n"]),
            row["chance"],
            row["n"],
            row["failures"] or None,
        )
        for result in results
        for row in result.rows()
    ]
    columns = ("data set", "metric", "value", "chance", "pictures", "not read")
    at_chance = [result.dataset for result in results if _at_chance(result)]
    told = [f"No better than chance in naming: {', '.join(at_chance)}."] if at_chance else []
    caption = "95 % intervals by bootstrap over pictures; chance is what a model that cannot see would get."
    return Section("All figures", told, {"results": Table(columns, rows, caption)})


def _at_chance(result: Result) -> bool:
    """Whether the interval of the accuracy reaches down to chance."""
    interval = result.intervals.get("acc1")
    return interval is not None and interval[0] <= result.chance.get("acc1", -1)


def details(result: Result) -> Section | None:
    """Calibration, classes and confusions of one result; None where the protocol found none."""
    stem = re.sub(r"[^\w-]+", "-", f"{result.dataset}-{result.task}").strip("-")
    tables: dict[str, Table] = {}
    plots: dict[str, Plot] = {}
    told: list[str] = []
    calibration = result.details.get("calibration")
    if calibration:
        told.append(
            f"Expected calibration error {calibration['ece']:.3f}: how far confidence lies from accuracy, on "
            "average."
        )
        plots[f"{stem}-calibration"] = reliability(result.dataset, calibration)
    if result.per_class:
        rows = sorted(result.per_class.items(), key=lambda item: item[1])
        tables[f"{stem}-classes"] = Table(
            ("class", "right"), rows, "Share of each class that was named right."
        )
    confusions = result.details.get("confusions")
    if confusions:
        columns = ("class", "taken for", "pictures")
        tables[f"{stem}-confusions"] = Table(columns, confusions, "The commonest mistakes.")
    if not tables and not plots:
        return None
    return Section(f"{result.dataset}, {result.task.replace('_', ' ')}", told, tables, plots)


def reliability(name: str, calibration: Mapping[str, Sequence[float]]) -> Curves:
    """Accuracy over confidence; on the dashed line a model is right as often as it is sure."""
    confidence, accuracy = list(calibration["confidence"]), list(calibration["accuracy"])
    return Curves(
        curves={
            name: Curve(confidence, accuracy, labels=[f"{n:,}" for n in calibration["rows"]]),
            "as sure as right": Curve([0.0, 1.0], [0.0, 1.0], dashed=True),
        },
        x="confidence",
        y="accuracy (pictures at the points)",
        title=f"Calibration on {name}",
        size=(5.6, 4.8),
    )
