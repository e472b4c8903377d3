"""A space: what one encoder sees of a catalogue's pictures, vector by vector.

The rows lie in `segments`; which row is whose, how many count and which are dead stands in the database, so
that one transaction changes both or neither. Rows of removed pictures stay on disk, marked dead, until the
space is written anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.database import Database
from diptych.catalog.relevance import Background
from diptych.catalog.segments import SEGMENT_ROWS, Segments
from diptych.errors import CatalogError, DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.catalog.segments import RowNumbers
    from diptych.encoder import FloatArray

MOST_VALUES = 500  # in one statement; SQLite of old took 999


@dataclass(frozen=True)
class SpaceInfo:
    """What the database says of a space.

    Attributes
    ----------
    id : int
    identity, model : str
        Of the encoder, and the name it was opened by.
    dim, segment_rows : int
    state : {"active", "filling"}
        A space is filled beside the active one and then takes its place.
    rows : int
        Rows that count, dead ones among them.
    golden : (4, dim) float32
    """

    id: int
    identity: str
    model: str
    dim: int
    segment_rows: int
    state: str
    rows: int
    golden: FloatArray

    @property
    def told(self) -> str:
        """The model, as a message names it."""
        return f"the model {self.model!r} ({self.identity[:19]}...)"


def read_space(database: Database, state: str) -> SpaceInfo | None:
    """The space in this state, if there is one."""
    for found in database.all(
        "SELECT id, identity, model, dim, segment_rows, state, row_count, golden FROM spaces WHERE state = ?",
        (state,),
    ):
        number, identity, model, dim, segment_rows, _, rows, golden = found
        kept = np.frombuffer(bytes(golden), np.float32).reshape(-1, dim)
        return SpaceInfo(number, identity, model, dim, segment_rows, state, rows, kept)
    return None


def create_space(
    database: Database,
    identity: str,
    model: str,
    golden: FloatArray,
    *,
    state: str,
    segment_rows: int = SEGMENT_ROWS,
) -> None:
    """Begin a space; the caller holds a transaction."""
    database.run(
        "INSERT INTO spaces (identity, model, dim, segment_rows, state, golden) VALUES (?, ?, ?, ?, ?, ?)",
        (identity, model, golden.shape[1], segment_rows, state, golden.astype(np.float32).tobytes()),
    )


class Space:
    """The rows of a space, read and written.

    Parameters
    ----------
    database : Database
    folder : path
        Of the catalogue.
    info : SpaceInfo
    """

    def __init__(self, database: Database, folder: Path, info: SpaceInfo) -> None:
        self.database, self.info = database, info
        self.folder = folder / f"space-{info.id}"
        self.segments = Segments(self.folder, info.dim, info.rows, segment_rows=info.segment_rows)
        self._dead: NDArray[np.bool_] | None = None

    def refresh(self) -> None:
        """See what other writers have added or removed."""
        found = self.database.all("SELECT row_count FROM spaces WHERE id = ?", (self.info.id,))
        if not found:
            raise CatalogError("the catalogue's space was replaced by another process: run the command again")
        self.segments.extend(found[0][0])
        self._dead = None

    # ------------------------------------------------------------------- writing, inside a transaction

    def put(self, contents: Sequence[int], rows: FloatArray) -> None:
        """Keep one row for each of these contents; those that have one already keep it."""
        self.refresh()  # the lock is ours: nobody adds meanwhile
        there = set(self.rows_of(contents))
        new = [i for i, content in enumerate(contents) if content not in there]
        if not new:
            return
        first = self.segments.append(rows[new])
        self.database.many(
            "INSERT INTO vectors (space, row, content) VALUES (?, ?, ?)",
            [(self.info.id, first + n, contents[i]) for n, i in enumerate(new)],
        )
        self.database.run("UPDATE spaces SET row_count = ? WHERE id = ?", (self.segments.rows, self.info.id))

    def keep_background(self, background: Background) -> None:
        """Keep what hits are compared with."""
        self.database.run(
            "UPDATE spaces SET background = ? WHERE id = ?", (background.to_bytes(), self.info.id)
        )

    def drop(self, contents: Sequence[int]) -> None:
        """Mark the rows of these contents dead."""
        rows = sorted(self.rows_of(contents).values())
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
        self.database.many(
            "DELETE FROM vectors WHERE space = ? AND row = ?", [(self.info.id, row) for row in rows]
        )
        self._dead = None

    # ------------------------------------------------------------------------------------------ reading

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

    def background(self) -> Background | None:
        """What hits are compared with; None where nothing was kept, or by another version."""
        for (blob,) in self.database.all("SELECT background FROM spaces WHERE id = ?", (self.info.id,)):
            with contextlib.suppress(DataError):
                return None if blob is None else Background.from_bytes(bytes(blob))
        return None

    def rows_of(self, contents: Sequence[int]) -> dict[int, int]:
        """Content -> row, of those that have one."""
        found: dict[int, int] = {}
        for start in range(0, len(contents), MOST_VALUES):
            part = list(contents[start : start + MOST_VALUES])
            marks = ", ".join("?" * len(part))
            found.update(
                self.database.all(
                    f"SELECT content, row FROM vectors WHERE space = ? AND content IN ({marks})",
                    (self.info.id, *part),
                )
            )
        return found

    def contents_of(self, rows: Sequence[int]) -> dict[int, int]:
        """Row -> content, of those that belong to one."""
        found: dict[int, int] = {}
        for start in range(0, len(rows), MOST_VALUES):
            part = [int(row) for row in rows[start : start + MOST_VALUES]]
            marks = ", ".join("?" * len(part))
            found.update(
                self.database.all(
                    f"SELECT row, content FROM vectors WHERE space = ? AND row IN ({marks})",
                    (self.info.id, *part),
                )
            )
        return found

    def vectors(self, contents: Sequence[int]) -> tuple[list[int], FloatArray]:
        """The contents that have a vector, in the order asked, and their rows, (n, dim) float32."""
        where = self.rows_of(contents)
        known = [content for content in contents if content in where]
        rows = self.segments.gather([where[content] for content in known])
        return known, rows.astype(np.float32)

    def sample(self, size: int, *, seed: int = 0) -> tuple[RowNumbers, FloatArray]:
        """At most `size` living rows, the same for the same seed: their numbers, and (n, dim) float32."""
        living = np.flatnonzero(~self.dead)
        if len(living) > size:
            living = np.sort(np.random.default_rng(seed).choice(living, size, replace=False))
        return living, self.segments.gather(living).astype(np.float32)

    def close(self) -> None:
        """Let go of the maps."""
        self.segments.close()

    def _bits(self, segment: int) -> bytearray:
        found = self.database.all(
            "SELECT bits FROM dead WHERE space = ? AND segment = ?", (self.info.id, segment)
        )
        return bytearray(found[0][0]) if found else bytearray(-(-self.info.segment_rows // 8))
