"""Change the paths of a folder that was moved or renamed, so that none of its images is read again."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.catalog.annotations.annotations import AnnotationChanges
from diptych.catalog.duplicates.undo import is_being_written
from diptych.catalog.store.paths import at_or_below, path_range
from diptych.errors import CatalogError, InputError, counted
from diptych.files.disk import write_bytes

if TYPE_CHECKING:
    from diptych.catalog.annotations.annotations import FileLocation
    from diptych.catalog.store.store import Store

SAMPLE = 200  # files that are checked on disk before anything is changed
_KEYS = {  # tables with a column `path`, and the columns that identify a row
    "files": ("path", "member"),
    "archives": ("path",),
    "roots": ("path",),
    "forgotten": ("path",),
    "set_aside": ("path", "hash"),
}


@dataclass(frozen=True)
class RelocationReport:
    """The result of `relocate`.

    Attributes
    ----------
    files : int
        Number of files that got a new path.
    doubled : int
        Number of files that were indexed under the new path already; their old rows were removed.
    sampled, existing : int
        Number of files in a sample, and how many of them are in the new folder.
    undo_lists : int
        Number of lists of `diptych duplicates --trash` in which paths were changed.
    """

    files: int
    doubled: int
    sampled: int
    existing: int
    undo_lists: int
    annotations: AnnotationChanges


def relocate(
    store: Store, old: str | Path, new: str | Path, *, dry_run: bool = False, lists: Path | None = None
) -> RelocationReport:
    """Change the path of a folder, or of a file, in the catalogue.

    Parameters
    ----------
    old : path
        As it was indexed; it need not exist any more.
    new : path
        The present path of the same files.
    dry_run : bool
        Check whether it is possible, and change nothing.
    lists : path, optional
        Folder of the undo lists of the trash; by default in the folder of the catalogue.

    Raises
    ------
    InputError
        The new folder does not exist, or is the old one.
    CatalogError
        Nothing is indexed under the old path; the old folder still exists with its files; none of its files
        is in the new one; a `diptych duplicates --trash` is running.
    SaveError
        The catalogue may not be written to.
    """
    source, target = _absolute(old), _absolute(new)
    if source == target:
        raise InputError(f"{old} and {new} are one folder")
    if not os.path.lexists(target):
        raise InputError(
            f"{new}: there is no such file or folder. Move the files first, then give their new path"
        )
    files = _files_under(store, source)
    if not files:
        raise CatalogError(f"{store.name} knows no picture in {old}: name a folder as it was indexed")
    sampled, existing = _check_sample(files, source, target)
    if dry_run:
        return RelocationReport(len(files), 0, sampled, existing, 0, AnnotationChanges())
    is_indexed = "SELECT 1 FROM files WHERE path = ? AND member = ?"
    doubled = [
        (path, member)
        for path, member in files
        if store.database.all(is_indexed, (_moved(path, source, target), member))
    ]
    with store.database.writing():
        # Files that were indexed under both paths: the new rows describe them as they are now.
        annotations = store.forget_within(doubled)
        for table in _KEYS:
            _rewrite(store, table, source, target)
        _add_root(store, source, target)
        _unforget(store, target)
        # The lists are files, so the commit does not include them. They are written before it: after a kill
        # in between, the database has the old paths, so the same command runs again, and paths in the lists
        # that are new already are left unchanged. After a commit, the command would not find the old paths
        # any more and the lists would keep them.
        lists = lists or (store.folder and store.folder / "undo")
        lists_changed = _rewrite_undo_lists(lists, source, target)
    return RelocationReport(
        len(files) - len(doubled), len(doubled), sampled, existing, lists_changed, annotations
    )


def _absolute(path: str | Path) -> bytes:
    return os.path.abspath(os.fsencode(Path(path).expanduser()))  # noqa: PTH100 - resolve() would follow links


def _moved(path: bytes, source: bytes, target: bytes) -> bytes:
    """Return the new path of a path at or below `source`; other paths are returned unchanged.

    Examples
    --------
    >>> _moved(b"/a/b/c.jpg", b"/a", b"/x"), _moved(b"/a", b"/a", b"/x"), _moved(b"/ab", b"/a", b"/x")
    (b'/x/b/c.jpg', b'/x', b'/ab')
    """
    if path == source:
        return target
    home = source.rstrip(b"/") + b"/"
    return target.rstrip(b"/") + b"/" + path.removeprefix(home) if path.startswith(home) else path


def _files_under(store: Store, source: bytes) -> list[FileLocation]:
    inside, values = at_or_below(source)
    rows = store.database.all(f"SELECT path, member FROM files WHERE {inside} ORDER BY path, member", values)
    return [(bytes(path), member) for path, member in rows]


def _check_sample(files: list[FileLocation], source: bytes, target: bytes) -> tuple[int, int]:
    """Return the size of a sample of the files, and the number of them that exist under the new path."""
    paths = sorted({path for path, _ in files})
    # Evenly spaced in sorted order, so that every large subfolder is represented.
    sample = paths[:: max(1, len(paths) // SAMPLE)]
    remaining = [path for path in sample if os.path.lexists(path)]
    # If the old folder is now a link to the new one, its paths still exist but lead to the same files.
    if any(not _is_same_file(path, _moved(path, source, target)) for path in remaining):
        raise CatalogError(
            f"{os.fsdecode(remaining[0])} is still there: these are copies. To index them too, say "
            f"diptych index {os.fsdecode(target)}"
        )
    existing = sum(os.path.lexists(_moved(path, source, target)) for path in sample)
    if not existing:
        raise CatalogError(
            f"none of {counted(len(sample), 'file')} that were looked for is in {os.fsdecode(target)}; the "
            f"first would be {os.fsdecode(_moved(sample[0], source, target))}"
        )
    return len(sample), existing


def _is_same_file(a: bytes, b: bytes) -> bool:
    try:
        return os.path.samefile(a, b)  # noqa: PTH121 - bytes
    except OSError:
        return False


def _rewrite(store: Store, table: str, source: bytes, target: bytes) -> None:
    """Change the paths in a table; of two rows that would get the same key, the old path's is removed."""
    # Path by path, not in one UPDATE: a prefix of bytes is replaced, for which the two databases share no
    # function.
    database, columns = store.database, _KEYS[table]
    inside, values = at_or_below(source)
    rows = database.all(f"SELECT DISTINCT {', '.join(columns)} FROM {table} WHERE {inside}", values)
    is_row = " AND ".join(f"{column} = ?" for column in columns)
    if columns == ("path",):
        inside, values = at_or_below(target)
        taken = {bytes(row[0]) for row in database.all(f"SELECT path FROM {table} WHERE {inside}", values)}
        doubled = [row for row in rows if _moved(bytes(row[0]), source, target) in taken]
        database.many(f"DELETE FROM {table} WHERE {is_row}", doubled)
        rows = [row for row in rows if row not in doubled]
    database.many(
        f"UPDATE {table} SET path = ? WHERE {is_row}",
        [(_moved(bytes(row[0]), source, target), bytes(row[0]), *row[1:]) for row in rows],
    )


def _contains(folder: bytes, path: bytes) -> bool:
    """Whether a path lies in a folder, at any depth."""
    low, high = path_range(folder)
    return low <= path < high


def _add_root(store: Store, source: bytes, target: bytes) -> None:
    """Make the new path a root, with the rules of the old one, unless a root contains it."""
    # If the old path was a root itself, `_rewrite` has moved that root. Here it was only a part of one: /p is
    # a root, /p/2019 moves to /q/2019, which no run over /p would list any more.
    roots = [bytes(row[0]) for row in store.database.all("SELECT path FROM roots")]
    old_roots = [root for root in roots if source == root or _contains(root, source)]
    if old_roots and not any(target == root or _contains(root, target) for root in roots):
        store.database.run(
            "INSERT INTO roots (path, exclude, archives, system_folders) "
            "SELECT ?, exclude, archives, system_folders FROM roots WHERE path = ?",
            (target, max(old_roots, key=len)),
        )


def _unforget(store: Store, target: bytes) -> None:
    """Index the new path again if it, or a folder above it, was removed with --forget."""
    database = store.database
    database.run("DELETE FROM forgotten WHERE path = ?", (target,))
    forgotten = [bytes(row[0]) for row in database.all("SELECT path FROM forgotten")]
    roots = {bytes(row[0]) for row in database.all("SELECT path FROM roots")}
    # A forgotten folder above stays forgotten, as it holds other files; a root below it is listed all the
    # same.
    if target not in roots and any(_contains(folder, target) for folder in forgotten):
        database.run("INSERT INTO roots (path) VALUES (?)", (target,))


def _rewrite_undo_lists(folder: Path | None, source: bytes, target: bytes) -> int:
    """Change the paths in the undo lists of the trash, and return the number of lists that changed."""
    if folder is None:
        return 0
    changed = 0
    for path in sorted(folder.glob("*.jsonl")):
        # A running process appends to the file that it has open; replacing the file would lose its lines.
        if is_being_written(path):
            raise CatalogError(
                f"diptych duplicates --trash is running ({path}): wait for it, then run this again"
            )
        before = path.read_bytes()
        after = b"".join(_rewritten_lines(before, source, target))
        if after != before:
            write_bytes(path, after)
            changed += 1
    return changed


def _rewritten_lines(data: bytes, source: bytes, target: bytes) -> Iterator[bytes]:
    for text in data.splitlines(keepends=True):
        try:
            line = json.loads(text)
        except ValueError:
            yield text  # incomplete, as the last line of a killed run may be
            continue
        for name in ("from", "to", "kept", "companion_of") if isinstance(line, dict) else ():
            if name in line:
                line[name] = os.fsdecode(_moved(os.fsencode(str(line[name])), source, target))
        yield json.dumps(line).encode("ascii") + b"\n"
