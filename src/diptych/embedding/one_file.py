"""One Parquet file with a column of vectors: what data frames and vector databases take, and give.

Folders of arrays are `folder`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.embedding.folder import EmbeddingPart, column_types
from diptych.errors import DataError
from diptych.extras import require
from diptych.files.disk import write_atomically

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

COLUMNS = ("embedding", "embeddings", "vector", "image_embedding", "img_emb", "emb")
BATCH = 10_000  # rows at a time
_PURPOSE = "read and write Parquet"


def read_file(path: Path, column: str = "") -> Iterator[EmbeddingPart]:
    """The rows of a Parquet file, some at a time, each of a `EmbeddingPart` with pictures.

    Parameters
    ----------
    path : path
    column : str
        Of vectors: lists of floats, of one length; by default the first known name, see `COLUMNS`.

    Raises
    ------
    DataError
        No Parquet file, no such column, or rows of different lengths.
    """
    arrow = require("pyarrow", extra="embeddings", purpose=_PURPOSE)
    parquet = require("pyarrow.parquet", extra="embeddings", purpose=_PURPOSE)
    try:
        with parquet.ParquetFile(path) as file:
            name = _column(path, file.schema_arrow, column)
            for number, batch in enumerate(file.iter_batches(batch_size=BATCH)):
                table = arrow.Table.from_batches([batch])
                yield EmbeddingPart(number, _rows(path, table[name]), None, table.drop_columns([name]))
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path} is not a Parquet file that can be read: {error}") from error


def write_file(
    path: Path,
    parts: Iterable[tuple[FloatArray, Sequence[Mapping[str, Any]]]],
    columns: Sequence[str],
    dim: int,
    *,
    facts: Mapping[str, str],
) -> int:
    """Write vectors, (rows, dim) float32, and their rows of metadata; how many that was.

    Parameters
    ----------
    path, parts, columns, dim
    facts : mapping
        Kept in the file's own metadata, as the model they come from.

    Raises
    ------
    SaveError
        The device is full or may not be written to; nothing stays behind.
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
            for vectors, rows in parts:
                flat = arrow.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
                arrays = [arrow.array([row.get(name) for row in rows], kind) for name, kind in types.items()]
                arrays.append(arrow.FixedSizeListArray.from_arrays(flat, dim))
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
                count += len(rows)

    write_atomically(path, write)
    return count


def facts_of(path: Path) -> dict[str, str]:
    """What a file says of itself beside its rows; empty where it is none of ours."""
    arrow = require("pyarrow", extra="embeddings", purpose=_PURPOSE)
    parquet = require("pyarrow.parquet", extra="embeddings", purpose=_PURPOSE)
    try:
        told = parquet.read_schema(path).metadata or {}
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path} is not a Parquet file that can be read: {error}") from error
    return {
        key.decode(): value.decode("utf-8", "replace")
        for key, value in told.items()
        if key in (b"identity", b"model")
    }


def _column(path: Path, schema: Any, wanted: str) -> str:
    types = require("pyarrow", extra="embeddings", purpose=_PURPOSE).types
    names = [wanted] if wanted else [name for name in COLUMNS if name in schema.names]
    for name in names:
        if name not in schema.names:
            continue
        kind = schema.field(name).type
        is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        if is_list and types.is_floating(kind.value_type):
            return name
    raise DataError(
        f"{path} has no column {wanted!r} of vectors"
        if wanted
        else f"{path} has no column of vectors that is known by its name ({', '.join(COLUMNS)}); its "
        f"columns are {', '.join(map(repr, schema.names)) or 'none'}"
    )


def _rows(path: Path, column: Any) -> FloatArray:
    """A column of lists as (rows, dim) float32."""
    together = column.combine_chunks()
    flat = np.asarray(together.flatten().to_numpy(zero_copy_only=False), np.float32)
    if together.null_count or (len(together) and len(flat) % len(together)):
        raise DataError(f"{path} holds vectors of different lengths, or none in some rows")
    rows = flat.reshape(len(together), -1) if len(together) else flat.reshape(0, 0)
    lengths = {len(one) for one in together[:: max(1, len(together) // 64)]}
    if len(lengths) > 1:
        raise DataError(f"{path} holds vectors of different lengths: {sorted(lengths)}")
    return rows
