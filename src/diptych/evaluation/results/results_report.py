"""Report of results: an overview of all figures, and the details of each protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from diptych.encoder import EncoderCost
from diptych.evaluation.results.averages import collection_means, means_section
from diptych.evaluation.results.result import Result, not_above_chance, short_name
from diptych.files.disk import file_stems
from diptych.reports import Curve, Curves, Estimate, Plot, Report, Section, Table

FIGURES = "All figures"  # heading of the overview
_TRIED = {"acc1": "naming", "acc": "choosing captions"}  # metrics that are compared with chance
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
    """Build a report of any results: an overview, and a section for each that has details.

    Parameters
    ----------
    results : sequence of Result
        Of one model.
    facts : mapping of str to str, optional
        For the foot of the page.
    """
    means = collection_means(results)
    parts = [overview(results), *([means_section(means)] if means else []), *described(results)]
    values = {"results": [result.to_dict() for result in results], "means": [asdict(mean) for mean in means]}
    return Report(title, parts, values, facts or {})


def overview(results: Sequence[Result]) -> Section:
    """All figures with intervals and chance, and a list of those not shown to be better than chance."""
    rows = [
        (
            row["dataset"],
            protocol(result.task),
            short_name(row["metric"]),
            Estimate(row["value"], row["low"], row["high"], row["n"]),
            row["chance"],
            result.measured if result.sampled_from else row["n"],
            row["failures"] or None,
        )
        for result in results
        for row in result.rows()
        if not _is_redundant(row["metric"], result)
    ]
    columns = ["data set", "protocol", "metric", "value", "chance", "n", "not read"]
    sentences = [*_near_chance(results), *sampled(results)]
    costs = {result.model: EncoderCost(**result.cost) for result in results if result.cost}  # type: ignore[arg-type]
    sentences += [f"Cost of {model or 'the model'}: {cost}." for model, cost in costs.items()]
    caption = (
        "n: pictures measured (selection: test cases). In brackets 95 % intervals. Chance: expected figure "
        "of random answers. Class mean: accuracy averaged over classes, shown where it differs from acc1."
    )
    return Section(FIGURES, sentences, {"results": Table(columns, rows, caption).compact("not read")})


def _near_chance(results: Iterable[Result]) -> list[str]:
    """A sentence for each metric that lists the data sets where it is not shown to be above chance."""
    figures = [
        (result, metric)
        for result in results
        for metric in _TRIED
        if metric in result.intervals and metric in result.chance
    ]
    weak: dict[str, list[str]] = {}
    for result, metric in not_above_chance(figures):
        weak.setdefault(metric, []).append(result.dataset)
    return [
        f"Not shown to be better than chance in {_TRIED[metric]}: {', '.join(dict.fromkeys(named))}."
        for metric, named in weak.items()
    ]


def sampled(results: Iterable[Result]) -> list[str]:
    """A sentence that lists the data sets of which a sample was measured; empty if there are none."""
    named = {
        result.dataset: f"{result.dataset} ({result.measured})" for result in results if result.sampled_from
    }
    return [f"Random samples, not whole data sets: {', '.join(named.values())}."] if named else []


def protocol(task: str) -> str:
    """Display name of a task."""
    return _PROTOCOLS.get(task, task.replace("_", " "))


def _is_redundant(metric: str, result: Result) -> bool:
    """Whether a metric is a mean over classes that equals acc1, as for classes of equal size."""
    if not metric.startswith("mean_per_class_recall"):
        return False
    same = result.metrics.get(metric.replace("mean_per_class_recall", "acc1"))
    return same is not None and abs(result.metrics[metric] - same) < 5e-4


def described(results: Iterable[Result]) -> list[Section]:
    """Sections of all results with details; the files of a second result of one name end in "-2"."""
    listed = list(results)
    stems = file_stems(f"{result.dataset}-{result.task}" for result in listed)
    sections = [details(result, stem) for result, stem in zip(listed, stems, strict=True)]
    return [section for section in sections if section is not None]


def details(result: Result, stem: str) -> Section | None:
    """Section with calibration, classes, categories and confusions of a result; None if it has none."""
    tables = category_tables(result, stem)
    plots: dict[str, Plot] = {}
    sentences: list[str] = []
    calibration = result.details.get("calibration")
    if calibration:
        sentences.append(
            f"Expected calibration error {calibration['ece']:.3f}: mean distance between confidence and "
            "accuracy."
        )
        plots[f"{stem}-calibration"] = reliability(result.dataset, calibration)
    if result.per_class and not result.details.get("categories"):  # which has them too
        rows = sorted(result.per_class.items(), key=lambda item: item[1])
        tables[f"{stem}-classes"] = Table(("class", "right"), rows, "Recall of each class.")
    confusions = result.details.get("confusions")
    if confusions:
        columns = ("class", "taken for", "pictures")
        tables[f"{stem}-confusions"] = Table(columns, confusions, "The most frequent wrong answers.")
    if not tables and not plots:
        return None
    return Section(f"{result.dataset}, {protocol(result.task)}", sentences, tables, plots)


def category_tables(result: Result, stem: str) -> dict[str, Table]:
    """Tables of the figures of each category of a compositional benchmark, one per kind of category."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for category in result.details.get("categories", ()):
        kinds.setdefault(category["kind"], []).append(category)
    tables = {}
    for kind, listed in kinds.items():
        named = list(listed[0]["metrics"])
        columns = (kind.replace("_", " "), *map(short_name, named), "n", "counted")

        def estimate(category: Mapping[str, Any], name: str) -> Estimate:
            low, high = category["intervals"][name]
            return Estimate(category["metrics"][name], low, high, category["n"])

        rows = [
            (
                category["category"],
                *(estimate(category, name) for name in named),
                category["n"],
                ("yes" if category["counted"] else "no") if "counted" in category else None,
            )
            for category in listed
        ]
        caption = f"Chance: {', '.join(f'{short_name(name)} {result.chance[name]:.3f}' for name in named)}."
        caption += " Counted: in macro acc, the mean over categories." if "counted" in listed[0] else ""
        tables[f"{stem}-{kind}"] = Table(columns, rows, caption).compact("counted")
    return tables


def reliability(name: str, calibration: Mapping[str, Sequence[float]]) -> Curves:
    """Reliability diagram: accuracy over confidence; the dashed line is perfect calibration."""
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
