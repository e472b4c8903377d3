"""How a report reaches people: printed in the terminal, as JSON for pipes, as a page with its files.

What is in it is `diptych.evaluation`'s and `diptych.audits`' business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.shared.console import clean, clear_progress, json_text, note, screen
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.reports import Report, Section, Table

ReportDir = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="DIR", help="Write a page (index.html), JSON, CSV and plots into a folder."
    ),
]


def tell(report: Report, folder: Path | None, *, json: bool, quiet: bool) -> None:
    """Print a report, or its JSON, and write its files where a folder is given."""
    clear_progress()
    if json:
        print(json_text(report.to_json()), end="")
    else:
        for number, section in enumerate(report.sections):
            print_lines(*[""][: number > 0], section.title)
            print_section(section)
            if folder is None and section.plots and not section.tables:
                print_lines("(The picture is drawn with --report DIR.)")
    if folder is not None:
        write(report, folder, quiet=quiet)


def write(report: Report, folder: Path, *, quiet: bool) -> None:
    """Write a report's files and say where."""
    files = report.save(folder)
    note(f"report: {files[0]}, and {counted(len(files) - 1, 'file')} beside it", quiet=quiet)


def print_section(section: Section) -> None:
    """Statements and tables."""
    clear_progress()
    print_lines(*section.text)
    for table in section.tables.values():
        print_table(table)


def print_lines(*lines: str) -> None:
    """Paragraphs, wrapped to the screen."""
    from rich.text import Text

    for line in lines:
        screen().print(Text(clean(line)), soft_wrap=False)


def print_table(table: Table) -> None:
    """A table without lines, numbers to the right, its caption below; names fold at their separators."""
    from rich.table import Table as RichTable

    from diptych.reports import Estimate

    shown = RichTable(box=None, pad_edge=False, header_style="bold")
    console, rows = screen(), [[clean(cell) for cell in cells] for cells in table.texts()]
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
        shown.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for cells in rows:
        shown.add_row(
            *(
                cell if width is None else _folded(cell, width)
                for cell, width in zip(cells, widths, strict=True)
            )
        )
    console.print(shown)
    if table.caption:
        print_lines(table.caption)


_GAP = 2  # spaces between columns
_ENOUGH = 16  # letters of a name that are worth an interval on a line of its own


def _natural(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Width of the longest line of each column."""
    columns = ([name, *(row[number] for row in rows)] for number, name in enumerate(names))
    return [max(len(line) for cell in column for line in cell.splitlines() or [""]) for column in columns]


def _is_cramped(
    names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool], width: int
) -> bool:
    """Whether columns of texts would have less than `_ENOUGH` letters each, where they need them."""
    wanted = [
        size if right else min(size, _ENOUGH)
        for size, right in zip(_natural(names, rows), numbers, strict=True)
    ]
    return sum(wanted) + _GAP * (len(wanted) - 1) > width


def _text_widths(
    names: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[bool], width: int
) -> list[int | None]:
    """Width of each column of texts so that a table fits; None for a column of numbers, which is never cut.

    The widest column gives way first, and none becomes narrower than the longest word of its heading.

    Examples
    --------
    >>> _text_widths(["name", "protocol", "n"], [["x" * 30, "zero-shot", "12"]], [False, False, True], 30)
    [15, 9, None]
    """
    widths = _natural(names, rows)
    least = [max(map(len, name.split() or [""])) for name in names]
    for _ in range(sum(widths) + _GAP * (len(widths) - 1) - width):
        wide = [number for number, size in enumerate(widths) if not numbers[number] and size > least[number]]
        if not wide:
            break
        widths[max(wide, key=lambda number: widths[number])] -= 1
    return [None if right else size for right, size in zip(numbers, widths, strict=True)]


def _folded(text: str, width: int) -> str:
    """A text on lines of at most `width` letters, folded after spaces, "/", "_" and "-" where it has some.

    Examples
    --------
    >>> _folded("vtab/kitti_closest_vehicle_distance", 16).splitlines()
    ['vtab/kitti_', 'closest_vehicle_', 'distance']
    >>> _folded("x" * 10, 4).splitlines()
    ['xxxx', 'xxxx', 'xx']
    """
    lines = [""]
    for piece in re.findall(r"[^\s/_-]*[\s/_-]|[^\s/_-]+", text):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return "\n".join(line.rstrip() for line in lines)
