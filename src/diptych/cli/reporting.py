"""How a report reaches people: printed in the terminal, as JSON for pipes, as a page with its files.

What is in it is `diptych.evaluation`'s and `diptych.audits`' business.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.console import clean, clear_progress, note, screen

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
        print(report.to_json(), end="")
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
    note(f"report: {files[0]}, and {len(files) - 1} files beside it", quiet=quiet)


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
    """A table without lines, numbers to the right, its caption below."""
    from rich.table import Table as RichTable

    from diptych.reports import Estimate

    shown = RichTable(box=None, pad_edge=False, header_style="bold")
    for number, name in enumerate(table.columns):
        column = [row[number] for row in table.rows]
        right = all(cell is None or isinstance(cell, int | float | Estimate) for cell in column)
        shown.add_column(clean(name), justify="right" if right else "left", overflow="fold", no_wrap=right)
    for cells in table.texts():
        shown.add_row(*map(clean, cells))
    screen().print(shown)
    if table.caption:
        print_lines(table.caption)
