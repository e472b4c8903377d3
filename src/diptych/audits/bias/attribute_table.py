"""Read tables of attributes (CSV, TSV or Parquet) as a header and rows of text.

Cells are stripped texts; numbers of a Parquet file are converted to text. `people.py` joins the rows to
images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from diptych.errors import DataError, listed
from diptych.files.tables import column_positions, missing_column, open_parquet, open_text_table, parquet_rows

FILE_COLUMNS = ("file", "filename", "file_name", "image", "filepath", "path", "img", "key", "name")


@dataclass(frozen=True)
class AttributeTable:
    """A header, and rows with one cell per column.

    Attributes
    ----------
    header : tuple of str
        Names of the columns, all different.
    broken : tuple of str
        Rows with more or fewer cells, as "row N" (1 is the header).
    source : str
        Name of the file, for messages.
    """

    header: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    broken: tuple[str, ...]
    source: str

    def positions(self, names: Sequence[str]) -> list[int]:
        """Positions of columns; raises DataError if one does not exist."""
        return column_positions(self.source, self.header, names)

    def file_position(self) -> int:
        """Position of the first of `FILE_COLUMNS` that exists, ignoring case; DataError if there is none."""
        lower = [name.lower() for name in self.header]
        for name in FILE_COLUMNS:
            if name in lower:
                return lower.index(name)
        usual = f"that names the pictures ({', '.join(FILE_COLUMNS)})"
        raise missing_column(self.source, usual, self.header, "Say which one names them: file=..., --file")


def parse_table(content: bytes, source: str) -> AttributeTable:
    r"""Parse a table.

    Parameters
    ----------
    content : bytes
        Bytes of the file.
    source : str
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
    if Path(source).suffix.lower() == ".parquet":
        with open_parquet(content, "evaluation", name=source) as file:
            return _parsed(source, file.schema_arrow.names, _texts(parquet_rows(file)))
    with open_text_table(content, name=source) as table:
        return _parsed(source, table.columns, (cells for _, cells in table.rows(empty=True)))


def _texts(rows: Iterable[tuple[object, ...]]) -> Iterator[list[str]]:
    """The cells as texts; missing values are blank."""
    for row in rows:
        yield ["" if cell is None else str(cell) for cell in row]


def _parsed(source: str, header: Sequence[str], rows: Iterable[list[str]]) -> AttributeTable:
    if not header:
        raise DataError(f"{source} is empty: expected a header and a row for each picture")
    names = tuple(name.strip() for name in header)
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DataError(f"{source} has several columns {listed(repeated)}: expected different names")
    cells, broken = [], []
    for number, row in enumerate(rows, start=2):
        if not any(cell.strip() for cell in row):
            continue  # an empty line, such as the last one
        if len(row) != len(names):
            broken.append(f"row {number}")
        else:
            cells.append(tuple(cell.strip() for cell in row))
    if not cells and not broken:
        raise DataError(f"{source} has a header and no row: expected a row for each picture")
    return AttributeTable(names, tuple(cells), tuple(broken), source)
