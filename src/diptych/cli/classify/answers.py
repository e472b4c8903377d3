"""What `classify` says about each picture, and the three ways of writing it: table, JSON, CSV.

Rows are written as they come, so that a long run shows its results; JSON closes at the end.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from rich.console import Console
from rich.text import Text

from diptych.cli.shared.console import bar, clean, fitted, plain_output, print_json, screen

NONE = "none of these"
_BLOCKS = 12  # up to so many pictures get a block of bars each, more get a line each


@dataclass(frozen=True)
class Answer:
    """One picture: the labels it was given, and the scores from 0 to 100, best first."""

    path: str
    labels: tuple[str, ...]  # one; none or several when labels are judged by themselves
    top: tuple[tuple[str, float], ...]
    confidence: float
    scores: tuple[float, ...] = field(repr=False)  # of every label, in the labels' order
    groups: tuple[tuple[str, float], ...] = ()  # of a hierarchy, in their order; empty unless asked for

    @property
    def best_group(self) -> str:
        """The innermost of the groups that score highest."""
        return max(self.groups, key=lambda one: (round(one[1], 4), one[0].count("/")))[0]

    @property
    def told(self) -> str:
        """The labels in words."""
        return ", ".join(self.labels) or NONE


class Writer(Protocol):
    """Takes answers one by one, and the failures at the end."""

    def answer(self, answer: Answer) -> None:
        """One picture."""

    def close(self, failures: Mapping[str, str]) -> None:
        """The end; `failures` is name -> reason."""


class TableWriter:
    """Bars on a terminal: a block for each of a few pictures, a line for each of many."""

    def __init__(self, pictures: int, top: int | None, *, sure: bool = False, room: int = 24) -> None:
        self.blocks = pictures <= _BLOCKS if top is None else top > 1
        self.console: Console = screen()
        self.plain = plain_output()
        self.first = True
        self.room = room  # for the label, where a picture gets a line
        self.sure = sure  # tell how sure an answer is: what a cut-off is compared with

    def answer(self, answer: Answer) -> None:
        """Print one picture."""
        if self.blocks:
            self._block(answer)
        else:
            self._line(answer)

    def _block(self, answer: Answer) -> None:
        if not self.first:
            self.console.print()
        self.first = False
        head = Text(clean(answer.path), style="bold")
        self.console.print(head.append(f"  confidence {answer.confidence:.3f}" if self.sure else "", "dim"))
        labels = [label for label, _ in (*answer.top, *answer.groups)]
        width = self.console.width
        room = max(8, min(max(len(label) for label in labels), width // 2 - 4))
        if not answer.labels:
            self.console.print(Text(f"  {NONE}; the nearest:", style="yellow"))
        for label, score in answer.top:
            chosen = label in answer.labels
            line = Text(f"  {fitted(label, room)}  ", style="" if chosen else "dim")
            line.append(
                bar(score / 100, width - room - 11, plain=self.plain), "cyan" if chosen else "bright_black"
            )
            self.console.print(line.append(f" {score:5.1f}"))
        if answer.groups:
            self.console.print(Text("  in groups:", style="dim"))
        for group, score in sorted(answer.groups, key=lambda one: -one[1]):
            line = Text(f"  {fitted(group, room)}  ")
            line.append(bar(score / 100, width - room - 11, plain=self.plain), "cyan")
            self.console.print(line.append(f" {score:5.1f}"))

    def _line(self, answer: Answer) -> None:
        best = max((score for _, score in answer.top), default=0.0)
        room = max(8, self.console.width - 22 - self.room - 7 * self.sure)  # narrower, and lines wrap
        line = Text(fitted(answer.path, room, tail=True) + "  ")
        told = f"{answer.told} ({answer.best_group})" if answer.groups else answer.told
        line.append(fitted(told, self.room) + "  ", "bold" if answer.labels else "yellow")
        line.append(bar(best / 100, 12, plain=self.plain), "cyan").append(f" {best:5.1f}")
        self.console.print(line.append(f"  {answer.confidence:.3f}" if self.sure else "", "dim"))

    def close(self, failures: Mapping[str, str]) -> None:
        """Nothing more: failures are reported on standard error, whichever way results are written."""


class JsonWriter:
    """One JSON object on standard output."""

    def __init__(self, head: Mapping[str, Any]) -> None:
        self.head = dict(head)
        self.pictures: list[dict[str, Any]] = []

    def answer(self, answer: Answer) -> None:
        """Keep one picture."""
        row = asdict(answer)
        del row["scores"]
        row["labels"] = list(answer.labels)
        row["top"] = [{"label": label, "score": round(score, 4)} for label, score in answer.top]
        row["groups"] = [{"group": group, "score": round(score, 4)} for group, score in answer.groups]
        if not answer.groups:
            del row["groups"]
        self.pictures.append(row)

    def close(self, failures: Mapping[str, str]) -> None:
        """Print everything."""
        failed = [{"path": path, "reason": reason} for path, reason in failures.items()]
        whole = {**self.head, "pictures": self.pictures, "failed": failed}
        print_json(whole)


class CsvWriter:
    """One row a picture on standard output: path, labels, score, confidence, error, every label's score.

    Then the score of every group. No two columns have one name, whatever labels are called.
    """

    def __init__(self, labels: Sequence[str], groups: Sequence[str] = ()) -> None:
        from diptych.zeroshot.labels import distinct_names

        self.width = len(labels) + len(groups)
        named = (*labels, *(f"{group} (group)" for group in groups))
        self._row(*distinct_names(("path", "label", "score", "confidence", "error", *named)))

    def _row(self, *cells: str) -> None:
        # Printed rather than written to a stream kept from the start: progress may stand in front of it.
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerow(cells)
        print(buffer.getvalue(), end="")

    def answer(self, answer: Answer) -> None:
        """Print one picture."""
        best = max((score for _, score in answer.top), default=0.0)
        scores = [f"{score:.4f}" for score in (*answer.scores, *(score for _, score in answer.groups))]
        told = f"{answer.confidence:.4f}"
        self._row(answer.path, "; ".join(answer.labels), f"{best:.4f}", told, "", *scores)

    def close(self, failures: Mapping[str, str]) -> None:
        """Print the failures, with empty scores."""
        for path, reason in failures.items():
            self._row(path, "", "", "", reason, *[""] * self.width)
