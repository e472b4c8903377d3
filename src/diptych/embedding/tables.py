"""Rows of tables and of lists of texts, read from any of them on: CSV, TSV, Parquet, one text a line.

A table is cut into chunks in one pass that keeps a place in the file for each, so that whoever reads a chunk
begins there and not at the top. What a row means is `items`'s business.
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
LINE = "text"  # what the only column of a list of texts is called
_SEPARATORS = ("\t", ",", ";", "|")
_LONGEST_CELL = min(2**24, sys.maxsize)  # characters; csv refuses more than 131,072 unless told


@dataclass(frozen=True)
class Chunk:
    """Some rows of a table: the first one's number and its place in bytes (unused in Parquet)."""

    first: int
    offset: int
    rows: int


def columns_of(path: Path) -> list[str]:
    """The names of a table's columns.

    Raises
    ------
    DataError
        No table that can be read.
    """
    if path.suffix.lower() == LIST_SUFFIX:
        return [LINE]
    if path.suffix.lower() == ".parquet":
        with open_parquet(path, "embeddings") as file:
            return list(file.schema_arrow.names)
    with _told(path), path.open("rb") as file:
        return _header(path, text_lines(file, path))[0]


def chunks(path: Path, rows: int) -> Iterator[Chunk]:
    """A table cut into chunks of so many rows, the last one shorter.

    Raises
    ------
    DataError
        No table that can be read.
    """
    if path.suffix.lower() == ".parquet":
        with open_parquet(path, "embeddings") as file:
            total = file.metadata.num_rows
        for first in range(0, total, rows):
            yield Chunk(first, 0, min(rows, total - first))
        return
    first, offset, total = 0, 0, 0
    for place, _ in _places(path):
        if total and total % rows == 0:
            yield Chunk(first, offset, rows)
        if total % rows == 0:
            first, offset = total, place
        total += 1
    if total:
        yield Chunk(first, offset, total - first)


def read_chunk(path: Path, columns: Sequence[str], chunk: Chunk) -> Iterator[tuple[Any, ...]]:
    """The cells of these columns, row by row.

    Raises
    ------
    DataError
        The table has changed or cannot be read.
    """
    if path.suffix.lower() == ".parquet":
        yield from _parquet_rows(path, columns, chunk)
        return
    if path.suffix.lower() == LIST_SUFFIX:
        places = [0] * len(columns)
    else:
        known = columns_of(path)
        places = [known.index(name) for name in columns]
    for number, (_, cells) in enumerate(_places(path, chunk.offset)):
        if number == chunk.rows:
            return
        yield tuple(cells[place] if place < len(cells) else "" for place in places)


def _places(path: Path, offset: int = 0) -> Iterator[tuple[int, list[str]]]:
    """(offset in bytes, cells) of every row, from a row's offset on."""
    csv.field_size_limit(_LONGEST_CELL)
    with _told(path), path.open("rb") as file:
        listed = path.suffix.lower() == LIST_SUFFIX
        _, separator, start = ([], "", 0) if listed else _header(path, text_lines(file, path))
        file.seek(offset or start)
        consumed = file.tell()

        def lines() -> Iterator[str]:
            nonlocal consumed
            for line, size in text_lines(file, path):
                consumed += size
                # A NUL makes csv give up on the whole file; it is no part of a text.
                yield line.replace("\0", "")

        place = consumed
        rows = ([line] for line in lines()) if listed else csv.reader(lines(), delimiter=separator)
        for cells in rows:
            if cells:
                yield place, cells
            place = consumed


def _header(path: Path, lines: Iterator[tuple[str, int]]) -> tuple[list[str], str, int]:
    """The columns, their separator, and how many bytes the header takes."""
    text, separator, consumed = table_head(lines)
    separator = separator or ("\t" if path.suffix.lower() == ".tsv" else max(_SEPARATORS, key=text.count))
    return next(csv.reader([text], delimiter=separator), []), separator, consumed


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the system and csv say of a table, as an error of this package."""
    try:
        yield
    except (OSError, csv.Error) as error:
        raise DataError(f"{path} is not a table that can be read: {error}") from error


def _parquet_rows(path: Path, columns: Sequence[str], chunk: Chunk) -> Iterator[tuple[Any, ...]]:
    with open_parquet(path, "embeddings") as file:
        groups, start, skip = list[int](), 0, 0
        for number in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            if start < chunk.first + chunk.rows and start + rows > chunk.first:
                skip = skip if groups else chunk.first - start
                groups.append(number)
            start += rows
        yield from itertools.islice(rows_of(file, columns, groups), skip, skip + chunk.rows)
