"""Inspection of a catalogue: a summary in numbers, and a check of its consistency. Both change nothing.

Transactions keep a catalogue consistent; the check finds damage by an incomplete copy, a failing disk or a
bug, for which it reads everything. `embedding.golden` checks whether the encoder still gives the same
embeddings.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.database.database import Database, Sqlite
from diptych.catalog.database.file_space import FileSpace
from diptych.catalog.database.spaces import Space
from diptych.catalog.indexing.heartbeats import ALIVE
from diptych.catalog.store.entries import failures
from diptych.catalog.store.store import Store
from diptych.progress import Progress, Stage, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH_TOLERANCE = 0.01  # of the length of a unit vector; float16 and 8-bit weights stay well below it
SHOWN = 5  # examples in a message
_ROWS = 8192  # rows read at once


def _orphans(column: str, table: str, parent: str, shown: str) -> str:
    """SQL for the rows of a table whose `column` names no row of the parent table."""
    return (
        f"SELECT t.{shown} FROM {table} t LEFT JOIN {parent} p ON p.id = t.{column} "
        f"WHERE t.{column} IS NOT NULL AND p.id IS NULL"
    )


# Faults: name and a query that returns the numbers of the faulty rows, in SQL that both databases accept.
_RULES = (
    (
        "pictures without a file",
        "SELECT c.id FROM contents c LEFT JOIN files f ON f.content = c.id WHERE f.id IS NULL",
    ),
    ("files of a missing picture", _orphans("content", "files", "contents", "id")),
    (
        "files without a picture and without a reason",
        "SELECT id FROM files WHERE content IS NULL AND error IS NULL",
    ),
    ("vectors of a missing picture", _orphans("content", "vectors", "contents", "content")),
    ("vectors of a missing space", _orphans("space", "vectors", "spaces", "content")),
    ("tags of a missing picture", _orphans("content", "tags", "contents", "content")),
    (
        # While a space is being filled, a new image has its embedding in that space only.
        "pictures without a vector and without a reason",
        "SELECT c.id FROM contents c WHERE c.error IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.content = c.id)",
    ),
)


def check(store: Store, stage: Stage = silent) -> list[str]:
    """Read a whole catalogue and return one line for each kind of inconsistency.

    Opening the store has already rejected files of embeddings that are missing or too short.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = Store.create(Path(folder))
    ...     check(store)
    ...     store.close()
    []
    """
    with store.database.reading():
        with stage("reading the database", None):
            faults = list(_check_tables(store.database))
        for space in (store.active, store.filling):
            if space is not None:
                faults += _check_space(space, stage)
    return faults


def _check_tables(database: Database) -> Iterator[str]:
    if isinstance(database, Sqlite):
        lines = [str(row[0]) for row in database.all("PRAGMA quick_check(5)")]
        yield from (f"the database is damaged: {line}" for line in lines if line != "ok")
    for fault, sql in _RULES:
        numbers = [int(row[0]) for row in database.all(sql)]
        if numbers:
            yield f"{fault}: {_counted(numbers)}"


def _check_space(space: Space, stage: Stage) -> Iterator[str]:
    space.refresh()
    if not isinstance(space, FileSpace):
        return  # in PostgreSQL, rows are deleted with their owners: there are no marks to check
    row_count, name = space.segments.rows, f"space {space.info.id}"
    rows = space.database.all("SELECT row FROM vectors WHERE space = ?", (space.info.id,))
    owned = np.array([row[0] for row in rows], np.int64)  # (vectors,)
    outside = owned[(owned < 0) | (owned >= row_count)]
    if len(outside):
        yield f"{name}: vectors in rows that do not exist: {_counted(outside.tolist())}"
    live = np.zeros(row_count, bool)
    live[owned[(owned >= 0) & (owned < row_count)]] = True
    with stage("reading vectors", row_count) as advance:
        not_unit = _not_unit(space, live, advance)
    # Every row must be either live (it has an owner) or marked as dead.
    for fault, marked in (
        ("rows that are dead and belong to a picture", live & space.dead),
        ("rows that are not dead and belong to no picture", ~live & ~space.dead),
        ("rows that are not unit vectors", not_unit),
    ):
        wrong = np.flatnonzero(marked)
        if len(wrong):
            yield f"{name}: {fault}: {_counted(wrong.tolist())}"


def _not_unit(space: FileSpace, live: NDArray[np.bool_], advance: Progress) -> NDArray[np.bool_]:
    """Return a mask of the live rows that are not unit vectors, (rows,): lost writes (zeros), noise, NaN."""
    wrong = np.zeros(len(live), bool)
    for first, segment in space.segments.parts():
        for start in range(0, len(segment), _ROWS):
            embeddings = segment[start : start + _ROWS].astype(np.float32)  # (n, dim)
            with np.errstate(invalid="ignore", over="ignore"):
                lengths = np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings))
            rows = slice(first + start, first + start + len(embeddings))
            # Written so that NaN counts as wrong.
            wrong[rows] = live[rows] & ~(np.abs(lengths - 1) <= LENGTH_TOLERANCE)
            advance(len(embeddings))
    return wrong


def _counted(numbers: list[int]) -> str:
    """Format a count with the first numbers.

    Examples
    --------
    >>> _counted([7, 3]), _counted(list(range(1200)))
    ('2 (#3, #7)', '1,200 (#0, #1, #2, #3, #4, ...)')
    """
    more = ", ..." if len(numbers) > SHOWN else ""
    examples = ", ".join(f"#{number}" for number in sorted(numbers)[:SHOWN])
    return f"{len(numbers):,} ({examples}{more})"


# ------------------------------------------------------------------------------------------------ summary


@dataclass(frozen=True)
class SpaceSummary:
    """Summary of one space: its encoder, live vectors and rows."""

    model: str
    identity: str
    state: str
    dim: int
    vectors: int
    rows: int  # including dead rows


@dataclass(frozen=True)
class CatalogSummary:
    """Summary of a catalogue.

    Attributes
    ----------
    name : str
        Its folder or address.
    pictures, files, failed : int
        Number of images that can be searched, of files that hold images, and of files that could not be read
        or decoded.
    bytes : int or None
        Disk usage of the catalogue itself; None for one in PostgreSQL.
    spaces : tuple of SpaceSummary
        The active space, then the one being filled.
    roots : tuple of (path, time of the last complete run or None)
        Indexed paths.
    running : int
        Number of runs in progress.
    set_aside : int
        Number of images that left the catalogue and whose tags and ratings are kept.
    """

    name: str
    pictures: int
    files: int
    failed: int
    bytes: int | None
    spaces: tuple[SpaceSummary, ...]
    roots: tuple[tuple[Path, str | None], ...]
    running: int
    set_aside: int = 0


def summarise(store: Store) -> CatalogSummary:
    """Summarise a catalogue."""
    database = store.database
    roots = database.all("SELECT path, finished FROM roots ORDER BY path")
    running = database.all("SELECT COUNT(*) FROM runs WHERE beat > ?", (time.time() - ALIVE,))
    files = database.all("SELECT COUNT(*) FROM files WHERE content IS NOT NULL")
    return CatalogSummary(
        name=store.name,
        pictures=len(store),
        files=int(files[0][0]),
        failed=len(failures(database)),
        bytes=None if store.folder is None else sum(map(_size, store.folder.rglob("*"))),
        spaces=tuple(_summary(space) for space in (store.active, store.filling) if space is not None),
        roots=tuple((Path(os.fsdecode(bytes(path))), finished) for path, finished in roots),
        running=int(running[0][0]),
        set_aside=int(database.all("SELECT COUNT(*) FROM set_aside")[0][0]),
    )


def _summary(space: Space) -> SpaceSummary:
    info = space.info
    rows = space.database.all("SELECT row_count FROM spaces WHERE id = ?", (info.id,))
    return SpaceSummary(
        model=info.model,
        identity=info.identity,
        state=info.state,
        dim=info.dim,
        vectors=len(space),
        rows=int(rows[0][0]) if rows else info.rows,
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
