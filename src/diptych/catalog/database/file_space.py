"""A space whose rows lie in files of half-precision numbers, mapped into memory; dead ones are marked.

A row that belongs to nobody any more stays where it is: moving rows would pull them from under a reader. Its
mark is a bit in the database.
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


INDEX = "ivf"  # the index's folder, inside the space's


class FileSpace(Space):
    """A space in a folder.

    Parameters
    ----------
    database : Database
    folder : path
        Of the catalogue.
    info : SpaceInfo

    Attributes
    ----------
    segments : Segments
    """

    def __init__(self, database: Database, folder: Path, info: SpaceInfo) -> None:
        super().__init__(database, info)
        self.folder = folder_of(folder, info.id)
        self.segments = Segments(self.folder, info.dim, info.rows, segment_rows=info.segment_rows)
        self._dead: NDArray[np.bool_] | None = None
        self._seen = (-1, -1, -1)  # state of the database that `_dead` is of
        self._nearest: NearestNeighbours | None = None

    def refresh(self) -> None:
        """See what other writers have added or removed; CatalogError when the space is gone."""
        # The version changes with what other connections write, the total with what this one does; each is
        # counted by every connection, so by every thread, from a beginning of its own.
        found = self.database.all(
            "SELECT row_count, data_version, total_changes(), CONNECTION_NUMBER() "
            "FROM spaces, pragma_data_version WHERE id = ?",
            (self.info.id,),
        )
        if not found:
            raise CatalogError("the catalogue's space was replaced by another process: run the command again")
        rows, *seen = found[0]
        self.segments.extend(rows)
        if self._nearest is not None:
            self._nearest.refresh()
        if tuple(seen) != self._seen:  # else every search would read and count the dead ones again
            self._dead, self._seen = None, tuple(seen)

    def _append(self, rows: FloatArray) -> int:
        return self.segments.append(rows)

    def _bury(self, rows: Sequence[int]) -> None:
        size = self.info.segment_rows
        for segment in sorted({row // size for row in rows}):
            bits = self._bits(segment)
            for row in rows:
                inside = row - segment * size
                if 0 <= inside < size:
                    bits[inside // 8] |= 1 << inside % 8
            self.database.run(
                "INSERT INTO dead (space, segment, bits) VALUES (?, ?, ?) "
                "ON CONFLICT (space, segment) DO UPDATE SET bits = excluded.bits",
                (self.info.id, segment, bytes(bits)),
            )
        self._dead = None

    @property
    def dead(self) -> NDArray[np.bool_]:
        """Which rows belong to nobody any more, (rows,)."""
        if self._dead is None or len(self._dead) != self.segments.rows:
            self._dead = np.zeros(self.segments.rows, dtype=bool)
            for segment, bits in self.database.all(
                "SELECT segment, bits FROM dead WHERE space = ?", (self.info.id,)
            ):
                start = segment * self.info.segment_rows
                marks = np.unpackbits(np.frombuffer(bytes(bits), np.uint8), bitorder="little")
                part = self._dead[start : start + self.info.segment_rows]
                part[:] = marks[: len(part)]
        return self._dead

    def __len__(self) -> int:
        """Rows that belong to somebody."""
        return len(self.dead) - int(np.count_nonzero(self.dead))

    def counts(self) -> tuple[int, int]:
        """See `Space.counts`."""
        return self.segments.rows, len(self)

    def living(self) -> RowNumbers:
        """The rows that belong to somebody, sorted."""
        return np.flatnonzero(~self.dead)

    def gather(self, numbers: RowNumbers) -> FloatArray:
        """Rows by their numbers, (n, dim) float32."""
        return self.segments.gather(numbers).astype(np.float32)

    def nearest(
        self, queries: FloatArray, k: int, allowed: RowNumbers | None = None
    ) -> tuple[RowNumbers, FloatArray]:
        """The k living rows nearest to each query; see `Space.nearest`."""
        return self._asked().search(queries, k, allowed=allowed, dead=self.dead)

    def improve(self, queries: FloatArray, stage: Stage) -> str | None:
        """Build an index where one is worth it; see `Space.improve`."""
        nearest = self._asked()
        if nearest.needs_rebuild(self.dead) is None:
            return None
        from diptych.vectors.ivf_build import build_ivf  # a search does without

        report = build_ivf(self.segments, self.folder / INDEX, queries, stage=stage)
        nearest.reopen()
        return report.summary()

    def _asked(self) -> NearestNeighbours:
        if self._nearest is None:
            self._nearest = NearestNeighbours(self.segments, self.folder / INDEX)
        return self._nearest

    def erase(self) -> None:
        """Remove the rows' marks; the folder goes with `sweep`, when no transaction can bring it back."""
        self.database.run("DELETE FROM dead WHERE space = ?", (self.info.id,))

    def close(self) -> None:
        """Let go of the maps."""
        self.segments.close()

    def _bits(self, segment: int) -> bytearray:
        found = self.database.all(
            "SELECT bits FROM dead WHERE space = ? AND segment = ?", (self.info.id, segment)
        )
        return bytearray(found[0][0]) if found else bytearray(-(-self.info.segment_rows // 8))


def folder_of(catalog: Path, space: int) -> Path:
    """Where the rows of a space lie."""
    return catalog / f"space-{space}"


def sweep(catalog: Path, known: set[int]) -> None:
    """Remove folders of spaces that the database no longer knows: a killed process may have left them.

    Only what a space writes is removed: whatever else lies there belongs to somebody.
    """
    names = {folder_of(catalog, number).name for number in known}
    for folder in catalog.glob("space-*"):
        if folder.name in names or not folder.name.removeprefix("space-").isdecimal() or folder.is_symlink():
            continue
        shutil.rmtree(folder / INDEX, ignore_errors=True)
        with contextlib.suppress(OSError):
            for segment in folder.glob(f"{'[0-9]' * 6}{SUFFIX}"):
                segment.unlink()
            folder.rmdir()
