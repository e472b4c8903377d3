"""Tables with one image per row: PatchCamelyon's HDF5 and FER2013's CSV.

Parts and classes are in `released.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from diptych.datasets.formats.archives import ArchiveMember, Content, Members, NameFilter, Unread
from diptych.errors import DataError
from diptych.extras import require
from diptych.files.tables import column_names, column_positions, open_text_table

_ROWS = 256  # images read at a time: 7 MB of PatchCamelyon's
_SIDE = 48  # of FER2013's images


def is_pixel_table(path: Path) -> bool:
    """Whether this is such a table, by its name, and for a CSV also by its header."""
    if path.suffix.lower() in (".h5", ".hdf5"):
        return True
    return path.suffix.lower() == ".csv" and "pixels" in csv_columns(path)


def scan_pixel_table(path: Path, needs_content: NameFilter) -> Members:
    """Yield every image of a file, named FILE/ROW, decoded if `needs_content` returns True.

    Raises
    ------
    DataError
        The file cannot be read, or has no images.
    """
    return (
        _scan_csv(path, needs_content) if path.suffix.lower() == ".csv" else _scan_hdf5(path, needs_content)
    )


@contextmanager
def open_hdf5(path: Path, name: str) -> Iterator[Any]:
    """Open a data set of an HDF5 file.

    Raises
    ------
    DataError
        Not an HDF5 file, or no data set of this name.
    """
    h5py = require("h5py", extra="evaluation", purpose="read HDF5")
    try:
        with h5py.File(path, "r") as file:
            if name not in file:
                raise DataError(f"{path} has no data set {name!r}: it has {', '.join(file) or 'none'}")
            yield file[name]
    except OSError as error:
        raise DataError(f"{path} cannot be read as HDF5 ({error}): fetch or unpack it again") from error


def _scan_hdf5(path: Path, needs_content: NameFilter) -> Members:
    with open_hdf5(path, "x") as images:
        if len(images.shape) != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise DataError(
                f"{path}: expected bytes of shape (N, H, W, 3), not {images.dtype} {images.shape}"
            )
        size = int(np.prod(images.shape[1:]))
        for start in range(0, len(images), _ROWS):
            stop = min(start + _ROWS, len(images))
            names = [PurePosixPath(path.name, f"{row:06d}") for row in range(start, stop)]
            chosen = [needs_content(name) for name in names]
            block = images[start:stop] if any(chosen) else None  # (rows, H, W, 3)
            for row, name in enumerate(names):
                picture = Image.fromarray(block[row]) if block is not None and chosen[row] else None
                yield ArchiveMember(name, size), picture


def csv_columns(path: Path) -> list[str]:
    """Names of the columns of a CSV file, lower-case; empty if there is no such file."""
    names = column_names(path, "evaluation") if path.is_file() else []
    return [name.strip().lower() for name in names]


def csv_rows(path: Path, *names: str) -> Iterator[tuple[str, ...]]:
    """Yield the cells of some columns of a CSV file, row by row; "" if a row is too short.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    with open_text_table(path) as table:
        columns = [name.strip().lower() for name in table.columns]
        positions = column_positions(path, columns, names)
        for _, row in table.rows():
            yield tuple(row[n].strip() if n < len(row) else "" for n in positions)


def _scan_csv(path: Path, needs_content: NameFilter) -> Members:
    for number, (text,) in enumerate(csv_rows(path, "pixels")):
        name = PurePosixPath(path.name, f"{number:05d}")
        yield ArchiveMember(name, _SIDE * _SIDE), _grey(text) if needs_content(name) else None


def _grey(text: str) -> Content:
    """Decode an image of 48 x 48 grey values, separated by spaces."""
    try:
        values = np.array(text.split(), dtype=np.uint8)
    except (ValueError, OverflowError) as error:
        return Unread.because(f"its pixels are not bytes: {error}")
    if len(values) != _SIDE * _SIDE:
        return Unread.because(f"it has {len(values):,} pixels: expected {_SIDE} x {_SIDE}")
    return Image.fromarray(values.reshape(_SIDE, _SIDE))
