"""What a report is made of: sections with statements, tables and plots; saved as a page, JSON, CSV and plots.

The page is `page.py`'s. Nothing here measures anything.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from diptych.errors import MissingExtraError
from diptych.files.disk import file_stem, file_stems, write_bytes
from diptych.reports.page import PageFooter, PagePlot, PageSection, PageTable, render
from diptych.reports.plots import Plot, save_plot


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 percent interval and the number of cases it was counted on.

    Attributes
    ----------
    value : float
    low, high : float or None
        None where there is no interval.
    n : int or None
    effective : float or None
        How many independent cases these are worth; None where that is not known.

    Examples
    --------
    >>> str(Estimate(0.5, 0.402, 0.598, 100))
    '0.500 [0.402, 0.598]'
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    effective: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


Cell: TypeAlias = str | int | float | Estimate | None


@dataclass(frozen=True)
class Table:
    """Columns and rows.

    Attributes
    ----------
    columns : sequence of str
    rows : sequence of sequences of Cell
        None stays empty: not counted, or too few to count.
    caption : str
        What stands below it: what was counted, and how.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def texts(self) -> list[list[str]]:
        """The cells as people read them.

        Examples
        --------
        >>> Table(["class", "n", "accuracy"], [["dog", 1200, 0.25], ["cat", 3, None]]).texts()
        [['dog', '1,200', '0.250'], ['cat', '3', '']]
        """
        return [[format_cell(cell) for cell in row] for row in self.rows]

    def to_csv(self) -> str:
        """Comma-separated; an `Estimate` takes four columns: value, low, high, n.

        Examples
        --------
        >>> print(Table(["class", "accuracy"], [["dog", Estimate(0.5, 0.4, 0.6, 90)]]).to_csv(), end="")
        class,accuracy,accuracy low,accuracy high,accuracy n
        dog,0.5,0.4,0.6,90
        """
        wide = [any(isinstance(row[i], Estimate) for row in self.rows) for i in range(len(self.columns))]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        parts = ("", " low", " high", " n")
        titles = zip(self.columns, wide, strict=True)
        writer.writerow([name + part for name, spread in titles for part in (parts if spread else ("",))])
        for row in self.rows:
            writer.writerow(
                [x for cell, spread in zip(row, wide, strict=True) for x in _values(cell, spread)]
            )
        return text.getvalue()


@dataclass(frozen=True)
class Section:
    """A part of a report under one heading.

    Attributes
    ----------
    title : str
    text : sequence of str
        Plain statements, a paragraph each.
    tables : mapping of name to Table
        Saved in a file of that name, which may hold anything: `Report.save` makes it fit for a file.
    plots : mapping of name to Plot
    """

    title: str
    text: Sequence[str] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    plots: Mapping[str, Plot] = field(default_factory=dict)

    def within(self, name: str) -> Section:
        """The same as a part of something that is called so: in its heading, and before its files' names.

        Examples
        --------
        >>> one = Section("Shifts", tables={"shifts": Table([], [])}).within("pacs, robustness")
        >>> one.title, list(one.tables)
        ('pacs, robustness: shifts', ['pacs-robustness-shifts'])
        """
        stem = file_stem(name.lower())
        return Section(
            f"{name}: {self.title[:1].lower()}{self.title[1:]}",
            self.text,
            {f"{stem}-{file}": table for file, table in self.tables.items()},
            {f"{stem}-{file}": plot for file, plot in self.plots.items()},
        )


@dataclass(frozen=True)
class Report:
    """What a measurement shows.

    Attributes
    ----------
    title : str
    sections : sequence of Section
    values : mapping
        The figures as plain values: what `report.json` holds and `--json` prints.
    facts : mapping of str to str
        What stands at the foot: the command, fingerprints of model and data, versions.

    Raises
    ------
    ValueError
        Two tables, or two plots, would be written to one file.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> table = Table(["class", "accuracy"], [["dog", Estimate(0.5, 0.4, 0.6, 90)]])
    >>> report = Report("Toy", [Section("All", ["Half of it is right."], {"classes": table})], {"acc1": 0.5})
    >>> [path.name for path in report.save(folder)]
    ['index.html', 'report.json', 'classes.csv']
    """

    title: str
    sections: Sequence[Section]
    values: Mapping[str, Any]
    facts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind in ("tables", "plots"):
            names = [name for section in self.sections for name in getattr(section, kind)]
            if len(set(names)) < len(names):
                raise ValueError(f"two {kind} of the report share a file: {', '.join(sorted(names))}")

    @property
    def tables(self) -> dict[str, Table]:
        """The tables of all sections by file name."""
        return {name: table for section in self.sections for name, table in section.tables.items()}

    def to_json(self) -> str:
        """The values with the facts, as JSON text; what is not finite becomes null."""
        told_all = _plain({"title": self.title, **self.values, "facts": dict(self.facts)})
        return json.dumps(told_all, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, folder: str | Path) -> list[Path]:
        """Write `index.html`, `report.json`, a CSV per table, an SVG and a PNG per plot; each whole or not.

        Names of tables and plots may come from data: their files are called by `file_stems`, so that all lie
        in the folder and no two are one. Without matplotlib the page says that it has no plots, and why.

        Raises
        ------
        SaveError
            No space, no permission.
        """
        home = Path(folder)
        files, parts = [home / "index.html", home / "report.json"], []
        plots = [name for section in self.sections for name in section.plots]
        stems = dict(zip(plots, file_stems(plots), strict=True))
        for section in self.sections:
            pictures, missing = self._draw(home, section, stems, files)
            tables = [
                PageTable(name, t.columns, t.texts(), _keys(t), t.caption)
                for name, t in section.tables.items()
            ]
            parts.append(PageSection(section.title, [*section.text, *missing], tables, pictures))
        for stem, table in zip(file_stems(self.tables), self.tables.values(), strict=True):
            files.append(home / f"{stem}.csv")
            write_bytes(files[-1], table.to_csv().encode("utf-8", errors="backslashreplace"))
        page = render(self.title, parts, PageFooter(self.facts, [path.name for path in files]))
        write_bytes(files[0], page.encode("utf-8", errors="backslashreplace"))
        write_bytes(files[1], self.to_json().encode("utf-8", errors="backslashreplace"))
        return files

    @staticmethod
    def _draw(
        home: Path, section: Section, stems: Mapping[str, str], files: list[Path]
    ) -> tuple[list[PagePlot], list[str]]:
        """The plots of a section, written; or one sentence on what is missing."""
        pictures: list[PagePlot] = []
        for name, plot in section.plots.items():
            try:
                svg, png = save_plot(home / stems[name], plot)
            except MissingExtraError as error:
                return pictures, [f"No plots here: {error}."]
            files += [svg, png]
            pictures.append(PagePlot(stems[name], svg.read_text("utf-8")))
        return pictures, []


def format_cell(cell: Cell) -> str:
    """A cell as people read it.

    Examples
    --------
    >>> format_cell(0.12345), format_cell(1234567), format_cell(None), format_cell("dog")
    ('0.123', '1,234,567', '', 'dog')
    """
    if cell is None or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return str(cell)
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.3f}"


def _keys(table: Table) -> list[list[str]]:
    """By what each cell is sorted."""

    def key(cell: Cell) -> str:
        value = cell.value if isinstance(cell, Estimate) else cell
        return "" if value is None else str(value)

    return [[key(cell) for cell in row] for row in table.rows]


def _values(cell: Cell, spread: bool) -> list[Any]:
    if isinstance(cell, Estimate):
        return [cell.value, cell.low, cell.high, cell.n]
    return [cell, None, None, None] if spread else [cell]


def _plain(value: Any) -> Any:
    """Plain values all the way down."""
    if isinstance(value, Estimate):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None  # NaN is smaller than nothing
    if hasattr(value, "tolist"):  # NumPy's arrays and numbers
        return _plain(value.tolist())
    return [_plain(inner) for inner in value]
