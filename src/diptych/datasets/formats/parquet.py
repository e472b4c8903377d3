"""Parquet files as the hub keeps data sets: a column of pictures, one of classes or captions.

Row groups are streamed: pictures pass through and are not kept. Which files make a data set is
`layouts.py`'s.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.formats.archives import Content, Member, Unread
from diptych.datasets.parts import listed
from diptych.errors import DataError
from diptych.extras import require
from diptych.files.parquet import open_parquet, rows_of

_ROWS = 64  # pictures at a time
_PURPOSE = "read data sets in Parquet"
# Preferred names; of several columns that would do, the first of these is taken.
_IMAGES = ("image", "img", "jpg", "png", "webp", "jpeg")
_LABELS = ("label", "labels", "fine_label", "cls", "class", "target")
_CAPTIONS = ("captions", "caption", "sentences", "txt", "text", "raw")


def is_parquet(path: Path) -> bool:
    """Whether this is a Parquet file, by its name."""
    return path.suffix.lower() == ".parquet"


def scan_parquet(
    path: Path, wanted: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[Member, Content | None]]:
    """Every picture of a file, named FILE/ROW; a row without bytes comes as `Unread`.

    Where a row has several pictures, in columns called image_0, image_1 and so on, each is named
    FILE/ROW/COLUMN.

    Raises
    ------
    DataError
        No Parquet file, or one without a column of pictures.
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
                    yield Member(name, len(content)), content if wanted(name) else None
                row += 1


def _cells(column: Any) -> Any:
    """The bytes of a column of pictures: itself, or the field "bytes" of a structure."""
    arrow = require("pyarrow", extra="evaluation", purpose=_PURPOSE)
    if not arrow.types.is_struct(column.type):
        return column
    compute = require("pyarrow.compute", extra="evaluation", purpose=_PURPOSE)
    return compute.struct_field(column, "bytes")  # a row that is null as a whole has null bytes


def _numbered_columns(schema: Any) -> list[str]:
    """The columns image_0, image_1, ... of pictures, where there are at least two and none of `_IMAGES`."""
    columns = _picture_columns(schema)
    found = [name for name in columns if re.fullmatch(r"image_\d+", name)]
    if len(found) < 2 or any(name in columns for name in _IMAGES):
        return []
    return sorted(found, key=lambda name: int(name.removeprefix("image_")))


def _picture_columns(schema: Any) -> list[str]:
    """Columns of bytes, or of structures with a field of bytes."""
    types = require("pyarrow", extra="evaluation", purpose=_PURPOSE).types

    def binary(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def pictures(kind: Any) -> bool:
        inner = types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        return binary(kind) or (inner and binary(kind.field("bytes").type))

    return [column.name for column in schema if pictures(column.type)]


def _image_column(schema: Any, path: Path) -> str:
    """The column of pictures where a row has one."""
    found = _picture_columns(schema)
    chosen = _preferred(found, _IMAGES)
    if chosen is None:
        what = f"several columns of bytes ({listed(found)})" if found else "no column of pictures"
        raise DataError(
            f"{path} has {what}: its columns are {listed(schema.names)}; expected one called "
            f"{' or '.join(_IMAGES)}, of bytes or of structures with a field 'bytes'"
        )
    return chosen


def _preferred(found: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of `names` among `found`, or the only one there is."""
    return next((name for name in names if name in found), found[0] if len(found) == 1 else None)


def class_labels(metadata: dict[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Class names by column, from the metadata the hub's data sets carry; nothing where it has another form.

    Examples
    --------
    >>> told = {"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}}
    >>> class_labels({b"huggingface": json.dumps(told).encode()})
    {'label': ('cat', 'dog')}
    """
    try:
        told = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    except (ValueError, RecursionError):
        return {}
    for key in ("info", "features"):
        told = told.get(key) if isinstance(told, dict) else None
    features = told if isinstance(told, dict) else {}
    return {
        column: tuple(names)
        for column, kind in features.items()
        if isinstance(kind, dict) and isinstance(names := kind.get("names"), list)
        if names and all(isinstance(name, str) for name in names)
    }


def has_columns(path: Path, names: Sequence[str]) -> bool:
    """Whether a Parquet file has all these columns; only its schema is read.

    Raises
    ------
    DataError
        It is no Parquet file that can be read.
    """
    with open_parquet(path, "evaluation") as file:
        return set(names) <= set(file.schema_arrow.names)


def read_columns(path: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The cells of these columns, row by row; a column that the file lacks is left out.

    Raises
    ------
    DataError
        It is no Parquet file that can be read.
    """
    with open_parquet(path, "evaluation") as file:
        there = [name for name in names if name in file.schema_arrow.names]
        for row in rows_of(file, there):
            yield dict(zip(there, row, strict=True))


def read_labels(path: Path) -> tuple[NDArray[np.int64] | list[str], tuple[str, ...] | None]:
    """The column of classes: numbers and their names where the file has these, or words.

    Raises
    ------
    DataError
        No such column, or a row without a class.
    """
    types = require("pyarrow", extra="evaluation", purpose=_PURPOSE).types
    with open_parquet(path, "evaluation") as file:
        schema = file.schema_arrow
        kinds = {column.name: _value_type(column.type) for column in schema}
        known = {name: names for name, names in class_labels(schema.metadata).items() if name in kinds}
        column = _preferred(list(known), _LABELS)
        if column is None:
            column = next((name for name in _LABELS if name in kinds), None)
        if column is None or not (
            types.is_integer(kinds[column])
            or types.is_string(kinds[column])
            or types.is_large_string(kinds[column])
        ):
            raise DataError(
                f"{path} has no column of classes: its columns are {listed(schema.names)}; expected numbers "
                f"or words in one called {' or '.join(_LABELS)}"
            )
        values = file.read(columns=[column]).column(0).to_pylist()
    if None in values:
        raise DataError(f"{path}: row {values.index(None)} of its column {column!r} is empty")
    if types.is_integer(kinds[column]):
        return np.array(values, dtype=np.int64), known.get(column)
    return [str(value) for value in values], None


def _value_type(kind: Any) -> Any:
    """Of a dictionary-encoded column, the type of its values."""
    types = require("pyarrow", extra="evaluation", purpose=_PURPOSE).types
    return kind.value_type if types.is_dictionary(kind) else kind


def read_captions(path: Path, field: str) -> list[tuple[str, ...]]:
    """Captions of each row: a text, or a list of texts; none where there are none.

    Raises
    ------
    DataError
        No such column.
    """
    types = require("pyarrow", extra="evaluation", purpose=_PURPOSE).types
    with open_parquet(path, "evaluation") as file:
        schema = file.schema_arrow
        found = [
            column.name
            for column in schema
            if any(test(_item_type(column.type)) for test in (types.is_string, types.is_large_string))
        ]
        column = next((name for name in (field, *_CAPTIONS) if name in found), None)
        if column is None:
            raise DataError(
                f"{path} has no column of captions: its columns are {listed(schema.names)}; expected texts, "
                f"or lists of texts, in one called {field!r} or {' or '.join(_CAPTIONS)}"
            )
        values = file.read(columns=[column]).column(0).to_pylist()
    rows = ([value] if isinstance(value, str) else value or [] for value in values)
    return [tuple(text.strip() for text in texts if text and text.strip()) for texts in rows]


def _item_type(kind: Any) -> Any:
    types = require("pyarrow", extra="evaluation", purpose=_PURPOSE).types
    return kind.value_type if types.is_list(kind) or types.is_large_list(kind) else kind
