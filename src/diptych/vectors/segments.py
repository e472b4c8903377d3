"""Vectors on disk: half-precision rows, one after another, in files that are mapped into memory.

A row never moves and is never written twice, so a reader's map stays good while a writer adds. How many rows
count, and which of them are dead, is not written here: `store` keeps both in the database, in the transaction
that says whose rows they are. What a killed writer left behind the last counted row is written over by the
next one. Looking for near rows is left to `exact` and `ivf`.
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

SEGMENT_ROWS = 65_536  # of one file: 64 MiB at 512 numbers a row; also the rows of one bit set of dead ones
SUFFIX = ".f16"


class Segments:
    """The rows of one space; reads what `rows` counts, writes behind it.

    Parameters
    ----------
    folder : path
        Of this space alone.
    dim : int
        Numbers in a row.
    rows : int
        How many rows count.
    segment_rows : int
        Rows of one file.

    Raises
    ------
    CatalogError
        A file is missing or shorter than the rows that count.

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
        self._views: list[mmap.mmap] = []  # what the maps show
        self._scanned = False
        self.extend(rows)

    def extend(self, rows: int) -> None:
        """Count `rows` rows from now on; maps what is new, once another writer has added some."""
        if rows == self.rows:
            return
        whole = min(rows, self.rows) // self.segment_rows  # maps of full files stay as they are
        del self._maps[whole:], self._views[whole:]
        for number in range(whole, -(-rows // self.segment_rows)):
            count = min(rows - number * self.segment_rows, self.segment_rows)
            view = self._map(number, count)
            self._views.append(view)
            self._maps.append(np.frombuffer(view, dtype="<f2").reshape(count, self.dim))
        self.rows = rows

    def append(self, rows: FloatArray | HalfArray) -> int:
        """Write rows behind the last that counts, flush them to the device, and count them.

        The caller holds the lock of all writers (a transaction) and writes the new count down in it.

        Returns
        -------
        int
            The number of the first one.

        Raises
        ------
        SaveError
            The device is full, or the folder may not be written to.
        """
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise CatalogError(f"rows of shape {rows.shape} do not fit: expected (any number, {self.dim})")
        first, half = self.rows, np.ascontiguousarray(rows, dtype="<f2")
        start = 0
        while start < len(half):
            number, inside = divmod(first + start, self.segment_rows)
            stop = min(start + self.segment_rows - inside, len(half))
            self._write(number, inside, half[start:stop])
            start = stop
        self.extend(first + len(half))
        return first

    def parts(self) -> Iterator[tuple[int, HalfArray]]:
        """(number of its first row, rows (n, dim) float16) of every file, in order; maps, not copies."""
        for number, rows in enumerate(self._maps):
            yield number * self.segment_rows, rows

    def gather(self, numbers: RowNumbers | Sequence[int]) -> HalfArray:
        """Rows by their numbers, in that order, (n, dim) float16; a copy."""
        wanted = np.asarray(numbers, dtype=np.int64)
        if len(wanted) and not 0 <= wanted.min() <= wanted.max() < self.rows:
            raise CatalogError(f"row {wanted.max()} is asked for, and there are {self.rows}")
        found = np.empty((len(wanted), self.dim), np.float16)
        which = wanted // self.segment_rows
        for number in np.unique(which):
            here = which == number
            found[here] = self._maps[number][wanted[here] - number * self.segment_rows]
        return found

    def advise(self, *, scan: bool) -> None:
        """Tell the system how rows are read from now on: one after another, or here and there.

        Here and there is how it begins: picking few rows far apart, reading ahead brings in what nobody asks
        for. A scan of rows that are not in memory yet takes forty times as long that way.
        """
        if scan != self._scanned:
            self._scanned = scan
            for view in self._views:
                self._advise(view)

    def close(self) -> None:
        """Let go of the maps."""
        self._maps.clear()
        self._views.clear()
        self.rows = 0

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}{SUFFIX}"

    def _map(self, number: int, rows: int) -> mmap.mmap:
        path, size = self._path(number), rows * self.dim * 2
        try:
            with path.open("rb") as file:
                there = os.fstat(file.fileno()).st_size
                if there < size:
                    raise CatalogError(
                        f"{path} has {there:,} bytes where {size:,} belong: it was cut or copied in part. "
                        "Put the whole file back, or index anew into another folder"
                    )
                view = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        except OSError as error:
            raise CatalogError(
                f"{path} cannot be read ({error.strerror}): its vectors belong to this catalogue. Put it "
                "back, or index anew into another folder"
            ) from error
        self._advise(view)
        return view

    def _advise(self, view: mmap.mmap) -> None:
        if hasattr(view, "madvise"):  # not on Windows
            # Not MADV_SEQUENTIAL: Linux takes it as leave to drop the pages early, and the next search comes.
            view.madvise(mmap.MADV_NORMAL if self._scanned else mmap.MADV_RANDOM)

    def _write(self, number: int, inside: int, rows: HalfArray) -> None:
        path = self._path(number)
        with saving(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                data = memoryview(rows.view(np.uint8).reshape(-1).data)
                os.lseek(descriptor, inside * self.dim * 2, os.SEEK_SET)
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
