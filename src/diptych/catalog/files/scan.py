"""What is on disk against what the catalogue knows: new, changed, moved and gone files.

The disk is listed into a temporary table and compared there, so a listing of millions takes no memory to
speak of. A file that kept size, time, change time, and text beside it is taken to be the same and is not
opened. Where the change time alone differs its bytes are compared, for programs can set every other sign.
What cannot be listed (a folder without permission, a drive that went away) is never taken to be gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from diptych.catalog.annotations.records import Found
from diptych.catalog.database import schema
from diptych.catalog.database.spaces import Space
from diptych.catalog.files.listing import Listing, members
from diptych.catalog.store.paths import below
from diptych.catalog.store.store import Store
from diptych.files.moving import digest

_COLUMNS = "path, member, bytes, modified, device, inode, sidecar, changed"
_OF_FOUND = "n.path, n.member, n.bytes, n.modified, n.device, n.inode, n.sidecar, n.changed"
_OF_PENDING = "p.path, p.member, p.bytes, p.modified, p.device, p.inode, p.sidecar, p.changed"
# A file as it was when its content was read; a change time of 0 is not known.
_SAME = "f.bytes = n.bytes AND f.modified = n.modified AND f.sidecar = n.sidecar"
_UNCHANGED = "(f.changed = n.changed OR f.changed = 0 OR n.changed = 0)"
AWAY = -1  # in place of the device of files whose drive is not there: its number may be another's by now
_CHUNK = 1000


@dataclass(frozen=True)
class Comparison:
    """What there is to do.

    Attributes
    ----------
    pending : int
        Files to be read; `pending_files` gives them.
    moved : int
        Files under another name that are known by device and inode, and by their bytes: already renamed.
    gone : list of (path, member)
        Files that the catalogue knows and the disk has not.
    same : int
        Files that need nothing.
    devices : frozenset of int
        Those that were known and of which something was listed now.
    """

    pending: int
    moved: int
    gone: list[tuple[bytes, str]]
    same: int
    devices: frozenset[int] = field(default_factory=frozenset)


def compare(
    store: Store,
    space: Space,
    found: Iterator[Found],
    roots: Sequence[Path],
    told: Listing,
    *,
    retry: bool = False,
    verify: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Comparison:
    """List, compare with what is known, rename what only moved; the rest of the work waits in a table.

    Parameters
    ----------
    store : Store
    space : Space
        Pictures without a vector in it wait too.
    found : iterator of Found
        Of everything under `roots`.
    roots : sequence of path
    told : Listing
        Filled by `found`.
    retry : bool
        Read again what failed before.
    verify : bool
        Read everything again.
    progress : callable, optional
        Told how many more were listed.
    """
    database = store.database
    for statement in schema.statements(schema.FOUND, database.words):
        database.run(statement)
    for table in ("found", "gone", "pending"):
        database.run(f"DELETE FROM {table}")
    while part := list(islice(found, _CHUNK)):
        database.many(
            f"INSERT INTO found ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (path, member) DO NOTHING",
            (one.row() for one in part),
        )
        progress(len(part))
    gone = _gone(store, roots, told)
    devices = _devices(store)
    moved = _rename(store, progress)
    _refresh(store)
    _wait(store, space, retry=retry, verify=verify)
    pending = database.all("SELECT COUNT(*) FROM pending")[0][0]
    total = database.all("SELECT COUNT(*) FROM found")[0][0]
    return Comparison(
        pending, len(moved), [file for file in gone if file not in moved], total - pending, devices
    )


def known_members(
    store: Store, archive: Found, *, retry: bool = False, verify: bool = False
) -> Iterator[Found]:
    """The pictures of an archive, from what is known where the archive has not changed, else from disk.

    With `retry` one that could not be read is listed again too, with `verify` every one.
    """
    state = (archive.size, archive.modified)
    listed = store.database.all(
        "SELECT bytes, modified, members FROM archives WHERE path = ?", (archive.path,)
    )
    if listed and listed[0][:2] == state and not verify:
        rows = store.database.all(f"SELECT {_COLUMNS} FROM files WHERE path = ?", (archive.path,))
        known = [Found(bytes(path), *rest) for path, *rest in rows]
        # A run that was killed between listing and taking in has left members of an older state, or too few.
        whole = len(known) == listed[0][2] and all(
            one.modified == archive.modified and one.changed in (0, archive.changed) for one in known
        )
        if whole and not (retry and any(one.member == "" for one in known)):
            for one in known:
                yield replace(one, device=archive.device, inode=archive.inode, changed=archive.changed)
            return
    count = 0
    for found in members(archive):
        count += 1
        yield found
    with store.database.writing():
        store.database.run(
            "INSERT INTO archives (path, bytes, modified, members) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET "
            "bytes = excluded.bytes, modified = excluded.modified, members = excluded.members",
            (archive.path, *state, count),
        )


def _gone(store: Store, roots: Sequence[Path], told: Listing) -> list[tuple[bytes, str]]:
    """What is known under the roots and was not listed; it stands in the table `gone`, too."""
    database = store.database
    for root in roots:
        name = os.fsencode(root)
        low, high = below(name)
        for inside, values in (("f.path = ?", (name,)), ("f.path >= ? AND f.path < ?", (low, high))):
            database.run(
                "INSERT INTO gone (path, member) SELECT f.path, f.member FROM files f "
                "LEFT JOIN found n ON n.path = f.path AND n.member = f.member "
                f"WHERE n.path IS NULL AND {inside} ON CONFLICT (path, member) DO NOTHING",
                values,
            )
    gone = [(bytes(path), member) for path, member in database.all("SELECT path, member FROM gone")]
    hidden = {folder.rstrip(b"/") for folder, _ in told.unlisted}
    if hidden:
        stay = [file for file in gone if any(place in hidden for place in _above(file[0]))]
        database.many("DELETE FROM gone WHERE path = ? AND member = ?", stay)
        gone = sorted(set(gone).difference(stay))
    return gone


def _above(path: bytes) -> Iterator[bytes]:
    """A path and the folders above it, without a slash at their ends."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def _devices(store: Store) -> frozenset[int]:
    """The devices, by the numbers they had, of files that are listed now."""
    rows = store.database.all(
        "SELECT DISTINCT f.device FROM found n JOIN files f ON f.path = n.path AND f.member = n.member "
        "WHERE f.device > 0"
    )
    return frozenset(row[0] for row in rows)


def _rename(store: Store, progress: Callable[[int], None]) -> set[tuple[bytes, str]]:
    """Give files that moved their new names.

    Device and inode tell where a file went, and may lie: a deleted file's inode is given to the next one. A
    file that kept its change time too was not touched, as when a folder above it was renamed; of any other
    the bytes are read.
    """
    moved: dict[tuple[bytes, str], Found] = {}
    taken: set[bytes] = set()
    for path, changed, content_hash, *row in store.database.all(
        f"SELECT f.path, f.changed, c.hash, {_OF_FOUND} FROM gone g "
        "JOIN files f ON f.path = g.path AND f.member = g.member "
        f"JOIN found n ON n.inode = f.inode AND n.device = f.device AND n.member = '' AND {_SAME} "
        "LEFT JOIN contents c ON c.id = f.content "
        "LEFT JOIN files o ON o.path = n.path AND o.member = '' "
        "WHERE g.member = '' AND f.inode <> 0 AND o.path IS NULL ORDER BY f.path, n.path"
    ):
        found, before = Found(bytes(row[0]), *row[1:]), (bytes(path), "")
        if before in moved or found.path in taken:
            continue  # hard links: one name each, the others are copies
        untouched = changed != 0 and changed == found.changed
        if untouched or (content_hash is not None and _digest(found.path) == bytes(content_hash)):
            moved[before] = found
            taken.add(found.path)
        progress(0)
    if moved:
        store.rename([(found, before) for before, found in moved.items()])
    return set(moved)


def _digest(path: bytes) -> bytes | None:
    try:
        return digest(Path(os.fsdecode(path)))
    except OSError:
        return None


def _refresh(store: Store) -> None:
    """Take over devices, inodes and change times of files that are the same.

    Numbers of devices change when drives are mounted again. One that is given to another drive now says
    nothing of the files that had it and were not listed.
    """
    database = store.database
    differs = "(f.device <> n.device OR f.inode <> n.inode OR f.changed <> n.changed)"
    join = (
        f"FROM found n JOIN files f ON f.path = n.path AND f.member = n.member WHERE {_SAME} AND {_UNCHANGED}"
    )
    if not database.all(f"SELECT 1 {join} AND {differs} LIMIT 1"):
        return
    with database.writing():
        new = database.all(f"SELECT DISTINCT n.device {join} AND f.device <> n.device AND f.device > 0")
        for (device,) in new:
            database.run(
                "UPDATE files SET device = ? WHERE device = ? AND NOT EXISTS "
                "(SELECT 1 FROM found n WHERE n.path = files.path AND n.member = files.member)",
                (AWAY, device),
            )
        database.run(
            "UPDATE files SET device = n.device, inode = n.inode, changed = n.changed FROM found n "
            "WHERE n.path = files.path AND n.member = files.member AND files.bytes = n.bytes "
            "AND files.modified = n.modified AND files.sidecar = n.sidecar "
            "AND (files.changed = n.changed OR files.changed = 0 OR n.changed = 0) "
            "AND (files.device <> n.device OR files.inode <> n.inode OR files.changed <> n.changed)"
        )


def _wait(store: Store, space: Space, *, retry: bool, verify: bool) -> None:
    """What is to be read: new, changed, or without a vector in this space."""
    again = "OR f.error IS NOT NULL OR c.error IS NOT NULL" if retry else ""
    again += " OR 1 = 1" if verify else ""
    store.database.run(
        f"INSERT INTO pending ({_COLUMNS}, verify) SELECT {_OF_FOUND}, {int(verify)} FROM found n "
        "LEFT JOIN files f ON f.path = n.path AND f.member = n.member "
        "LEFT JOIN contents c ON c.id = f.content "
        "LEFT JOIN vectors v ON v.content = f.content AND v.space = ? "
        f"WHERE f.path IS NULL OR NOT ({_SAME} AND {_UNCHANGED}) "
        # A file that could not be read keeps the content it had, see `Store.keep`: it is tried each time.
        "OR (f.error IS NOT NULL AND f.content IS NOT NULL) "
        f"OR (v.row IS NULL AND f.error IS NULL AND c.error IS NULL) {again} "
        "ORDER BY n.path, n.member",
        (space.info.id,),
    )


def pending_files(store: Store, space: Space, *, backwards: bool = False) -> Iterator[Found]:
    """The files that wait, in order; those that another process has done meanwhile are left out."""
    order, sign = ("DESC", "<") if backwards else ("ASC", ">")
    last = 2**62 if backwards else 0
    while True:
        part = store.database.all(
            f"SELECT p.id, {_OF_PENDING} FROM pending p "
            "LEFT JOIN files f ON f.path = p.path AND f.member = p.member AND f.bytes = p.bytes "
            "AND f.modified = p.modified AND f.sidecar = p.sidecar AND f.changed = p.changed "
            "LEFT JOIN vectors v ON v.content = f.content AND v.space = ? "
            f"WHERE p.id {sign} ? AND (p.verify = 1 OR v.row IS NULL OR f.error IS NOT NULL) "
            f"ORDER BY p.id {order} LIMIT 64",
            (space.info.id, last),
        )
        if not part:
            return
        for number, path, *rest in part:
            yield Found(bytes(path), *rest)
            last = number
