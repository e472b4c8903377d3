"""Tables of attributes: CSV, TSV or Parquet to a header and rows of text. Knows no picture.

Cells are texts without spaces around them; numbers of a Parquet file are written out. What a row belongs to
is `people.py`'s.
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
    """The first few names, quoted, for a message.

    Examples
    --------
    >>> listed(["a", "b", "c"], 2)
    "'a', 'b' and 1 more"
    """
    every = [repr(str(name)) for name in names]
    return ", ".join(every[:most]) + (f" and {len(every) - most:,} more" if len(every) > most else "")


@dataclass(frozen=True)
class Rows:
    """A header and rows of as many cells.

    Attributes
    ----------
    header : tuple of str
        Names of the columns, all different.
    cells : tuple of tuples of str
    broken : tuple of str
        Rows that had more or fewer cells, by their place in the file.
    where : str
        For messages.
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
        """Place of a column.

        Raises
        ------
        DataError
            No such column.
        """
        if name not in self.header:
            near = get_close_matches(name, self.header, n=1)
            meant = f" (did you mean {near[0]!r}?)" if near else ""
            raise DataError(
                f"{self.where} has no column {name!r}{meant}; its columns are {listed(self.header, 40)}"
            )
        return self.header.index(name)

    def first(self, names: Sequence[str]) -> int:
        """Place of the first of these columns that is there, whatever their case.

        Raises
        ------
        DataError
            None is.
        """
        lower = [name.lower() for name in self.header]
        for name in names:
            if name in lower:
                return lower.index(name)
        raise DataError(
            f"{self.where} names its pictures in none of the columns {listed(names)}; its columns are "
            f"{listed(self.header, 40)}: say which one does (file=..., --file)"
        )


def parse_table(content: bytes, where: str) -> Rows:
    r"""The rows of a table.

    Parameters
    ----------
    content : bytes
        Of the file.
    where : str
        Its name; the ending says what it is.

    Raises
    ------
    DataError
        Empty, no text, no table, two columns of one name.

    Examples
    --------
    >>> rows = parse_table(b"file,age\n1.jpg, 3-9\n2.jpg\n", "labels.csv")
    >>> rows.header, rows.cells, rows.broken
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
            continue  # an empty line at the end is no row
        if len(row) != len(names):
            broken.append(f"row {number}")
        else:
            cells.append(tuple(cell.strip() for cell in row))
    if not cells and not broken:
        raise DataError(f"{where} has a header and no row: expected a row for each picture")
    return Rows(names, tuple(cells), tuple(broken), where)


def _text(content: bytes, where: str, suffix: str) -> Iterator[list[str]]:
    """Rows of separated text, one after another."""
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
    """Rows of a Parquet file as texts; what is missing is blank."""
    parquet = require("pyarrow.parquet", extra="evaluation", purpose="read Parquet tables")
    arrow = require("pyarrow", extra="evaluation", purpose="read Parquet tables")
    try:
        table = parquet.read_table(io.BytesIO(content))
    except (arrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{where} is no Parquet file that can be read: {error}") from error
    yield [str(name) for name in table.column_names]
    columns = [table.column(place).to_pylist() for place in range(table.num_columns)]
    for row in zip(*columns, strict=True):
        yield ["" if cell is None else str(cell) for cell in row]
