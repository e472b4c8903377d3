"""Gone files that were deleted, told apart from those whose drive is not there.

A drive that is not there looks like pictures that were deleted, and nobody wants to embed ten thousand of
them again because a cable was loose. What was listed, and what was not, stands in the tables `found` and
`gone`, see `scan`.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path

from diptych.catalog.files.scan import AWAY
from diptych.catalog.store.paths import below
from diptych.catalog.store.store import Store


def deleted(
    store: Store, gone: Sequence[tuple[bytes, str]], devices: Collection[int]
) -> list[tuple[bytes, str]]:
    """Those of the gone files that were deleted, as far as one can tell.

    Parameters
    ----------
    store : Store
    gone : sequence of (path, member)
    devices : collection of int
        Known ones of which something was listed. A file was on a drive that is not there where its device is
        none of them, nor that of the folder which is left in its place. A folder that is there and holds no
        picture any more is how the place of a missing drive looks, too; and an archive that cannot be read
        says nothing of what is in it.
    """
    known = {
        (bytes(path), member): device
        for path, member, device in store.database.all(
            "SELECT g.path, g.member, f.device FROM gone g "
            "JOIN files f ON f.path = g.path AND f.member = g.member"
        )
    }

    standing, device_of = cache(_standing), cache(_device_of)

    @cache
    def holds(folder: Path) -> bool:
        low, high = below(os.fsencode(folder))
        return bool(
            store.database.all("SELECT 1 FROM found WHERE path >= ? AND path < ? LIMIT 1", (low, high))
        )

    @cache
    def stands(archive: bytes) -> bool:
        return not store.database.all("SELECT 1 FROM found WHERE path = ? AND member = ''", (archive,))

    def is_deleted(path: bytes, member: str) -> bool:
        if member and os.path.lexists(path):
            return stands(path)
        folder = standing(Path(os.fsdecode(path)).parent)
        device = known.get((path, member), 0)
        on_drive_away = device == AWAY or (device not in devices and device not in (0, device_of(folder)))
        return holds(folder) and not on_drive_away

    return [file for file in gone if is_deleted(*file)]


def mark_away(store: Store, files: Iterable[tuple[bytes, str]]) -> None:
    """Remember that the drive of these files was not there: its number may soon be another drive's.

    A file of the very drive that its folder is on stays what it is: the folder is empty, and once something
    is in it again the file counts as deleted.
    """
    with store.database.writing():
        away = []
        for path, member in files:
            rows = store.database.all(
                "SELECT device FROM files WHERE path = ? AND member = ? AND device > 0", (path, member)
            )
            if rows and rows[0][0] != _device_of(_standing(Path(os.fsdecode(path)).parent)):
                away.append((AWAY, path, member))
        store.database.many("UPDATE files SET device = ? WHERE path = ? AND member = ?", away)


def _standing(folder: Path) -> Path:
    """The folder, or the next one above it that is there."""
    while not os.path.isdir(folder) and folder != folder.parent:  # noqa: PTH112 - never raises
        folder = folder.parent
    return folder


def _device_of(folder: Path) -> int:
    try:
        return folder.stat().st_dev & (2**63 - 1)
    except OSError:
        return AWAY


def folders_of(files: Iterable[tuple[bytes, str]]) -> list[Path]:
    """The outermost folders that held these gone files and are gone themselves, or are there without them."""

    @cache
    def top(folder: Path) -> Path:
        above = folder.parent
        return folder if os.path.isdir(folder) or os.path.isdir(above) or above == folder else top(above)  # noqa: PTH112 - never raises

    return sorted({top(Path(os.fsdecode(path)).parent) for path, _ in files})
