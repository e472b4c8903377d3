"""Output of reports: tables in the terminal, JSON for pipes, and a page with its files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from diptych.cli.shared.console import clean, clear_progress, json_text, note, stdout_console
from diptych.cli.shared.options import option
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.reports import Report, Section, Table

ReportDir = Annotated[
    Path | None, option("DIR", "Write a page (index.html), JSON, CSV and plots into this folder.", "--report")
]


def print_report(report: Report, folder: Path | None, *, json: bool, quiet: bool) -> None:
    """Print a report or its JSON, and save its files if a folder is given."""
    clear_progress()
    if json:
        print(json_text(report.to_json()), end="")
    else:
        for number, section in enumerate(report.sections):
            print_lines(*[""][: number > 0], section.title)
            print_section(section)
            if folder is None and section.plots and not section.tables:
                print_lines("(--report DIR writes the plot.)")
    if folder is not None:
        save_report(report, folder, quiet=quiet)


def save_report(report: Report, folder: Path, *, quiet: bool) -> None:
    """Save the files of a report and print where they are."""
    files = report.save(folder)
    note(f"report: {files[0]}, and {counted(len(files) - 1, 'file')} beside it", quiet=quiet)


def print_section(section: Section) -> None:
    """Print the statements and tables of a section."""
    clear_progress()
    print_lines(*section.text)
    for table in section.tables.values():
        print_table(table)


def print_lines(*lines: str) -> None:
    """Print paragraphs, wrapped to the width of the terminal."""
    from rich.text import Text

    for line in lines:
        stdout_console().print(Text(clean(line)), soft_wrap=False)


def print_table(table: Table) -> None:
    """Print a table with its caption below; numbers are right-aligned, long names are folded."""
    from rich.table import Table as RichTable

    from diptych.reports import Estimate

    rich_table = RichTable(box=None, pad_edge=False, header_style="bold")
    console, rows = stdout_console(), [[clean(cell) for cell in cells] for cells in table.texts()]
    numbers = [
        all(cell is None or isinstance(cell, int | float | Estimate) for cell in column)
        for column in (zip(*table.rows, strict=True) if table.rows else [() for _ in table.columns])
    ]
    names = [clean(name) for name in table.columns]
    if _is_cramped(names, rows, numbers, console.width):
        rows = [
            [cell.replace(" [", "\n[") if right else cell for cell, right in zip(row, numbers, strict=True)]
            for row in rows
        ]
    widths = _text_widths(names, rows, numbers, console.width)
    for name, right in zip(names, numbers, strict=True):
        rich_table.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for cells in rows:
        rich_table.add_row(
            *(
                cell if width is None else _folded(cell, width)
                for cell, width in zip(cells, widths, strict=True)
            )
        )
    console.print(rich_table)
    if table.caption:
        print_lines(table.caption)


_GAP = 2  # spaces between columns
_MIN_TEXT_WIDTH = 16  # letters; if text columns get less, intervals move to a second line


def _natural_widths(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Width of the longest line of each column."""
    columns = ([name, *(row[number] for row in rows)] for number, name in enumerate(names))
    return [max(len(line) for cell in column for line in cell.splitlines() or [""]) for column in columns]


def _is_cramped(
    names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool], width: int
) -> bool:
    """Whether a text column would get fewer letters than it needs, or than `_MIN_TEXT_WIDTH`."""
    min_widths = [
        size if right else min(size, _MIN_TEXT_WIDTH)
        for size, right in zip(_natural_widths(names, rows), numbers, strict=True)
    ]
    return sum(min_widths) + _GAP * (len(min_widths) - 1) > width


def _text_widths(
    names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool], width: int
) -> list[int | None]:
    """Widths of the text columns so that the table fits; None for a column of numbers, which is not cut.

    The widest column shrinks first, and none becomes narrower than the longest word of its heading.

    Examples
    --------
    >>> _text_widths(["name", "protocol", "n"], [["x" * 30, "zero-shot", "12"]], [False, False, True], 30)
    [15, 9, None]
    """
    widths = _natural_widths(names, rows)
    min_widths = [max(map(len, name.split() or [""])) for name in names]
    for _ in range(sum(widths) + _GAP * (len(widths) - 1) - width):
        shrinkable = [
            number for number, size in enumerate(widths) if not numbers[number] and size > min_widths[number]
        ]
        if not shrinkable:
            break
        widths[max(shrinkable, key=lambda number: widths[number])] -= 1
    return [None if right else size for right, size in zip(numbers, widths, strict=True)]


def _folded(text: str, width: int) -> str:
    """Fold a text into lines of at most `width` letters, if possible after a space, "/", "_" or "-".

    Examples
    --------
    >>> _folded("vtab/kitti_closest_vehicle_distance", 16).splitlines()
    ['vtab/kitti_', 'closest_vehicle_', 'distance']
    >>> _folded("x" * 10, 4).splitlines()
    ['xxxx', 'xxxx', 'xx']
    """
    lines = [""]
    for segment in re.findall(r"[^\s/_-]*[\s/_-]|[^\s/_-]+", text):
        if lines[-1] and len(lines[-1]) + len(segment.rstrip()) > width:
            lines.append("")
        lines[-1] += segment
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return "\n".join(line.rstrip() for line in lines)
