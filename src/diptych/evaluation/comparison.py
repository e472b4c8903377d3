"""Two results of the same data, picture by picture: what differs beyond noise.

Both models saw the same pictures, so their outcomes are paired: what is resampled is the difference on each
picture, and McNemar's test looks only at the pictures on which the two disagree. Both are far sharper than
two intervals laid side by side. Reads nothing and prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import DataError
from diptych.evaluation import metrics
from diptych.evaluation.report import Result
from diptych.reports import Bars, Estimate, Report, Section, Table

Verdict = Literal["better", "worse", "not told apart"]


@dataclass(frozen=True)
class Difference:
    """One figure of two results.

    Attributes
    ----------
    dataset, task, metric : str
    first, second : float
        The figures.
    change : Estimate
        Mean of (second - first) over the pictures that both measured, with a paired bootstrap interval; `n`
        of them.
    only_first, only_second : int
        Pictures that one of the two got right and the other did not.
    p : float
        McNemar's exact test, two-sided: how often the disagreements would lie so unevenly by chance.
    verdict : "better", "worse" or "not told apart"
        Of the second, at `level` over all rows of the comparison together (Holm).
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
        columns = ("data set", "metric", "first", "second", "change", "apart", "p", "second is")
        cells = [
            (
                r.dataset,
                r.metric,
                r.first,
                r.second,
                r.change,
                f"{r.only_first}:{r.only_second}",
                r.p,
                r.verdict if r.verdict != "not told apart" else "",
            )
            for r in self.rows
        ]
        caption = (
            "Change with a 95 % interval (paired bootstrap over pictures). Apart: how many pictures only the "
            "first got right, and only the second; p by McNemar's exact test on them. Verdicts at "
            f"{self.level:g} over all rows together (Holm); none: not told apart."
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
            named = [f"{row.dataset} ({row.metric})" for row in self.rows if row.verdict == verdict]
            if named:
                said.append(f"The second {verb} beyond noise on {', '.join(named)}.")
        if len(said) == 1:
            said.append("Nothing differs beyond noise: these pictures do not tell the two apart.")
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
    if one.data_fingerprint != other.data_fingerprint:
        return "the two were measured on different pictures or labels (data_fingerprint)"
    if not one.outcomes or not other.outcomes:
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
    low, high = metrics.bootstrap_interval(change)
    gone, won = int((change < 0).sum()), int((change > 0).sum())
    return Difference(
        one.dataset,
        one.task,
        metric,
        one.metrics[metric],
        other.metrics[metric],
        Estimate(float(change.mean()), low, high, len(change)),
        gone,
        won,
        mcnemar(gone, won),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test (1947), two-sided: disagreements as tosses of a fair coin.

    Where outcomes are shares rather than hits (ties, several captions) it is the sign test.

    Examples
    --------
    >>> mcnemar(1, 9)                  # 2 * (1 + 10) / 2**10
    0.021484375
    >>> mcnemar(0, 0), mcnemar(5, 5)
    (1.0, 1.0)
    """
    tosses, fewer = only_first + only_second, min(only_first, only_second)
    if 2 * fewer >= tosses:
        return 1.0
    term = total = 1  # binomial coefficients, as whole numbers: exact however small p is
    for k in range(fewer):
        term = term * (tosses - k) // (k + 1)
        total += term
    return float(min(1.0, 2 * total / 2**tosses))


def holm(p: ArrayLike, level: float) -> list[bool]:
    """Which of several tests hold at `level` together (Holm 1979).

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03], 0.05)         # 0.01 <= 0.05/3, then 0.03 > 0.05/2: stop
    [True, False, False]
    """
    values = np.asarray(p, dtype=np.float64)
    found = [False] * len(values)
    for rank, place in enumerate(np.argsort(values, kind="stable")):
        if values[place] > level / (len(values) - rank):
            break
        found[int(place)] = True
    return found


def _judged(rows: Sequence[Difference], level: float) -> list[Difference]:
    verdicts: list[Difference] = []
    for row, holds in zip(rows, holm([row.p for row in rows], level), strict=True):
        told: Verdict = "not told apart"
        if holds and row.change.value != 0:
            told = "better" if row.change.value > 0 else "worse"
        verdicts.append(replace(row, verdict=told))
    return verdicts
