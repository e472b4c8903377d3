"""Two results of the same data, picture by picture: what differs beyond noise.

Both models saw the same pictures, so their outcomes are paired. One statistic decides: the mean of the
differences. Its sign is the direction of a verdict, and its p comes from flipping the signs of the
differences, which for hits and misses is McNemar's exact test. That is far sharper than two intervals laid
side by side. Reads nothing and prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from diptych.errors import DataError
from diptych.evaluation.intervals import paired_difference
from diptych.evaluation.report import Result, short_name
from diptych.evaluation.significance import MINIMUM, NOT_ENOUGH, holm, sign_flip_p
from diptych.reports import Bars, Estimate, Report, Section, Table

Verdict = Literal["better", "worse", "not told apart", "not enough to say"]


@dataclass(frozen=True)
class Difference:
    """One figure of two results.

    Attributes
    ----------
    dataset, task, metric : str
    first, second : float
        The figures.
    change : Estimate
        Mean of (second - first) over the pictures that both measured, with a paired interval; `n` of them.
    only_first, only_second : int
        Pictures that one of the two got right and the other did not.
    p : float
        Two-sided sign-flip test of the mean difference: how often it would be so large by chance. Where
        outcomes are hits and misses it is McNemar's exact test.
    verdict : "better", "worse", "not told apart" or "not enough to say"
        Of the second, at `level` over all rows of the comparison together (Holm). With fewer than 30 pictures
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
        cells = [
            (
                r.dataset,
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
            "Change: mean of second minus first over pictures, with a paired 95 % interval. p: flips of the "
            "signs of these differences (McNemar's exact test where they are hits and misses). The last "
            f"column is the verdict on the second at {self.level:g} over all rows together (Holm); none: not "
            f"told apart; too few: under {MINIMUM} pictures in common, not enough to say."
        )
        bars = {f"{r.dataset}, {r.metric}": (r.change.value, r.change.low, r.change.high) for r in self.rows}
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

    def _statements(self) -> list[str]:
        said = [f"First: {self.first}. Second: {self.second}."]
        for verdict, verb in (("better", "is better"), ("worse", "is worse")):
            named = [
                f"{row.dataset} ({short_name(row.metric)})" for row in self.rows if row.verdict == verdict
            ]
            if named:
                said.append(f"The second {verb} beyond noise on {', '.join(named)}.")
        few = list(dict.fromkeys(row.dataset for row in self.rows if row.verdict == NOT_ENOUGH))
        if len(said) == 1 and len(few) < len({row.dataset for row in self.rows}):
            said.append("Nothing differs beyond noise: these pictures do not tell the two apart.")
        if few:
            said.append(f"Not enough to say, fewer than {MINIMUM} pictures in common: {', '.join(few)}.")
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
        Matched by data set and task.
    names : (str, str), optional
        What the two are called; by default the names of their models.
    level : float
        Chance of even one wrong verdict, over all rows.

    Raises
    ------
    DataError
        Nothing can be compared; says why.
    """
    theirs = {(one.dataset, one.task): one for one in second}
    rows: list[Difference] = []
    left_out: list[tuple[str, str]] = []
    for one in first:
        other = theirs.pop((one.dataset, one.task), None)
        why = "only in the first" if other is None else _mismatch(one, other)
        if why or other is None:
            left_out.append((f"{one.dataset}, {one.task}", why))
        else:
            rows += [_difference(one, other, name) for name in one.outcomes if name in other.outcomes]
    left_out += [(f"{dataset}, {task}", "only in the second") for dataset, task in theirs]
    if not rows:
        told = "; ".join(f"{what}: {why}" for what, why in left_out) or "there are no results"
        raise DataError(f"nothing can be compared ({told})")
    called = (names[0] or _called(first), names[1] or _called(second))
    return Comparison(*called, _judged(rows, level), left_out, level)


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
    if any(
        len(other.outcomes[name]) != len(one.outcomes[name])
        for name in one.outcomes
        if name in other.outcomes
    ):
        return "the two list different numbers of outcomes: a file was changed"
    return ""


def _difference(one: Result, other: Result, metric: str) -> Difference:
    pairs = [
        (a, b)
        for a, b in zip(one.outcomes[metric], other.outcomes[metric], strict=True)
        if a is not None and b is not None
    ]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)  # (N, 2)
    if not len(table):
        raise DataError(f"{one.dataset}: the two have no picture in common that both could read")
    change = table[:, 1] - table[:, 0]
    return Difference(
        one.dataset,
        one.task,
        metric,
        one.metrics[metric],
        other.metrics[metric],
        paired_difference(table[:, 1], table[:, 0]),
        int((change < 0).sum()),
        int((change > 0).sum()),
        sign_flip_p(change),
    )


def _judged(rows: Sequence[Difference], level: float) -> list[Difference]:
    """The rows with their verdicts; those of too few pictures do not count as tried."""
    large = [number for number, row in enumerate(rows) if (row.change.n or 0) >= MINIMUM]
    corrected = dict(zip(large, holm([rows[number].p for number in large]).tolist(), strict=True))
    verdicts: list[Difference] = []
    for number, row in enumerate(rows):
        verdict: Verdict = "not told apart" if number in corrected else NOT_ENOUGH
        if corrected.get(number, 1.0) <= level and row.change.value != 0:
            verdict = "better" if row.change.value > 0 else "worse"
        verdicts.append(replace(row, verdict=verdict))
    return verdicts
