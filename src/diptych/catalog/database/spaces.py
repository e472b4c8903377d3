"""A space: the embeddings of a catalogue's images by one encoder.

The database stores which content owns each row and how many rows are valid, so one transaction changes rows
and owners together. The embeddings themselves are stored by a subclass: `file_space` (memory-mapped files) or
`postgres` (a table with pgvector).

A row is *live* while a content owns it, and *dead* afterwards. Rows are only appended and never change.
Example: after 5 images were added and the second was removed, `row_count` is 5, row 1 is dead, and rows
0, 2, 3 and 4 are live.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.database.database import Database, select_in
from diptych.catalog.relevance import Background
from diptych.errors import DataError
from diptych.progress import Stage

if TYPE_CHECKING:
    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers


@dataclass(frozen=True)
class SpaceInfo:
    """A space as the database describes it.

    Attributes
    ----------
    identity, model : str
        Identity of the encoder, and the name it was opened by.
    dim, segment_rows : int
        Length of an embedding, and rows in a segment file.
    state : {"active", "filling"}
        A new space is filled beside the active one and then replaces it.
    rows : int
        Number of valid rows, including dead ones.
    golden : (4, dim) float32
        Reference embeddings, see `embedding.golden`.
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
    def model_label(self) -> str:
        """Name and identity of the model, for messages."""
        return f"the model {self.model!r} ({self.identity[:19]}...)"


def read_space(database: Database, state: str) -> SpaceInfo | None:
    """Read the space in this state; None if there is none."""
    for number, identity, model, dim, segment_rows, row_count, golden in database.all(
        "SELECT id, identity, model, dim, segment_rows, row_count, golden FROM spaces WHERE state = ?",
        (state,),
    ):
        # At most one space is in each state, since `Store.begin_space` looks before it creates one, under the
        # lock of writers.
        embeddings = np.frombuffer(bytes(golden), np.float32).reshape(-1, dim)
        return SpaceInfo(number, identity, model, dim, segment_rows, state, row_count, embeddings)
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
    """Create an empty space, inside the caller's transaction."""
    database.run(
        "INSERT INTO spaces (identity, model, dim, segment_rows, state, golden) VALUES (?, ?, ?, ?, ?, ?)",
        (identity, model, golden.shape[1], segment_rows, state, golden.astype(np.float32).tobytes()),
    )


class Space(ABC):
    """Reader and writer of a space's embeddings."""

    def __init__(self, database: Database, info: SpaceInfo) -> None:
        self.database, self.info = database, info

    # ------------------------------------------------------------------------ storage, by the subclass

    @abstractmethod
    def refresh(self) -> None:
        """Load what other writers have added or removed; CatalogError if the space was deleted."""

    @abstractmethod
    def _append(self, rows: FloatArray) -> int:
        """Write embeddings behind the last valid row and return the number of the first new row."""

    @abstractmethod
    def _mark_dead(self, rows: Sequence[int]) -> None:
        """Mark rows, sorted by number, as owned by no content."""

    @abstractmethod
    def live_rows(self) -> RowNumbers:
        """Numbers of the live rows, sorted, (n,) int64."""

    @abstractmethod
    def gather(self, numbers: RowNumbers) -> FloatArray:
        """Load embeddings by row number, (n, dim) float32."""

    @abstractmethod
    def nearest(
        self, queries: FloatArray, k: int, allowed: RowNumbers | None = None
    ) -> tuple[RowNumbers, FloatArray]:
        """Search the k nearest live rows of each query: row numbers and cosines, (Q, k), best first.

        Where there are fewer than k rows, numbers are padded with -1 and cosines with -inf. `queries` are
        unit vectors, (Q, dim). `allowed` rows, sorted, are scanned exhaustively, so filters lose no recall.
        """

    @abstractmethod
    def improve(self, queries: FloatArray, stage: Stage) -> str | None:
        """Build a search index if a scan would be slow and the present index is missing or outdated.

        Its recall is measured with `queries`, (T, dim) text embeddings. Returns one line about it; None if
        none was built.
        """

    @abstractmethod
    def erase(self) -> None:
        """Delete the embeddings, inside the transaction that deletes the space."""

    @abstractmethod
    def close(self) -> None:
        """Release files and memory."""

    # ------------------------------------------------------------------- writing, inside a transaction

    def put(self, contents: Sequence[int], rows: FloatArray) -> None:
        """Append the embedding of each content; contents that have one already keep it."""
        self.refresh()  # this transaction excludes other writers: the row count stays valid
        # Two processes may have embedded the same bytes; the first to come here stays.
        present = set(self.rows_of(contents))
        new = [i for i, content in enumerate(contents) if content not in present]
        if not new:
            return
        # Crash order: the rows are on the device before the transaction says that they are valid. A kill in
        # between leaves rows behind `row_count`, which the next writer overwrites. The other way round, the
        # database would name rows that do not exist.
        first = self._append(rows[new])
        self.database.many(
            "INSERT INTO vectors (space, row, content) VALUES (?, ?, ?)",
            [(self.info.id, first + n, contents[i]) for n, i in enumerate(new)],
        )
        self.database.run("UPDATE spaces SET row_count = ? WHERE id = ?", (first + len(new), self.info.id))

    def keep_background(self, background: Background) -> None:
        """Store the background distribution that hits are judged against."""
        self.database.run(
            "UPDATE spaces SET background = ? WHERE id = ?", (background.to_bytes(), self.info.id)
        )

    def drop(self, contents: Sequence[int]) -> None:
        """Remove the rows of these contents."""
        # Both changes are in one transaction: `inspection.check` reports a row that is marked but has an
        # owner, or the reverse.
        rows = sorted(self.rows_of(contents).values())
        self._mark_dead(rows)
        self.database.many(
            "DELETE FROM vectors WHERE space = ? AND row = ?", [(self.info.id, row) for row in rows]
        )

    # ------------------------------------------------------------------------------------------ reading

    def __len__(self) -> int:
        """Number of live rows."""
        rows = self.database.all("SELECT COUNT(*) FROM vectors WHERE space = ?", (self.info.id,))
        return int(rows[0][0])

    def counts(self) -> tuple[int, int]:
        """Return the number of rows ever added, and of live rows.

        A row never changes and a dead row never becomes live again. So if both counts are equal to earlier
        ones, the live rows are the same.
        """
        rows = self.database.all("SELECT row_count FROM spaces WHERE id = ?", (self.info.id,))
        return (int(rows[0][0]) if rows else 0), len(self)

    def background(self) -> Background | None:
        """Read the background distribution; None if none was stored, or by an incompatible version."""
        for (blob,) in self.database.all("SELECT background FROM spaces WHERE id = ?", (self.info.id,)):
            # Another version may have written it: it is then computed again, which takes seconds.
            with contextlib.suppress(DataError):
                return None if blob is None else Background.from_bytes(bytes(blob))
        return None

    def rows_of(self, contents: Sequence[int]) -> dict[int, int]:
        """Map contents to their rows; contents without a row are left out."""
        sql = "SELECT content, row FROM vectors WHERE space = ? AND content IN ({})"
        return dict(select_in(self.database, sql, contents, self.info.id))

    def contents_of(self, rows: Sequence[int]) -> dict[int, int]:
        """Map rows to their contents; dead rows are left out."""
        sql = "SELECT row, content FROM vectors WHERE space = ? AND row IN ({})"
        return dict(select_in(self.database, sql, rows, self.info.id))

    def vectors(self, contents: Sequence[int]) -> tuple[list[int], FloatArray]:
        """Return those of these contents that have an embedding, in order, and the embeddings, (n, dim)."""
        row_by_content = self.rows_of(contents)
        embedded = [content for content in contents if content in row_by_content]
        return embedded, self.gather(np.array([row_by_content[content] for content in embedded], np.int64))

    def sample(self, size: int, *, seed: int = 0) -> tuple[RowNumbers, FloatArray]:
        """Draw at most `size` live rows without replacement: sorted row numbers, (n, dim) float32."""
        rows = self.live_rows()
        if len(rows) > size:
            rows = np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
        return rows, self.gather(rows)
