"""Read tables of attributes (CSV, TSV or Parquet) as a header and rows of text.

Cells are stripped texts; numbers of a Parquet file are converted to text. `people.py` joins the rows to
images.
"""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from diptych.errors import DataError
from diptych.extras import require
from diptych.files.text_files import table_head, text_lines

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})
FILE_COLUMNS = ("file", "filename", "file_name", "image", "filepath", "path", "img", "key", "name")
_SEPARATORS = (",", "\t", ";", "|")


def listed(names: Iterable[object], most: int = 10) -> str:
    """Join the first few names, quoted, for a message.

    Examples
    --------
    >>> listed(["a", "b", "c"], 2)
    "'a', 'b' and 1 more"
    """
    quoted = [repr(str(name)) for name in names]
    return ", ".join(quoted[:most]) + (f" and {len(quoted) - most:,} more" if len(quoted) > most else "")


@dataclass(frozen=True)
class AttributeTable:
    """A header, and rows with one cell per column.

    Attributes
    ----------
    header : tuple of str
        Names of the columns, all different.
    cells : tuple of tuples of str
    broken : tuple of str
        Rows with more or fewer cells, as "row N" (1 is the header).
    where : str
        Name of the file, for messages.
    """

    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    broken: tuple[str, ...]
    where: str

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.header)

    def column(self, name: str) -> int:
        """Index of a column.

        Raises
        ------
        DataError
            The column does not exist.
        """
        if name not in self.header:
            near = get_close_matches(name, self.header, n=1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise DataError(
                f"{self.where} has no column {name!r}{meant}; its columns are {listed(self.header, 40)}"
            )
        return self.header.index(name)

    def first(self, names: Sequence[str]) -> int:
        """Index of the first of these columns that exists, ignoring case.

        Raises
        ------
        DataError
            None of them exists.
        """
        lower = [name.lower() for name in self.header]
        for name in names:
            if name in lower:
                return lower.index(name)
        raise DataError(
            f"{self.where} has none of the columns {listed(names)} that name the pictures; its columns are "
            f"{listed(self.header, 40)}: say which one names them (file=..., --file)"
        )


def parse_table(content: bytes, where: str) -> AttributeTable:
    r"""Parse a table.

    Parameters
    ----------
    content : bytes
        Bytes of the file.
    where : str
        Name of the file; its suffix decides the format.

    Raises
    ------
    DataError
        The file is empty, not text or not a table, or two columns have one name.

    Examples
    --------
    >>> table = parse_table(b"file,age\n1.jpg, 3-9\n2.jpg\n", "labels.csv")
    >>> table.header, table.cells, table.broken
    (('file', 'age'), (('1.jpg', '3-9'),), ('row 3',))
    """
    suffix = Path(where).suffix.lower()
    lines = _parquet(content, where) if suffix == ".parquet" else _text(content, where, suffix)
    header = next(lines, None)
    if header is None:
        raise DataError(f"{where} is empty: expected a header and a row for each picture")
    names = tuple(name.strip() for name in header)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{where} has several columns {listed(repeated)}: expected different names")
    cells, broken = [], []
    for number, row in enumerate(lines, start=2):
        if not any(cell.strip() for cell in row):
            continue  # an empty line, such as the last one
        if len(row) != len(names):
            broken.append(f"row {number}")
        else:
            cells.append(tuple(cell.strip() for cell in row))
    if not cells and not broken:
        raise DataError(f"{where} has a header and no row: expected a row for each picture")
    return AttributeTable(names, tuple(cells), tuple(broken), where)


def _text(content: bytes, where: str, suffix: str) -> Iterator[list[str]]:
    """Yield the rows of separated text."""
    lines = text_lines(io.BytesIO(content), where)
    head, named, _ = table_head(lines)
    separator = named or ("\t" if suffix == ".tsv" else max(_SEPARATORS, key=head.count))
    reader = csv.reader(
        itertools.chain(filter(None, [head]), (line for line, _ in lines)), delimiter=separator
    )
    try:
        yield from reader
    except csv.Error as error:
        raise DataError(f"{where}, line {reader.line_num}: {error}; expected separated text") from error


def _parquet(content: bytes, where: str) -> Iterator[list[str]]:
    """Yield the rows of a Parquet file as texts; missing values are blank."""
    parquet = require("pyarrow.parquet", extra="evaluation", purpose="read Parquet tables")
    arrow = require("pyarrow", extra="evaluation", purpose="read Parquet tables")
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{where} cannot be read as a Parquet file: {error}") from error
    yield [str(name) for name in table.column_names]
    columns = [table.column(index).to_pylist() for index in range(table.num_columns)]
    for row in zip(*columns, strict=True):
        yield ["" if cell is None else str(cell) for cell in row]
