"""A folder that was moved or renamed: the catalogue learns its new path, and no picture is read again."""

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

SAMPLE = 200  # files looked for in the new folder before anything is changed
_TABLES = ("files", "archives", "roots", "forgotten", "set_aside")  # that hold paths in a column `path`


@dataclass(frozen=True)
class RelocationReport:
    """What came of `relocate`.

    Attributes
    ----------
    files : int
        That have their new paths now.
    known : int
        Whose new paths the catalogue knew already: the older rows are gone.
    looked_for, there : int
        Files of a sample, and how many of them are in the new folder.
    undo_lists : int
        Lists of `diptych duplicates --trash` that name the new paths now.
    """

    files: int
    known: int
    looked_for: int
    there: int
    undo_lists: int
    annotations: AnnotationChanges


def relocate(
    store: Store, old: str | Path, new: str | Path, *, dry_run: bool = False, lists: Path | None = None
) -> RelocationReport:
    """Change the path of a folder, or of a file, in the catalogue.

    Parameters
    ----------
    old : path
        As it was indexed. It need not be there any more.
    new : path
        Where the same files are now.
    dry_run : bool
        Look whether it can be done, and change nothing.
    lists : path, optional
        The folder of the lists that undo moving to the trash; by default in the catalogue's folder.

    Raises
    ------
    InputError
        The new folder is not there, or is the old one.
    CatalogError
        The catalogue knows nothing under the old path; the old folder is still there with its files; none of
        its files is in the new one; a `diptych duplicates --trash` is at work.
    SaveError
        The catalogue may not be written to.
    """
    source, target = _absolute(old), _absolute(new)
    if source == target:
        raise InputError(f"{old} and {new} are one folder")
    if not os.path.lexists(target):
        raise InputError(
            f"{new}: there is no such file or folder. Move the files first, then say where they are"
        )
    places = _known_under(store, source)
    if not places:
        raise CatalogError(f"{store.name} knows no picture in {old}: name a folder as it was indexed")
    looked_for, there = _look_for(places, source, target)
    if not dry_run:
        known = [place for place in places if _is_known(store, _moved(place[0], source, target), place[1])]
        with store.database.writing():
            fate = store.forget_within(known)
            for table in _TABLES:
                _rewrite(store, table, source, target)
            _add_root(store, source, target)
            _remember(store, target)
            # Before the commit, so that the same command again finds what a killed one has left.
            changed = _rewrite_undo_lists(lists or _own_lists(store), source, target)
        return RelocationReport(len(places) - len(known), len(known), looked_for, there, changed, fate)
    return RelocationReport(len(places), 0, looked_for, there, 0, AnnotationChanges())


def _absolute(path: str | Path) -> bytes:
    return os.path.abspath(os.fsencode(Path(path).expanduser()))  # noqa: PTH100 - resolve() would follow links


def _moved(path: bytes, source: bytes, target: bytes) -> bytes:
    """A path at or below `source`, as it is at or below `target`.

    Examples
    --------
    >>> _moved(b"/a/b/c.jpg", b"/a", b"/x"), _moved(b"/a", b"/a", b"/x"), _moved(b"/ab", b"/a", b"/x")
    (b'/x/b/c.jpg', b'/x', b'/ab')
    """
    if path == source:
        return target
    home = source.rstrip(b"/") + b"/"
    return target.rstrip(b"/") + b"/" + path.removeprefix(home) if path.startswith(home) else path


def _known_under(store: Store, source: bytes) -> list[FileLocation]:
    inside, values = at_or_below(source)
    rows = store.database.all(f"SELECT path, member FROM files WHERE {inside} ORDER BY path, member", values)
    return [(bytes(path), member) for path, member in rows]


def _look_for(places: list[FileLocation], source: bytes, target: bytes) -> tuple[int, int]:
    """How many files were looked for in the new folder, and how many are there."""
    paths = sorted({path for path, _ in places})
    sample = paths[:: max(1, len(paths) // SAMPLE)]
    still = [path for path in sample if os.path.lexists(path)]
    if any(not _is_same_file(path, _moved(path, source, target)) for path in still):
        raise CatalogError(
            f"{os.fsdecode(still[0])} is still there: these are copies. To index them too, say "
            f"diptych index {os.fsdecode(target)}"
        )
    there = sum(os.path.lexists(_moved(path, source, target)) for path in sample)
    if not there:
        raise CatalogError(
            f"none of {counted(len(sample), 'file')} that were looked for is in {os.fsdecode(target)}; the "
            f"first would be {os.fsdecode(_moved(sample[0], source, target))}"
        )
    return len(sample), there


def _is_same_file(one: bytes, other: bytes) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 - bytes
    except OSError:
        return False


def _is_known(store: Store, path: bytes, member: str) -> bool:
    return bool(store.database.all("SELECT 1 FROM files WHERE path = ? AND member = ?", (path, member)))


def _rewrite(store: Store, table: str, source: bytes, target: bytes) -> None:
    """New paths in one table; where a row of the new path is there already, the older row goes."""
    database = store.database
    inside, values = at_or_below(source)
    key = "path, member" if table == "files" else "path, hash" if table == "set_aside" else "path"
    rows = database.all(f"SELECT DISTINCT {key} FROM {table} WHERE {inside}", values)
    where = " AND ".join(f"{column} = ?" for column in key.split(", "))
    if table in ("archives", "roots", "forgotten"):
        inside, values = at_or_below(target)
        taken = {bytes(row[0]) for row in database.all(f"SELECT path FROM {table} WHERE {inside}", values)}
        doubled = [row for row in rows if _moved(bytes(row[0]), source, target) in taken]
        database.many(f"DELETE FROM {table} WHERE {where}", doubled)
        rows = [row for row in rows if row not in doubled]
    database.many(
        f"UPDATE {table} SET path = ? WHERE {where}",
        [(_moved(bytes(row[0]), source, target), bytes(row[0]), *row[1:]) for row in rows],
    )


def _add_root(store: Store, source: bytes, target: bytes) -> None:
    """The new folder is indexed from now on, also where the old one was a part of a root."""
    roots = [bytes(row[0]) for row in store.database.all("SELECT path FROM roots")]

    def above(path: bytes) -> list[bytes]:
        return [root for root in roots if path == root or path_range(root)[0] <= path < path_range(root)[1]]

    old = sorted(above(source), key=len)
    if old and not above(target):
        store.database.run(
            "INSERT INTO roots (path, exclude, archives, system_folders) "
            "SELECT ?, exclude, archives, system_folders FROM roots WHERE path = ?",
            (target, old[-1]),
        )


def _remember(store: Store, target: bytes) -> None:
    """What was forgotten at the new path, or above it, is named again by moving something there."""
    database = store.database
    database.run("DELETE FROM forgotten WHERE path = ?", (target,))
    rows = database.all("SELECT path FROM forgotten")
    above = [
        bytes(row[0]) for row in rows if path_range(bytes(row[0]))[0] <= target < path_range(bytes(row[0]))[1]
    ]
    roots = {bytes(row[0]) for row in database.all("SELECT path FROM roots")}
    if above and target not in roots:
        database.run("INSERT INTO roots (path) VALUES (?)", (target,))


def _own_lists(store: Store) -> Path | None:
    return None if store.folder is None else store.folder / "undo"


def _rewrite_undo_lists(folder: Path | None, source: bytes, target: bytes) -> int:
    """Let the lists that undo moving to the trash name the new paths; how many lists that changed."""
    if folder is None:
        return 0
    changed = 0
    for path in sorted(folder.glob("*.jsonl")):
        if is_being_written(path):
            raise CatalogError(
                f"diptych duplicates --trash is at work ({path}): wait for it, then run this again"
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
            yield text  # cut short, as the last one may be
            continue
        for name in ("from", "to", "kept", "companion_of") if isinstance(line, dict) else ():
            if name in line:
                line[name] = os.fsdecode(_moved(os.fsencode(str(line[name])), source, target))
        yield json.dumps(line).encode("ascii") + b"\n"
