"""Two results of the same data, picture by picture: what differs beyond noise.

Both models saw the same pictures, so their outcomes are paired. One statistic decides: the mean of the
differences, for mean per-class recall the mean over classes of their means. Its sign is the direction of a
verdict, and its p comes from flipping the signs of the differences, which for hits and misses is McNemar's
exact test. Areas under the ROC curve are compared by DeLong's test (1988), whose outcome of a picture is its
placement. That is far sharper than two intervals laid side by side. Reads nothing and prints nothing.
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
# Means over classes or categories -> the outcomes that they are means of.
_CLASS_MEANS = {"mean_per_class_recall": "acc1", "macro_acc": "acc"}
_AREA = "roc_auc"


@dataclass(frozen=True)
class Difference:
    """One figure of two results.

    Attributes
    ----------
    dataset, task, metric : str
    first, second : float
        The figures.
    change : Estimate
        Second minus first on the pictures that both measured, with a paired interval: the mean over pictures,
        the mean over classes, or the difference of areas. `n` is their number, `effective` how many cases the
        figure is worth.
    only_first, only_second : int
        Pictures that one of the two got right and the other did not; for an area, that one of the two ranks
        better.
    p : float
        Two-sided sign-flip test of the difference: how often it would be so large by chance. Where outcomes
        are hits and misses it is McNemar's exact test; for an area it is DeLong's.
    verdict : "better", "worse", "not told apart" or "not enough to say"
        Of the second, at `level` over all rows of the comparison together (Holm). With fewer than 30 cases
        in common there is not enough to say.
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
class Comparison:
    """All figures that two sets of results share.

    Attributes
    ----------
    first, second : str
        What the two are called.
    rows : sequence of Difference
    left_out : sequence of (str, str)
        Results that could not be compared, and why.
    level : float
        Chance of even one wrong verdict among all rows.
    """

    first: str
    second: str
    rows: Sequence[Difference]
    left_out: Sequence[tuple[str, str]]
    level: float = 0.05

    def report(self, facts: Mapping[str, str] | None = None) -> Report:
        """Tables, a plot and what can be said."""
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
            "interval. p: flips of the signs of these differences (McNemar's exact test where they are hits "
            "and misses; ROC AUC: DeLong's test). The last "
            f"column is the verdict on the second at {self.level:g} over all rows together (Holm); none: not "
            f"told apart; too few: under {MINIMUM} cases in common, not enough to say."
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
        """Name of each data set and task: with the task where one data set has several."""
        pairs = dict.fromkeys((row.dataset, row.task) for row in self.rows)
        tasks = Counter(dataset for dataset, _ in pairs)
        return {
            (dataset, task): dataset if tasks[dataset] == 1 else f"{dataset}, {protocol(task)}"
            for dataset, task in pairs
        }

    def _statements(self) -> list[str]:
        called = self._names()
        said = [f"First: {self.first}. Second: {self.second}."]
        for verdict, verb in (("better", "is better"), ("worse", "is worse")):
            named = [
                f"{called[row.dataset, row.task]} ({short_name(row.metric)})"
                for row in self.rows
                if row.verdict == verdict
            ]
            if named:
                said.append(f"The second {verb} beyond noise on {', '.join(named)}.")
        few = list(
            dict.fromkeys(called[row.dataset, row.task] for row in self.rows if row.verdict == NOT_ENOUGH)
        )
        if len(said) == 1 and any(row.verdict != NOT_ENOUGH for row in self.rows):
            said.append("Nothing differs beyond noise: these pictures do not tell the two apart.")
        if few:
            said.append(f"Not enough to say, fewer than {MINIMUM} cases in common: {', '.join(few)}.")
        return said


def compare(
    first: Sequence[Result],
    second: Sequence[Result],
    *,
    names: tuple[str, str] = ("", ""),
    level: float = 0.05,
) -> Comparison:
    """Compare results of the same data sets and tasks.

    Parameters
    ----------
    first, second : sequence of Result
        Matched by data set and task; several of one data set and task in their order.
    names : (str, str), optional
        What the two are called; by default the names of their models.
    level : float
        Chance of even one wrong verdict, over all rows.

    Raises
    ------
    DataError
        Nothing can be compared; says why.
    """
    theirs = _by_key(second)
    rows: list[Difference] = []
    left_out: list[tuple[str, str]] = []
    for key, one in _by_key(first).items():
        other = theirs.pop(key, None)
        why = "only in the first" if other is None else _mismatch(one, other)
        if why or other is None:
            left_out.append((f"{one.dataset}, {one.task}", why))
            continue
        if key[2] > 1:
            one = replace(one, dataset=f"{one.dataset} ({key[2]})")
        rows += [_difference(one, other, metric) for metric in one.metrics if _outcomes(one, other, metric)]
        left_out += [
            (f"{one.dataset}, {one.task}", f"{short_name(metric)}: {reason}")
            for metric in one.metrics
            if metric in other.metrics and (reason := _not_paired(one, other, metric))
        ]
    left_out += [(f"{dataset}, {task}", "only in the second") for dataset, task, _ in theirs]
    if not rows:
        told = "; ".join(f"{what}: {why}" for what, why in left_out) or "there are no results"
        raise DataError(f"nothing can be compared ({told})")
    called = (names[0] or _called(first), names[1] or _called(second))
    return Comparison(*called, _judged(rows, level), left_out, level)


def _by_key(results: Sequence[Result]) -> dict[tuple[str, str, int], Result]:
    """Results by data set, task, and their number: a suite measures a reference several times."""
    counts: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, str, int], Result] = {}
    for one in results:
        counts[one.dataset, one.task] += 1
        found[one.dataset, one.task, counts[one.dataset, one.task]] = one
    return found


def _called(results: Sequence[Result]) -> str:
    one = results[0]
    return " ".join(filter(None, (one.model, one.pretrained))) or one.identity


def _mismatch(one: Result, other: Result) -> str:
    """Why two results of one name cannot be compared; "" if they can."""
    older = [each.data_fingerprint.startswith("sha256:") for each in (one, other)]
    if older[0] != older[1]:
        return "one file has a fingerprint of an older version, by file sizes: measure it again"
    if one.data_fingerprint != other.data_fingerprint:
        return "the two were measured on different pictures or labels (data_fingerprint)"
    if one.classes != other.classes:
        return f"answers are chosen from {one.classes} classes in the first and {other.classes} in the second"
    if not one.outcomes or not other.outcomes:
        if any(name.startswith("mean_average_precision") for name in (*one.metrics, *other.metrics)):
            return (
                "mean average precision ranks all pictures together and has no outcome of a single picture: "
                "set the intervals of the two results beside each other"
            )
        return "a file without outcomes of single pictures: measure again with this version"
    common = [(one.outcomes[name], other.outcomes[name]) for name in one.outcomes if name in other.outcomes]
    if not common:
        return f"no outcomes of one metric: {', '.join(one.outcomes)} against {', '.join(other.outcomes)}"
    if any(len(ours) != len(theirs) for ours, theirs in common):
        return "the two list different numbers of outcomes: a file was changed"
    if not any(None not in pair for ours, theirs in common for pair in zip(ours, theirs, strict=True)):
        return "the two have no picture in common that both could read"
    return ""


def _source(metric: str) -> str:
    """The outcomes that a metric is made of: mean per-class recall is a mean of those of accuracy.

    Examples
    --------
    >>> _source("mean_per_class_recall@16"), _source("macro_acc"), _source("image_acc")
    ('acc1@16', 'acc', 'image_acc')
    """
    name = next((name for name in _CLASS_MEANS if metric.startswith(name)), "")
    return _CLASS_MEANS[name] + metric.removeprefix(name) if name else metric


def _is_class_mean(metric: str) -> bool:
    return metric.startswith(tuple(_CLASS_MEANS))


def _outcomes(one: Result, other: Result, metric: str) -> list[tuple[int, float, float]]:
    """Place of each picture that both could read, and both outcomes; none where they cannot be paired."""
    source, by_class = _source(metric), (_is_class_mean(metric) or metric.startswith(_AREA))
    if metric not in other.metrics or source not in one.outcomes or source not in other.outcomes:
        return []
    if by_class and (len(one.labels) != len(one.outcomes[source]) or _is_accuracy(one, other, metric)):
        return []
    pairs = zip(one.outcomes[source], other.outcomes[source], strict=True)
    counts = [label >= 0 for label in one.labels] if by_class else [True] * len(one.outcomes[source])
    return [
        (place, a, b)
        for place, (a, b) in enumerate(pairs)
        if counts[place] and a is not None and b is not None
    ]


def _is_accuracy(one: Result, other: Result, metric: str) -> bool:
    """Whether a mean over classes comes to the accuracy in both, as it does where classes are of one size."""
    source = _source(metric)
    return source != metric and all(
        abs(each.metrics[metric] - each.metrics.get(source, -1.0)) < 1e-9 for each in (one, other)
    )


def _not_paired(one: Result, other: Result, metric: str) -> str:
    """Why a metric of both results has no row; "" where it has one, or needs none."""
    if not (_is_class_mean(metric) or metric.startswith(_AREA)) or _is_accuracy(one, other, metric):
        return ""
    if _outcomes(one, other, metric):
        return ""
    return "a file without the outcomes or classes of single pictures: measure again with this version"


def _difference(one: Result, other: Result, metric: str) -> Difference:
    table = np.array(_outcomes(one, other, metric), dtype=np.float64)  # (N, 3)
    before, after = table[:, 1], table[:, 2]
    gains = after - before
    labels = np.asarray(one.labels)[table[:, 0].astype(np.intp)] if one.labels else np.zeros(0, np.intp)
    if metric == _AREA:
        change = paired_area_difference(after, before, labels)
        p = interval_p(change)
    elif _is_class_mean(metric):
        change, p = paired_class_difference(after, before, labels), class_sign_flip_p(gains, labels)
    else:
        change, p = paired_difference(after, before), sign_flip_p(gains)
    return Difference(
        one.dataset,
        one.task,
        metric,
        one.metrics[metric],
        other.metrics[metric],
        change,
        int((gains < 0).sum()),
        int((gains > 0).sum()),
        p,
    )


def _judged(rows: Sequence[Difference], level: float) -> list[Difference]:
    """The rows with their verdicts; those of too few cases do not count as tried."""
    large = [number for number, row in enumerate(rows) if (row.change.effective or 0) + 1e-9 >= MINIMUM]
    corrected = dict(zip(large, holm([rows[number].p for number in large]).tolist(), strict=True))
    verdicts: list[Difference] = []
    for number, row in enumerate(rows):
        verdict: Verdict = "not told apart" if number in corrected else NOT_ENOUGH
        if corrected.get(number, 1.0) <= level and row.change.value != 0:
            verdict = "better" if row.change.value > 0 else "worse"
        verdicts.append(replace(row, verdict=verdict))
    return verdicts
