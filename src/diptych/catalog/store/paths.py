"""Paths as the catalogue spells them, the rules of the indexed ones, and what lies below a path."""

from __future__ import annotations

import bisect
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from diptych.catalog.database.database import Database
from diptych.catalog.store.folder_rules import FolderRules


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


def stored_rules(database: Database) -> dict[Path, FolderRules]:
    """Every indexed path with its rules, in order."""
    found = {}
    for path, patterns, archives, system in database.all(
        "SELECT path, exclude, archives, system_folders FROM roots ORDER BY path"
    ):
        root = Path(os.fsdecode(bytes(path)))
        given = tuple(pattern for pattern in json.loads(patterns) if pattern)
        found[root] = FolderRules(root, given, bool(archives), bool(system))
    return found


def rules_of(path: Path, known: Mapping[Path, FolderRules]) -> FolderRules:
    """The rules of the nearest indexed path at or above this one; the defaults where there is none."""
    for place in (path, *path.parents):
        if place in known:
            return known[place]
    return FolderRules(path)


class Below:
    """Which of many paths lie below another one; found by halving, not by looking at each."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = {os.fsencode(path): path for path in paths}
        self._sorted = sorted(self._paths)

    def of(self, path: Path) -> list[Path]:
        """Those below a path, itself not among them."""
        home = os.fsencode(path).rstrip(b"/")
        first = bisect.bisect_left(self._sorted, home + b"/")
        last = bisect.bisect_left(self._sorted, home + b"0")  # "0" follows "/"
        return [self._paths[name] for name in self._sorted[first:last] if name != b"/"]


class Spelling:
    """How the catalogue spells paths that links give several names.

    Parameters
    ----------
    roots : iterable of path
        Indexed paths.
    """

    def __init__(self, roots: Iterable[Path]) -> None:
        self._roots: dict[Path, Path] = {}
        for root in roots:
            self._roots.setdefault(Path(os.path.realpath(root)), root)
        self._real = Below(self._roots)

    def of(self, path: Path) -> Path:
        """A path as the indexed one that holds it spells it; the path itself where none does."""
        real = Path(os.path.realpath(path))
        for place in (real, *real.parents):
            if place in self._roots:
                return self._roots[place] / real.relative_to(place)
        return path

    def inside(self, path: Path) -> Iterator[Path]:
        """Indexed paths that are spelt otherwise and whose files really lie below this path."""
        real = Path(os.path.realpath(path))
        for one in self._real.of(real):
            root = self._roots[one]
            if not root.is_relative_to(path):
                yield root
