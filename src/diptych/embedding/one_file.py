"""A Parquet file with a column of embeddings, as data frames and vector databases read and write it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.embedding.folder import EmbeddingPart, column_types
from diptych.errors import DataError
from diptych.extras import require
from diptych.files.disk import write_atomically
from diptych.files.tables import missing_column, open_parquet

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

COLUMNS = ("embedding", "embeddings", "vector", "image_embedding", "img_emb", "emb")
BATCH = 10_000  # rows read at once
_PURPOSE = "read and write Parquet"


def read_file(path: Path, column: str = "") -> Iterator[EmbeddingPart]:
    """Iterate over a Parquet file in batches, each an `EmbeddingPart` with image embeddings.

    Parameters
    ----------
    column : str
        Column of embeddings, lists of floats of equal length; by default the first of `COLUMNS` in the file.

    Raises
    ------
    DataError
        Not a Parquet file, no such column, or rows of different lengths.
    """
    arrow = require("pyarrow", extra="embeddings", purpose=_PURPOSE)
    with open_parquet(path, "embeddings") as file:
        name = _column(path, file.schema_arrow, column)
        for number, batch in enumerate(file.iter_batches(batch_size=BATCH)):
            table = arrow.Table.from_batches([batch])
            yield EmbeddingPart(number, _embeddings(path, table[name]), None, table.drop_columns([name]))


def write_file(
    path: Path,
    parts: Iterable[tuple[FloatArray, Sequence[Mapping[str, Any]]]],
    columns: Sequence[str],
    dim: int,
    *,
    facts: Mapping[str, str],
) -> int:
    """Write embeddings, (rows, dim) float32, with their rows of metadata; returns the number of rows.

    Parameters
    ----------
    path, parts, columns, dim
    facts : mapping
        Stored in the metadata of the file, such as the model.

    Raises
    ------
    SaveError
        The device is full or not writable; nothing is left behind.
    """
    arrow = require("pyarrow", extra="embeddings", purpose=_PURPOSE)
    parquet = require("pyarrow.parquet", extra="embeddings", purpose=_PURPOSE)
    types = column_types(columns)
    fields = [*types.items(), (COLUMNS[0], arrow.list_(arrow.float32(), dim))]
    schema = arrow.schema(fields, metadata=dict(facts))
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        with parquet.ParquetWriter(temporary, schema) as writer:
            for embeddings, rows in parts:
                flat = arrow.array(np.ascontiguousarray(embeddings, np.float32).reshape(-1))
                arrays = [arrow.array([row.get(name) for row in rows], kind) for name, kind in types.items()]
                arrays.append(arrow.FixedSizeListArray.from_arrays(flat, dim))
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
                count += len(rows)

    write_atomically(path, write)
    return count


def facts_of(path: Path) -> dict[str, str]:
    """Model and identity stored in the metadata of a file; empty if this package did not write it."""
    with open_parquet(path, "embeddings") as file:
        metadata = file.schema_arrow.metadata or {}
    return {
        key.decode(): value.decode("utf-8", "replace")
        for key, value in metadata.items()
        if key in (b"identity", b"model")
    }


def _column(path: Path, schema: Any, requested: str) -> str:
    types = require("pyarrow", extra="embeddings", purpose=_PURPOSE).types
    names = [requested] if requested else [name for name in COLUMNS if name in schema.names]
    for name in names:
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        if is_list and types.is_floating(kind.value_type):
            return name
    content = f"{requested!r} of vectors" if requested else "of vectors that is known by its name"
    raise missing_column(path, content, schema.names, f"Known are {', '.join(COLUMNS)}")


def _embeddings(path: Path, column: Any) -> FloatArray:
    """A column of lists as an array, (rows, dim) float32."""
    lists = column.combine_chunks()
    flat = np.asarray(lists.flatten().to_numpy(zero_copy_only=False), np.float32)
    if lists.null_count or (len(lists) and len(flat) % len(lists)):
        raise DataError(f"{path} holds vectors of different lengths, or none in some rows")
    embeddings = flat.reshape(len(lists), -1) if len(lists) else flat.reshape(0, 0)
    # Lists of different lengths may add up to a multiple of the row count, so a sample is checked.
    lengths = {len(row) for row in lists[:: max(1, len(lists) // 64)]}
    if len(lengths) > 1:
        raise DataError(f"{path} holds vectors of different lengths: {sorted(lengths)}")
    return embeddings
