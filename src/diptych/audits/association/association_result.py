"""Results of the association audit and their report. `association_audit.py` computes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diptych.audits.base import Audit
from diptych.errors import counted
from diptych.reports import Bars, Cell, Estimate, Heatmap, Section, Table

_CAVEATS = (
    "An effect describes similarities in the embedding space of this model. It does not show that an "
    "application harms anyone, and no effect does not show that none can: other words give other effects.",
    "The groups of people are what annotators perceived. Pictures of groups may also differ in light, pose "
    "and background, and a distance between groups includes all of that.",
)


@dataclass(frozen=True)
class AssociationEffect:
    """Result of one association test.

    Attributes
    ----------
    name, kind : str
        Kind is "texts" or "pictures": what x and y are.
    x, y, a, b : str
        Names of the sets: is x, rather than y, more similar to a than to b?
    d : Estimate
        Effect size (Cohen's d): 0 is none, 0.8 is called large, about 2 is the maximum.
    x_count, y_count : int
        Items in x and y.
    p, corrected : float
        Two-sided p-value; corrected for all tests of the page except controls, which are not findings.
    control : bool
        Any model that understands language should find x more similar to a.
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
    def statement(self) -> str:
        """The direction of the effect in words."""
        a, b = (self.a, self.b) if self.d.value >= 0 else (self.b, self.a)
        return f"{self.x} nearer to {a} than to {b}, compared with {self.y}"


@dataclass(frozen=True)
class GroupDistance:
    """Distance between two groups of images.

    Attributes
    ----------
    distance : float
        Between their means, in within-group standard deviations.
    """

    attribute: str
    first: str
    second: str
    distance: float
    p: float


@dataclass(frozen=True, kw_only=True, eq=False)
class AssociationAudit(Audit):
    """Associations of groups of words and of people.

    Attributes
    ----------
    dataset : str
        Empty if only texts were tested.
    small : mapping of str to tuple of str
        Attribute -> groups below the minimum size, which were not tested.
    level, minimum, shuffles, seed
        Parameters of the tests.
    templates : sequence of str
        Prompts.
    trouble : sequence of str
        Problems in the table of attributes.
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
    def _title(self) -> str:
        return f"Association: {self.dataset}" if self.dataset else "Association of texts"

    @property
    def findings(self) -> list[AssociationEffect]:
        """Significant effects, the largest first."""
        findings = [effect for effect in self.tested if effect.corrected <= self.level]
        return sorted(findings, key=lambda effect: -abs(effect.d.value))

    @property
    def tested(self) -> list[AssociationEffect]:
        """Effects that are not controls."""
        return [effect for effect in self.effects if not effect.control]

    @property
    def failed_controls(self) -> list[str]:
        """Controls that are not significant or have the wrong sign."""
        return [
            f"The control fails: {effect.name}, d {effect.d}, p = {effect.p:.4f}. Any model that knows "
            f"these words should find {effect.x} nearer to {effect.a}. The associations below may be noise: "
            "this embedding space may not represent such meanings."
            for effect in self.effects
            if effect.control and (effect.p > self.level or effect.d.value <= 0)
        ]

    def _sections(self) -> list[Section]:
        sections = [self._effects("texts"), self._effects("pictures"), self._distances()]
        untested = [
            f"Not tested, fewer than {self.minimum} pictures, by {attribute}: {', '.join(names)}."
            for attribute, names in self.small.items()
        ]
        present = [section for section in sections if section is not None]
        return [
            self._findings(),
            *present,
            Section("How to read this", [*_CAVEATS, *untested, *self.trouble]),
        ]

    def _findings(self) -> Section:
        findings = self.findings
        tests = counted(len(self.tested), "test")
        head = (
            f"Associations beyond chance in {len(findings)} of {tests}:"
            if findings
            else f"No association beyond chance in {tests} at level {self.level:g}."
        )
        if self.failed_controls:
            head = f"With a control that failed, {head[0].lower()}{head[1:]}"
        statements = [
            f"{effect.name}: {effect.statement}; d {effect.d}, p = {effect.corrected:.4f}."
            for effect in findings
        ]
        return Section("What is associated", [head, *statements])

    def _effects(self, kind: str) -> Section | None:
        effects = [effect for effect in self.effects if effect.kind == kind]
        if not effects:
            return None
        rows: list[list[Cell]] = [
            [
                effect.name + " (control)" * effect.control,
                f"{effect.x} ({effect.x_count:,}) / {effect.y} ({effect.y_count:,})",
                effect.d,
                effect.corrected,
            ]
            for effect in effects
        ]
        caption = (
            "d: how much more similar the first is to the first set of words than the second is, in standard "
            f"deviations; 0 is none. p is two-sided, by partitions or {self.shuffles:,} shuffles, "
            f"corrected for {len(self.tested)} tests by Holm's rule; controls are not corrected."
        )
        plot = Bars(
            values={
                f"{effect.name}: {effect.x}": (effect.d.value, effect.d.low, effect.d.high)
                for effect in effects
            },
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
        attributes = list(dict.fromkeys(pair.attribute for pair in self.distances))
        tables, plots = {}, {}
        for attribute in attributes:
            pairs = [pair for pair in self.distances if pair.attribute == attribute]
            ordered = sorted(pairs, key=lambda pair: -pair.distance)
            rows: list[list[Cell]] = [[pair.first, pair.second, pair.distance, pair.p] for pair in ordered]
            caption = "Distance between the means of two groups, in within-group standard deviations."
            tables[f"distances-{attribute}"] = Table(["group", "group", "distance", "p"], rows, caption)
            names = list(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))
            if len(names) > 2:
                plots[f"distances-{attribute}"] = _distance_heatmap(attribute, names, pairs)
        return Section("How far groups lie apart", [], tables, plots)


def _distance_heatmap(attribute: str, names: Sequence[str], pairs: Sequence[GroupDistance]) -> Heatmap:
    index = {name: number for number, name in enumerate(names)}
    table = [[0.0 if row == column else float("nan") for column in names] for row in names]
    for pair in pairs:
        first, second = index[pair.first], index[pair.second]
        table[first][second] = table[second][first] = pair.distance
    largest = max(pair.distance for pair in pairs)
    return Heatmap(
        rows=names, columns=names, values=table, title=f"Distance by {attribute}", high=max(largest, 1e-6)
    )
