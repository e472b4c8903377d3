"""Compare the files on disk with the catalogue: new, changed, moved and gone files.

The listing is written to a temporary table and compared in SQL, so millions of files need little memory. A
file whose size, modification time, change time and sidecars are unchanged is not opened. If only the change
time differs, the bytes are compared, because programs can set all other attributes. What cannot be listed (a
folder without permission, a missing drive) is never taken to be gone.

Tables in the statements below: `found` (n, "now") is the listing, `files` (f) the catalogue, `gone` (g) the
files of the catalogue that were not listed, and `pending` (p) the files to be read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from diptych.catalog.annotations.records import ListedFile
from diptych.catalog.database import schema
from diptych.catalog.database.spaces import Space
from diptych.catalog.files.listing import ListingReport, list_members
from diptych.catalog.store.paths import at_or_below
from diptych.catalog.store.store import Store
from diptych.files.moving import digest

_COLUMNS = "path, member, bytes, modified, device, inode, sidecar, changed"
_OF_FOUND = "n.path, n.member, n.bytes, n.modified, n.device, n.inode, n.sidecar, n.changed"
_OF_PENDING = "p.path, p.member, p.bytes, p.modified, p.device, p.inode, p.sidecar, p.changed"
# The file is as it was when its content was read; a change time of 0 is unknown.
_SAME = "f.bytes = n.bytes AND f.modified = n.modified AND f.sidecar = n.sidecar"
_UNCHANGED = "(f.changed = n.changed OR f.changed = 0 OR n.changed = 0)"
MISSING_DEVICE = -1  # device of files on a missing drive, as its number may now belong to another drive
_CHUNK = 1000


@dataclass(frozen=True)
class DiskComparison:
    """Result of comparing the disk with the catalogue.

    Attributes
    ----------
    pending : int
        Number of files to be read; `pending_files` yields them.
    moved : int
        Number of moved files, recognised by device, inode and bytes; already renamed in the catalogue.
    gone : list of (path, member)
        Files in the catalogue that are not on disk.
    same : int
        Number of unchanged files.
    devices : frozenset of int
        Known devices of which some file was listed.
    """

    pending: int
    moved: int
    gone: list[tuple[bytes, str]]
    same: int
    devices: frozenset[int] = field(default_factory=frozenset)


def compare(
    store: Store,
    space: Space,
    files: Iterator[ListedFile],
    roots: Sequence[Path],
    report: ListingReport,
    *,
    retry: bool = False,
    verify: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> DiskComparison:
    """List the disk, compare it with the catalogue, and rename moved files.

    Files that have to be read are written to the table `pending`.

    Parameters
    ----------
    space : Space
        Images without an embedding in it are pending, too.
    files : iterator of ListedFile
        All images under `roots`.
    report : ListingReport
        Filled while `files` is consumed.
    retry : bool
        Read files again that failed before.
    verify : bool
        Read all files again.
    progress : callable, optional
        Called with the number of files listed since the last call.
    """
    database = store.database
    for statement in schema.statements(schema.LISTING_TABLES, database.column_types):
        database.run(statement)
    for table in ("found", "gone", "pending"):
        database.run(f"DELETE FROM {table}")
    while batch := list(islice(files, _CHUNK)):
        database.many(
            f"INSERT INTO found ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (path, member) DO NOTHING",
            (file.row() for file in batch),
        )
        progress(len(batch))
    # The order matters: devices are read before `_update_identities` changes them, and moved files are
    # renamed before pending ones are selected, so that they are not read.
    gone = _gone(store, roots, report)
    devices = _listed_devices(store)
    moved = _rename(store, progress)
    _update_identities(store)
    _select_pending(store, space, retry=retry, verify=verify)
    pending = database.all("SELECT COUNT(*) FROM pending")[0][0]
    total = database.all("SELECT COUNT(*) FROM found")[0][0]
    return DiskComparison(
        pending, len(moved), [file for file in gone if file not in moved], total - pending, devices
    )


def known_members(
    store: Store, archive: ListedFile, *, retry: bool = False, verify: bool = False
) -> Iterator[ListedFile]:
    """List the images of an archive: from the catalogue if it has not changed, otherwise from disk.

    With `retry` an archive that could not be read is listed again, with `verify` every archive.
    """
    state = (archive.size, archive.modified)
    listed = store.database.all(
        "SELECT bytes, modified, members FROM archives WHERE path = ?", (archive.path,)
    )
    if listed and listed[0][:2] == state and not verify:
        rows = store.database.all(f"SELECT {_COLUMNS} FROM files WHERE path = ?", (archive.path,))
        members = [ListedFile(bytes(path), *rest) for path, *rest in rows]
        # A run that was killed after listing the archive may have left members of an older state, or too few.
        complete = len(members) == listed[0][2] and all(
            member.modified == archive.modified and member.changed in (0, archive.changed)
            for member in members
        )
        # A row without a member is the archive itself, which could not be read.
        if complete and not (retry and any(member.member == "" for member in members)):
            for member in members:
                yield replace(member, device=archive.device, inode=archive.inode, changed=archive.changed)
            return
    count = 0
    for member in list_members(archive):
        count += 1
        yield member
    with store.database.writing():
        store.database.run(
            "INSERT INTO archives (path, bytes, modified, members) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET "
            "bytes = excluded.bytes, modified = excluded.modified, members = excluded.members",
            (archive.path, *state, count),
        )


def _gone(store: Store, roots: Sequence[Path], report: ListingReport) -> list[tuple[bytes, str]]:
    """Return the known files under the roots that were not listed, and write them to the table `gone`."""
    database = store.database
    # Roots may lie inside each other, so a file can be found gone twice: hence ON CONFLICT.
    for root in roots:
        inside, values = at_or_below(os.fsencode(root), "f.path")
        database.run(
            "INSERT INTO gone (path, member) SELECT f.path, f.member FROM files f "
            "LEFT JOIN found n ON n.path = f.path AND n.member = f.member "
            f"WHERE n.path IS NULL AND {inside} ON CONFLICT (path, member) DO NOTHING",
            values,
        )
    gone = [(bytes(path), member) for path, member in database.all("SELECT path, member FROM gone")]
    unlisted = {folder.rstrip(b"/") for folder, _ in report.unlisted}
    if unlisted:  # whether files below these folders still exist is unknown: they are not gone
        unknown = [file for file in gone if any(path in unlisted for path in _path_and_parents(file[0]))]
        database.many("DELETE FROM gone WHERE path = ? AND member = ?", unknown)
        gone = sorted(set(gone).difference(unknown))
    return gone


def _path_and_parents(path: bytes) -> Iterator[bytes]:
    """Yield a path and the folders above it, without trailing slashes."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def _listed_devices(store: Store) -> frozenset[int]:
    """Return the known device numbers of the files that were listed now."""
    rows = store.database.all(
        "SELECT DISTINCT f.device FROM found n JOIN files f ON f.path = n.path AND f.member = n.member "
        "WHERE f.device > 0"
    )
    return frozenset(row[0] for row in rows)


def _rename(store: Store, progress: Callable[[int], None]) -> set[tuple[bytes, str]]:
    """Rename moved files in the catalogue, and return their old locations.

    A moved file has the same device and inode, but so may another one: file systems give the inode of a
    deleted file to a new one. If the change time is equal too, the file was not touched, as when a folder
    above it was renamed; otherwise its bytes are compared.
    """
    moved: dict[tuple[bytes, str], ListedFile] = {}
    assigned: set[bytes] = set()
    for path, changed, content_hash, *row in store.database.all(
        f"SELECT f.path, f.changed, c.hash, {_OF_FOUND} FROM gone g "
        "JOIN files f ON f.path = g.path AND f.member = g.member "
        f"JOIN found n ON n.inode = f.inode AND n.device = f.device AND n.member = '' AND {_SAME} "
        "LEFT JOIN contents c ON c.id = f.content "
        "LEFT JOIN files o ON o.path = n.path AND o.member = '' "
        "WHERE g.member = '' AND f.inode <> 0 AND o.path IS NULL ORDER BY f.path, n.path"
    ):
        file, old_location = ListedFile(bytes(row[0]), *row[1:]), (bytes(path), "")
        if old_location in moved or file.path in assigned:
            continue  # hard links share an inode: pair each old name with one new name, the rest are copies
        untouched = changed != 0 and changed == file.changed
        if untouched or (content_hash is not None and _digest(file.path) == bytes(content_hash)):
            moved[old_location] = file
            assigned.add(file.path)
        progress(0)  # a sign of life: reading the bytes may take long
    if moved:
        store.rename([(file, old_location) for old_location, file in moved.items()])
    return set(moved)


def _digest(path: bytes) -> bytes | None:
    try:
        return digest(Path(os.fsdecode(path)))
    except OSError:
        return None


def _update_identities(store: Store) -> None:
    """Update devices, inodes and change times of unchanged files.

    Device numbers change when drives are mounted again. If a number now belongs to another drive, files that
    had it and were not listed get `MISSING_DEVICE`. Example: photos of drive A had device 10 and those of B
    had 11; B is mounted first and gets 10. Then B's files get 10, and A's files must not keep it.
    """
    database = store.database
    # Most runs find nothing to update: a read transaction is enough to see that.
    differs = "(f.device <> n.device OR f.inode <> n.inode OR f.changed <> n.changed)"
    join = (
        f"FROM found n JOIN files f ON f.path = n.path AND f.member = n.member WHERE {_SAME} AND {_UNCHANGED}"
    )
    if not database.all(f"SELECT 1 {join} AND {differs} LIMIT 1"):
        return
    with database.writing():
        # Before the second UPDATE, which gives listed files their new numbers: afterwards nobody could tell
        # which files had the number of the other drive.
        new = database.all(f"SELECT DISTINCT n.device {join} AND f.device <> n.device AND f.device > 0")
        for (device,) in new:
            database.run(
                "UPDATE files SET device = ? WHERE device = ? AND NOT EXISTS "
                "(SELECT 1 FROM found n WHERE n.path = files.path AND n.member = files.member)",
                (MISSING_DEVICE, device),
            )
        database.run(
            "UPDATE files SET device = n.device, inode = n.inode, changed = n.changed FROM found n "
            "WHERE n.path = files.path AND n.member = files.member AND files.bytes = n.bytes "
            "AND files.modified = n.modified AND files.sidecar = n.sidecar "
            "AND (files.changed = n.changed OR files.changed = 0 OR n.changed = 0) "
            "AND (files.device <> n.device OR files.inode <> n.inode OR files.changed <> n.changed)"
        )


def _select_pending(store: Store, space: Space, *, retry: bool, verify: bool) -> None:
    """Fill the table `pending`: files that are new, changed, or without an embedding in this space."""
    reread = "OR f.error IS NOT NULL OR c.error IS NOT NULL" if retry else ""
    reread += " OR 1 = 1" if verify else ""
    store.database.run(
        f"INSERT INTO pending ({_COLUMNS}, verify) SELECT {_OF_FOUND}, {int(verify)} FROM found n "
        "LEFT JOIN files f ON f.path = n.path AND f.member = n.member "
        "LEFT JOIN contents c ON c.id = f.content "
        "LEFT JOIN vectors v ON v.content = f.content AND v.space = ? "
        f"WHERE f.path IS NULL OR NOT ({_SAME} AND {_UNCHANGED}) "
        # A file that cannot be read keeps its content, see `Store.save_images`: retry it at each run.
        "OR (f.error IS NOT NULL AND f.content IS NOT NULL) "
        f"OR (v.row IS NULL AND f.error IS NULL AND c.error IS NULL) {reread} "
        "ORDER BY n.path, n.member",
        (space.info.id,),
    )


def pending_files(store: Store, space: Space, *, backwards: bool = False) -> Iterator[ListedFile]:
    """Yield the pending files in order, without those that another process has embedded meanwhile."""
    order, sign = ("DESC", "<") if backwards else ("ASC", ">")
    last = 2**62 if backwards else 0
    # Ids of `pending` are in the order of paths: continue after the last one (keyset pagination), and join
    # with the present state of `files` each time, which another process may have changed.
    while True:
        batch = store.database.all(
            f"SELECT p.id, {_OF_PENDING} FROM pending p "
            "LEFT JOIN files f ON f.path = p.path AND f.member = p.member AND f.bytes = p.bytes "
            "AND f.modified = p.modified AND f.sidecar = p.sidecar AND f.changed = p.changed "
            "LEFT JOIN vectors v ON v.content = f.content AND v.space = ? "
            f"WHERE p.id {sign} ? AND (p.verify = 1 OR v.row IS NULL OR f.error IS NOT NULL) "
            f"ORDER BY p.id {order} LIMIT 64",
            (space.info.id, last),
        )
        if not batch:
            return
        for number, path, *rest in batch:
            yield ListedFile(bytes(path), *rest)
            last = number
