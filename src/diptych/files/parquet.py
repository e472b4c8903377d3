"""Parquet tables, read row by row."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from diptych.errors import DataError
from diptych.extras import require

BATCH = 256  # rows read at once; small, because cells may hold encoded images


@contextlib.contextmanager
def open_parquet(path: Path, extra: str) -> Iterator[Any]:
    """Open a table as pyarrow's `ParquetFile`.

    Parameters
    ----------
    path : Path
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
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path} is not a Parquet table that can be read: {error}") from error


def rows_of(
    file: Any, columns: Sequence[str], groups: Iterable[int] | None = None
) -> Iterator[tuple[Any, ...]]:
    """Iterate over the rows of the given columns, optionally of the given row groups only."""
    row_groups = None if groups is None else list(groups)
    for batch in file.iter_batches(batch_size=BATCH, row_groups=row_groups, columns=list(columns)):
        yield from zip(*(_cells(batch.column(name)) for name in columns), strict=True)


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
