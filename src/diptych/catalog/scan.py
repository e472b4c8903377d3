"""What is on disk against what the catalogue knows: new, changed, moved and gone files.

The disk is listed into a temporary table and compared there, so a listing of millions takes no memory to
speak of. A file that kept size, time, and text beside it is taken to be the same and is not opened. What
cannot be listed (a folder without permission, a drive that went away) is never taken to be gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from diptych.catalog import schema
from diptych.catalog.listing import Listing, members
from diptych.catalog.records import Found
from diptych.catalog.spaces import Space
from diptych.catalog.store import Store

_COLUMNS = "path, member, bytes, modified, device, inode, sidecar"
_CHUNK = 1000


@dataclass(frozen=True)
class Comparison:
    """What there is to do.

    Attributes
    ----------
    pending : int
        Files to be read; `pending_files` gives them.
    moved : int
        Files under another name that are known by device and inode: already renamed.
    gone : list of (path, member)
        Files that the catalogue knows and the disk has not.
    same : int
        Files that need nothing.
    """

    pending: int
    moved: int
    gone: list[tuple[bytes, str]]
    same: int


def compare(
    store: Store,
    space: Space,
    found: Iterator[Found],
    roots: Sequence[Path],
    told: Listing,
    *,
    retry: bool = False,
    progress: Callable[[int], None] | None = None,
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
    progress : callable, optional
        Told how many more were listed.
    """
    database = store.database
    for statement in schema.statements(schema.FOUND, database.words):
        database.run(statement)
    for table in ("found", "pending"):
        database.run(f"DELETE FROM {table}")
    while part := list(islice(found, _CHUNK)):
        database.many(
            f"INSERT INTO found ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (path, member) DO NOTHING",
            (one.row() for one in part),
        )
        if progress:
            progress(len(part))
    gone = _gone(store, roots, told)
    moved = _rename(store, gone)
    _wait(store, space, retry=retry)
    pending = database.all("SELECT COUNT(*) FROM pending")[0][0]
    total = database.all("SELECT COUNT(*) FROM found")[0][0]
    return Comparison(pending, len(moved), [one for one in gone if one not in moved], total - pending)


def known_members(store: Store, archive: Found, *, retry: bool = False) -> Iterator[Found]:
    """The pictures of an archive, from what is known where the archive has not changed, else from disk.

    With `retry` one that could not be read is listed again too.
    """
    state = (archive.size, archive.modified)
    listed = store.database.all(
        "SELECT bytes, modified, members FROM archives WHERE path = ?", (archive.path,)
    )
    if listed and listed[0][:2] == state:
        known = store.database.all(f"SELECT {_COLUMNS} FROM files WHERE path = ?", (archive.path,))
        # A run that was killed between listing and taking in has left members of an older state, or too few.
        whole = len(known) == listed[0][2] and all(row[3] == archive.modified for row in known)
        if whole and not (retry and any(row[1] == "" for row in known)):
            yield from (Found(bytes(path), *rest) for path, *rest in known)
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
    """What is known under the roots and was not listed."""
    gone: dict[tuple[bytes, str], None] = {}
    for root in roots:
        name = os.fsencode(root)
        low, high = below(name)
        for path, member in store.database.all(
            "SELECT f.path, f.member FROM files f "
            "LEFT JOIN found n ON n.path = f.path AND n.member = f.member "
            "WHERE n.path IS NULL AND (f.path = ? OR (f.path >= ? AND f.path < ?))",
            (name, low, high),
        ):
            gone[bytes(path), member] = None
    hidden = [below(folder) for folder, _ in told.unlisted]
    return [one for one in gone if not any(low <= one[0] < high for low, high in hidden)]


def below(folder: bytes) -> tuple[bytes, bytes]:
    """The least path inside a folder, and the least after all of them.

    Examples
    --------
    >>> low, high = below(b"/a")
    >>> [low <= path < high for path in (b"/a/x.jpg", b"/a-b/x.jpg", b"/b/x.jpg")]
    [True, False, False]
    """
    home = folder.rstrip(b"/")
    return home + b"/", home + b"0"  # "0" follows "/"


def _rename(store: Store, gone: Sequence[tuple[bytes, str]]) -> set[tuple[bytes, str]]:
    """Give files that moved their new names, without opening them."""
    if not gone:
        return set()
    moved: list[tuple[Found, tuple[bytes, str]]] = []
    for path, member in gone:
        if member:
            continue
        matches = store.database.all(
            "SELECT n.path, n.member, n.bytes, n.modified, n.device, n.inode, n.sidecar "
            "FROM files f JOIN found n ON n.inode = f.inode AND n.device = f.device "
            "AND n.bytes = f.bytes AND n.modified = f.modified AND n.sidecar = f.sidecar "
            "WHERE f.path = ? AND f.member = ? AND n.member = '' AND f.inode <> 0 "
            "AND NOT EXISTS (SELECT 1 FROM files o WHERE o.path = n.path AND o.member = '')",
            (path, member),
        )
        if len(matches) == 1:
            row = matches[0]
            moved.append((Found(bytes(row[0]), *row[1:]), (path, member)))
    store.rename(moved)
    return {before for _, before in moved}


def _wait(store: Store, space: Space, *, retry: bool) -> None:
    """What is to be read: new, changed, or without a vector in this space."""
    again = "OR f.error IS NOT NULL OR c.error IS NOT NULL" if retry else ""
    store.database.run(
        f"INSERT INTO pending ({_COLUMNS}) "
        "SELECT n.path, n.member, n.bytes, n.modified, n.device, n.inode, n.sidecar FROM found n "
        "LEFT JOIN files f ON f.path = n.path AND f.member = n.member "
        "LEFT JOIN contents c ON c.id = f.content "
        "LEFT JOIN vectors v ON v.content = f.content AND v.space = ? "
        "WHERE f.path IS NULL OR f.bytes <> n.bytes OR f.modified <> n.modified OR f.sidecar <> n.sidecar "
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
            "SELECT p.id, p.path, p.member, p.bytes, p.modified, p.device, p.inode, p.sidecar FROM pending p "
            "LEFT JOIN files f ON f.path = p.path AND f.member = p.member AND f.bytes = p.bytes "
            "AND f.modified = p.modified AND f.sidecar = p.sidecar "
            "LEFT JOIN vectors v ON v.content = f.content AND v.space = ? "
            f"WHERE p.id {sign} ? AND (v.row IS NULL OR f.error IS NOT NULL) ORDER BY p.id {order} LIMIT 64",
            (space.info.id, last),
        )
        if not part:
            return
        for number, path, *rest in part:
            yield Found(bytes(path), *rest)
            last = number
