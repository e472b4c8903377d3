"""A space: what one encoder sees of a catalogue's pictures, vector by vector.

Which row is whose and how many count stands in the database, so that one transaction changes rows and owners
or neither. Where the rows themselves lie is the business of `file_space` (files mapped into memory) and of
`postgres` (a table with pgvector); what they have in common is here.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.database.database import Database, in_parts
from diptych.catalog.relevance import Background
from diptych.errors import DataError
from diptych.progress import Stage

if TYPE_CHECKING:
    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers


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
    segment_rows: int,
) -> None:
    """Begin a space; the caller holds a transaction."""
    database.run(
        "INSERT INTO spaces (identity, model, dim, segment_rows, state, golden) VALUES (?, ?, ?, ?, ?, ?)",
        (identity, model, golden.shape[1], segment_rows, state, golden.astype(np.float32).tobytes()),
    )


class Space(ABC):
    """The rows of a space, read and written.

    Parameters
    ----------
    database : Database
    info : SpaceInfo
    """

    def __init__(self, database: Database, info: SpaceInfo) -> None:
        self.database, self.info = database, info

    # ----------------------------------------------------------------------------- where the rows lie

    @abstractmethod
    def refresh(self) -> None:
        """See what other writers have added or removed; CatalogError when the space is gone."""

    @abstractmethod
    def _append(self, rows: FloatArray) -> int:
        """Write rows behind the last that counts; the number of the first."""

    @abstractmethod
    def _bury(self, rows: Sequence[int]) -> None:
        """Rows that belong to nobody any more, sorted."""

    @abstractmethod
    def living(self) -> RowNumbers:
        """The rows that belong to somebody, sorted."""

    @abstractmethod
    def gather(self, numbers: RowNumbers) -> FloatArray:
        """Rows by their numbers, (n, dim) float32."""

    @abstractmethod
    def nearest(
        self, queries: FloatArray, k: int, allowed: RowNumbers | None = None
    ) -> tuple[RowNumbers, FloatArray]:
        """The k living rows nearest to each query: numbers and cosines, (Q, k), best first; -1 where none.

        Parameters
        ----------
        queries : (Q, dim) float32
        k : int
        allowed : (n,) int64, optional
            The rows that may win, sorted; all of them are looked at.
        """

    @abstractmethod
    def improve(self, queries: FloatArray, stage: Stage) -> str | None:
        """Build an index where a scan takes too long and none is good; what was built, in one line.

        Parameters
        ----------
        queries : (T, dim) float32
            Rows of texts to judge it with.
        stage : callable
            `stage(what, total)` gives a context with a progress function.
        """

    @abstractmethod
    def erase(self) -> None:
        """Remove the rows; in the transaction that removes the space."""

    @abstractmethod
    def close(self) -> None:
        """Let go of files and memory."""

    # ------------------------------------------------------------------- writing, inside a transaction

    def put(self, contents: Sequence[int], rows: FloatArray) -> None:
        """Keep one row for each of these contents; those that have one already keep it."""
        self.refresh()  # the lock is ours: nobody adds meanwhile
        there = set(self.rows_of(contents))
        new = [i for i, content in enumerate(contents) if content not in there]
        if not new:
            return
        first = self._append(rows[new])
        self.database.many(
            "INSERT INTO vectors (space, row, content) VALUES (?, ?, ?)",
            [(self.info.id, first + n, contents[i]) for n, i in enumerate(new)],
        )
        self.database.run("UPDATE spaces SET row_count = ? WHERE id = ?", (first + len(new), self.info.id))

    def keep_background(self, background: Background) -> None:
        """Keep what hits are compared with."""
        self.database.run(
            "UPDATE spaces SET background = ? WHERE id = ?", (background.to_bytes(), self.info.id)
        )

    def drop(self, contents: Sequence[int]) -> None:
        """Take the rows of these contents out."""
        rows = sorted(self.rows_of(contents).values())
        self._bury(rows)
        self.database.many(
            "DELETE FROM vectors WHERE space = ? AND row = ?", [(self.info.id, row) for row in rows]
        )

    # ------------------------------------------------------------------------------------------ reading

    def __len__(self) -> int:
        """Rows that belong to somebody."""
        found = self.database.all("SELECT COUNT(*) FROM vectors WHERE space = ?", (self.info.id,))
        return int(found[0][0])

    def counts(self) -> tuple[int, int]:
        """Rows that were ever added, and those of them that belong to somebody.

        A row never changes and a dead one never lives again: where both counts are the same as before, so
        are the rows.
        """
        found = self.database.all("SELECT row_count FROM spaces WHERE id = ?", (self.info.id,))
        return (int(found[0][0]) if found else 0), len(self)

    def background(self) -> Background | None:
        """What hits are compared with; None where nothing was kept, or by another version."""
        for (blob,) in self.database.all("SELECT background FROM spaces WHERE id = ?", (self.info.id,)):
            with contextlib.suppress(DataError):
                return None if blob is None else Background.from_bytes(bytes(blob))
        return None

    def rows_of(self, contents: Sequence[int]) -> dict[int, int]:
        """Content -> row, of those that have one."""
        found: dict[int, int] = {}
        for marks, part in in_parts(contents):
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
        for marks, part in in_parts([int(row) for row in rows]):
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
        return known, self.gather(np.array([where[content] for content in known], np.int64))

    def sample(self, size: int, *, seed: int = 0) -> tuple[RowNumbers, FloatArray]:
        """At most `size` living rows, the same for the same seed: their numbers, and (n, dim) float32."""
        living = self.living()
        if len(living) > size:
            living = np.sort(np.random.default_rng(seed).choice(living, size, replace=False))
        return living, self.gather(living)
