"""Rows, tables and sentences of an audit of people, from its figures. The report is `bias_result.py`'s."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.audits.bias.label_use import LabelUse
from diptych.errors import counted
from diptych.reports import Cell, Estimate, Table
from diptych.stats.disparity import Disparity, Gap

_MOVED = 12  # groups shown


def percent(one: Estimate) -> str:
    """A share with its interval, as people say it.

    Examples
    --------
    >>> percent(Estimate(0.123, 0.1, 0.15, 100))
    '12.3 % (10.0 to 15.0)'
    """
    if one.low is None or one.high is None:
        return f"{one.value:.1%}".replace("%", " %")
    return f"{100 * one.value:.1f} % ({100 * one.low:.1f} to {100 * one.high:.1f})"


def gap_sentence(one: Disparity, level: float) -> str:
    """A finding in a sentence, and what is left of it among people who are alike in all else."""
    first = one.findings[0]
    more = len(one.findings) - 1
    told = (
        f"{one.measure} by {one.attribute}: {first.high} {percent(one.shares[first.high])} against "
        f"{first.low} {percent(one.shares[first.low])}; gap {first.gap}, p = {first.p:.4f}"
        + (f"; and {counted(more, 'more pair')}." if more else ".")
    )
    if first.adjusted is None or first.adjusted_p is None:
        return told
    left = f"Adjusted for {one.adjusted_for} the gap is {first.adjusted}, p = {first.adjusted_p:.4f}"
    explained = "" if first.adjusted_p <= level else ", which is not shown to differ from zero"
    return f"{told} {left}{explained}."


def gap_row(one: Disparity) -> list[Cell]:
    """A row of the table of tests."""
    widest: Gap | None = one.widest
    if widest is None:
        return [one.measure, one.attribute, "fewer than two groups to rank", None, None]
    return [one.measure, one.attribute, f"{widest.high} / {widest.low}", widest.gap, one.p]


def uses_table(uses: Sequence[LabelUse], groups: Sequence[str], threshold: float, tests: int) -> Table:
    """The labels of one threshold: every group's share where there are two, else the highest and lowest."""
    caption = (
        f"Attached where a label has at least {threshold:.1%} of probability among all. p is of a "
        f"chi-squared test by shuffling, corrected for all labels and thresholds and for {tests} tests."
    )
    if len(groups) == 2:
        rows: list[list[Cell]] = [
            [one.label, *(one.shares[group] for group in groups), one.chi2, one.p] for one in uses
        ]
        return Table(["label", *groups, "chi2", "p"], rows, caption)
    rows = [[one.label, _share(one, one.high), _share(one, one.low), one.chi2, one.p] for one in uses]
    return Table(["label", "most", "least", "chi2", "p"], rows, caption)


def _share(one: LabelUse, group: str) -> str:
    return f"{group} {one.shares[group].value:.3f}"


def adjusted_table(disparities: Sequence[Disparity], tests: int) -> Table:
    """The widest gaps once more, within strata."""
    rows: list[list[Cell]] = [
        [one.measure, one.attribute, f"{gap.high} / {gap.low}", gap.gap.value, gap.adjusted, gap.adjusted_p]
        for one in disparities
        if (gap := one.widest) is not None and gap.adjusted is not None
    ]
    caption = (
        "adjusted: the same gap among people who are alike in the other attributes (Mantel and Haenszel), "
        "its interval for all pairs of the row; p within strata (Cochran, Mantel and Haenszel), corrected "
        f"for the pairs and for {tests} tests."
    )
    return Table(["measure", "by", "most / least", "gap", "adjusted", "p"], rows, caption)


def standardised_table(disparities: Sequence[Disparity]) -> Table:
    """Rates of groups as they stand and adjusted for the other attributes, those that move most."""
    rows: list[list[Cell]] = [
        [one.measure, one.attribute, group, rate.value, one.adjusted[group]]
        for one in disparities
        for group, rate in one.shares.items()
        if group not in one.small and one.adjusted.get(group, float("nan")) == one.adjusted.get(group)
    ]
    moved = sorted(rows, key=lambda row: -abs(float(str(row[3])) - float(str(row[4]))))
    caption = (
        "Rates of groups as they stand, and what they would be were each group composed as everyone is in "
        f"the other attributes (indirect standardisation). The {_MOVED} that move most; JSON has all."
    )
    return Table(["measure", "by", "group", "rate", "adjusted"], moved[:_MOVED], caption)
