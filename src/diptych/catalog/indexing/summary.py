"""Summary of a catalogue: numbers of images and files, models, disk usage, runs. Reads no embedding."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.catalog.indexing.runs import ALIVE
from diptych.catalog.store.entries import failures
from diptych.catalog.store.store import Store

if TYPE_CHECKING:
    from diptych.catalog.database.spaces import Space


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
        bytes=None if store.folder is None else _size(store.folder),
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


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
