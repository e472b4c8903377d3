"""Distinguish deleted files from files on a missing drive.

A missing drive looks like a folder whose files were all deleted; removing these from the catalogue would mean
embedding them again once the drive is back. The tables `found` and `gone` of `comparison` say which files
were listed and which were not.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path

from diptych.catalog.files.comparison import MISSING_DEVICE
from diptych.catalog.store.paths import path_range
from diptych.catalog.store.store import Store


def deleted_files(
    store: Store, gone: Sequence[tuple[bytes, str]], devices: Collection[int]
) -> list[tuple[bytes, str]]:
    """Return those of the gone files that were deleted, as far as can be decided.

    `devices` are known devices of which some file was listed.

    Notes
    -----
    A file is taken to be on a missing drive if its device is neither one of `devices` nor the device of the
    nearest existing folder above it. A folder without any image counts as an empty mount point: its files are
    not taken to be deleted. Neither are the members of an archive that cannot be read.

    Example: `/media/me/A` is unmounted and its mount point remains. `A/x.jpg` had device 10, and no file of
    device 10 was listed: not deleted. `/media/me/B/y.jpg` had device 11, of which `B/z.jpg` was listed, in
    the same folder: deleted.
    """
    device_by_file = {
        (bytes(path), member): device
        for path, member, device in store.database.all(
            "SELECT g.path, g.member, f.device FROM gone g "
            "JOIN files f ON f.path = g.path AND f.member = g.member"
        )
    }

    # Thousands of files share a few folders: ask the disk and the database once for each.
    nearest_existing, device_of = cache(_nearest_existing), cache(_device_of)

    @cache
    def has_images(folder: Path) -> bool:
        low, high = path_range(os.fsencode(folder))
        return bool(
            store.database.all("SELECT 1 FROM found WHERE path >= ? AND path < ? LIMIT 1", (low, high))
        )

    @cache
    def is_readable(archive: bytes) -> bool:
        # An unreadable archive is listed as a file without members.
        return not store.database.all("SELECT 1 FROM found WHERE path = ? AND member = ''", (archive,))

    def is_deleted(path: bytes, member: str) -> bool:
        if member and os.path.lexists(path):
            return is_readable(path)
        folder = nearest_existing(Path(os.fsdecode(path)).parent)
        # 0 is an unknown device: such a file counts as deleted once its folder holds other images.
        # MISSING_DEVICE was set by `mark_drive_missing`, and stays until the file is listed again.
        device = device_by_file.get((path, member), 0)
        on_missing_drive = device == MISSING_DEVICE or (
            device not in devices and device not in (0, device_of(folder))
        )
        # Both are needed: an empty folder may be a mount point, and a mount point may hold some files of the
        # disk that it is on.
        return has_images(folder) and not on_missing_drive

    return [file for file in gone if is_deleted(*file)]


def mark_drive_missing(store: Store, files: Iterable[tuple[bytes, str]]) -> None:
    """Mark these files as on a missing drive, since its device number may be reused for another drive.

    A file on the same device as its folder is not marked: the folder is merely empty, and once it holds an
    image again, the file counts as deleted.
    """
    with store.database.writing():
        marked = []
        for path, member in files:
            rows = store.database.all(
                "SELECT device FROM files WHERE path = ? AND member = ? AND device > 0", (path, member)
            )
            if rows and rows[0][0] != _device_of(_nearest_existing(Path(os.fsdecode(path)).parent)):
                marked.append((MISSING_DEVICE, path, member))
        store.database.many("UPDATE files SET device = ? WHERE path = ? AND member = ?", marked)


def _nearest_existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    # E.g. /media/me/A/2019 of an unplugged drive: /media/me, which is on the system's own device.
    while not os.path.isdir(folder) and folder != folder.parent:  # noqa: PTH112 - never raises
        folder = folder.parent
    return folder


def _device_of(folder: Path) -> int:
    try:
        return folder.stat().st_dev & (2**63 - 1)
    except OSError:
        return MISSING_DEVICE


def missing_folders(files: Iterable[tuple[bytes, str]]) -> list[Path]:
    """Return the folders of these gone files; of missing folders the outermost missing one.

    Example: for `/media/A/2019/x.jpg` and `/media/A/2020/y.jpg`, where `/media` exists and `/media/A` does
    not, this is `/media/A`.
    """

    @cache
    def outermost(folder: Path) -> Path:
        parent = folder.parent
        is_outermost = os.path.isdir(folder) or os.path.isdir(parent) or parent == folder  # noqa: PTH112 - never raises
        return folder if is_outermost else outermost(parent)

    return sorted({outermost(Path(os.fsdecode(path)).parent) for path, _ in files})
