"""Report of a linear probe or of nearest neighbours: statements, tables, and a plot of the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diptych.datasets.overlap import Overlap
from diptych.errors import counted
from diptych.evaluation.probes.probe import TASK as LINEAR_PROBE
from diptych.evaluation.probes.regularisation_search import GRID
from diptych.evaluation.results.result import Result
from diptych.reports import Cell, Curve, Curves, Report, Section, Table
from diptych.stats.significance import MINIMUM, NOT_ENOUGH, Verdict, against_chance, decide, paired_claim

_NAMES = {
    "acc1": "accuracy",
    "acc5": "among the first five",
    "mean_per_class_recall": "mean over classes",
    "mean_acc1_acc5": "mean of accuracy and the first five",
    "roc_auc": "area under the ROC curve",
}
_WEAKEST = 10


def probe_report(
    result: Result, zero_shot: Result | None = None, facts: Mapping[str, str] | None = None
) -> Report:
    """Report of a result of `evaluate_linear_probe` or `evaluate_knn`.

    Parameters
    ----------
    zero_shot : Result, optional
        Zero-shot classification by the same model on the same test images.
    facts : mapping, optional
        For the foot of the page, see `Setup.facts`.
    """
    linear = result.task == LINEAR_PROBE
    method = "Linear probe" if linear else "Nearest neighbours"
    sections = [
        Section(
            f"{method} on {result.dataset}",
            [*shared_pictures(result.details), *_statements(result, zero_shot), *shortcomings(result)],
            {"figures": _figures(result, zero_shot)},
        )
    ]
    if linear and result.details["search"]:
        sections.append(_search(result))
    sections.append(_classes(result, zero_shot))
    results = [each.to_dict() for each in (result, zero_shot) if each is not None]
    return Report(f"{method}: {result.dataset}", sections, {"results": results}, facts or {})


def verdict_text(verdict: Verdict, level: float, name: str, n: int) -> str:
    """Describe in words how an accuracy on `n` images compares with a level.

    Examples
    --------
    >>> verdict_text("above", 0.1, "chance", 99), verdict_text(NOT_ENOUGH, 0.55, "zero-shot", 99)
    ('better than chance, 0.100', 'not shown to differ from zero-shot, 0.550')
    """
    if n < MINIMUM:
        return f"measured on {counted(n, 'picture')}: not enough to say whether it beats {name}, {level:.3f}"
    words = {"above": "better than", "below": "worse than", "at": "about the same as"}
    return f"{words.get(verdict, 'not shown to differ from')} {name}, {level:.3f}"


def _verdicts(result: Result, zero_shot: Result | None) -> dict[str, Verdict]:
    """Verdicts on the accuracy against chance and, paired, against zero-shot; corrected together (Holm)."""
    claims = {"chance": against_chance(result.estimate("acc1"), result.chance["acc1"])}
    if zero_shot is not None:
        ours, theirs = result.outcomes.get("acc1", ()), zero_shot.outcomes.get("acc1", ())
        pairs = zip(ours, theirs, strict=True) if len(ours) == len(theirs) else ()
        common = np.array([pair for pair in pairs if None not in pair], dtype=np.float64).reshape(-1, 2)
        if len(common):
            claims["zero-shot"] = paired_claim(common[:, 0], common[:, 1])
    return decide(claims)


def shortcomings(result: Result) -> list[str]:
    """Limitations of a measurement, such as missing classes, samples and unreadable images."""
    details, sentences = result.details, []
    if details["untaught"]:
        sentences.append(
            f"{len(details['untaught'])} of {result.classes} classes had no training picture "
            f"({', '.join(details['untaught'][:5])}): their test pictures count as missed."
        )
    if details.get("wanted_k", 0) > details.get("k", 0):
        sentences.append(
            f"{details['wanted_k']:,} neighbours were requested, but there are only {details['k']:,} "
            "training pictures: all of them vote on every picture"
            + (", so every picture gets the same answer." if details["temperature"] is None else ".")
        )
    missing = (result.classes or 0) - len(result.per_class)
    if result.per_class and missing:
        sentences.append(
            f"{missing} of {result.classes} classes have no test picture; they can still be predicted."
        )
    if result.sampled_from:
        sentences.append(f"The test part is a random sample: {result.measured} pictures.")
    if population := details.get("train_sampled_from"):
        sentences.append(
            f"The training part is a random sample: {details['train_pictures']:,} of {population:,} pictures."
        )
    if result.failures:
        count = len(result.failures)
        sentences.append(
            f"{count} picture{'s were' if count > 1 else ' was'} left out; the first: "
            f"{result.failures[0].key}: {result.failures[0].reason}."
        )
    return sentences


def shared_pictures(details: Mapping[str, Any]) -> list[str]:
    """Warnings about images that are both in the training and the test set, shown before all figures."""
    return [
        f"{overlap}, and the figures count them: no figure below says how good the model is."
        if overlap.heavy
        else f"{overlap}: the figures count them."
        for overlap in map(Overlap.from_dict, details.get("overlaps", ()))
    ]


def _statements(result: Result, zero_shot: Result | None) -> list[str]:
    details, accuracy = result.details, result.metrics["acc1"]
    taught = f"{counted(details['pictures'], 'picture')} of {details['train']}, {result.classes} classes"
    rows = "features before the projection" if details["features"] == "tower" else "embeddings"
    if result.task == LINEAR_PROBE:
        how = f"Logistic regression on {rows} ({details['width']} numbers a picture), learnt from {taught}"
    else:
        how = f"The {details['k']} nearest of {taught}, by the cosine of {rows}"
    verdicts = _verdicts(result, zero_shot)
    chance = verdict_text(verdicts["chance"], result.chance["acc1"], "chance", result.n)
    sentences = [f"{how}, names {accuracy:.1%} of {counted(result.n, 'test picture')} right: {chance}."]
    if zero_shot is not None:
        level = zero_shot.metrics["acc1"]
        stands = verdict_text(verdicts.get("zero-shot", NOT_ENOUGH), level, "zero-shot", result.n)
        sentences.append(
            f"From the class names alone, with no labelled picture, the same model names {level:.1%} right. "
            f"What was learnt from labels is {stands}."
        )
    if result.task == LINEAR_PROBE:
        sentences.append(_strength(details))
    return sentences


def _strength(details: Mapping[str, Any]) -> str:
    """Describe how C was chosen, and which fits did not converge."""
    chosen = details["validation"]
    if chosen is None:
        origin = "was given"
    elif "share" in chosen:
        origin = (
            f"was chosen on {chosen['share']:.0%} of each class's training pictures (seed {chosen['seed']}), "
            "which then taught too"
        )
    else:
        origin = f"was chosen on {chosen['data']}, which then taught too"
    text = f"The strength of L2, C = 1 / lambda = {details['c']:.3g}, {origin}."
    if details["search"] and details["c"] in (details["search"][0]["c"], details["search"][-1]["c"]):
        text += " It is an end of the grid: a better value may lie outside."
    if not details["converged"]:
        text += f" The fit that is reported did not converge in {details['iterations']:,} iterations."
    unfinished = sum(not trial["converged"] for trial in details["search"])
    if unfinished:
        text += f" {unfinished} of {len(details['search'])} fits of the search did not converge."
    return text


def _figures(result: Result, zero_shot: Result | None) -> Table:
    rows: list[list[Cell]] = []
    for metric in result.metrics:
        other = None if zero_shot is None else zero_shot.estimate(metric)
        rows.append([_NAMES[metric], result.estimate(metric), result.chance[metric], other, result.n])
    caption = "In brackets 95 % intervals over test pictures."
    return Table(["metric", "value", "chance", "zero-shot", "n"], rows, caption).compact("zero-shot")


def _search(result: Result) -> Section:
    tried = result.details["search"]
    rows = [
        [f"{trial['c']:.3g}", trial["accuracy"], trial["iterations"], "yes" if trial["converged"] else "no"]
        for trial in tried
    ]
    best = next(trial for trial in tried if trial["c"] == result.details["c"])
    curves = {
        "tried": Curve([trial["c"] for trial in tried], [trial["accuracy"] for trial in tried]),
        "chosen": Curve([best["c"]], [best["accuracy"]]),
    }
    plot = Curves(
        curves=curves,
        x="C = 1 / lambda",
        y="accuracy on validation pictures",
        log_x=True,
        levels={"chance": result.chance["acc1"]},
    )
    return Section(
        "Strength of L2",
        [
            f"{len(tried)} of the {len(GRID)} strengths from 1e-6 to 1e6 were tried: steps of two decades, "
            "then halved steps around the best, down to eight per decade. Of equally good ones the weakest "
            "regularisation is chosen."
        ],
        {"strengths": Table(["C", "accuracy", "iterations", "converged"], rows)},
        {"strengths": plot},
    )


def _classes(result: Result, zero_shot: Result | None) -> Section:
    """Classes with the lowest recall, and the most frequent confusions; the values contain all classes."""
    weakest = sorted(result.per_class.items(), key=lambda pair: pair[1])[:_WEAKEST]
    other = {} if zero_shot is None else zero_shot.per_class
    rows = [[name, recall, other.get(name)] for name, recall in weakest]
    confused: Sequence[Sequence[Any]] = result.details["confusions"][:_WEAKEST]
    caption = f"The {counted(len(rows), 'class', 'classes')} with the lowest recall."
    tables = {"weakest": Table(["class", "named right", "zero-shot"], rows, caption).compact("zero-shot")}
    if confused:
        tables["confusions"] = Table(
            ["is", "was named", "times"], confused, "The most frequent wrong answers."
        )
    return Section("Classes", [], tables)
