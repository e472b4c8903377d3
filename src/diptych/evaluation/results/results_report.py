"""Results as a report: one overview, and what each protocol found besides its figures.

Measures nothing; `report.py` has the results and `diptych.reports` the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from diptych.encoder import EncoderCost
from diptych.evaluation.results.averages import collection_means, means_section
from diptych.evaluation.results.result import Result, chance_verdicts, short_name
from diptych.files.disk import file_stems
from diptych.reports import Curve, Curves, Estimate, Plot, Report, Section, Table

FIGURES = "All figures"  # heading of the overview
_TRIED = {"acc1": "naming", "acc": "choosing captions"}  # metrics that a page sets against chance
_PROTOCOLS = {
    "zeroshot_classification": "zero-shot",
    "zeroshot_retrieval": "retrieval",
    "linear_probe": "probe",
    "few_shot": "few-shot",
    "knn": "kNN",
    "classification_under_shift": "under shift",
    "image_caption_selection": "selection",
}


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
    means = collection_means(results)
    parts = [overview(results), *([means_section(means)] if means else []), *described(results)]
    values = {"results": [result.to_dict() for result in results], "means": [asdict(one) for one in means]}
    return Report(title, parts, values, facts or {})


def overview(results: Sequence[Result]) -> Section:
    """Every figure with its interval and chance, and which are not shown to be better than chance."""
    unread = any(result.failures for result in results)
    rows = [
        (
            row["dataset"],
            protocol(result.task),
            short_name(row["metric"]),
            Estimate(row["value"], row["low"], row["high"], row["n"]),
            row["chance"],
            result.measured if result.sampled_from else row["n"],
            *([row["failures"] or None] if unread else []),
        )
        for result in results
        for row in result.rows()
        if not _told_twice(row["metric"], result)
    ]
    columns = ["data set", "protocol", "metric", "value", "chance", "n", *(["not read"] if unread else [])]
    told = [*_near_chance(results), *sampled(results)]
    costs = {one.model: EncoderCost(**one.cost) for one in results if one.cost}  # type: ignore[arg-type]
    told += [f"Cost of {model or 'the model'}: {cost}." for model, cost in costs.items()]
    caption = (
        "n: pictures measured (of selection: test cases). In brackets 95 % intervals. Chance: what a model "
        "that cannot see would get. Class mean: accuracy averaged over classes, shown where it differs from "
        "acc1."
    )
    return Section(FIGURES, told, {"results": Table(columns, rows, caption)})


def _near_chance(results: Iterable[Result]) -> list[str]:
    """A sentence for each metric on the data sets where it is not shown to be above chance."""
    figures = [
        (result, metric)
        for result in results
        for metric in _TRIED
        if metric in result.intervals and metric in result.chance
    ]
    weak: dict[str, list[str]] = {}
    for (result, metric), verdict in zip(figures, chance_verdicts(figures), strict=True):
        if verdict != "above":
            weak.setdefault(metric, []).append(result.dataset)
    return [
        f"Not shown to be better than chance in {_TRIED[metric]}: {', '.join(dict.fromkeys(named))}."
        for metric, named in weak.items()
    ]


def sampled(results: Iterable[Result]) -> list[str]:
    """A sentence that names the data sets of which a sample was measured; none where all were whole."""
    named = {one.dataset: f"{one.dataset} ({one.measured})" for one in results if one.sampled_from}
    return [f"Random samples, not whole data sets: {', '.join(named.values())}."] if named else []


def protocol(task: str) -> str:
    """What people call a task."""
    return _PROTOCOLS.get(task, task.replace("_", " "))


def _told_twice(metric: str, result: Result) -> bool:
    """Whether it is a mean of classes that comes to acc1, as it does where all have as many pictures."""
    if not metric.startswith("mean_per_class_recall"):
        return False
    same = result.metrics.get(metric.replace("mean_per_class_recall", "acc1"))
    return same is not None and abs(result.metrics[metric] - same) < 5e-4


def described(results: Iterable[Result]) -> list[Section]:
    """The details of each that has any; of results of one name, the files of the second end in "-2"."""
    listed = list(results)
    stems = file_stems(f"{result.dataset}-{result.task}" for result in listed)
    sections = [details(result, stem) for result, stem in zip(listed, stems, strict=True)]
    return [section for section in sections if section is not None]


def details(result: Result, stem: str) -> Section | None:
    """Calibration, classes, categories and confusions of one result; None where there are none."""
    tables = category_tables(result, stem)
    plots: dict[str, Plot] = {}
    told: list[str] = []
    calibration = result.details.get("calibration")
    if calibration:
        told.append(
            f"Expected calibration error {calibration['ece']:.3f}: how far confidence lies from accuracy, on "
            "average."
        )
        plots[f"{stem}-calibration"] = reliability(result.dataset, calibration)
    if result.per_class and not result.details.get("categories"):  # which has them too
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
    return Section(f"{result.dataset}, {protocol(result.task)}", told, tables, plots)


def category_tables(result: Result, stem: str) -> dict[str, Table]:
    """The figures of each category of a compositional benchmark, a table for each kind of category."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for one in result.details.get("categories", ()):
        kinds.setdefault(one["kind"], []).append(one)
    tables = {}
    for kind, listed in kinds.items():
        named = list(listed[0]["metrics"])
        counted = "counted" in listed[0]
        columns = (kind.replace("_", " "), *map(short_name, named), "n", *(["counted"] if counted else []))

        def estimate(one: Mapping[str, Any], name: str) -> Estimate:
            low, high = one["intervals"][name]
            return Estimate(one["metrics"][name], low, high, one["n"])

        rows = [
            (
                one["category"],
                *(estimate(one, name) for name in named),
                one["n"],
                *(["yes" if one["counted"] else "no"] if counted else []),
            )
            for one in listed
        ]
        caption = f"Chance: {', '.join(f'{short_name(name)} {result.chance[name]:.3f}' for name in named)}."
        caption += " Counted: in macro acc, the mean over categories." if counted else ""
        tables[f"{stem}-{kind}"] = Table(columns, rows, caption)
    return tables


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
