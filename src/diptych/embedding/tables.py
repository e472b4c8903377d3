"""Tables and lists of texts (one per line), split into chunks of rows.

One pass splits a text table into chunks and notes the byte offset of each, so that a chunk is read without
reading the rows before it.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diptych.errors import DataError
from diptych.files.tables import (
    TextTable,
    column_names,
    column_positions,
    open_parquet,
    open_text_table,
    parquet_rows,
)
from diptych.files.text_files import text_lines

LIST_SUFFIX = ".txt"
LINE = "text"  # name of the only column of a list of texts
_EXTRA = "embeddings"


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
    return [LINE] if path.suffix.lower() == LIST_SUFFIX else column_names(path, _EXTRA)


def chunks(path: Path, rows: int) -> Iterator[Chunk]:
    """Split a table into chunks of `rows` rows; the last one may be shorter.

    Raises
    ------
    DataError
        Not a readable table.
    """
    if path.suffix.lower() == ".parquet":
        with open_parquet(path, _EXTRA) as file:
            total = file.metadata.num_rows
        for first in range(0, total, rows):
            yield Chunk(first, 0, min(rows, total - first))
        return
    first, offset, total = 0, 0, 0
    with _opened(path) as table:
        for position, _ in table.rows():
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
        yield from _parquet_chunk(path, columns, chunk)
        return
    with _opened(path) as table:
        positions = column_positions(path, table.columns, columns)
        for _, cells in itertools.islice(table.rows(chunk.offset), chunk.rows):
            yield tuple(cells[n] if n < len(cells) else "" for n in positions)


class _TextList:
    """The lines of a text as the rows of a table with one column."""

    columns = (LINE,)

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, offset: int = 0) -> Iterator[tuple[int, list[str]]]:
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                for line, size in text_lines(file, self._path):
                    yield offset, [line.replace("\0", "")]
                    offset += size
        except OSError as error:
            raise DataError(f"{self._path} cannot be read: {error}") from error


def _opened(path: Path) -> contextlib.AbstractContextManager[TextTable | _TextList]:
    if path.suffix.lower() == LIST_SUFFIX:
        return contextlib.nullcontext(_TextList(path))
    return open_text_table(path)


def _parquet_chunk(path: Path, columns: Sequence[str], chunk: Chunk) -> Iterator[tuple[Any, ...]]:
    # E.g. row groups of 100 rows and a chunk of rows 150..349: groups 1, 2 and 3, skipping the first 50 rows.
    with open_parquet(path, _EXTRA) as file:
        groups, start, skip = list[int](), 0, 0
        for number in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(number).num_rows
            if start < chunk.first + chunk.rows and start + rows > chunk.first:
                skip = skip if groups else chunk.first - start
                groups.append(number)
            start += rows
        yield from itertools.islice(parquet_rows(file, columns, groups), skip, skip + chunk.rows)
