"""What every audit gives: figures as plain values, a report, and what could not be read.

What an audit measures, and what its report says, is the business of the file it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from diptych.embedding.batches import Failed
from diptych.evaluation.protocols.settings import sampled_data
from diptych.reports import Estimate, Gallery, Report, Section
from diptych.stats.significance import NOT_ENOUGH, Verdict

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """Figures of one audit. Subclasses add theirs as fields, and say what they mean in `sections`.

    Attributes
    ----------
    facts : mapping of str to str
        What stands at the foot of the report.
    failures : sequence of Failed
        Pictures that could not be read, and why; they are in no figure.
    verdicts : mapping of str to Verdict
        On every claim of the audit: "above", "at" or "below" chance (or no difference), or "not enough to
        say". Corrected together (Holm), so that a model that guesses is rarely given even one.
    samples : sequence of (caption, picture)
        A few of the pictures that were asked about; not among the values.
    sheet_columns : int
        Samples side by side on their sheet.
    """

    facts: Mapping[str, str]
    failures: Sequence[Failed] = ()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    samples: Sequence[tuple[str, Image]] = ()
    sheet_columns: ClassVar[int] = 5

    @property
    def title(self) -> str:
        """What the report is called."""
        raise NotImplementedError

    def sections(self) -> list[Section]:
        """Statements, tables and plots."""
        raise NotImplementedError

    @property
    def failed_controls(self) -> list[str]:
        """What makes the rest hard to believe, such as a control that fails; told before anything else."""
        return []

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain values, failed controls first."""
        values = asdict(replace(self, samples=()))
        kept = {name: value for name, value in values.items() if name not in ("samples", "facts")}
        return {"failed_controls": self.failed_controls, **kept}

    def report(self) -> Report:
        """What the audit shows, as statements, tables, plots and a page."""
        found = [Section("Read this first", self.failed_controls)] if self.failed_controls else []
        found += self.sections()
        if self.failures:
            first, count = self.failures[0], len(self.failures)
            told = f"{count} picture{'s were' if count > 1 else ' was'} left out of every figure; the first: "
            found.append(Section("Left out", [f"{told}{first.key}: {first.reason}"]))
        if drawn := sampled_data(self.facts):
            found.append(Section("Sampled", drawn))
        if self.samples:
            told = f"{len(self.samples)} of the pictures the model was asked about."
            found.append(
                Section("Samples", [told], plots={"samples": Gallery(self.samples, self.sheet_columns)})
            )
        return Report(self.title, found, self.to_dict(), self.facts)


def verdict_cell(verdict: Verdict) -> str:
    """A verdict as a cell of a table.

    Examples
    --------
    >>> verdict_cell("at"), verdict_cell("not enough to say")
    ('at chance', 'not enough to say')
    """
    return verdict if verdict == NOT_ENOUGH else f"{verdict} chance"


def estimate_bars(figures: Mapping[str, Estimate]) -> dict[str, tuple[float, float | None, float | None]]:
    """Estimates as `reports.Bars` takes them."""
    return {name: (one.value, one.low, one.high) for name, one in figures.items()}
