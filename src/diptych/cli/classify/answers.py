"""Results of `classify` for each picture, and their output as table, JSON or CSV.

Table and CSV rows are written at once, so that a long run shows its results; JSON is written at the end.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text

from diptych.cli.shared.console import bar, clean, fit_width, plain_output, print_json, stdout_console

NONE = "none of these"
_MAX_BLOCKS = 12  # up to this number of pictures, each gets a block of bars; else each gets a line


@dataclass(frozen=True)
class PictureResult:
    """The labels given to one picture, and its scores from 0 to 100, best first."""

    path: str
    labels: tuple[str, ...]  # one; none below the cut-off; any number with --multi-label
    top: tuple[tuple[str, float], ...]
    confidence: float
    scores: tuple[float, ...] = field(repr=False)  # of every label, in the order of the labels
    groups: tuple[tuple[str, float], ...] = ()  # groups of a hierarchy with scores; empty without --groups

    @property
    def best_group(self) -> str:
        """The group with the highest score; the innermost one in a tie."""
        return max(self.groups, key=lambda group: (round(group[1], 4), group[0].count("/")))[0]

    @property
    def label_text(self) -> str:
        """The labels, separated by commas, or "none of these"."""
        return ", ".join(self.labels) or NONE


class Writer(Protocol):
    """Takes results one by one, and the failures at the end."""

    def write(self, result: PictureResult) -> None:
        """Take the result of one picture."""

    def close(self, failures: Mapping[str, str]) -> None:
        """Finish; `failures` maps names of pictures to reasons."""


class TableWriter:
    """Prints bars: a block for each picture if there are few, else a line for each."""

    def __init__(
        self, pictures: int, top: int | None, *, show_confidence: bool = False, room: int = 24
    ) -> None:
        self.blocks = pictures <= _MAX_BLOCKS if top is None else top > 1
        self.console: Console = stdout_console()
        self.plain = plain_output()
        self.first = True
        self.room = room  # columns for the label, if each picture gets a line
        self.show_confidence = show_confidence  # print the confidence, which is compared with the cut-off

    def write(self, result: PictureResult) -> None:
        """Print one picture."""
        if self.blocks:
            self._block(result)
        else:
            self._line(result)

    def _block(self, result: PictureResult) -> None:
        if not self.first:
            self.console.print()
        self.first = False
        head = Text(clean(result.path), style="bold")
        self.console.print(
            head.append(f"  confidence {result.confidence:.3f}" if self.show_confidence else "", "dim")
        )
        labels = [label for label, _ in (*result.top, *result.groups)]
        width = self.console.width
        room = max(8, min(max(len(label) for label in labels), width // 2 - 4))
        if not result.labels:
            self.console.print(Text(f"  {NONE}; the nearest labels:", style="yellow"))
        for label, score in result.top:
            chosen = label in result.labels
            line = Text(f"  {fit_width(label, room)}  ", style="" if chosen else "dim")
            line.append(
                bar(score / 100, width - room - 11, plain=self.plain), "cyan" if chosen else "bright_black"
            )
            self.console.print(line.append(f" {score:5.1f}"))
        if result.groups:
            self.console.print(Text("  in groups:", style="dim"))
        for group, score in sorted(result.groups, key=lambda group: -group[1]):
            line = Text(f"  {fit_width(group, room)}  ")
            line.append(bar(score / 100, width - room - 11, plain=self.plain), "cyan")
            self.console.print(line.append(f" {score:5.1f}"))

    def _line(self, result: PictureResult) -> None:
        best = max((score for _, score in result.top), default=0.0)
        room = max(8, self.console.width - 22 - self.room - 7 * self.show_confidence)  # for the path
        line = Text(fit_width(result.path, room, tail=True) + "  ")
        text = f"{result.label_text} ({result.best_group})" if result.groups else result.label_text
        line.append(fit_width(text, self.room) + "  ", "bold" if result.labels else "yellow")
        line.append(bar(best / 100, 12, plain=self.plain), "cyan").append(f" {best:5.1f}")
        self.console.print(line.append(f"  {result.confidence:.3f}" if self.show_confidence else "", "dim"))

    def close(self, failures: Mapping[str, str]) -> None:
        """Print nothing: the command reports failures on standard error."""


class JsonWriter:
    """Prints one JSON object."""

    def __init__(self, head: Mapping[str, Any]) -> None:
        self.head = dict(head)
        self.pictures: list[dict[str, Any]] = []

    def write(self, result: PictureResult) -> None:
        """Store the result of one picture."""
        row = asdict(result)
        del row["scores"]
        row["labels"] = list(result.labels)
        row["top"] = [{"label": label, "score": round(score, 4)} for label, score in result.top]
        row["groups"] = [{"group": group, "score": round(score, 4)} for group, score in result.groups]
        if not result.groups:
            del row["groups"]
        self.pictures.append(row)

    def close(self, failures: Mapping[str, str]) -> None:
        """Print all results and failures."""
        failed = [{"path": path, "reason": reason} for path, reason in failures.items()]
        print_json({**self.head, "pictures": self.pictures, "failed": failed})


class CsvWriter:
    """Prints one CSV row per picture: path, labels, score, confidence, error, the score of every label.

    The scores of groups come last. Column names are distinct, whatever the labels are.
    """

    def __init__(self, labels: Sequence[str], groups: Sequence[str] = ()) -> None:
        from diptych.zeroshot.labels import distinct_names

        self.width = len(labels) + len(groups)
        columns = (*labels, *(f"{group} (group)" for group in groups))
        self._row(*distinct_names(("path", "label", "score", "confidence", "error", *columns)))

    def _row(self, *cells: str) -> None:
        # print() and not a stored stream: rich replaces sys.stdout while a progress bar is shown.
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerow(cells)
        print(buffer.getvalue(), end="")

    def write(self, result: PictureResult) -> None:
        """Print one picture."""
        best = max((score for _, score in result.top), default=0.0)
        scores = [f"{score:.4f}" for score in (*result.scores, *(score for _, score in result.groups))]
        confidence = f"{result.confidence:.4f}"
        self._row(result.path, "; ".join(result.labels), f"{best:.4f}", confidence, "", *scores)

    def close(self, failures: Mapping[str, str]) -> None:
        """Print the failures, with empty scores."""
        for path, reason in failures.items():
            self._row(path, "", "", "", reason, *[""] * self.width)
