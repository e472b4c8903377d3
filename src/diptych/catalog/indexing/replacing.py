"""Replace the active space: by one of another encoder, or by the same embeddings without dead rows.

The new space is filled beside the active one and replaces it in one transaction. So a search sees either the
old space or the new one, and a killed run leaves the old one.
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

# A space is rewritten if both are reached.
MAX_DEAD_SHARE = 0.25
MIN_DEAD_ROWS = 10_000
_CHUNK = 4096  # rows copied in one transaction


def replace_active(store: Store, *, lacking: int = 0) -> bool:
    """Replace the active space by the filling one if that is complete; return whether it was replaced.

    Complete: it has all images that can be searched now, but for `lacking` of them.

    Raises
    ------
    CatalogError
        Another process has replaced or deleted one of the spaces.
    """
    active, filling = store.active, store.filling
    if active is None or filling is None:
        return False
    with store.database.writing():
        if not (_is_unchanged(store, active) and _is_unchanged(store, filling)):
            raise CatalogError(
                f"{store.name}: another process has replaced the vectors meanwhile: run the command again"
            )
        # Counted under the lock: images that another process has indexed since the last look are only in the
        # old space.
        if len(_lacking(store, active, filling)) > lacking:
            return False
        _delete_space(store, active)
        # Crash order: the commit makes the new space active and deletes the old one's rows in the database.
        # Its files are removed after it, by `sweep`, here or in a later run: before the commit, a rollback
        # could not bring them back.
        store.database.run("UPDATE spaces SET state = 'active' WHERE id = ?", (filling.info.id,))
    store.reopen()
    store.sweep()
    return True


def lacking_files(store: Store) -> list[tuple[bytes, str]]:
    """Return one file (path, member) of each image that is in the active space but not in the filling one."""
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
    """Return the contents in the active space that are not in the filling one."""
    rows = store.database.all(
        "SELECT a.content FROM vectors a LEFT JOIN vectors b ON b.content = a.content AND b.space = ? "
        "WHERE a.space = ? AND b.row IS NULL ORDER BY a.content",
        (filling.info.id, active.info.id),
    )
    return [row[0] for row in rows]


def drop_space(store: Store, space: Space) -> None:
    """Delete a space and its embeddings, unless another process has put it into use meanwhile."""
    with store.database.writing():
        if _is_unchanged(store, space):
            _delete_space(store, space)
    store.reopen()
    store.sweep()


def _is_unchanged(store: Store, space: Space) -> bool:
    """Whether a space still has the state in which it was opened; called inside a transaction."""
    rows = store.database.all("SELECT state, identity FROM spaces WHERE id = ?", (space.info.id,))
    return rows == [(space.info.state, space.info.identity)]


def _delete_space(store: Store, space: Space) -> None:
    space.erase()
    for table, column in (("vectors", "space"), ("spaces", "id")):
        store.database.run(f"DELETE FROM {table} WHERE {column} = ?", (space.info.id,))


def compact(store: Store, stage: Stage) -> int:
    """Rewrite the active space if too many of its rows are dead; return the number of rows dropped.

    Dead rows cost disk space and time in every scan. While the live rows are copied, other processes may
    write; what they add is copied, too, before the new space replaces the old one.
    """
    active = store.active
    if active is None:
        return 0
    active.refresh()
    if store.filling is not None:
        new, old = store.filling.info, active.info
        if new.identity != old.identity or not np.array_equal(new.golden, old.golden):
            return 0  # a space of another encoder is being filled, and will have no dead rows
        drop_space(store, store.filling)  # left by a killed compaction, of an older state
        active = store.active
        assert active is not None
    rows = store.database.all("SELECT row_count FROM spaces WHERE id = ?", (active.info.id,))
    total = int(rows[0][0])
    dead = total - len(active)
    # In PostgreSQL dead rows are deleted at once.
    if store.folder is None or dead < MIN_DEAD_ROWS or dead < MAX_DEAD_SHARE * total:
        return 0
    try:
        _rewrite(store, active, stage)
    except CatalogError:
        # Another process has created a space meanwhile: leave the compaction to the next run.
        store.reopen()
        return 0
    return dead


def _rewrite(store: Store, active: Space, stage: Stage) -> None:
    """Copy the live rows into a new space, and replace the old one by it."""
    background = active.background()
    filling = store.begin_space(active.info.identity, active.info.model, active.info.golden, state="filling")
    assert store.active is not None
    active = store.active
    with stage("rewriting vectors", len(active)) as advance:
        if background is not None:
            with store.database.writing():
                filling.keep_background(background)
        live = active.live_rows()
        for start in range(0, len(live), _CHUNK):
            advance(_copy(store, active, filling, live[start : start + _CHUNK]))
    # `replace_active` fails while other processes have added rows since they were listed: copy these as well.
    while not replace_active(store):
        active.refresh()
        content_by_row = active.contents_of(active.live_rows().tolist())
        copied = filling.rows_of(list(content_by_row.values()))
        missing = [row for row, content in content_by_row.items() if content not in copied]
        _copy(store, active, filling, np.array(missing, np.int64))


def _copy(store: Store, active: Space, filling: Space, rows: RowNumbers) -> int:
    """Copy rows, except those that have become dead meanwhile, and return the number of rows handled."""
    with store.database.writing():
        # Under the lock, so that no row dies between the look and the copy.
        content_by_row = active.contents_of(rows.tolist())
        live = np.array([row for row in rows.tolist() if row in content_by_row], np.int64)
        filling.put([content_by_row[row] for row in live.tolist()], active.gather(live))
    return len(rows)
