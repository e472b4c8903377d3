"""Remove files and folders from the catalogue by name; they stay out until they are named again."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from diptych.catalog.annotations.annotations import AnnotationChanges
from diptych.catalog.files.roots import save_roots
from diptych.catalog.store.paths import CanonicalPaths, at_or_below, path_range, rules_of, stored_rules
from diptych.catalog.store.store import Store
from diptych.errors import InputError
from diptych.files.unicode_text import existing_path
from diptych.media.sources import name_of

_CHUNK = 500  # files removed in one transaction


def forget_paths(
    store: Store,
    paths: Sequence[str | Path],
    *,
    keep: Collection[str | Path] = (),
    changes: AnnotationChanges | None = None,
) -> int:
    """Remove files and folders, whether they exist on disk or not; return the number of files removed.

    When a folder above them is indexed, they are left out from now on, until they are named themselves.

    Parameters
    ----------
    keep : collection of path
        Paths below those that stay, because the same command indexes them.
    changes : AnnotationChanges, optional
        Receives how tags and ratings were affected.

    Raises
    ------
    InputError
        A path is unknown, or is one of `keep`; then nothing is removed.
    """
    canonical = CanonicalPaths(stored_rules(store.database))
    forgotten = [_canonical(path, canonical) for path in paths]
    kept_paths = [_canonical(path, canonical) for path in keep]
    check_forgettable(store, paths, keep)
    count = 0
    for folder in forgotten:
        # Example: forget /p, keep /p/raw: files of /p/raw stay, and /p/raw becomes a root with /p's rules.
        name, inside = os.fsencode(folder), [path for path in kept_paths if path.is_relative_to(folder)]
        inside_folder, values = at_or_below(name)
        rows = store.database.all(f"SELECT path, member FROM files WHERE {inside_folder}", values)
        files = [(bytes(path), member) for path, member in rows if not _is_below(bytes(path), inside)]
        for start in range(0, len(files), _CHUNK):
            # In chunks: one transaction for a whole drive would keep other writers waiting. A kill in between
            # leaves fewer files; the same command removes the rest.
            chunk_changes = store.forget(files[start : start + _CHUNK])
            if changes is not None:
                changes.add(chunk_changes)
        rules = stored_rules(store.database)
        # Paths that stay become indexed paths of their own, as the removed path no longer includes them.
        save_roots(
            store, {path: replace(rules_of(path, rules), base=path) for path in inside if path not in rules}
        )
        _forget_roots(store, name, inside)
        count += len(files)
    return count


def check_forgettable(store: Store, paths: Sequence[str | Path], keep: Collection[str | Path] = ()) -> None:
    """Raise InputError for a path that is unknown, or that the same command indexes."""
    roots = stored_rules(store.database)
    canonical = CanonicalPaths(roots)
    kept_paths = {_canonical(path, canonical) for path in keep}
    for path in paths:
        folder = _canonical(path, canonical)
        if folder in kept_paths:
            raise InputError(
                f"{name_of(path)} is both to be indexed and to be forgotten: leave out one of them"
            )
        inside, values = at_or_below(os.fsencode(folder))
        is_known = any(
            store.database.all(f"SELECT 1 FROM {table} WHERE {inside} LIMIT 1", values)
            for table in ("files", "roots", "forgotten")
        )
        # An existing path that a run would index may be forgotten in advance.
        if is_known or (os.path.lexists(folder) and not roots.keys().isdisjoint(folder.parents)):
            continue
        similar = _similar_paths(store, folder)
        hint = f"; did you mean {' or '.join(map(str, similar))}?" if similar else ""
        raise InputError(f"{name_of(path)}: the catalogue has nothing there{hint}")


def _canonical(path: str | Path, canonical: CanonicalPaths) -> Path:
    absolute = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - links stay
    return canonical.of(existing_path(absolute))


def _is_below(path: bytes, folders: Iterable[Path]) -> bool:
    names = [os.fsencode(folder) for folder in folders]
    return any(path == name or path.startswith(path_range(name)[0]) for name in names)


def _forget_roots(store: Store, name: bytes, keep: Sequence[Path]) -> None:
    database = store.database
    with database.writing():
        inside, values = at_or_below(name)
        for (path,) in database.all(f"SELECT path FROM roots WHERE {inside}", values):
            if not _is_below(bytes(path), keep):
                database.run("DELETE FROM roots WHERE path = ?", (path,))
        # One entry for the folder covers everything below it.
        for (path,) in database.all(
            "SELECT path FROM forgotten WHERE path >= ? AND path < ?", path_range(name)
        ):
            database.run("DELETE FROM forgotten WHERE path = ?", (path,))
        database.run("INSERT INTO forgotten (path) VALUES (?) ON CONFLICT (path) DO NOTHING", (name,))


def _similar_paths(store: Store, path: Path) -> list[Path]:
    """Find paths with a similar name: known files and folders beside it, or indexed paths."""
    low, high = path_range(os.fsencode(path.parent))
    # E.g. /p/Hollidays has depth 3: of the stored /p/Holidays/a/x.jpg the first three parts, /p/Holidays, are
    # compared.
    depth = len(path.parts)
    siblings = {
        Path(*Path(os.fsdecode(bytes(row[0]))).parts[:depth])
        for row in store.database.all("SELECT path FROM files WHERE path >= ? AND path < ?", (low, high))
    }
    if names := get_close_matches(path.name, {sibling.name for sibling in siblings}, n=3):
        return [path.with_name(name) for name in names]
    roots = {str(root): root for root in stored_rules(store.database)}
    return [roots[name] for name in get_close_matches(str(path), roots, n=3, cutoff=0.8)]
