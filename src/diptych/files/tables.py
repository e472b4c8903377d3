"""Tables with named columns, read row by row: CSV, TSV, JSON lines and Parquet.

Text tables have any encoding that `text_files` knows and may be packed with gzip. Whatever reads a table uses
this module, so that separators, damage and missing columns are treated alike; lists of labels, which need no
header, are read by `zeroshot.label_files`.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import IO, Any

from diptych.errors import DataError, listed
from diptych.extras import require
from diptych.files.text_files import text_lines
from diptych.files.unicode_text import without_surrogates

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})
_SEPARATORS = ("\t", ",", ";", "|")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
# A cell that a quote begins and none ends: it continues in the next line. In `size 5",name` the quote is part
# of the name.
_OPEN_CELL = re.compile(r'(?:^|[\t,;|])"(?:[^"]|"")*\Z')
_LONGEST_CELL = min(2**24, sys.maxsize)  # characters; the default limit of csv is 131,072
_HEADER_LINES = 20  # most lines of a header after the first
_BATCH = 256  # rows of Parquet read at once; small, because cells may hold encoded images


def column_names(path: Path, extra: str) -> list[str]:
    """Read the names of a table's columns; those of JSON lines are the fields of the first object.

    Parameters
    ----------
    path : Path
        Its suffix decides the format.
    extra : str
        The extra of this package to name if pyarrow is not installed.

    Raises
    ------
    DataError
        Not a readable table.
    """
    if path.suffix.lower() == ".parquet":
        with open_parquet(path, extra) as file:
            return list(file.schema_arrow.names)
    if _is_json(path):
        return list(next(_objects(path), {}))
    with open_text_table(path) as table:
        return table.columns


def read_rows(
    path: Path, columns: Sequence[str], extra: str, *, separator: str = "", way_out: str = ""
) -> Iterator[tuple[Any, ...]]:
    """Iterate over the rows of some columns; a row of a text table that is too short is an empty tuple.

    Parameters
    ----------
    path, extra
        As for `column_names`.
    separator : str
        Of a CSV; by default see `TextTable`.
    way_out : str
        Ends the message about a missing column, such as the option that names it.

    Raises
    ------
    DataError
        Not a readable table, or a missing column.
    """
    if path.suffix.lower() == ".parquet":
        with open_parquet(path, extra) as file:
            column_positions(path, file.schema_arrow.names, columns, way_out)
            yield from parquet_rows(file, columns)
    elif _is_json(path):
        for number, fields in enumerate(_objects(path)):
            if number == 0:
                column_positions(path, list(fields), columns, way_out)
            yield tuple(fields.get(name) for name in columns)
    else:
        with open_text_table(path, separator, columns) as table:
            positions = column_positions(path, table.columns, columns, way_out)
            for _, row in table.rows():
                yield tuple(row[n] for n in positions) if len(row) > max(positions) else ()


def column_positions(
    table: object, columns: Sequence[str], names: Sequence[str], way_out: str = ""
) -> list[int]:
    """Positions of some names among the columns of a table.

    Raises
    ------
    DataError
        One is missing; the message begins with the name of the `table` and proposes a similar column.

    Examples
    --------
    >>> column_positions("pets.csv", ["file", "class"], ["class"])
    [1]
    """
    for name in names:
        if name not in columns:
            similar = get_close_matches(name, columns, 1)
            hints = [f"Did you mean {similar[0]!r}?"] if similar else []
            raise missing_column(table, repr(name), columns, " ".join([*hints, way_out]))
    return [columns.index(name) for name in names]


def missing_column(table: object, missing: str, columns: Iterable[str], way_out: str = "") -> DataError:
    """The error of a table that lacks a column, given by its name or its content ("of captions").

    Examples
    --------
    >>> str(missing_column("pets.csv", "of captions", ["file", "class"], "Name it: --caption-column"))
    "pets.csv has no column of captions: its columns are 'file', 'class'. Name it: --caption-column"
    """
    text = f"{table} has no column {missing}: its columns are {listed(columns, 40)}. {way_out}"
    return DataError(text.strip().removesuffix("."))


# ------------------------------------------------------------------------------------------ text tables


class TextTable:
    """Header and rows of separated text.

    Parameters
    ----------
    file : binary file
        Seekable.
    name : Path or str
        Named in messages.
    separator : str
        By default the one that a line such as ``sep=;`` names; else tab, comma, semicolon or bar: the first
        that splits the header into the expected columns, in .tsv a tab if the header has one, else the most
        frequent.
    """

    def __init__(
        self, file: IO[bytes], name: Path | str, separator: str = "", expected: Sequence[str] = ()
    ) -> None:
        csv.field_size_limit(_LONGEST_CELL)
        self._file, self._name = file, name
        header, named, self._start = _header(text_lines(file, name))
        self._separator = separator or named or _separator(header, str(name), expected)
        try:
            cells = csv.reader([header], delimiter=self._separator)
        except (TypeError, ValueError) as error:  # csv refuses a separator of several characters
            raise DataError(f"{name} is not a table that can be read: {error}") from error
        self.columns = next(cells, [])

    def rows(self, offset: int = 0, *, empty: bool = False) -> Iterator[tuple[int, list[str]]]:
        """Iterate over (byte offset, cells) of the rows, from the offset of a row or from the first one.

        Empty lines are left out, unless `empty` asks for them, as rows without cells.
        """
        self._file.seek(offset or self._start)
        consumed = self._file.tell()

        def lines() -> Iterator[str]:
            nonlocal consumed
            for line, size in text_lines(self._file, self._name):
                consumed += size
                yield line.replace("\0", "")  # which no cell needs and some readers cannot store

        # csv.reader takes as many lines as a quoted cell spans, so after each row `consumed` is the offset of
        # the next one.
        position = consumed
        for cells in csv.reader(lines(), delimiter=self._separator):
            if cells or empty:
                yield position, cells
            position = consumed


@contextlib.contextmanager
def open_text_table(
    source: Path | bytes, separator: str = "", expected: Sequence[str] = (), *, name: str = ""
) -> Iterator[TextTable]:
    """Open separated text, plain or packed with gzip; see `TextTable`.

    Parameters
    ----------
    source : Path or bytes
        The file, or its content, which has a `name`.

    Raises
    ------
    DataError
        Not a text, or one that cannot be read as separated cells; also while rows are read.
    """
    with _opened(source, name) as file:
        yield TextTable(file, name or str(source), separator, expected)


def separator_line(line: str) -> str:
    r"""The separator named by a line such as ``sep=;``, which Excel writes first; "" for any other line.

    Examples
    --------
    >>> separator_line("sep=;\r\n"), separator_line("filepath;title")
    (';', '')
    """
    match = _SEPARATOR_LINE.fullmatch(line)
    return match[1] if match else ""


def _header(lines: Iterator[tuple[str, int]]) -> tuple[str, str, int]:
    """Header, separator of a ``sep=`` line before it, bytes of both; "" for each that is missing."""
    consumed, named = 0, ""
    for line, size in lines:
        consumed += size
        if line.strip() and (named or not (named := separator_line(line))):
            header, end = line, consumed
            # A quoted name may go on for some lines; a quote that is not closed by then is part of a name.
            for further, more in islice(lines, _HEADER_LINES if _is_open(line) else 0):
                header, end = header + further, end + more
                if not _is_open(header):
                    return header, named, end
            return line, named, consumed
    return "", named, consumed


def _is_open(header: str) -> bool:
    return header.count('"') % 2 == 1 and _OPEN_CELL.search(header) is not None


def _separator(header: str, name: str, expected: Sequence[str]) -> str:
    for separator in _SEPARATORS if expected else ():
        if set(expected) <= set(next(csv.reader([header], delimiter=separator), [])):
            return separator
    if "\t" in header and name.lower().endswith((".tsv", ".tsv.gz")):
        return "\t"
    return max(_SEPARATORS, key=header.count)


@contextlib.contextmanager
def _opened(source: Path | bytes, name: str = "") -> Iterator[IO[bytes]]:
    """Open a text table, unpacking gzip (recognised by its first bytes), and translate errors of reading."""
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield gzip.GzipFile(fileobj=file) if packed else file  # type: ignore[misc]
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise DataError(f"{name or str(source)} is not a table that can be read: {error}") from error


# ------------------------------------------------------------------------------------------- JSON lines


def _is_json(path: Path) -> bool:
    return path.name.lower().endswith((".jsonl", ".jsonl.gz"))


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of JSON lines, such as the metadata.jsonl of an image folder on the Hugging Face hub."""
    with _opened(path) as file:
        for number, (line, _) in enumerate(text_lines(file, path), start=1):
            if line.strip():
                try:
                    row = without_surrogates(json.loads(line))
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{path}, line {number}, is not JSON: {error}") from error
                if not isinstance(row, dict):
                    raise DataError(f"{path}, line {number}, is not an object with fields")
                yield row


# ---------------------------------------------------------------------------------------------- Parquet


@contextlib.contextmanager
def open_parquet(source: Path | bytes, extra: str, *, name: str = "") -> Iterator[Any]:
    """Open a table as pyarrow's `ParquetFile`.

    Parameters
    ----------
    source, name
        As for `open_text_table`.
    extra : str
        The extra of this package to name if pyarrow is not installed.

    Raises
    ------
    DataError
        The file is not a Parquet table, or is damaged.
    MissingExtraError
        pyarrow is not installed.
    """
    parquet = require("pyarrow.parquet", extra=extra, purpose="read Parquet tables")
    arrow = require("pyarrow", extra=extra, purpose="read Parquet tables")
    try:
        with parquet.ParquetFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
            yield file
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{name or str(source)} is not a Parquet table that can be read: {error}") from error


def parquet_rows(
    file: Any, columns: Sequence[str] | None = None, groups: Sequence[int] | None = None
) -> Iterator[tuple[Any, ...]]:
    """Iterate over the rows of an open Parquet file: of some columns, of some row groups, or of all."""
    names = None if columns is None else list(columns)
    for batch in file.iter_batches(batch_size=_BATCH, row_groups=groups, columns=names):
        # The columns of a batch have the order of the file.
        chosen = batch.columns if columns is None else [batch.column(column) for column in columns]
        yield from zip(*map(_cells, chosen), strict=True)


def _cells(column: Any) -> list[Any]:
    try:
        cells: list[Any] = column.to_pylist()
    except UnicodeDecodeError:  # some programs write Latin-1 into string columns
        cells = [_cell(scalar) for scalar in column]
    return cells


def _cell(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        buffer = getattr(scalar, "as_buffer", lambda: None)()  # a list of texts has no buffer
        return None if buffer is None else buffer.to_pybytes().decode("utf-8", "replace")
