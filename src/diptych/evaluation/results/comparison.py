"""Paired comparison of two results on the same images.

Both models were measured on the same images, so their outcomes are paired. One statistic gives both the
direction of a verdict and its p-value, so that they cannot contradict each other: the mean of the
differences, or for mean per-class recall the mean over classes of their means. The p-value comes from random
flips of the signs of the differences; for hits and misses this is McNemar's exact test. Areas under the ROC
curve are compared by DeLong's test (1988), on the placement of each image. A paired test is much more
powerful than a comparison of two intervals: on 1,000 images 0.80 [0.774, 0.824] and 0.82 [0.795, 0.843]
overlap, but if only the second is right on 25 images and only the first on 5, p is 0.0003.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from diptych.errors import DataError
from diptych.evaluation.results.result import Result, short_name
from diptych.evaluation.results.results_report import protocol
from diptych.reports import Bars, Estimate, Report, Section, Table
from diptych.stats.differences import paired_area_difference, paired_class_difference, paired_difference
from diptych.stats.significance import MINIMUM, NOT_ENOUGH, class_sign_flip_p, holm, interval_p, sign_flip_p

Verdict = Literal["better", "worse", "not told apart", "not enough to say"]
# Mean over classes or categories -> the outcomes that are averaged.
_CLASS_MEANS = {"mean_per_class_recall": "acc1", "macro_acc": "acc"}
_AREA = "roc_auc"


@dataclass(frozen=True)
class Difference:
    """Difference of one figure between two results.

    Attributes
    ----------
    first, second : float
        The figures.
    change : Estimate
        Second minus first on the images that both measured, with a paired interval: the mean over images,
        the mean over classes, or the difference of areas. `n` is the number of images, `effective` that of
        effective cases.
    only_first, only_second : int
        Number of images that only one of the two classified correctly; for an area, that it ranks better.
    p : float
        Two-sided sign-flip test of the difference. For hits and misses it is McNemar's exact test; for an
        area it is DeLong's.
    verdict : "better", "worse", "not told apart" or "not enough to say"
        On the second, at `level` over all rows of the comparison together (Holm). With fewer than 30 common
        cases it is "not enough to say".
    """

    dataset: str
    task: str
    metric: str
    first: float
    second: float
    change: Estimate
    only_first: int
    only_second: int
    p: float
    verdict: Verdict = "not told apart"


@dataclass(frozen=True)
class ResultComparison:
    """Comparison of all figures that two sets of results have in common.

    Attributes
    ----------
    first, second : str
        Names of the two sets.
    left_out : sequence of (str, str)
        Results that could not be compared, with reasons.
    level : float
        Probability of even one false verdict among all rows.
    """

    first: str
    second: str
    rows: Sequence[Difference]
    left_out: Sequence[tuple[str, str]]
    level: float = 0.05

    def report(self, facts: Mapping[str, str] | None = None) -> Report:
        """Build a report with a table, a plot and statements."""
        columns = ("data set", "metric", "first", "second", "change", "p", "second")
        called = self._names()
        cells = [
            (
                called[r.dataset, r.task],
                short_name(r.metric),
                r.first,
                r.second,
                r.change,
                r.p,
                {"not told apart": "", NOT_ENOUGH: "too few"}.get(r.verdict, r.verdict),
            )
            for r in self.rows
        ]
        caption = (
            "Change: mean of second minus first over pictures (class mean: over classes), with a paired 95 % "
            "interval. p: sign-flip test of these differences (McNemar's exact test for hits and misses; ROC "
            "AUC: DeLong's test). The last "
            f"column is the verdict on the second at {self.level:g} over all rows together (Holm); empty: no "
            f"significant difference; too few: fewer than {MINIMUM} common cases, not enough to say."
        )
        bars = {
            f"{called[r.dataset, r.task]}, {r.metric}": (r.change.value, r.change.low, r.change.high)
            for r in self.rows
        }
        plots = {"change": Bars(values=bars, x="change, second minus first", levels={"no change": 0.0})}
        sections = [
            Section("What differs", self._statements(), {"comparison": Table(columns, cells, caption)}, plots)
        ]
        if self.left_out:
            rows = [list(row) for row in self.left_out]
            sections.append(Section("Left out", (), {"left-out": Table(("what", "why"), rows)}))
        values = {
            "first": self.first,
            "second": self.second,
            "level": self.level,
            "rows": [{**vars(row), "change": row.change} for row in self.rows],
            "left_out": list(self.left_out),
        }
        return Report(f"{self.first} against {self.second}", sections, values, facts or {})

    def _names(self) -> dict[tuple[str, str], str]:
        """Name of each data set and task; with the task if a data set has several."""
        pairs = dict.fromkeys((row.dataset, row.task) for row in self.rows)
        tasks = Counter(dataset for dataset, _ in pairs)
        return {
            (dataset, task): dataset if tasks[dataset] == 1 else f"{dataset}, {protocol(task)}"
            for dataset, task in pairs
        }

    def _statements(self) -> list[str]:
        called = self._names()
        sentences = [f"First: {self.first}. Second: {self.second}."]
        for verdict, verb in (("better", "is better"), ("worse", "is worse")):
            named = [
                f"{called[row.dataset, row.task]} ({short_name(row.metric)})"
                for row in self.rows
                if row.verdict == verdict
            ]
            if named:
                sentences.append(f"The second {verb} beyond noise on {', '.join(named)}.")
        few = list(
            dict.fromkeys(called[row.dataset, row.task] for row in self.rows if row.verdict == NOT_ENOUGH)
        )
        if len(sentences) == 1 and any(row.verdict != NOT_ENOUGH for row in self.rows):
            sentences.append("Nothing differs beyond noise: these pictures show no difference.")
        if few:
            sentences.append(f"Not enough to say, fewer than {MINIMUM} cases in common: {', '.join(few)}.")
        return sentences


def compare(
    first: Sequence[Result],
    second: Sequence[Result],
    *,
    names: tuple[str, str] = ("", ""),
    level: float = 0.05,
) -> ResultComparison:
    """Compare results of the same data sets and tasks.

    Parameters
    ----------
    first, second : sequence of Result
        Matched by data set and task; several of one data set and task in their order.
    names : (str, str), optional
        Names of the two sets; by default those of their models.
    level : float
        Probability of even one false verdict among all rows.

    Raises
    ------
    DataError
        Nothing can be compared.
    """
    second_by_key = _by_key(second)
    rows: list[Difference] = []
    left_out: list[tuple[str, str]] = []
    for key, ours in _by_key(first).items():
        other = second_by_key.pop(key, None)
        reason = "only in the first" if other is None else _mismatch(ours, other)
        if reason or other is None:
            left_out.append((f"{ours.dataset}, {ours.task}", reason))
            continue
        if key[2] > 1:
            ours = replace(ours, dataset=f"{ours.dataset} ({key[2]})")
        rows += [
            _difference(ours, other, metric) for metric in ours.metrics if _outcomes(ours, other, metric)
        ]
        left_out += [
            (f"{ours.dataset}, {ours.task}", f"{short_name(metric)}: {reason}")
            for metric in ours.metrics
            if metric in other.metrics and (reason := _not_paired(ours, other, metric))
        ]
    left_out += [(f"{dataset}, {task}", "only in the second") for dataset, task, _ in second_by_key]
    if not rows:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out) or "there are no results"
        raise DataError(f"nothing can be compared ({reasons})")
    called = (names[0] or _called(first), names[1] or _called(second))
    return ResultComparison(*called, _with_verdicts(rows, level), left_out, level)


def _by_key(results: Sequence[Result]) -> dict[tuple[str, str, int], Result]:
    """Results by data set, task and a running number, as a suite measures a reference several times."""
    counts: Counter[tuple[str, str]] = Counter()
    results_by_key: dict[tuple[str, str, int], Result] = {}
    for result in results:
        counts[result.dataset, result.task] += 1
        results_by_key[result.dataset, result.task, counts[result.dataset, result.task]] = result
    return results_by_key


def _called(results: Sequence[Result]) -> str:
    first = results[0]
    return " ".join(filter(None, (first.model, first.pretrained))) or first.identity


def _mismatch(ours: Result, theirs: Result) -> str:
    """Reason why two results of one data set and task cannot be compared; "" if they can."""
    old_fingerprints = [each.data_fingerprint.startswith("sha256:") for each in (ours, theirs)]
    if old_fingerprints[0] != old_fingerprints[1]:
        return "one file has a fingerprint of an older version, by file sizes: measure it again"
    if ours.data_fingerprint != theirs.data_fingerprint:
        return "the two were measured on different pictures or labels (data_fingerprint)"
    if ours.classes != theirs.classes:
        return (
            f"answers are chosen from {ours.classes} classes in the first and {theirs.classes} in the second"
        )
    if not ours.outcomes or not theirs.outcomes:
        if any(name.startswith("mean_average_precision") for name in (*ours.metrics, *theirs.metrics)):
            return (
                "mean average precision ranks all pictures together and has no outcome of a single picture: "
                "compare the intervals of the two results"
            )
        return "a file has no outcomes of single pictures: measure again with this version"
    common = [
        (ours.outcomes[name], theirs.outcomes[name]) for name in ours.outcomes if name in theirs.outcomes
    ]
    if not common:
        return f"no outcomes of one metric: {', '.join(ours.outcomes)} against {', '.join(theirs.outcomes)}"
    if any(len(first_outcomes) != len(second_outcomes) for first_outcomes, second_outcomes in common):
        return "the two list different numbers of outcomes: a file was changed"
    if not any(
        None not in pair
        for first_outcomes, second_outcomes in common
        for pair in zip(first_outcomes, second_outcomes, strict=True)
    ):
        return "no picture was readable in both"
    return ""


def _source(metric: str) -> str:
    """Metric whose outcomes are averaged: mean per-class recall averages the outcomes of accuracy.

    Examples
    --------
    >>> _source("mean_per_class_recall@16"), _source("macro_acc"), _source("image_acc")
    ('acc1@16', 'acc', 'image_acc')
    """
    name = next((name for name in _CLASS_MEANS if metric.startswith(name)), "")
    return _CLASS_MEANS[name] + metric.removeprefix(name) if name else metric


def _is_class_mean(metric: str) -> bool:
    return metric.startswith(tuple(_CLASS_MEANS))


def _outcomes(ours: Result, theirs: Result, metric: str) -> list[tuple[int, float, float]]:
    """(position, first outcome, second outcome) of images readable in both; empty if not paired."""
    source, by_class = _source(metric), (_is_class_mean(metric) or metric.startswith(_AREA))
    if metric not in theirs.metrics or source not in ours.outcomes or source not in theirs.outcomes:
        return []
    if by_class and (len(ours.labels) != len(ours.outcomes[source]) or _is_accuracy(ours, theirs, metric)):
        return []
    pairs = zip(ours.outcomes[source], theirs.outcomes[source], strict=True)
    counts = [label >= 0 for label in ours.labels] if by_class else [True] * len(ours.outcomes[source])
    return [
        (position, a, b)
        for position, (a, b) in enumerate(pairs)
        if counts[position] and a is not None and b is not None
    ]


def _is_accuracy(ours: Result, theirs: Result, metric: str) -> bool:
    """Whether a mean over classes equals the accuracy in both, as for classes of equal size."""
    source = _source(metric)
    return source != metric and all(
        abs(result.metrics[metric] - result.metrics.get(source, -1.0)) < 1e-9 for result in (ours, theirs)
    )


def _not_paired(ours: Result, theirs: Result, metric: str) -> str:
    """Reason why a metric of both results has no row; "" if it has one, or needs none."""
    if not (_is_class_mean(metric) or metric.startswith(_AREA)) or _is_accuracy(ours, theirs, metric):
        return ""
    if _outcomes(ours, theirs, metric):
        return ""
    return "a file has no outcomes or classes of single pictures: measure again with this version"


def _difference(ours: Result, theirs: Result, metric: str) -> Difference:
    table = np.array(_outcomes(ours, theirs, metric), dtype=np.float64)  # (N, 3)
    before, after = table[:, 1], table[:, 2]
    gains = after - before
    labels = np.asarray(ours.labels)[table[:, 0].astype(np.intp)] if ours.labels else np.zeros(0, np.intp)
    if metric == _AREA:
        change = paired_area_difference(after, before, labels)
        p = interval_p(change)
    elif _is_class_mean(metric):
        change, p = paired_class_difference(after, before, labels), class_sign_flip_p(gains, labels)
    else:
        change, p = paired_difference(after, before), sign_flip_p(gains)
    return Difference(
        ours.dataset,
        ours.task,
        metric,
        ours.metrics[metric],
        theirs.metrics[metric],
        change,
        int((gains < 0).sum()),
        int((gains > 0).sum()),
        p,
    )


def _with_verdicts(rows: Sequence[Difference], level: float) -> list[Difference]:
    """Add the verdicts; rows with too few cases do not count in Holm's correction."""
    large = [number for number, row in enumerate(rows) if (row.change.effective or 0) + 1e-9 >= MINIMUM]
    corrected = dict(zip(large, holm([rows[number].p for number in large]).tolist(), strict=True))
    verdicts: list[Difference] = []
    for number, row in enumerate(rows):
        verdict: Verdict = "not told apart" if number in corrected else NOT_ENOUGH
        if corrected.get(number, 1.0) <= level and row.change.value != 0:
            verdict = "better" if row.change.value > 0 else "worse"
        verdicts.append(replace(row, verdict=verdict))
    return verdicts
