"""A space whose embeddings are memory-mapped files of float16 rows; deleted rows are marked as dead.

A dead row stays where it is, because moving rows would change them under a concurrent reader. The marks are
one bit per row, stored in the database for each segment (file of rows).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.database.database import Database
from diptych.catalog.database.spaces import Space, SpaceInfo
from diptych.errors import CatalogError
from diptych.progress import Stage
from diptych.vectors.nearest import NearestNeighbours
from diptych.vectors.segments import SUFFIX, Segments

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers


INDEX = "ivf"  # folder of the search index, inside the folder of the space


class FileSpace(Space):
    """A space stored in a folder inside that of the catalogue; `segments` are its files of rows."""

    def __init__(self, database: Database, folder: Path, info: SpaceInfo) -> None:
        super().__init__(database, info)
        self.folder = folder_of(folder, info.id)
        self.segments = Segments(self.folder, info.dim, info.rows, segment_rows=info.segment_rows)
        self._dead: NDArray[np.bool_] | None = None
        self._database_version = (-1, -1, -1)  # state of the database that `_dead` was read from
        self._nearest: NearestNeighbours | None = None

    def refresh(self) -> None:
        """Load what other writers have added or removed; CatalogError if the space was deleted."""
        # `data_version` changes when another connection writes, `total_changes()` when this one does. Both
        # start anew for each connection, and so for each thread: hence the connection's number beside them.
        rows = self.database.all(
            "SELECT row_count, data_version, total_changes(), CONNECTION_NUMBER() "
            "FROM spaces, pragma_data_version WHERE id = ?",
            (self.info.id,),
        )
        if not rows:
            raise CatalogError("the catalogue's space was replaced by another process: run the command again")
        row_count, *version = rows[0]
        self.segments.extend(row_count)
        if self._nearest is not None:
            self._nearest.refresh()
        if tuple(version) != self._database_version:  # otherwise each search would read all marks again
            self._dead, self._database_version = None, tuple(version)

    def _append(self, rows: FloatArray) -> int:
        return self.segments.append(rows)

    def _mark_dead(self, rows: Sequence[int]) -> None:
        # With segments of 16 rows, row 21 is bit 5 of segment 1: byte 0, mask 0b00100000.
        size = self.info.segment_rows
        for segment in sorted({row // size for row in rows}):
            bits = self._bits(segment)
            for row in rows:
                offset = row - segment * size
                if 0 <= offset < size:
                    bits[offset // 8] |= 1 << offset % 8
            self.database.run(
                "INSERT INTO dead (space, segment, bits) VALUES (?, ?, ?) "
                "ON CONFLICT (space, segment) DO UPDATE SET bits = excluded.bits",
                (self.info.id, segment, bytes(bits)),
            )
        self._dead = None

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Mask of the dead rows, (rows,) bool."""
        if self._dead is None or len(self._dead) != self.segments.rows:
            self._dead = np.zeros(self.segments.rows, dtype=bool)
            for segment, bits in self.database.all(
                "SELECT segment, bits FROM dead WHERE space = ?", (self.info.id,)
            ):
                start = segment * self.info.segment_rows
                marks = np.unpackbits(np.frombuffer(bytes(bits), np.uint8), bitorder="little")
                segment_mask = self._dead[start : start + self.info.segment_rows]
                segment_mask[:] = marks[: len(segment_mask)]  # the last segment is not full
        return self._dead

    def __len__(self) -> int:
        """Number of live rows."""
        return len(self.dead) - int(np.count_nonzero(self.dead))

    def counts(self) -> tuple[int, int]:
        """See `Space.counts`."""
        return self.segments.rows, len(self)

    def live_rows(self) -> RowNumbers:
        """Numbers of the live rows, sorted, (n,) int64."""
        return np.flatnonzero(~self.dead)

    def gather(self, numbers: RowNumbers) -> FloatArray:
        """Load embeddings by row number, (n, dim) float32."""
        return self.segments.gather(numbers).astype(np.float32)

    def nearest(
        self, queries: FloatArray, k: int, allowed: RowNumbers | None = None
    ) -> tuple[RowNumbers, FloatArray]:
        """Search the k nearest live rows of each query; see `Space.nearest`."""
        return self._searcher().search(queries, k, allowed=allowed, dead=self.dead)

    def improve(self, queries: FloatArray, stage: Stage) -> str | None:
        """Build an inverted file where it pays; see `Space.improve`."""
        nearest = self._searcher()
        if nearest.needs_rebuild(self.dead) is None:
            return None
        from diptych.vectors.ivf_build import build_ivf  # imported late: a search does not need it

        report = build_ivf(self.segments, self.folder / INDEX, queries, stage=stage)
        nearest.reopen()
        return report.summary()

    def _searcher(self) -> NearestNeighbours:
        if self._nearest is None:  # opened at the first search, as opening reads the index
            self._nearest = NearestNeighbours(self.segments, self.folder / INDEX)
        return self._nearest

    def erase(self) -> None:
        """Delete the marks of dead rows; `sweep` removes the files later, as no rollback restores them."""
        self.database.run("DELETE FROM dead WHERE space = ?", (self.info.id,))

    def close(self) -> None:
        """Close the memory maps."""
        self.segments.close()

    def _bits(self, segment: int) -> bytearray:
        rows = self.database.all(
            "SELECT bits FROM dead WHERE space = ? AND segment = ?", (self.info.id, segment)
        )
        # No dead row yet: one zero bit per row, the number of bytes rounded up.
        return bytearray(rows[0][0]) if rows else bytearray(-(-self.info.segment_rows // 8))


def folder_of(catalog: Path, space: int) -> Path:
    """Return the folder that holds the rows of a space."""
    return catalog / f"space-{space}"


def sweep(catalog: Path, existing: set[int]) -> None:
    """Remove the folders of spaces that are not in the database, such as those of a killed process.

    Only files that a space writes are removed; a folder with other files stays.
    """
    names = {folder_of(catalog, number).name for number in existing}
    for folder in catalog.glob("space-*"):
        if folder.name in names or not folder.name.removeprefix("space-").isdecimal() or folder.is_symlink():
            continue
        shutil.rmtree(folder / INDEX, ignore_errors=True)
        with contextlib.suppress(OSError):
            for segment in folder.glob(f"{'[0-9]' * 6}{SUFFIX}"):
                segment.unlink()
            folder.rmdir()
