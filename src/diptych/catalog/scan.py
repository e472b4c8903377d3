"""What is on disk against what the catalogue knows: new, changed, moved and gone files.

The disk is listed into a temporary table and compared there, so a listing of millions takes no memory to
speak of. A file that kept size, time, and text beside it is taken to be the same and is not opened. What
cannot be listed (a folder without permission, a drive that went away) is never taken to be gone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path

from diptych.catalog import schema
from diptych.catalog.spaces import Space
from diptych.catalog.store import Found, Store
from diptych.errors import InputError
from diptych.media.files import is_picture

_COLUMNS = "path, member, bytes, modified, device, inode, sidecar"
_CHUNK = 1000
SIDECAR = ".txt"


@dataclass
class Listing:
    """How a listing went.

    Attributes
    ----------
    files : int
        Pictures found.
    unlisted : list of (path, reason)
        Folders that could not be listed: what the catalogue knows in them stays.
    """

    files: int = 0
    unlisted: list[tuple[bytes, str]] = field(default_factory=list)


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


def roots_of(paths: Sequence[str | Path]) -> list[Path]:
    """Absolute paths of files and folders; InputError where there is none.

    Links are not resolved: pictures are known by the way they were named.
    """
    roots = []
    for path in paths:
        root = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - resolve() would follow links
        if not root.exists():
            raise InputError(
                f"{path}: there is no such file or folder. What the catalogue knows of it stays; "
                f"--forget {path} takes it out"
            )
        roots.append(root)
    return roots


def listing(
    roots: Sequence[Path], told: Listing, *, exclude: Sequence[str] = (), skip: Sequence[Path] = ()
) -> Iterator[Found]:
    """Every picture file under these roots, unopened; `told` learns what could not be listed.

    Hidden files and folders are left out, and folders in `skip`; links to folders are not followed. A root
    that is itself a file is taken whatever its suffix.
    """
    for root in roots:
        if root.is_dir():
            yield from _in_folder(str(root), told, exclude, {str(one) for one in skip})
        else:
            yield _found(str(root), root.stat)


def _in_folder(folder: str, told: Listing, exclude: Sequence[str], skip: set[str]) -> Iterator[Found]:
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                names = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            told.unlisted.append((os.fsencode(here), error.strerror or str(error)))
            continue
        texts = {entry.name: entry for entry in names if entry.name.endswith(SIDECAR)}
        folders: list[str] = []
        for entry in names:
            name = entry.name
            if name.startswith(".") or any(fnmatch(name, pattern) for pattern in exclude):
                continue
            if _is_folder(entry):
                if entry.path not in skip:
                    folders.append(entry.path)
            elif is_picture(name):
                told.files += 1
                text = texts.get(Path(name).stem + SIDECAR)
                yield _found(entry.path, entry.stat, 0 if text is None else _changed(text))
        waiting.extend(reversed(folders))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _found(path: str, stat: Callable[[], os.stat_result], sidecar: int = 0) -> Found:
    try:
        status = stat()
    except OSError:  # a link to nothing or to itself: opening it will say so, and it is listed as failed
        return Found(os.fsencode(path), "", 0, 0, 0, 0, 0)
    # Device and inode numbers of some file systems use all 64 bits; databases have a sign.
    device, inode = status.st_dev & (2**63 - 1), status.st_ino & (2**63 - 1)
    return Found(os.fsencode(path), "", status.st_size, status.st_mtime_ns, device, inode, sidecar)


def _changed(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_mtime_ns
    except OSError:
        return 0


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
    for statement in schema.statements(schema.FOUND, schema.SQLITE_WORDS):
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
            f"WHERE p.id {sign} ? AND v.row IS NULL ORDER BY p.id {order} LIMIT 64",
            (space.info.id, last),
        )
        if not part:
            return
        for number, path, *rest in part:
            yield Found(bytes(path), *rest)
            last = number
