"""Reports: sections with text, tables and plots, saved as an HTML page, JSON, CSV and plot files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from diptych.errors import MissingExtraError
from diptych.files.disk import file_stem, file_stems, write_bytes
from diptych.reports.page import inline_svg, page_template
from diptych.reports.plots import Plot, save_plot

if TYPE_CHECKING:
    from markupsafe import Markup

LONG = 100  # on the page, a table of more rows scrolls in a box of its own


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % confidence interval and the number of cases.

    Attributes
    ----------
    low, high : float or None
        None without an interval.
    n : int or None
    effective : float or None
        Effective sample size; None if unknown.

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
    rows : sequence of sequences of Cell
        None is an empty cell: not measured, or too few cases.
    caption : str
        Shown below the table: what was measured, and how.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""

    def compact(self, *optional: str) -> Table:
        """The table without those optional columns in which every cell is None.

        Examples
        --------
        >>> table = Table(["class", "zero-shot", "n"], [["dog", None, 3], ["cat", None, 4]])
        >>> table.compact("zero-shot").columns
        ['class', 'n']
        """
        used = [
            i
            for i, name in enumerate(self.columns)
            if name not in optional or any(row[i] is not None for row in self.rows)
        ]
        rows = [[row[i] for i in used] for row in self.rows]
        return Table([self.columns[i] for i in used], rows, self.caption)

    def texts(self) -> list[list[str]]:
        """The cells as formatted text.

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
    """A section of a report.

    Attributes
    ----------
    text : sequence of str
        Paragraphs.
    tables : mapping of name to Table
        Saved in a file of this name; `Report.save` turns any text into a valid file name.
    """

    title: str
    text: Sequence[str] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)
    plots: Mapping[str, Plot] = field(default_factory=dict)

    def within(self, name: str) -> Section:
        """The same section as a part of something named: the name is added to the title and to file names.

        Examples
        --------
        >>> section = Section("Shifts", tables={"shifts": Table([], [])}).within("pacs, robustness")
        >>> section.title, list(section.tables)
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
    """A report of measurements.

    Attributes
    ----------
    values : mapping
        The figures as plain values, written to `report.json` and printed by `--json`.
    facts : mapping of str to str
        Shown in the footer: the command, fingerprints of model and data, versions.

    Raises
    ------
    ValueError
        Two tables, or two plots, have the same file name.

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
        """The values and facts as JSON text; numbers that are not finite become null."""
        plain = _plain({"title": self.title, **self.values, "facts": dict(self.facts)})
        return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, folder: str | Path) -> list[Path]:
        """Write `index.html`, `report.json`, a CSV per table, an SVG and a PNG per plot, each atomically.

        Names of tables and plots may come from data; `file_stems` makes them valid and unique file names in
        the folder. Without matplotlib the page says that the plots are missing, and why.

        Raises
        ------
        SaveError
            The device is full or not writable.
        """
        home = Path(folder)
        files, sections = [home / "index.html", home / "report.json"], []
        plots = [name for section in self.sections for name in section.plots]
        stems = dict(zip(plots, file_stems(plots), strict=True))
        for section in self.sections:
            drawings, missing = self._save_plots(home, section, stems, files)
            sections.append(
                {
                    "title": section.title,
                    "text": [*section.text, *missing],
                    "tables": list(map(_page_table, section.tables.values())),
                    "plots": drawings,
                }
            )
        for stem, table in zip(file_stems(self.tables), self.tables.values(), strict=True):
            files.append(home / f"{stem}.csv")
            write_bytes(files[-1], table.to_csv().encode("utf-8", errors="backslashreplace"))
        facts = {**self.facts, "Files beside this page": ", ".join(path.name for path in files)}
        page = page_template("report.html").render(title=self.title, sections=sections, facts=facts)
        write_bytes(files[0], page.encode("utf-8", errors="backslashreplace"))
        write_bytes(files[1], self.to_json().encode("utf-8", errors="backslashreplace"))
        return files

    @staticmethod
    def _save_plots(
        home: Path, section: Section, stems: Mapping[str, str], files: list[Path]
    ) -> tuple[list[Markup], list[str]]:
        """Save the plots of a section; without matplotlib, return a paragraph that says so."""
        drawings: list[Markup] = []
        for name, plot in section.plots.items():
            try:
                svg, png = save_plot(home / stems[name], plot)
            except MissingExtraError as error:
                return drawings, [f"No plots here: {error}."]
            files += [svg, png]
            drawings.append(inline_svg(svg.read_text("utf-8"), stems[name]))
        return drawings, []


def _page_table(table: Table) -> dict[str, Any]:
    """The content of the macro `table`: each cell as its text and its sort key."""
    keys = _keys(table)
    return {
        "columns": table.columns,
        "numeric": [
            bool(keys) and all(_is_number(row[i]) for row in keys) for i in range(len(table.columns))
        ],
        "rows": [list(zip(texts, row, strict=True)) for texts, row in zip(table.texts(), keys, strict=True)],
        "caption": table.caption,
        "long": len(keys) > LONG,
    }


def _is_number(key: str) -> bool:
    try:
        float(key or "0")
    except ValueError:
        return False
    return True


def format_cell(cell: Cell) -> str:
    """Format a cell for people.

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
    """Sort keys of the cells."""

    def key(cell: Cell) -> str:
        value = cell.value if isinstance(cell, Estimate) else cell
        return "" if value is None else str(value)

    return [[key(cell) for cell in row] for row in table.rows]


def _values(cell: Cell, spread: bool) -> list[Any]:
    if isinstance(cell, Estimate):
        return [cell.value, cell.low, cell.high, cell.n]
    return [cell, None, None, None] if spread else [cell]


def _plain(value: Any) -> Any:
    """Convert a value, and everything nested in it, to types that JSON has."""
    if isinstance(value, Estimate):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None  # False for NaN too
    if hasattr(value, "tolist"):  # NumPy arrays and numbers
        return _plain(value.tolist())
    return [_plain(inner) for inner in value]
