"""A space in another's place: another encoder's, once it is whole, or the same rows without the dead ones.

The new space is filled beside the one in use and takes its place in one transaction, so a search meets the
old or the new, and a killed run leaves the old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from diptych.catalog.database.spaces import Space
from diptych.catalog.store.store import Store
from diptych.errors import CatalogError
from diptych.progress import Stage

if TYPE_CHECKING:
    from diptych.vectors.segments import RowNumbers

WORN = 0.25  # share of dead rows from which a space is written anew
LEAST_DEAD = 10_000  # fewer are not worth it
_CHUNK = 4096  # rows copied in one transaction


def replace_active(store: Store, *, lacking: int = 0) -> bool:
    """Put the filling space in the active one's place, if it has the pictures that can be searched now.

    Parameters
    ----------
    store : Store
    lacking : int
        How many may be missing.

    Raises
    ------
    CatalogError
        Another process has done so, or begun a space of its own.
    """
    active, filling = store.active, store.filling
    if active is None or filling is None:
        return False
    with store.database.writing():
        if not (_stands(store, active) and _stands(store, filling)):
            raise CatalogError(
                f"{store.name}: another process has replaced the vectors meanwhile: run the command again"
            )
        if len(_lacking(store, active, filling)) > lacking:
            return False
        _delete_space(store, active)
        store.database.run("UPDATE spaces SET state = 'active' WHERE id = ?", (filling.info.id,))
    store.reopen()
    store.sweep()
    return True


def lacking_files(store: Store) -> list[tuple[bytes, str]]:
    """A file (path, member) of each picture that can be searched now and is not in the filling space."""
    if store.active is None or store.filling is None:
        return []
    return [
        (bytes(path), member)
        for content in _lacking(store, store.active, store.filling)
        for path, member in store.database.all(
            "SELECT path, member FROM files WHERE content = ? ORDER BY path, member LIMIT 1", (content,)
        )
    ]


def _lacking(store: Store, active: Space, filling: Space) -> list[int]:
    """Contents with a row in one space and none in the other."""
    found = store.database.all(
        "SELECT a.content FROM vectors a LEFT JOIN vectors b ON b.content = a.content AND b.space = ? "
        "WHERE a.space = ? AND b.row IS NULL ORDER BY a.content",
        (filling.info.id, active.info.id),
    )
    return [row[0] for row in found]


def drop_space(store: Store, space: Space) -> None:
    """Give a space up, with its vectors, unless another process has put it into use meanwhile."""
    with store.database.writing():
        if _stands(store, space):
            _delete_space(store, space)
    store.reopen()
    store.sweep()


def _same(one: Space, other: Space) -> bool:
    """Whether two spaces are of one encoder that gave the same rows when they were begun."""
    if one.info.identity != other.info.identity:
        return False
    return np.array_equal(one.info.golden, other.info.golden)


def _stands(store: Store, space: Space) -> bool:
    """Whether a space is what it was when it was opened; asked inside a transaction."""
    found = store.database.all("SELECT state, identity FROM spaces WHERE id = ?", (space.info.id,))
    return found == [(space.info.state, space.info.identity)]


def _delete_space(store: Store, space: Space) -> None:
    space.erase()
    for table, column in (("vectors", "space"), ("spaces", "id")):
        store.database.run(f"DELETE FROM {table} WHERE {column} = ?", (space.info.id,))


def compact(store: Store, stage: Stage) -> int:
    """Write the active space anew where too many of its rows are dead; how many were left out.

    Rows that belong to nobody cost room and time in every scan. While they are copied others may write: what
    they add is copied too, before the new space takes over.
    """
    active = store.active
    if active is None:
        return 0
    active.refresh()
    if store.filling is not None:
        if not _same(store.filling, active):
            return 0  # another encoder's is on its way, and will have no dead ones
        drop_space(store, store.filling)  # a killed run's, of an older state
        active = store.active
        assert active is not None
    found = store.database.all("SELECT row_count FROM spaces WHERE id = ?", (active.info.id,))
    dead = int(found[0][0]) - len(active)
    if store.folder is None or dead < LEAST_DEAD or dead < WORN * int(found[0][0]):
        return 0
    try:
        _write_anew(store, active, stage)
    except CatalogError:  # another process has begun a space of its own: the next run sees to the dead ones
        store.reopen()
        return 0
    return dead


def _write_anew(store: Store, active: Space, stage: Stage) -> None:
    """Copy the living rows into a new space, and put it in the old one's place."""
    background = active.background()
    filling = store.begin_space(active.info.identity, active.info.model, active.info.golden, state="filling")
    assert store.active is not None
    active = store.active
    with stage("writing vectors anew", len(active)) as advance:
        if background is not None:
            with store.database.writing():
                filling.keep_background(background)
        living = active.living()
        for start in range(0, len(living), _CHUNK):
            advance(_copy(store, active, filling, living[start : start + _CHUNK]))
    while not replace_active(store):
        active.refresh()
        owned = active.contents_of(active.living().tolist())
        there = filling.rows_of(list(owned.values()))
        missing = [row for row, content in owned.items() if content not in there]
        _copy(store, active, filling, _numbers(missing))


def _copy(store: Store, active: Space, filling: Space, rows: RowNumbers) -> int:
    """Copy these rows; those that died meanwhile are left out."""
    with store.database.writing():
        owners = active.contents_of(rows.tolist())
        kept = _numbers([row for row in rows.tolist() if row in owners])
        filling.put([owners[row] for row in kept.tolist()], active.gather(kept))
    return len(rows)


def _numbers(rows: list[int]) -> RowNumbers:
    return np.array(rows, np.int64)
