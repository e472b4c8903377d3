"""What was found in a list of labels, and how it is told: warnings, figures of each label, what would move.

Measures nothing: the figures come from `class_design.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from diptych.audits.base import Audit
from diptych.audits.labels.label_words import LabelWarning
from diptych.reports import Bars, Cell, Estimate, Section, Table

_SHOWN = 20


@dataclass(frozen=True)
class LabelFigures:
    """One label.

    Attributes
    ----------
    label : str
    text_pull, picture_pull : float
        By how many deviations it lies nearer to texts, and to pictures, about nothing than everyday nouns do.
    taken : Estimate or None
        Share of the sample.
    """

    label: str
    text_pull: float
    picture_pull: float
    taken: Estimate | None


@dataclass(frozen=True)
class NearLabels:
    """Two labels that lie far nearer to each other than pairs usually do.

    Attributes
    ----------
    first, second : str
    cosine : float
    far : float
        Robust deviations above the usual pair.
    torn : float or None
        Of the sample's pictures given to either: the share whose second label is the other.
    """

    first: str
    second: str
    cosine: float
    far: float
    torn: float | None


@dataclass(frozen=True)
class LabelChange:
    """A picture that gets another label.

    Attributes
    ----------
    picture, before, after : str
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
    """A list of labels, looked through.

    Attributes
    ----------
    labels : sequence of str
    sample : str
        Name of the pictures; empty without any.
    n : int
        Pictures of the sample.
    figures : sequence of LabelFigures
    pull_bound : float
        The pull above which a label is said to attract.
    pairs : sequence of NearPair
        The nearest first.
    unsure : Estimate or None
        Share of the sample whose best label has less than half of the probability.
    warned : sequence of Warned
        Serious ones first.
    added, removed : sequence of str
    moves : sequence of Move
        What that changes in the sample.
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
    def title(self) -> str:
        """What the report is called."""
        return f"Class design: {len(self.labels)} labels"

    @property
    def serious(self) -> list[LabelWarning]:
        """What should be mended before the labels are used."""
        return [one for one in self.warned if one.severity == "serious"]

    def sections(self) -> list[Section]:
        """Statements, tables and plots."""
        parts = [self._warnings(), self._figures(), self._near(), self._moves()]
        return [part for part in parts if part is not None]

    def _warnings(self) -> Section:
        head = (
            f"Serious warnings: {len(self.serious)}; notices: {len(self.warned) - len(self.serious)}; "
            f"labels: {len(self.labels)}."
            if self.warned
            else f"Nothing to warn of in {len(self.labels)} labels."
        )
        rows = [[one.severity, one.kind, one.message] for one in self.warned]
        tables = {"warnings": Table(["", "kind", "what"], rows)} if rows else {}
        return Section("Warnings", [head], tables)

    def _figures(self) -> Section:
        ordered = sorted(self.figures, key=lambda one: -(one.taken.value if one.taken else one.text_pull))
        sampled = any(one.taken for one in self.figures)
        columns = [
            "label",
            "pull of texts",
            "pull of pictures",
            *(["share of the sample"] if sampled else []),
        ]
        rows = [
            [one.label, one.text_pull, one.picture_pull, *([one.taken] if sampled else [])] for one in ordered
        ]
        caption = (
            f"Pull above {self.pull_bound:.1f}: this label grabs unrelated pictures. About 0 is usual. "
            "Measured on neutral texts (such as 'a grey wall') and on pictures that show none of the "
            "labels: how much nearer they lie to the label than to a hundred everyday nouns, in standard "
            "deviations."
        )
        told, plots = [], {}
        if self.unsure is not None:
            told.append(
                f"Share of {self.n:,} pictures whose best label has less than half of the probability: "
                f"{self.unsure}."
            )
            plots["taken"] = Bars(
                values={
                    one.label: (one.taken.value, one.taken.low, one.taken.high)
                    for one in ordered[:_SHOWN]
                    if one.taken
                },
                x="share of the sample",
                title=f"Labels given to {self.sample}",
                levels={"even share": 1 / len(self.figures)},
            )
        return Section("The labels one by one", told, {"labels": Table(columns, rows, caption)}, plots)

    def _near(self) -> Section | None:
        if not self.pairs:
            return None
        rows = [[one.first, one.second, one.cosine, one.far, one.torn] for one in self.pairs[:_SHOWN]]
        columns = ["label", "label", "cosine", "deviations", "torn"]
        caption = (
            "Pairs far nearer than pairs usually are. Torn: of the sample's pictures given to either, the "
            "share whose second label is the other."
        )
        return Section("Labels that mean nearly the same", [], {"pairs": Table(columns, rows, caption)})

    def _moves(self) -> Section | None:
        if not self.added and not self.removed:
            return None
        what = [f"{', '.join(map(repr, self.added))} added"] if self.added else []
        what += [f"{', '.join(map(repr, self.removed))} removed"] if self.removed else []
        told = f"With {' and '.join(what)}, {len(self.moves):,} of {self.n:,} pictures get another label."
        if not self.moves:
            return Section("What would move", [told])
        ways = Counter((one.before, one.after) for one in self.moves)
        rows: list[list[Cell]] = [
            [before, after, count] for (before, after), count in ways.most_common(_SHOWN)
        ]
        first: list[list[Cell]] = [
            [one.picture, one.before, one.after, one.sure_before, one.sure_after]
            for one in self.moves[:_SHOWN]
        ]
        return Section(
            "What would move",
            [told],
            {
                "ways": Table(["from", "to", "pictures"], rows),
                "moves": Table(
                    ["picture", "before", "after", "p before", "p after"], first, "The first of them."
                ),
            },
        )
