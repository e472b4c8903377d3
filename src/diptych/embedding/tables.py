"""Tables (CSV, TSV, Parquet) and lists of texts (one per line), read in chunks.

One pass splits a table into chunks and notes the byte offset of each, so that a chunk is read without reading
the rows before it.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.errors import DataError
from diptych.files.parquet import open_parquet, rows_of
from diptych.files.text_files import table_head, text_lines

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".parquet"})
LIST_SUFFIX = ".txt"
LINE = "text"  # name of the only column of a list of texts
_SEPARATORS = ("\t", ",", ";", "|")
_LONGEST_CELL = min(2**24, sys.maxsize)  # characters; the default limit of csv is 131,072


@dataclass(frozen=True)
class Chunk:
    """Consecutive rows of a table: first row, its byte offset (unused in Parquet), number of rows."""

    first: int
    offset: int
    rows: int


def columns_of(path: Path) -> list[str]:
    """Read the column names of a table.

    Raises
    ------
    DataError
        Not a readable table.
    """
    if path.suffix.lower() == LIST_SUFFIX:
        return [LINE]
    if path.suffix.lower() == ".parquet":
        with open_parquet(path, "embeddings") as file:
            return list(file.schema_arrow.names)
    with _translate_errors(path), path.open("rb") as file:
        return _header(path, text_lines(file, path))[0]


def chunks(path: Path, rows: int) -> Iterator[Chunk]:
    """Split a table into chunks of `rows` rows; the last one may be shorter.

    Raises
    ------
    DataError
        Not a readable table.
    """
    if path.suffix.lower() == ".parquet":
        with open_parquet(path, "embeddings") as file:
            total = file.metadata.num_rows
        for first in range(0, total, rows):
            yield Chunk(first, 0, min(rows, total - first))
        return
    first, offset, total = 0, 0, 0
    for position, _ in _rows_with_offsets(path):
        if total and total % rows == 0:
            yield Chunk(first, offset, rows)
        if total % rows == 0:
            first, offset = total, position
        total += 1
    if total:
        yield Chunk(first, offset, total - first)


def read_chunk(path: Path, columns: Sequence[str], chunk: Chunk) -> Iterator[tuple[Any, ...]]:
    """Iterate over the rows of a chunk as tuples of cells of the given columns.

    Raises
    ------
    DataError
        The table has changed or cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        yield from _parquet_rows(path, columns, chunk)
        return
    if path.suffix.lower() == LIST_SUFFIX:
        indices = [0] * len(columns)
    else:
        known = columns_of(path)
        indices = [known.index(name) for name in columns]
    for number, (_, cells) in enumerate(_rows_with_offsets(path, chunk.offset)):
        if number == chunk.rows:
            return
        yield tuple(cells[index] if index < len(cells) else "" for index in indices)


def _rows_with_offsets(path: Path, offset: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Yield (byte offset, cells) of every row, beginning at the offset of a row."""
    csv.field_size_limit(_LONGEST_CELL)
    with _translate_errors(path), path.open("rb") as file:
        is_list = path.suffix.lower() == LIST_SUFFIX
        _, separator, start = ([], "", 0) if is_list else _header(path, text_lines(file, path))
        file.seek(offset or start)
        consumed = file.tell()

        def lines() -> Iterator[str]:
            nonlocal consumed
            for line, size in text_lines(file, path):
                consumed += size
                # csv raises an error for a NUL character.
                yield line.replace("\0", "")

        # csv.reader takes as many lines as a quoted cell spans, so after each row `consumed` is the offset of
        # the next one.
        position = consumed
        rows = ([line] for line in lines()) if is_list else csv.reader(lines(), delimiter=separator)
        for cells in rows:
            if cells:
                yield position, cells
            position = consumed


def _header(path: Path, lines: Iterator[tuple[str, int]]) -> tuple[list[str], str, int]:
    """Column names, separator, and the number of bytes of the header."""
    text, separator, consumed = table_head(lines)
    separator = separator or ("\t" if path.suffix.lower() == ".tsv" else max(_SEPARATORS, key=text.count))
    return next(csv.reader([text], delimiter=separator), []), separator, consumed


@contextlib.contextmanager
def _translate_errors(path: Path) -> Iterator[None]:
    """Translate errors of the system and of csv into DataError."""
    try:
        yield
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} is not a readable table: {error}") from error


def _parquet_rows(path: Path, columns: Sequence[str], chunk: Chunk) -> Iterator[tuple[Any, ...]]:
    # E.g. row groups of 100 rows and a chunk of rows 150..349: groups 1, 2 and 3, skipping the first 50 rows.
    with open_parquet(path, "embeddings") as file:
        groups, start, skip = list[int](), 0, 0
        for number in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            if start < chunk.first + chunk.rows and start + rows > chunk.first:
                skip = skip if groups else chunk.first - start
                groups.append(number)
            start += rows
        yield from itertools.islice(rows_of(file, columns, groups), skip, skip + chunk.rows)
