"""The paths a catalogue is of: remembered, with what is left out, and when something is believed to be gone.

A drive that is not there looks like pictures that were deleted, and nobody wants to embed ten thousand of
them again because a cable was loose. What was listed stands in the table `found`, see `scan`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from diptych.catalog.listing import is_left_out
from diptych.catalog.scan import below
from diptych.catalog.store import Store
from diptych.errors import CatalogError


def known_roots(store: Store) -> list[Path]:
    """What was indexed before, whether it is there now or not.

    Raises
    ------
    CatalogError
        Nothing was.
    """
    roots = [
        Path(os.fsdecode(bytes(row[0]))) for row in store.database.all("SELECT path FROM roots ORDER BY path")
    ]
    if not roots:
        raise CatalogError(f"{store.name} holds nothing yet: name a folder, as in  diptych index ~/Pictures")
    return roots


def excluded(store: Store, root: Path) -> tuple[str, ...]:
    """The patterns that were left out of this path, or of the nearest one above it, when it was indexed."""
    for place in (root, *root.parents):
        for (patterns,) in store.database.all(
            "SELECT exclude FROM roots WHERE path = ?", (os.fsencode(place),)
        ):
            return tuple(json.loads(patterns))
    return ()


def remember(store: Store, roots: Mapping[Path, Sequence[str]]) -> None:
    """Index these paths when nothing is named, each without files and folders of its patterns."""
    with store.database.writing():
        for root, patterns in roots.items():
            store.database.run(
                "INSERT INTO roots (path, exclude) VALUES (?, ?) "
                "ON CONFLICT (path) DO UPDATE SET exclude = excluded.exclude",
                (os.fsencode(root), json.dumps(patterns)),
            )


def finished(store: Store, roots: Sequence[Path], when: str) -> None:
    """Note when these paths were last indexed to the end."""
    with store.database.writing():
        for root in roots:
            store.database.run("UPDATE roots SET finished = ? WHERE path = ?", (when, os.fsencode(root)))


def left_out(path: bytes, roots: Mapping[Path, Sequence[str]]) -> bool:
    """Whether a file is below one of these paths, and left out of every one it is below.

    Examples
    --------
    >>> roots = {Path("/a"): ["thumbs", "*.gif"]}
    >>> [left_out(path, roots) for path in (b"/a/thumbs/x.jpg", b"/a/x.gif", b"/a/x.jpg", b"/b/x.gif")]
    [True, True, False, False]
    """
    place = Path(os.fsdecode(path))
    above = [root for root in roots if place.is_relative_to(root)]
    return bool(above) and all(
        any(is_left_out(part, roots[root]) for part in place.relative_to(root).parts) for root in above
    )


def believed(store: Store, gone: Sequence[tuple[bytes, str]]) -> list[tuple[bytes, str]]:
    """Those of the gone files that were deleted, as far as one can tell.

    A folder that is there and holds no picture any more is how the place of a missing drive looks; and an
    archive that cannot be read says nothing of what is in it.
    """

    @cache
    def holds(folder: Path) -> bool:
        while not folder.is_dir():  # a deleted folder is judged by what is left around it
            folder = folder.parent
        low, high = below(os.fsencode(folder))
        return bool(
            store.database.all("SELECT 1 FROM found WHERE path >= ? AND path < ? LIMIT 1", (low, high))
        )

    @cache
    def stands(archive: bytes) -> bool:
        return not store.database.all("SELECT 1 FROM found WHERE path = ? AND member = ''", (archive,))

    return [
        (path, member)
        for path, member in gone
        if (stands(path) if member and os.path.lexists(path) else holds(Path(os.fsdecode(path)).parent))
    ]
