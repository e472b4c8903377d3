"""Result of the class design audit and its report: warnings, figures of each label, changed answers.

`class_design.py` computes the figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from diptych.audits.base import Audit
from diptych.audits.labels.label_words import LabelWarning
from diptych.reports import Bars, Cell, Estimate, Section, Table

_MAX_ROWS = 20


@dataclass(frozen=True)
class LabelFigures:
    """Figures of one label.

    Attributes
    ----------
    text_pull, picture_pull : float
        Robust z-score of its similarity to neutral texts, and to empty images, relative to everyday nouns.
    taken : Estimate or None
        Share of the sample that gets this label.
    """

    label: str
    text_pull: float
    picture_pull: float
    taken: Estimate | None


@dataclass(frozen=True)
class NearLabels:
    """Two labels that are far more similar than other pairs.

    Attributes
    ----------
    far : float
        Robust z-score of the cosine among pairs.
    torn : float or None
        Of the sample's images given to either: the share whose second label is the other.
    """

    first: str
    second: str
    cosine: float
    far: float
    torn: float | None


@dataclass(frozen=True)
class LabelChange:
    """An image whose label changes.

    Attributes
    ----------
    sure_before, sure_after : float
        Probability of the label.
    """

    picture: str
    before: str
    after: str
    sure_before: float
    sure_after: float


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassDesignAudit(Audit):
    """Result of the class design audit.

    Attributes
    ----------
    sample : str
        Name of the sample; empty without one.
    n : int
        Images of the sample.
    pull_bound : float
        Pull above which a label is reported as an attractor.
    pairs : sequence of NearLabels
        The most similar first.
    unsure : Estimate or None
        Share of the sample whose best label has less than half of the probability.
    warned : sequence of LabelWarning
        Serious ones first.
    moves : sequence of LabelChange
        Changed labels in the sample.
    """

    labels: Sequence[str]
    sample: str
    n: int
    figures: Sequence[LabelFigures]
    pull_bound: float
    pairs: Sequence[NearLabels]
    unsure: Estimate | None
    warned: Sequence[LabelWarning]
    added: Sequence[str]
    removed: Sequence[str]
    moves: Sequence[LabelChange]

    @property
    def _title(self) -> str:
        return f"Class design: {len(self.labels)} labels"

    @property
    def serious(self) -> list[LabelWarning]:
        """Warnings that should be resolved before the labels are used."""
        return [warning for warning in self.warned if warning.severity == "serious"]

    def _sections(self) -> list[Section]:
        sections = [self._warnings(), self._figures(), self._near(), self._moves()]
        return [section for section in sections if section is not None]

    def _warnings(self) -> Section:
        head = (
            f"Serious warnings: {len(self.serious)}; notices: {len(self.warned) - len(self.serious)}; "
            f"labels: {len(self.labels)}."
            if self.warned
            else f"No warnings for {len(self.labels)} labels."
        )
        rows = [[warning.severity, warning.kind, warning.message] for warning in self.warned]
        tables = {"warnings": Table(["", "kind", "what"], rows)} if rows else {}
        return Section("Warnings", [head], tables)

    def _figures(self) -> Section:
        ordered = sorted(self.figures, key=lambda item: -(item.taken.value if item.taken else item.text_pull))
        columns = ["label", "pull of texts", "pull of pictures", "share of the sample"]
        rows = [[item.label, item.text_pull, item.picture_pull, item.taken] for item in ordered]
        caption = (
            f"Pull above {self.pull_bound:.1f}: this label grabs unrelated pictures. About 0 is usual. "
            "Measured on neutral texts (such as 'a grey wall') and on pictures that show none of the "
            "labels: how much more similar they are to the label than to a hundred everyday nouns, in "
            "standard deviations."
        )
        statements, plots = [], {}
        if self.unsure is not None:
            statements.append(
                f"Share of {self.n:,} pictures whose best label has less than half of the probability: "
                f"{self.unsure}."
            )
            plots["taken"] = Bars(
                values={
                    item.label: (item.taken.value, item.taken.low, item.taken.high)
                    for item in ordered[:_MAX_ROWS]
                    if item.taken
                },
                x="share of the sample",
                title=f"Labels given to {self.sample}",
                levels={"even share": 1 / len(self.figures)},
            )
        return Section(
            "The labels one by one",
            statements,
            {"labels": Table(columns, rows, caption).compact("share of the sample")},
            plots,
        )

    def _near(self) -> Section | None:
        if not self.pairs:
            return None
        rows = [
            [pair.first, pair.second, pair.cosine, pair.far, pair.torn] for pair in self.pairs[:_MAX_ROWS]
        ]
        columns = ["label", "label", "cosine", "deviations", "torn"]
        caption = (
            "Pairs that are far more similar than other pairs. Torn: of the sample's pictures given to "
            "either label, the share whose second label is the other."
        )
        return Section("Labels that mean nearly the same", [], {"pairs": Table(columns, rows, caption)})

    def _moves(self) -> Section | None:
        if not self.added and not self.removed:
            return None
        changes = [f"{', '.join(map(repr, self.added))} added"] if self.added else []
        changes += [f"{', '.join(map(repr, self.removed))} removed"] if self.removed else []
        statement = (
            f"With {' and '.join(changes)}, {len(self.moves):,} of {self.n:,} pictures get another label."
        )
        if not self.moves:
            return Section("What would move", [statement])
        transitions = Counter((move.before, move.after) for move in self.moves)
        rows: list[list[Cell]] = [
            [before, after, count] for (before, after), count in transitions.most_common(_MAX_ROWS)
        ]
        moves: list[list[Cell]] = [
            [move.picture, move.before, move.after, move.sure_before, move.sure_after]
            for move in self.moves[:_MAX_ROWS]
        ]
        return Section(
            "What would move",
            [statement],
            {
                "ways": Table(["from", "to", "pictures"], rows),
                "moves": Table(
                    ["picture", "before", "after", "p before", "p after"], moves, "The first of them."
                ),
            },
        )
