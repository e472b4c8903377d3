"""Rows, tables and sentences of the bias report; `bias_result.py` assembles the report."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.audits.bias.label_use import LabelUse
from diptych.errors import counted
from diptych.reports import Cell, Estimate, Table
from diptych.stats.disparity import Disparity, Gap

_MAX_ROWS = 12  # groups shown in the standardised table


def percent(estimate: Estimate) -> str:
    """Format a share with its interval in percent.

    Examples
    --------
    >>> percent(Estimate(0.123, 0.1, 0.15, 100))
    '12.3 % (10.0 to 15.0)'
    """
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.1%}".replace("%", " %")
    return f"{100 * estimate.value:.1f} % ({100 * estimate.low:.1f} to {100 * estimate.high:.1f})"


def gap_sentence(disparity: Disparity, level: float) -> str:
    """Sentence on a significant gap, and on the gap adjusted for the other attributes."""
    first = disparity.findings[0]
    more = len(disparity.findings) - 1
    sentence = (
        f"{disparity.measure} by {disparity.attribute}: {first.high} {percent(disparity.shares[first.high])} "
        f"against {first.low} {percent(disparity.shares[first.low])}; gap {first.gap}, p = {first.p:.4f}"
        + (f"; and {counted(more, 'more pair')}." if more else ".")
    )
    if first.adjusted is None or first.adjusted_p is None:
        return sentence
    adjusted = (
        f"Adjusted for {disparity.adjusted_for} the gap is {first.adjusted}, p = {first.adjusted_p:.4f}"
    )
    explained = "" if first.adjusted_p <= level else ", which is not shown to differ from zero"
    return f"{sentence} {adjusted}{explained}."


def gap_row(disparity: Disparity) -> list[Cell]:
    """Row of the table of tests."""
    widest: Gap | None = disparity.widest
    if widest is None:
        return [disparity.measure, disparity.attribute, "fewer than two groups to rank", None, None]
    return [disparity.measure, disparity.attribute, f"{widest.high} / {widest.low}", widest.gap, disparity.p]


def uses_table(uses: Sequence[LabelUse], groups: Sequence[str], threshold: float, tests: int) -> Table:
    """Table of the labels at one threshold: both shares for two groups, else the highest and the lowest."""
    caption = (
        f"A label is attached if its probability among all labels is at least {threshold:.1%}. p: "
        f"chi-squared permutation test, corrected for all labels and thresholds and for {tests} tests."
    )
    if len(groups) == 2:
        rows: list[list[Cell]] = [
            [use.label, *(use.shares[group] for group in groups), use.chi2, use.p] for use in uses
        ]
        return Table(["label", *groups, "chi2", "p"], rows, caption)
    rows = [
        [use.label, _group_share(use, use.high), _group_share(use, use.low), use.chi2, use.p] for use in uses
    ]
    return Table(["label", "most", "least", "chi2", "p"], rows, caption)


def _group_share(use: LabelUse, group: str) -> str:
    return f"{group} {use.shares[group].value:.3f}"


def adjusted_table(disparities: Sequence[Disparity], tests: int) -> Table:
    """Table of the widest gaps, adjusted within strata of the other attributes."""
    rows: list[list[Cell]] = [
        [
            disparity.measure,
            disparity.attribute,
            f"{gap.high} / {gap.low}",
            gap.gap.value,
            gap.adjusted,
            gap.adjusted_p,
        ]
        for disparity in disparities
        if (gap := disparity.widest) is not None and gap.adjusted is not None
    ]
    caption = (
        "adjusted: the same gap among people who are equal in the other attributes (Mantel and Haenszel), "
        "with an interval for all pairs of the row; p within strata (Cochran, Mantel and Haenszel), "
        f"corrected for the pairs and for {tests} tests."
    )
    return Table(["measure", "by", "most / least", "gap", "adjusted", "p"], rows, caption)


def standardised_table(disparities: Sequence[Disparity]) -> Table:
    """Rates of groups, raw and adjusted for the other attributes; the largest changes first."""
    rows: list[list[Cell]] = [
        [disparity.measure, disparity.attribute, group, rate.value, disparity.adjusted[group]]
        for disparity in disparities
        for group, rate in disparity.shares.items()
        if group not in disparity.small
        and disparity.adjusted.get(group, float("nan")) == disparity.adjusted.get(group)
    ]
    moved = sorted(rows, key=lambda row: -abs(float(str(row[3])) - float(str(row[4]))))
    caption = (
        "Rates of groups, and the rates expected if each group had the same mix of the other attributes as "
        f"everyone (indirect standardisation). The {_MAX_ROWS} largest changes; the JSON file has all."
    )
    return Table(["measure", "by", "group", "rate", "adjusted"], moved[:_MAX_ROWS], caption)
