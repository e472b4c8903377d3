"""What association tests found, and how it is told. The figures come from `association.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diptych.audits.base import Audit
from diptych.errors import counted
from diptych.reports import Bars, Cell, Estimate, Heatmap, Section, Table

_CAVEATS = (
    "An effect says what lies nearer to what in the space of this model. It does not say that an application "
    "harms anyone, and no effect does not say that none can: other words give other effects.",
    "The groups of people are what annotators perceived. Pictures of groups may differ in light, pose and "
    "background, too, and a distance between groups holds all of that.",
)


@dataclass(frozen=True)
class AssociationEffect:
    """One association test.

    Attributes
    ----------
    name, kind : str
        Kind is "texts" or "pictures": what x and y are.
    x, y, a, b : str
        Whether x, rather than y, lies nearer to a than to b.
    d : Estimate
        Effect size; 0 is none, 0.8 is called large, 2 about the most there can be.
    x_count, y_count : int
    p, corrected : float
        Of both sides; corrected for all tests of the page but controls, which are not findings.
    control : bool
        Any model that knows language should find x nearer to a.
    """

    name: str
    kind: str
    x: str
    y: str
    a: str
    b: str
    d: Estimate
    x_count: int
    y_count: int
    p: float
    corrected: float
    control: bool = False

    @property
    def told(self) -> str:
        """What the sign of the effect says."""
        a, b = (self.a, self.b) if self.d.value >= 0 else (self.b, self.a)
        return f"{self.x} nearer to {a} than to {b}, compared with {self.y}"


@dataclass(frozen=True)
class GroupDistance:
    """How far two groups of pictures lie apart.

    Attributes
    ----------
    attribute, first, second : str
    distance : float
        Of their means, in units of the scatter within groups.
    p : float
    """

    attribute: str
    first: str
    second: str
    distance: float
    p: float


@dataclass(frozen=True, kw_only=True, eq=False)
class AssociationAudit(Audit):
    """What groups of words and of people are associated with.

    Attributes
    ----------
    dataset : str
        Empty where texts alone were tested.
    effects : sequence of Effect
    distances : sequence of Distance
    small : mapping of str to tuple of str
        Attribute -> groups under the least size, which were not tested.
    level, minimum, shuffles, seed
        How findings were decided.
    templates : sequence of str
        Prompts.
    trouble : sequence of str
        What was wrong with the table of attributes.
    """

    dataset: str
    effects: Sequence[AssociationEffect]
    distances: Sequence[GroupDistance]
    small: Mapping[str, Sequence[str]]
    level: float
    minimum: int
    shuffles: int
    seed: int
    templates: Sequence[str]
    trouble: Sequence[str]

    @property
    def title(self) -> str:
        """What the report is called."""
        return f"Association: {self.dataset}" if self.dataset else "Association of texts"

    @property
    def findings(self) -> list[AssociationEffect]:
        """Effects beyond chance, the largest first."""
        found = [one for one in self.tested if one.corrected <= self.level]
        return sorted(found, key=lambda one: -abs(one.d.value))

    @property
    def tested(self) -> list[AssociationEffect]:
        """Effects that are no controls."""
        return [one for one in self.effects if not one.control]

    @property
    def failed_controls(self) -> list[str]:
        """Controls that are not found, or the wrong way round."""
        return [
            f"The control fails: {one.name}, d {one.d}, p = {one.p:.4f}. Any model that knows these words "
            f"should find {one.x} nearer to {one.a}. Associations below may be noise of a space that does "
            "not hold such meanings."
            for one in self.effects
            if one.control and (one.p > self.level or one.d.value <= 0)
        ]

    def sections(self) -> list[Section]:
        """Statements, tables and plots."""
        parts = [self._effects("texts"), self._effects("pictures"), self._distances()]
        told = [
            f"Not tested, fewer than {self.minimum} pictures, by {attribute}: {', '.join(names)}."
            for attribute, names in self.small.items()
        ]
        found = [part for part in parts if part is not None]
        return [self._findings(), *found, Section("How to read this", [*_CAVEATS, *told, *self.trouble])]

    def _findings(self) -> Section:
        found = self.findings
        tests = counted(len(self.tested), "test")
        head = (
            f"Associations beyond chance in {len(found)} of {tests}:"
            if found
            else f"No association beyond chance in {tests} at level {self.level:g}."
        )
        if self.failed_controls:
            head = f"With a control that failed, {head[0].lower()}{head[1:]}"
        told = [f"{one.name}: {one.told}; d {one.d}, p = {one.corrected:.4f}." for one in found]
        return Section("What is associated", [head, *told])

    def _effects(self, kind: str) -> Section | None:
        mine = [one for one in self.effects if one.kind == kind]
        if not mine:
            return None
        rows: list[list[Cell]] = [
            [
                one.name + " (control)" * one.control,
                f"{one.x} ({one.x_count:,}) / {one.y} ({one.y_count:,})",
                one.d,
                one.corrected,
            ]
            for one in mine
        ]
        caption = (
            "d: how much nearer the first lies to the first set of words than the second does, in "
            f"deviations; 0 is none. p is for both sides, by partitions or {self.shuffles:,} shuffles, "
            f"corrected for {len(self.tested)} tests by Holm's rule; a control's is not corrected."
        )
        plot = Bars(
            values={f"{one.name}: {one.x}": (one.d.value, one.d.low, one.d.high) for one in mine},
            x="effect size d",
            title=f"Association of {kind}",
            levels={"none": 0.0},
        )
        name = f"effects-{kind}"
        return Section(
            f"Association of {kind} with words",
            [],
            {name: Table(["test", "compared", "d", "p"], rows, caption)},
            {name: plot},
        )

    def _distances(self) -> Section | None:
        if not self.distances:
            return None
        attributes = list(dict.fromkeys(one.attribute for one in self.distances))
        tables, plots = {}, {}
        for attribute in attributes:
            mine = [one for one in self.distances if one.attribute == attribute]
            ordered = sorted(mine, key=lambda one: -one.distance)
            rows: list[list[Cell]] = [[one.first, one.second, one.distance, one.p] for one in ordered]
            caption = "Distance of the means of two groups, in units of the scatter within groups."
            tables[f"distances-{attribute}"] = Table(["group", "group", "distance", "p"], rows, caption)
            names = list(dict.fromkeys(name for one in mine for name in (one.first, one.second)))
            if len(names) > 2:
                plots[f"distances-{attribute}"] = _heat(attribute, names, mine)
        return Section("How far groups lie apart", [], tables, plots)


def _heat(attribute: str, names: Sequence[str], found: Sequence[GroupDistance]) -> Heatmap:
    place = {name: number for number, name in enumerate(names)}
    table = [[0.0 if row == column else float("nan") for column in names] for row in names]
    for one in found:
        first, second = place[one.first], place[one.second]
        table[first][second] = table[second][first] = one.distance
    most = max(one.distance for one in found)
    return Heatmap(
        rows=names, columns=names, values=table, title=f"Distance by {attribute}", high=max(most, 1e-6)
    )
