"""Whether a catalogue holds together: every picture with its vector and the reverse, every row counted once.

What a transaction writes is whole by construction; this finds what a copy, a disk or a fault of ours broke.
It reads everything and changes nothing. Whether the encoder still makes the same vectors is `golden`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.database.database import Database, Sqlite
from diptych.catalog.database.file_space import FileSpace
from diptych.catalog.database.spaces import Space
from diptych.catalog.store.store import Store
from diptych.progress import Progress, Stage, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH_TOLERANCE = 0.01  # of a row's length from one: half precision and 8-bit weights stay well below
SHOWN = 5  # examples in one line
_ROWS = 8192  # looked at together

# What must not be there, as SQL that both databases take; every answer is one thing that is wrong.
_RULES = (
    (
        "pictures without a file",
        "SELECT c.id FROM contents c LEFT JOIN files f ON f.content = c.id WHERE f.id IS NULL",
    ),
    (
        "files of a picture that is not there",
        "SELECT f.id FROM files f LEFT JOIN contents c ON c.id = f.content "
        "WHERE f.content IS NOT NULL AND c.id IS NULL",
    ),
    (
        "files that hold no picture, and no word why",
        "SELECT id FROM files WHERE content IS NULL AND error IS NULL",
    ),
    (
        "vectors of a picture that is not there",
        "SELECT v.content FROM vectors v LEFT JOIN contents c ON c.id = v.content WHERE c.id IS NULL",
    ),
    (
        "vectors of a space that is not there",
        "SELECT v.content FROM vectors v LEFT JOIN spaces s ON s.id = v.space WHERE s.id IS NULL",
    ),
    (
        "tags of a picture that is not there",
        "SELECT t.content FROM tags t LEFT JOIN contents c ON c.id = t.content WHERE c.id IS NULL",
    ),
    (
        # While a space is being filled, a new picture has its vector there alone.
        "pictures without a vector, and no word why",
        "SELECT c.id FROM contents c WHERE c.error IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM vectors v WHERE v.content = c.id)",
    ),
)


def check(store: Store, stage: Stage = silent) -> list[str]:
    """Read a whole catalogue and say what does not hold together.

    Parameters
    ----------
    store : Store
        Opened; opening has already refused files of rows that are missing or too short.
    stage : callable, optional
        As for `index`.

    Returns
    -------
    list of str
        One line for each kind of fault; empty when there is none.

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
            complaints = list(_check_tables(store.database))
        for space in (store.active, store.filling):
            if space is not None:
                complaints += _check_space(space, stage)
    return complaints


def _check_tables(database: Database) -> Iterator[str]:
    if isinstance(database, Sqlite):
        told = [str(row[0]) for row in database.all("PRAGMA quick_check(5)")]
        yield from (f"the database is damaged: {line}" for line in told if line != "ok")
    for what, sql in _RULES:
        found = [int(row[0]) for row in database.all(sql)]
        if found:
            yield f"{len(found):,} {what}: {_some(found)}"


def _check_space(space: Space, stage: Stage) -> Iterator[str]:
    space.refresh()
    if not isinstance(space, FileSpace):
        return  # the database's own constraints hold what is held here by bits
    rows, where = space.segments.rows, f"space {space.info.id}"
    numbers = space.database.all("SELECT row FROM vectors WHERE space = ?", (space.info.id,))
    held = np.array([row[0] for row in numbers], np.int64)  # (vectors,)
    outside = held[(held < 0) | (held >= rows)]
    if len(outside):
        yield f"{where}: {len(outside):,} vectors in rows that do not count: {_some(outside.tolist())}"
    living = np.zeros(rows, bool)
    living[held[(held >= 0) & (held < rows)]] = True
    with stage("reading vectors", rows) as advance:
        not_unit = _not_unit(space, living, advance)
    for what, marked in (
        ("rows that are dead and belong to a picture", living & space.dead),
        ("rows that are neither dead nor anybody's", ~living & ~space.dead),
        ("rows that are no unit vector", not_unit),
    ):
        wrong = np.flatnonzero(marked)
        if len(wrong):
            yield f"{where}: {len(wrong):,} {what}: {_some(wrong.tolist())}"


def _not_unit(space: FileSpace, living: NDArray[np.bool_], advance: Progress) -> NDArray[np.bool_]:
    """Which living rows are not of length one, (rows,): zeros where a write was lost, noise, not a number."""
    wrong = np.zeros(len(living), bool)
    for first, part in space.segments.parts():
        for start in range(0, len(part), _ROWS):
            rows = part[start : start + _ROWS].astype(np.float32)  # (n, dim)
            with np.errstate(invalid="ignore", over="ignore"):
                lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
            place = slice(first + start, first + start + len(rows))
            wrong[place] = living[place] & ~(np.abs(lengths - 1) <= LENGTH_TOLERANCE)
            advance(len(rows))
    return wrong


def _some(numbers: list[int]) -> str:
    more = ", ..." if len(numbers) > SHOWN else ""
    return ", ".join(f"#{number}" for number in sorted(numbers)[:SHOWN]) + more
