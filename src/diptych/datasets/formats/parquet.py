"""Parquet files in the form of the Hugging Face hub: a column of images, and one of classes or captions.

Row groups are streamed, so that images are not kept in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.formats.archives import ArchiveMember, Members, NameFilter, Unread
from diptych.errors import DataError, listed
from diptych.extras import require
from diptych.files.tables import missing_column, open_parquet

_ROWS = 64  # pictures at a time
_PURPOSE = "read data sets in Parquet"
# Names of columns in the order of preference.
_IMAGES = ("image", "img", "jpg", "png", "webp", "jpeg")
_LABELS = ("label", "labels", "fine_label", "cls", "class", "target")
_CAPTIONS = ("captions", "caption", "sentences", "txt", "text", "raw")


def is_parquet(path: Path) -> bool:
    """Whether this is a Parquet file, by its name."""
    return path.suffix.lower() == ".parquet"


def scan_parquet(path: Path, needs_content: NameFilter) -> Members:
    """Yield every image of a file, named FILE/ROW; a row without bytes is yielded as `Unread`.

    If a row has several images, in columns image_0, image_1 and so on, each is named FILE/ROW/COLUMN.

    Raises
    ------
    DataError
        Not a Parquet file, or no column of images.
    """
    with open_parquet(path, "evaluation") as file:
        numbered = _numbered_columns(file.schema_arrow)
        columns = numbered or [_image_column(file.schema_arrow, path)]
        row = 0
        for batch in file.iter_batches(batch_size=_ROWS, columns=columns):
            for cells in zip(*(_cells(batch.column(column)) for column in columns), strict=True):
                for column, cell in zip(columns, cells, strict=True):
                    data = cell.as_py()
                    name = PurePosixPath(path.name, f"{row:06d}", *([column] if numbered else []))
                    content = Unread.because("its row holds no bytes") if data is None else data
                    yield ArchiveMember(name, len(content)), content if needs_content(name) else None
                row += 1


def _cells(column: Any) -> Any:
    """The bytes of a column of images: the column itself, or the field "bytes" of a structure."""
    arrow = require("pyarrow", extra="evaluation", purpose=_PURPOSE)
    if not arrow.types.is_struct(column.type):
        return column
    compute = require("pyarrow.compute", extra="evaluation", purpose=_PURPOSE)
    return compute.struct_field(column, "bytes")  # a row that is null as a whole has null bytes


def _numbered_columns(schema: Any) -> list[str]:
    """Columns image_0, image_1, ... of images, if there are at least two and none of `_IMAGES`."""
    columns = _picture_columns(schema)
    numbered = [name for name in columns if re.fullmatch(r"image_\d+", name)]
    if len(numbered) < 2 or any(name in columns for name in _IMAGES):
        return []
    return sorted(numbered, key=lambda name: int(name.removeprefix("image_")))


def _picture_columns(schema: Any) -> list[str]:
    """Names of columns of bytes, or of structures with a field of bytes."""
    types = require("pyarrow", extra="evaluation", purpose=_PURPOSE).types

    def binary(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def pictures(kind: Any) -> bool:
        inner = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        return binary(kind) or (inner and binary(kind.field("bytes").type))

    return [column.name for column in schema if pictures(column.type)]


def _image_column(schema: Any, path: Path) -> str:
    """Find the column of images, for one image per row."""
    columns = _picture_columns(schema)
    chosen = _preferred(columns, _IMAGES)
    if chosen is None:
        expected = f"Expected {' or '.join(_IMAGES)}, of bytes or of structures with a field 'bytes'"
        if columns:
            raise DataError(f"{path} has several columns of bytes ({listed(columns)}). {expected}")
        raise missing_column(path, "of pictures", schema.names, expected)
    return chosen


def _preferred(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of `names` among the columns, or the only column."""
    return next((name for name in names if name in columns), columns[0] if len(columns) == 1 else None)


def class_labels(metadata: dict[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Class names by column, from the metadata of the hub's data sets; empty if it has another form.

    Examples
    --------
    >>> features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    >>> class_labels({b"huggingface": json.dumps({"info": {"features": features}}).encode()})
    {'label': ('cat', 'dog')}
    """
    try:
        metadata_value = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):
        return {}
    for key in ("info", "features"):
        metadata_value = metadata_value.get(key) if isinstance(metadata_value, dict) else None
    features = metadata_value if isinstance(metadata_value, dict) else {}
    return {
        column: tuple(names)
        for column, kind in features.items()
        if isinstance(kind, dict) and isinstance(names := kind.get("names"), list)
        if names and all(isinstance(name, str) for name in names)
    }


def read_labels(path: Path) -> tuple[NDArray[np.int64] | list[str], tuple[str, ...] | None]:
    """Read the column of classes: numbers, with names if the file has them, or words.

    Raises
    ------
    DataError
        No such column, or a row without a class.
    """
    types = require("pyarrow", extra="evaluation", purpose=_PURPOSE).types
    with open_parquet(path, "evaluation") as file:
        schema = file.schema_arrow
        kinds = {column.name: _value_type(column.type) for column in schema}
        labels = {name: names for name, names in class_labels(schema.metadata).items() if name in kinds}
        column = _preferred(list(labels), _LABELS)
        if column is None:
            column = next((name for name in _LABELS if name in kinds), None)
        if column is None or not (
            types.is_integer(kinds[column])
            or types.is_string(kinds[column])
            or types.is_large_string(kinds[column])
        ):
            expected = f"Expected numbers or words in one called {' or '.join(_LABELS)}"
            raise missing_column(path, "of classes", schema.names, expected)
        values = file.read(columns=[column]).column(0).to_pylist()
    if None in values:
        raise DataError(f"{path}: row {values.index(None)} of its column {column!r} is empty")
    if types.is_integer(kinds[column]):
        return np.array(values, dtype=np.int64), labels.get(column)
    return [str(value) for value in values], None


def _value_type(kind: Any) -> Any:
    """Type of the values of a column, also if it is dictionary-encoded."""
    types = require("pyarrow", extra="evaluation", purpose=_PURPOSE).types
    return kind.value_type if types.is_dictionary(kind) else kind


def read_captions(path: Path, field: str) -> list[tuple[str, ...]]:
    """Read the captions of each row: a text or a list of texts; empty for rows without captions.

    Raises
    ------
    DataError
        No such column.
    """
    types = require("pyarrow", extra="evaluation", purpose=_PURPOSE).types
    with open_parquet(path, "evaluation") as file:
        schema = file.schema_arrow
        text_columns = [
            column.name
            for column in schema
            if any(test(_item_type(column.type)) for test in (types.is_string, types.is_large_string))
        ]
        column = next((name for name in (field, *_CAPTIONS) if name in text_columns), None)
        if column is None:
            expected = f"Expected texts, or lists of texts, in {field!r} or {' or '.join(_CAPTIONS)}"
            raise missing_column(path, "of captions", schema.names, expected)
        values = file.read(columns=[column]).column(0).to_pylist()
    rows = ([value] if isinstance(value, str) else value or [] for value in values)
    return [tuple(text.strip() for text in texts if text and text.strip()) for texts in rows]


def _item_type(kind: Any) -> Any:
    types = require("pyarrow", extra="evaluation", purpose=_PURPOSE).types
    return kind.value_type if types.is_list(kind) or types.is_large_list(kind) else kind
