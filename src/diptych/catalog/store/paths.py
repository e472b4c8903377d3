"""Paths as the catalogue stores them: canonical spelling, rules of the indexed paths, ranges of sub-paths."""

from __future__ import annotations

import bisect
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from diptych.catalog.database.database import Database
from diptych.catalog.store.folder_rules import FolderRules


def path_range(folder: bytes) -> tuple[bytes, bytes]:
    """Return the half-open range [low, high) of byte strings that contains exactly the paths in a folder.

    Examples
    --------
    >>> low, high = path_range(b"/a")
    >>> [low <= path < high for path in (b"/a/x.jpg", b"/a-b/x.jpg", b"/b/x.jpg")]
    [True, False, False]
    """
    # Bytes compare like unsigned numbers, and "/" is 0x2f, "0" is 0x30: no byte lies between. So the range
    # holds exactly the strings that begin with "/a/", and a database answers it from an index on the column.
    # LIKE could not use that index, and would need escapes for "%" and "_" in names.
    home = folder.rstrip(b"/")
    return home + b"/", home + b"0"  # "0" follows "/" in ASCII


def at_or_below(path: bytes, column: str = "path") -> tuple[str, tuple[bytes, bytes, bytes]]:
    """Return an SQL condition for a path and everything in it, and the values of its parameters.

    Examples
    --------
    >>> at_or_below(b"/a", "f.path")
    ('(f.path = ? OR (f.path >= ? AND f.path < ?))', (b'/a', b'/a/', b'/a0'))
    """
    # SQLite plans this as MULTI-INDEX OR, two searches in the index on `path`; that of the path itself is
    # needed as it may be a file or an archive.
    return f"({column} = ? OR ({column} >= ? AND {column} < ?))", (path, *path_range(path))


def stored_rules(database: Database) -> dict[Path, FolderRules]:
    """Read all indexed paths with their rules, sorted by path."""
    rules_by_root = {}
    for path, patterns, archives, system in database.all(
        "SELECT path, exclude, archives, system_folders FROM roots ORDER BY path"
    ):
        root = Path(os.fsdecode(bytes(path)))
        exclude = tuple(pattern for pattern in json.loads(patterns) if pattern)
        rules_by_root[root] = FolderRules(root, exclude, bool(archives), bool(system))
    return rules_by_root


def rules_of(path: Path, rules_by_root: Mapping[Path, FolderRules]) -> FolderRules:
    """Return the rules of the nearest indexed path at or above this one; the defaults if there is none."""
    for folder in (path, *path.parents):
        if folder in rules_by_root:
            return rules_by_root[folder]
    return FolderRules(path)


class PathIndex:
    """Sorted paths, to find those below a folder by binary search."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = {os.fsencode(path): path for path in paths}
        self._sorted = sorted(self._paths)

    def of(self, path: Path) -> list[Path]:
        """Return the paths below a folder, without the folder itself."""
        low, high = path_range(os.fsencode(path))
        # In byte order "/a" < "/a-b" < "/a/x": the folder itself is not next to the paths in it.
        first, last = bisect.bisect_left(self._sorted, low), bisect.bisect_left(self._sorted, high)
        return [self._paths[name] for name in self._sorted[first:last] if name != b"/"]


class CanonicalPaths:
    """Canonical spelling of paths that have several names through symbolic links.

    Example: with the indexed path `/home/me/Pictures`, a link to `/data/photos`, both `/data/photos/a.jpg`
    and `/home/me/Pictures/a.jpg` become `/home/me/Pictures/a.jpg`.
    """

    def __init__(self, roots: Iterable[Path]) -> None:
        # By real path. Of two roots with one real path the first stays, so a collection that was indexed
        # under two names has one spelling from now on.
        self._roots: dict[Path, Path] = {}
        for root in roots:
            self._roots.setdefault(Path(os.path.realpath(root)), root)
        self._real = PathIndex(self._roots)

    def of(self, path: Path) -> Path:
        """Return a path in the spelling of the nearest indexed path that contains it, otherwise unchanged."""
        real = Path(os.path.realpath(path))
        for folder in (real, *real.parents):
            if folder in self._roots:
                return self._roots[folder] / real.relative_to(folder)
        return path

    def inside(self, path: Path) -> Iterator[Path]:
        """Yield indexed paths whose real path lies below this one although their spelling does not."""
        real = Path(os.path.realpath(path))
        for folder in self._real.of(real):
            root = self._roots[folder]
            if not root.is_relative_to(path):
                yield root
