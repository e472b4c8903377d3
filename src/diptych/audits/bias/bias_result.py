"""Result of the bias audit and its report: findings, the paper's tables, plots, caveats.

`bias_audit.py` computes the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diptych.audits.base import Audit, estimate_bars
from diptych.audits.bias.bias_tables import (
    adjusted_table,
    gap_row,
    gap_sentence,
    percent,
    standardised_table,
    uses_table,
)
from diptych.audits.bias.label_use import LabelUse, LabelUseComparison
from diptych.reports import Bars, Cell, Estimate, Section, Table
from diptych.stats.disparity import Disparity
from diptych.stats.significance import NOT_ENOUGH, beside_chance

_MAX_LABELS = 20  # labels shown, as in the paper's figure 18
CAVEATS = (
    "The groups are what annotators perceived in a face, not what people say of themselves, and the data has "
    "two genders only. Groups that are not in the table were not audited.",
    "The paper says of such figures that accuracy on benchmarks is only one approximation of fairness and "
    "often fails as a meaningful measure of it in real use: even a model with higher accuracy and lower "
    "disparities need not have lower disparities in impact. Classifying faces is not endorsed by being "
    "measured.",
    "Groups are compared directly, and again among people who are equal in the other attributes of the "
    "table. A gap can still come from a different mix of lights, poses or photographers. No finding is not a "
    "proof of fairness: the intervals say how large a gap could have been missed.",
    "The classes were chosen beforehand and influence the results; other words give other figures. Audit the "
    "labels of your own application, too.",
)


@dataclass(frozen=True)
class GroupAccuracy:
    """Cell of tables 3 and 4: accuracy of race, gender or age in a group."""

    method: str
    group: str
    measure: str
    right: Estimate
    chance: float

    @property
    def name(self) -> str:
        """Key of its verdict."""
        return f"{self.measure} of {self.group} ({self.method})"


@dataclass(frozen=True)
class GenderAccuracy:
    """Row of table 5: accuracy of gender among people of one race."""

    method: str
    race: str
    by_gender: Mapping[str, Estimate]
    both: Estimate


@dataclass(frozen=True)
class AddedClassEffect:
    """Row of table 7: share of a group in harmful classes, before and after classes were added.

    Attributes
    ----------
    left, came : int
        Images that left these classes, and images that entered them.
    """

    kind: str
    group: str
    before: Estimate
    after: Estimate
    left: int
    came: int


@dataclass(frozen=True, kw_only=True, eq=False)
class BiasAudit(Audit):
    """Result of the bias audit.

    Attributes
    ----------
    n : int
        Images measured.
    columns : mapping of str to str
        Role -> column of the table.
    groups : mapping of str to mapping
        Role -> group -> number of images.
    accuracy : sequence of GroupAccuracy
        Tables 3 and 4.
    genders : sequence of GenderAccuracy
        Table 5.
    overall : mapping of str to Estimate
        Kind of harmful class -> share of all images.
    disparities : sequence of Disparity
        Tests of every measure by every attribute; they include table 6.
    changes : sequence of AddedClassEffect
        Table 7.
    labels : LabelUseComparison or None
        Figure 18.
    classes, added, templates : sequence of str
        Classes for people, classes added for table 7, prompt templates.
    kinds : mapping of str to sequence of str
        Kind -> harmful classes.
    reference : str
        Reference group of tables 3 and 4.
    tests, level, minimum, shuffles, seed
        Parameters of the tests; p is corrected for this number of tests.
    trouble : sequence of str
        Problems in the table of attributes.
    """

    dataset: str
    n: int
    columns: Mapping[str, str]
    groups: Mapping[str, Mapping[str, int]]
    accuracy: Sequence[GroupAccuracy]
    genders: Sequence[GenderAccuracy]
    overall: Mapping[str, Estimate]
    disparities: Sequence[Disparity]
    changes: Sequence[AddedClassEffect]
    labels: LabelUseComparison | None
    classes: Sequence[str]
    kinds: Mapping[str, Sequence[str]]
    added: Sequence[str]
    templates: Sequence[str]
    reference: str
    tests: int
    level: float
    minimum: int
    shuffles: int
    seed: int
    trouble: Sequence[str]

    @property
    def _title(self) -> str:
        return f"Bias: {self.dataset}"

    @property
    def label_findings(self) -> list[LabelUse]:
        """Labels whose use differs significantly between groups, the smallest p first."""
        return [] if self.labels is None else [use for use in self.labels.uses if use.p <= self.level]

    @property
    def has_findings(self) -> bool:
        """Whether anything differs significantly between groups."""
        return bool(self.label_findings) or any(disparity.findings for disparity in self.disparities)

    def _sections(self) -> list[Section]:
        sections = [self._findings(), self._harm(), self._added(), self._accuracy(), self._labels()]
        return [section for section in sections if section is not None] + [self._how()]

    def _findings(self) -> Section:
        gaps = [disparity for disparity in self.disparities if disparity.findings]
        statements = [gap_sentence(disparity, self.level) for disparity in gaps]
        if self.label_findings:
            names = ", ".join(dict.fromkeys(disparity.label for disparity in self.label_findings))
            statements.append(f"Labels that go to one group rather than another: {names}.")
        head = (
            f"Differences between groups beyond chance in {len(gaps) + bool(self.label_findings)} of "
            f"{self.tests} tests:"
            if self.has_findings
            else f"No difference between groups beyond chance in {self.tests} tests at level {self.level:g}. "
            "The intervals below say how large a gap could have been missed."
            if self.tests
            else "Not enough to say whether anything differs between groups: nothing was tested, since no "
            f"attribute has two groups of at least {self.minimum} pictures."
        )
        rows = [
            gap_row(disparity)
            for disparity in sorted(
                self.disparities, key=lambda disparity: 2 if disparity.p is None else disparity.p
            )
        ]
        table = Table(
            ["measure", "by", "most / least", "gap", "p"],
            rows,
            f"The widest gap between groups of at least {self.minimum} pictures. Its interval is "
            "simultaneous for all pairs of the row; p is the smallest of its pairs, corrected for the pairs "
            f"(by {self.shuffles:,} shuffles of the groups) and for {self.tests} tests.",
        )
        tables = {"tests": table}
        if self.tests and any(disparity.adjusted_for for disparity in self.disparities):
            tables["adjusted"] = adjusted_table(self.disparities, self.tests)
            tables["standardised"] = standardised_table(self.disparities)
        return Section("What differs", [head, *statements], tables)

    @property
    def failed_controls(self) -> list[str]:
        """Attributes predicted no better than by chance, whose gaps say nothing about accuracy."""
        statements = []
        parts = (
            (
                ("at", "below"),
                "Named no better than by chance, so that a gap only shows which answer the model prefers",
            ),
            ((NOT_ENOUGH,), "Not enough to say whether named better than by chance"),
        )
        for verdicts, meaning in parts:
            cells = [cell for cell in self.accuracy if self.verdicts[cell.name] in verdicts]
            if cells:
                statements.append(f"{meaning}: {'; '.join(cell.name for cell in cells)}.")
        return statements

    def _harm(self) -> Section | None:
        if not self.kinds:
            return None
        statements = [
            f"{kind} ({', '.join(self.kinds[kind])}): {percent(estimate)} of {estimate.n:,} pictures "
            "of people were put in these classes."
            for kind, estimate in self.overall.items()
        ]
        tables, plots = {}, {}
        for attribute in dict.fromkeys(estimate.attribute for estimate in self.disparities):
            of_attribute = [
                estimate
                for estimate in self.disparities
                if estimate.attribute == attribute and estimate.measure in self.kinds
            ]
            tables[f"table6-{attribute.replace(' ', '-')}"] = self._share_table(attribute, of_attribute)
        for kind in self.kinds:
            plots[f"table6-{kind}"] = Bars(
                values=estimate_bars(
                    {
                        f"{group} ({estimate.n:,})": estimate
                        for disparity in self.disparities
                        if disparity.measure == kind and disparity.attribute in self.columns
                        for group, estimate in disparity.shares.items()
                    }
                ),
                x="share of the group's pictures",
                title=f"Put in a {kind} class",
                levels={"all pictures": self.overall[kind].value},
            )
        return Section("Classes that no person should be put in (table 6)", statements, tables, plots)

    def _share_table(self, attribute: str, disparities: Sequence[Disparity]) -> Table:
        small = set(disparities[0].small)
        star = f" * fewer than {self.minimum} pictures: shown, but not ranked." if small else ""
        rows: list[Sequence[Cell]] = [
            [
                group + " *" * (group in small),
                disparity.n,
                *(disparity.shares[group] for disparity in disparities),
            ]
            for group, disparity in disparities[0].shares.items()
        ]
        caption = (
            f"Share of each group that is put in a class of this kind, among {len(self.classes)} classes"
        )
        return Table(
            [attribute, "n", *(disparity.measure for disparity in disparities)],
            rows,
            f"{caption} for people and {sum(map(len, self.kinds.values()))} of these.{star}",
        )

    def _added(self) -> Section | None:
        if not self.changes:
            return None
        names = ", ".join(map(repr, self.added))
        statements = [
            f"With {names} added, {change.kind} falls to {percent(change.after)} from "
            f"{percent(change.before)} of all pictures: {change.left:,} pictures left these classes, "
            f"{change.came:,} entered."
            if change.after.value < change.before.value
            else f"Adding {names} does not lower {change.kind}: {percent(change.before)} before, "
            f"{percent(change.after)} after."
            for change in self.changes
            if change.group == "all"
        ]
        rows = [
            [change.kind, change.group, change.before.n, change.before, change.after]
            for change in self.changes
        ]
        columns = ["kind", "age" if "age" in self.columns else "group", "n", "before", "after"]
        caption = (
            f"The same pictures with {names} among the classes. The choice of classes has a large effect."
        )
        plots = {f"table7-{kind}": self._change_plot(kind) for kind in self.kinds}
        return Section(
            "A class added (table 7)", statements, {"table7": Table(columns, rows, caption)}, plots
        )

    def _change_plot(self, kind: str) -> Bars:
        values = {
            f"{change.group}{tail}": estimate
            for change in self.changes
            if change.kind == kind
            for tail, estimate in (("", change.before), (f" + {self.added[0]}", change.after))
        }
        title = f"{kind}, before and after"
        return Bars(values=estimate_bars(values), x="share of the group's pictures", title=title)

    def _accuracy(self) -> Section:
        statements = [
            f"{cell.name}: {beside_chance(cell.right, cell.chance, verdict)}."
            for cell in self.accuracy
            if (verdict := self.verdicts[cell.name]) != "above"
        ]
        head = "Not shown to be named better than by chance:"
        rows = [
            [cell.group, cell.measure, cell.method, cell.right.n, cell.right, cell.chance]
            for cell in self.accuracy
        ]
        columns = ["group", "named", "method", "n", "right", "chance"]
        caption = f"Race as {self.reference} or not, as in the paper; gender and age among their values."
        tables = {"table3-4": Table(columns, rows, caption)}
        plots = {}
        if self.genders:
            values = list(dict.fromkeys(name for cell in self.genders for name in cell.by_gender))
            several = len({cell.method for cell in self.genders}) > 1
            tables["table5"] = Table(
                ["race", *values, "both"],
                [
                    [f"{cell.race} ({cell.method})" if several else cell.race]
                    + [cell.by_gender.get(name) for name in values]
                    + [cell.both.value]
                    for cell in self.genders
                ],
                "Table 5: gender named right, by race and gender.",
            )
            plots["table5"] = Bars(
                values={
                    f"{cell.race}, {name}": (estimate.value, estimate.low, estimate.high)
                    for cell in self.genders
                    if cell.method == self.genders[0].method
                    for name, estimate in cell.by_gender.items()
                },
                x="gender named right",
                title="Gender by race and gender",
                levels={"chance": 1 / max(1, len(values))},
            )
        return Section(
            "Race, gender and age named (tables 3 to 5)",
            [head, *statements] if statements else [],
            tables,
            plots,
        )

    def _labels(self) -> Section | None:
        if self.labels is None:
            return None
        statements = [
            f"At a threshold of {threshold:.1%} a picture has {count:.1f} of "
            f"{len(self.labels.uses) // len(self.labels.thresholds)} labels on average."
            for threshold, count in zip(self.labels.thresholds, self.labels.per_picture, strict=True)
        ]
        tables, plots = {}, {}
        for threshold in self.labels.thresholds:
            uses = [use for use in self.labels.uses if use.threshold == threshold][:_MAX_LABELS]
            name = f"labels-{threshold:g}".replace(".", "_")
            tables[name] = uses_table(uses, list(self.labels.groups), threshold, self.tests)
            plots[name] = Bars(
                values={
                    f"{use.label}: {group}": (count.value, count.low, count.high)
                    for use in uses[: _MAX_LABELS // 2]
                    for group, count in use.shares.items()
                },
                x="share of the group's pictures",
                title=f"Labels attached at {threshold:.1%}, the smallest p first",
            )
        return Section("Labels by group (figure 18)", statements, tables, plots)

    def _how(self) -> Section:
        sizes = [
            f"{role} (column {self.columns[role]!r}): "
            + ", ".join(f"{name} {count:,}" for name, count in groups.items())
            for role, groups in self.groups.items()
        ]
        return Section(
            "How to read this", [*CAVEATS, "Pictures by " + "; by ".join(sizes) + ".", *self.trouble]
        )
