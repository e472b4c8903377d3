"""What an audit of people found, and how it is told: findings, the paper's tables, plots, caveats.

Measures nothing: the figures come from `bias.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diptych.audits.base import Audit
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

_SHOWN = 20  # labels, as in the paper's figure 18
CAVEATS = (
    "The groups are what annotators perceived in a face; they are not what people say of themselves, and the "
    "data knows two genders only. A group that is not in the table was not audited.",
    "The paper says of such figures that accuracy on benchmarks is only one approximation of fairness and "
    "often fails as a meaningful measure of it in real use: even a model with higher accuracy and lower "
    "disparities need not have lower disparities in impact. Classifying faces is not endorsed by being "
    "measured.",
    "Groups are compared as they stand, and once more among people who are alike in the other attributes of "
    "the table. A gap can still come from another mix of lights, poses or photographers. No finding is not a "
    "proof of fairness: the intervals say how large a gap could have been missed.",
    "The classes were chosen beforehand and decide much of what is found; other words give other figures. "
    "Audit the labels of your own use, too.",
)


@dataclass(frozen=True)
class GroupAccuracy:
    """A cell of tables 3 and 4: how often a group's race, gender or age is named right.

    Attributes
    ----------
    method, group, measure : str
    right : Estimate
    chance : float
    """

    method: str
    group: str
    measure: str
    right: Estimate
    chance: float

    @property
    def name(self) -> str:
        """What a verdict on it is called."""
        return f"{self.measure} of {self.group} ({self.method})"


@dataclass(frozen=True)
class GenderAccuracy:
    """A row of table 5: how often the gender of people of one race is named right.

    Attributes
    ----------
    method, race : str
    by_gender : mapping of str to Estimate
    both : Estimate
    """

    method: str
    race: str
    by_gender: Mapping[str, Estimate]
    both: Estimate


@dataclass(frozen=True)
class AddedClassEffect:
    """A row of table 7: the share of a group in harmful classes, before and after classes were added.

    Attributes
    ----------
    kind, group : str
    before, after : Estimate
    left, came : int
        Pictures that went out of these classes, and into them.
    """

    kind: str
    group: str
    before: Estimate
    after: Estimate
    left: int
    came: int


@dataclass(frozen=True, kw_only=True, eq=False)
class BiasAudit(Audit):
    """How a model treats groups of people.

    Attributes
    ----------
    dataset : str
    n : int
        Pictures measured.
    columns : mapping of str to str
        Role -> column of the table.
    groups : mapping of str to mapping
        Role -> group -> pictures.
    accuracy : sequence of Accuracy
        Tables 3 and 4.
    genders : sequence of Genders
        Table 5.
    overall : mapping of str to Estimate
        Kind of harmful class -> share of all pictures.
    disparities : sequence of Disparity
        Every measure by every attribute, tested; table 6 is among them.
    changes : sequence of Change
        Table 7.
    labels : Attached or None
        Figure 18.
    classes, added, templates : sequence of str
        Classes for people, classes added for table 7, prompts.
    kinds : mapping of str to sequence of str
        Kind -> harmful classes.
    reference : str
        Of tables 3 and 4.
    tests, level, minimum, shuffles, seed
        How findings were decided: p is corrected for this many tests.
    trouble : sequence of str
        What was wrong with the table of attributes.
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
    def title(self) -> str:
        """What the report is called."""
        return f"Bias: {self.dataset}"

    @property
    def label_findings(self) -> list[LabelUse]:
        """Labels whose use differs between groups beyond chance, the clearest first."""
        return [] if self.labels is None else [one for one in self.labels.uses if one.p <= self.level]

    @property
    def found(self) -> bool:
        """Whether anything differs between groups beyond chance."""
        return bool(self.label_findings) or any(one.findings for one in self.disparities)

    def sections(self) -> list[Section]:
        """Statements, tables and plots."""
        parts = [self._findings(), self._harm(), self._added(), self._accuracy(), self._labels()]
        return [part for part in parts if part is not None] + [self._how()]

    def _findings(self) -> Section:
        gaps = [one for one in self.disparities if one.findings]
        told = [gap_sentence(one, self.level) for one in gaps]
        if self.label_findings:
            names = ", ".join(dict.fromkeys(one.label for one in self.label_findings))
            told.append(f"Labels that go to one group rather than another: {names}.")
        head = (
            f"Differences between groups beyond chance in {len(gaps) + bool(self.label_findings)} of "
            f"{self.tests} tests:"
            if self.found
            else f"No difference between groups beyond chance in {self.tests} tests at level {self.level:g}. "
            "The intervals below say how large a gap could have been missed."
            if self.tests
            else "Not enough to say whether anything differs between groups: nothing was tested, since no "
            f"attribute has two groups of at least {self.minimum} pictures."
        )
        rows = [
            gap_row(one) for one in sorted(self.disparities, key=lambda one: 2 if one.p is None else one.p)
        ]
        table = Table(
            ["measure", "by", "most / least", "gap", "p"],
            rows,
            f"The widest gap between groups of at least {self.minimum} pictures. Its interval holds for all "
            f"pairs of the row together; p is of the row's clearest pair, corrected for its pairs (by "
            f"{self.shuffles:,} shuffles of the groups) and for {self.tests} tests.",
        )
        tables = {"tests": table}
        if self.tests and any(one.adjusted_for for one in self.disparities):
            tables["adjusted"] = adjusted_table(self.disparities, self.tests)
            tables["standardised"] = standardised_table(self.disparities)
        return Section("What differs", [head, *told], tables)

    @property
    def failed_controls(self) -> list[str]:
        """What is named no better than by lot, so that gaps in it say nothing of accuracy."""
        found = []
        parts = (
            (
                ("at", "below"),
                "Named no better than by lot, so that a gap says which answer it prefers, no more",
            ),
            ((NOT_ENOUGH,), "Not enough to say whether named better than by lot"),
        )
        for verdicts, told in parts:
            cells = [one for one in self.accuracy if self.verdicts[one.name] in verdicts]
            if cells:
                found.append(f"{told}: {'; '.join(one.name for one in cells)}.")
        return found

    def _harm(self) -> Section | None:
        if not self.kinds:
            return None
        told = [
            f"{kind} ({', '.join(self.kinds[kind])}): {percent(one)} of {one.n:,} pictures of people were "
            "put in these classes."
            for kind, one in self.overall.items()
        ]
        tables, plots = {}, {}
        for attribute in dict.fromkeys(one.attribute for one in self.disparities):
            mine = [
                one for one in self.disparities if one.attribute == attribute and one.measure in self.kinds
            ]
            tables[f"table6-{attribute.replace(' ', '-')}"] = self._shares(attribute, mine)
        for kind in self.kinds:
            plots[f"table6-{kind}"] = Bars(
                values={
                    f"{group} ({one.n:,})": (one.value, one.low, one.high)
                    for found in self.disparities
                    if found.measure == kind and found.attribute in self.columns
                    for group, one in found.shares.items()
                },
                x="share of the group's pictures",
                title=f"Put in a {kind} class",
                levels={"all pictures": self.overall[kind].value},
            )
        return Section("Classes that no person should be put in (table 6)", told, tables, plots)

    def _shares(self, attribute: str, found: Sequence[Disparity]) -> Table:
        small = set(found[0].small)
        star = f" * fewer than {self.minimum} pictures: told, not ranked." if small else ""
        rows: list[Sequence[Cell]] = [
            [group + " *" * (group in small), one.n, *(each.shares[group] for each in found)]
            for group, one in found[0].shares.items()
        ]
        what = f"Share of each group that is put in a class of this kind, among {len(self.classes)} classes"
        return Table(
            [attribute, "n", *(one.measure for one in found)],
            rows,
            f"{what} for people and {sum(map(len, self.kinds.values()))} of these.{star}",
        )

    def _added(self) -> Section | None:
        if not self.changes:
            return None
        names = ", ".join(map(repr, self.added))
        told = [
            f"With {names} added, {one.kind} falls to {percent(one.after)} from {percent(one.before)} of all "
            f"pictures: {one.left:,} pictures left these classes, {one.came:,} came."
            if one.after.value < one.before.value
            else f"Adding {names} does not lower {one.kind}: {percent(one.before)} before, "
            f"{percent(one.after)} after."
            for one in self.changes
            if one.group == "all"
        ]
        rows = [[one.kind, one.group, one.before.n, one.before, one.after] for one in self.changes]
        columns = ["kind", "age" if "age" in self.columns else "group", "n", "before", "after"]
        caption = f"The same pictures with {names} among the classes. The design of classes decides much."
        plots = {f"table7-{kind}": self._change(kind) for kind in self.kinds}
        return Section("A class added (table 7)", told, {"table7": Table(columns, rows, caption)}, plots)

    def _change(self, kind: str) -> Bars:
        values = {
            f"{one.group}{tail}": (each.value, each.low, each.high)
            for one in self.changes
            if one.kind == kind
            for tail, each in (("", one.before), (f" + {self.added[0]}", one.after))
        }
        return Bars(values=values, x="share of the group's pictures", title=f"{kind}, before and after")

    def _accuracy(self) -> Section:
        told = [
            f"{one.name}: {beside_chance(one.right, one.chance, verdict)}."
            for one in self.accuracy
            if (verdict := self.verdicts[one.name]) != "above"
        ]
        head = "Not shown to be named better than by lot:"
        rows = [
            [one.group, one.measure, one.method, one.right.n, one.right, one.chance] for one in self.accuracy
        ]
        columns = ["group", "named", "method", "n", "right", "chance"]
        caption = f"Race as {self.reference} or not, as in the paper; gender and age among their values."
        tables = {"table3-4": Table(columns, rows, caption)}
        plots = {}
        if self.genders:
            values = list(dict.fromkeys(name for one in self.genders for name in one.by_gender))
            several = len({one.method for one in self.genders}) > 1
            tables["table5"] = Table(
                ["race", *values, "both"],
                [
                    [f"{one.race} ({one.method})" if several else one.race]
                    + [one.by_gender.get(name) for name in values]
                    + [one.both.value]
                    for one in self.genders
                ],
                "Table 5: gender named right, by race and gender.",
            )
            plots["table5"] = Bars(
                values={
                    f"{one.race}, {name}": (each.value, each.low, each.high)
                    for one in self.genders
                    if one.method == self.genders[0].method
                    for name, each in one.by_gender.items()
                },
                x="gender named right",
                title="Gender by race and gender",
                levels={"chance": 1 / max(1, len(values))},
            )
        return Section(
            "Race, gender and age named (tables 3 to 5)", [head, *told] if told else [], tables, plots
        )

    def _labels(self) -> Section | None:
        if self.labels is None:
            return None
        told = [
            f"At {threshold:.1%} of probability a picture has {each:.1f} of "
            f"{len(self.labels.uses) // len(self.labels.thresholds)} labels on average."
            for threshold, each in zip(self.labels.thresholds, self.labels.per_picture, strict=True)
        ]
        tables, plots = {}, {}
        for threshold in self.labels.thresholds:
            uses = [one for one in self.labels.uses if one.threshold == threshold][:_SHOWN]
            name = f"labels-{threshold:g}".replace(".", "_")
            tables[name] = uses_table(uses, list(self.labels.groups), threshold, self.tests)
            plots[name] = Bars(
                values={
                    f"{one.label}: {group}": (each.value, each.low, each.high)
                    for one in uses[: _SHOWN // 2]
                    for group, each in one.shares.items()
                },
                x="share of the group's pictures",
                title=f"Labels attached at {threshold:.1%}, the clearest differences",
            )
        return Section("Labels by group (figure 18)", told, tables, plots)

    def _how(self) -> Section:
        sizes = [
            f"{role} (column {self.columns[role]!r}): "
            + ", ".join(f"{name} {count:,}" for name, count in groups.items())
            for role, groups in self.groups.items()
        ]
        return Section(
            "How to read this", [*CAVEATS, "Pictures by " + "; by ".join(sizes) + ".", *self.trouble]
        )
