"""Parquet tables row by row, for whoever finds pictures or texts in them; what a row means is for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diptych.errors import DataError
from diptych.extras import require

BATCH = 256  # rows at a time: cells may be pictures


@contextlib.contextmanager
def open_parquet(path: Path, extra: str) -> Iterator[Any]:
    """A table as pyarrow's `ParquetFile`.

    Parameters
    ----------
    path : Path
    extra : str
        What to install where pyarrow is not.

    Raises
    ------
    DataError
        It is no such table, or is damaged where it is read.
    MissingExtraError
        pyarrow is not installed.
    """
    parquet = require("pyarrow.parquet", extra=extra, purpose="read Parquet tables")
    arrow = require("pyarrow", extra=extra, purpose="read Parquet tables")
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path} is not a Parquet table that can be read: {error}") from error


def rows_of(
    file: Any, columns: Sequence[str], groups: Iterable[int] | None = None
) -> Iterator[tuple[Any, ...]]:
    """The cells of these columns, row by row; of these groups of rows only, where they are given."""
    chosen = None if groups is None else list(groups)
    for batch in file.iter_batches(batch_size=BATCH, row_groups=chosen, columns=list(columns)):
        yield from zip(*(_cells(batch.column(name)) for name in columns), strict=True)


def _cells(column: Any) -> list[Any]:
    try:
        cells: list[Any] = column.to_pylist()
    except UnicodeDecodeError:  # some programs write Latin-1 and call it text
        cells = [_cell(scalar) for scalar in column]
    return cells


def _cell(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        mended = getattr(scalar, "as_buffer", lambda: None)()  # a list of texts has none
        return None if mended is None else mended.to_pybytes().decode("utf-8", "replace")
