"""Base class of audit results: figures as plain values, a report, and the images that could not be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from diptych.embedding.batches import Failed
from diptych.evaluation.protocols.settings import sampled_data
from diptych.reports import Bars, Estimate, Gallery, Report, Section
from diptych.stats.significance import NOT_ENOUGH, Verdict, beside_chance

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """Result of one audit. Subclasses add their figures as fields and describe them in `_sections`.

    Attributes
    ----------
    facts : mapping of str to str
        Facts at the foot of the report.
    failures : sequence of Failed
        Images that could not be read, and why; no figure includes them.
    verdicts : mapping of str to Verdict
        Verdict on every claim of the audit: "above", "at" or "below" chance (or no difference), or "not
        enough to say". Corrected together (Holm): a model that guesses rarely gets a single "above".
    samples : sequence of (caption, picture)
        A few of the images; left out of `to_dict`.
    sheet_columns : int
        Columns of the sheet of samples.
    """

    facts: Mapping[str, str]
    failures: Sequence[Failed] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    samples: Sequence[tuple[str, Image]] = ()
    sheet_columns: ClassVar[int] = 5

    @property
    def _title(self) -> str:
        """Title of the report."""
        raise NotImplementedError

    def _sections(self) -> list[Section]:
        """Statements, tables and plots of the report."""
        raise NotImplementedError

    @property
    def failed_controls(self) -> list[str]:
        """Reasons to doubt the other figures, such as a control that fails; shown before everything else."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, failed controls first."""
        values = asdict(replace(self, samples=()))
        figures = {name: value for name, value in values.items() if name not in ("samples", "facts")}
        return {"failed_controls": self.failed_controls, **figures}

    def report(self) -> Report:
        """Report with statements, tables, plots and a page."""
        sections = [Section("Read this first", self.failed_controls)] if self.failed_controls else []
        sections += self._sections()
        if self.failures:
            first, count = self.failures[0], len(self.failures)
            were = "pictures were" if count > 1 else "picture was"
            sections.append(
                Section(
                    "Left out",
                    [f"{count} {were} left out of every figure; the first: {first.key}: {first.reason}"],
                )
            )
        if drawn := sampled_data(self.facts):
            sections.append(Section("Sampled", drawn))
        if self.samples:
            caption = f"{len(self.samples)} of the pictures shown to the model."
            sections.append(
                Section("Samples", [caption], plots={"samples": Gallery(self.samples, self.sheet_columns)})
            )
        return Report(self._title, sections, self.to_dict(), self.facts)


@dataclass(frozen=True, kw_only=True, eq=False)
class OrderedAudit(Audit):
    """Result of an audit whose answers have an order, such as numbers; see `prompt_scores.ordered_figures`.

    Attributes
    ----------
    accuracy : Estimate
        With the mean embedding of all prompts of each answer.
    error, error_chance : Estimate and float
        Mean absolute error; that of random answers.
    correlation : Estimate or None
        Pearson correlation of truth and answer, 0 at chance; None if all answers are the same.
    confusion : sequence of sequences of float
        Share of each answer (column) among pictures of each true one (row).
    """

    dataset: str
    accuracy: Estimate
    error: Estimate
    error_chance: float
    correlation: Estimate | None
    confusion: Sequence[Sequence[float]]

    def _figures(
        self, head: Mapping[Verdict, str], chance: float, quantity: str, unit: str = ""
    ) -> list[str]:
        """The sentence for the verdict with the accuracy, and one on the size of the errors."""
        verdict = self.verdicts["accuracy"]
        correlation = "none, all answers are the same" if self.correlation is None else str(self.correlation)
        return [
            f"{head[verdict]} Accuracy {beside_chance(self.accuracy, chance, verdict)}, on "
            f"{self.accuracy.n:,} pictures.",
            f"Answers are off by {self.error}{unit} on average; random answers would be off by "
            f"{self.error_chance:.2f}. Correlation of answer and {quantity}: {correlation}.",
        ]


def verdict_cell(verdict: Verdict) -> str:
    """Format a verdict as a cell of a table.

    Examples
    --------
    >>> verdict_cell("at"), verdict_cell("not enough to say")
    ('at chance', 'not enough to say')
    """
    return verdict if verdict == NOT_ENOUGH else f"{verdict} chance"


def accuracy_bars(figures: Mapping[str, Estimate], chance: float) -> Bars:
    """Plot accuracies, one bar for each name, beside chance."""
    return Bars(values=estimate_bars(figures), x="accuracy", levels={"chance": chance})


def estimate_bars(figures: Mapping[str, Estimate]) -> dict[str, tuple[float, float | None, float | None]]:
    """Convert estimates to the values of `reports.Bars`."""
    return {name: (estimate.value, estimate.low, estimate.high) for name, estimate in figures.items()}
