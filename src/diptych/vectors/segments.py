"""Vectors on disk: half-precision rows, one after another, in memory-mapped files.

A row never moves and is never rewritten, so the map of a reader stays valid while a writer appends. The
number of valid rows and the deleted ones are not stored here but in the database, in the same transaction as
the pictures that the rows belong to. Rows that a killed writer has left behind the last valid row are
overwritten by the next. `exact` and `ivf` search the rows.

Layout: row n is in file n // 65,536 at byte (n % 65,536) * dim * 2, little-endian. E.g. with dim 512, row
70,000 is in file `000001.f16` at row 70,000 - 65,536 = 4,464, byte 4,464 * 1,024 = 4,571,136.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.errors import CatalogError
from diptych.files.disk import saving

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

    HalfArray: TypeAlias = NDArray[np.float16]
    RowNumbers: TypeAlias = NDArray[np.int64]

SEGMENT_ROWS = 65_536  # of one file: 64 MiB at dim 512; the database has one bit set of dead rows per file
SUFFIX = ".f16"


class Segments:
    """The rows of one space of vectors; reads the first `rows` rows and appends behind them.

    Parameters
    ----------
    folder : path
        Holds nothing but the files of this space.
    dim : int
        Numbers per row.
    rows : int
        Number of valid rows.
    segment_rows : int
        Rows per file.

    Raises
    ------
    CatalogError
        A file is missing, or shorter than its valid rows.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     segments = Segments(Path(folder), dim=4, rows=0)
    ...     first = segments.append(np.eye(4, dtype=np.float32))
    ...     segments.gather(np.array([2, 0])).tolist()
    [[0.0, 0.0, 1.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
    """

    def __init__(self, folder: Path, dim: int, rows: int, *, segment_rows: int = SEGMENT_ROWS) -> None:
        self.folder, self.dim, self.rows, self.segment_rows = folder, dim, 0, segment_rows
        self._maps: list[HalfArray] = []
        self._views: list[mmap.mmap] = []  # one per file; `_maps` are arrays over them
        self._scanned = False
        self.extend(rows)

    def extend(self, rows: int) -> None:
        """Set the number of valid rows, after another writer has appended some, and map them."""
        if rows == self.rows:
            return
        # Maps of full files stay valid; the last, partial one is mapped again at its new length. E.g. 3 rows
        # per file, from 4 to 8 rows: file 0 stays, files 1 (1 -> 3 rows) and 2 (2 rows) are mapped.
        whole = min(rows, self.rows) // self.segment_rows
        del self._maps[whole:], self._views[whole:]
        for number in range(whole, -(-rows // self.segment_rows)):
            count = min(rows - number * self.segment_rows, self.segment_rows)
            view = self._map(number, count)
            self._views.append(view)
            self._maps.append(np.frombuffer(view, dtype="<f2").reshape(count, self.dim))
        self.rows = rows

    def append(self, rows: FloatArray | HalfArray) -> int:
        """Write rows behind the last valid row, flush and count them; return the first new number.

        The caller holds the lock of all writers (a database transaction) and stores the new count in it. The
        order matters: a row is on the device before the database says that it is valid.

        Raises
        ------
        SaveError
            The device is full, or the folder may not be written to.
        """
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise CatalogError(f"rows have shape {rows.shape}: expected (any number, {self.dim})")
        first, half = self.rows, np.ascontiguousarray(rows, dtype="<f2")
        start = 0
        while start < len(half):
            number, offset = divmod(first + start, self.segment_rows)
            stop = min(start + self.segment_rows - offset, len(half))
            self._write(number, offset, half[start:stop])
            start = stop
        self.extend(first + len(half))
        return first

    def parts(self) -> Iterator[tuple[int, HalfArray]]:
        """Yield (number of first row, rows (n, dim) float16) of every file, in order; views, not copies."""
        for number, rows in enumerate(self._maps):
            yield number * self.segment_rows, rows

    def gather(self, numbers: RowNumbers | Sequence[int]) -> HalfArray:
        """Copy the rows with these numbers, in this order, (n, dim) float16."""
        row_numbers = np.asarray(numbers, dtype=np.int64)
        if len(row_numbers) and not 0 <= row_numbers.min() <= row_numbers.max() < self.rows:
            raise CatalogError(
                f"rows {row_numbers.min()} to {row_numbers.max()} were requested: "
                f"expected 0 to {self.rows - 1}"
            )
        rows = np.empty((len(row_numbers), self.dim), np.float16)
        file_numbers = row_numbers // self.segment_rows
        for number in np.unique(file_numbers):
            here = file_numbers == number
            rows[here] = self._maps[number][row_numbers[here] - number * self.segment_rows]
        return rows

    def advise(self, *, scan: bool) -> None:
        """Tell the operating system the coming access pattern: sequential scan, or random access.

        Random access is the default, since reading ahead of single rows loads pages that nobody needs. A scan
        of rows that are not in memory yet takes forty times as long under that advice.
        """
        if scan != self._scanned:
            self._scanned = scan
            for view in self._views:
                self._advise(view)

    def close(self) -> None:
        """Close the maps."""
        self._maps.clear()
        self._views.clear()
        self.rows = 0

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}{SUFFIX}"

    def _map(self, number: int, rows: int) -> mmap.mmap:
        path, size = self._path(number), rows * self.dim * 2
        try:
            with path.open("rb") as file:
                actual = os.fstat(file.fileno()).st_size
                if actual < size:
                    raise CatalogError(
                        f"{path} has {actual:,} bytes, expected at least {size:,}: it was truncated or "
                        "copied in part. Put the whole file back, or index again into another folder"
                    )
                view = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CatalogError(
                f"{path} cannot be read ({error.strerror}): it holds vectors of this catalogue. Put it back, "
                "or index again into another folder"
            ) from error
        self._advise(view)
        return view

    def _advise(self, view: mmap.mmap) -> None:
        if hasattr(view, "madvise"):  # not on Windows
            # Not MADV_SEQUENTIAL: Linux then drops pages soon after reading, and the next search needs them.
            view.madvise(mmap.MADV_NORMAL if self._scanned else mmap.MADV_RANDOM)

    def _write(self, number: int, offset: int, rows: HalfArray) -> None:
        path = self._path(number)
        with saving(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                data = memoryview(rows.view(np.uint8).reshape(-1).data)
                os.lseek(descriptor, offset * self.dim * 2, os.SEEK_SET)
                while data:  # a single call may write less than everything
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
