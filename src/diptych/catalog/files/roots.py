"""Indexed paths (roots): which paths a run lists, how they are spelt, and the rules of each.

A file belongs to the nearest root at or above it, whose rules apply to it whichever command lists it. A root
that has two names through a symbolic link is stored under the first one.

Example: with the roots `/p` (exclude "*.gif") and `/p/raw` (no rules), `/p/a.gif` is left out, `/p/raw/a.gif`
is not, and a run over `/p` lists both roots, each by its own rules.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from diptych.catalog.database.database import Database
from diptych.catalog.store.folder_rules import FolderRules
from diptych.catalog.store.paths import CanonicalPaths, PathIndex, rules_of, stored_rules
from diptych.catalog.store.store import Store
from diptych.errors import CatalogError
from diptych.media.folders.archives import is_archive
from diptych.media.folders.files import is_picture
from diptych.media.folders.system_folders import is_system_folder


@dataclass(frozen=True)
class RuleOverrides:
    """Rules that a command gives; None keeps the stored value."""

    exclude: tuple[str, ...] | None = None  # ("",) removes all patterns
    archives: bool | None = None
    system_folders: bool | None = None

    def __bool__(self) -> bool:
        return self != RuleOverrides()

    def over(self, rules: FolderRules, *, add: bool = False) -> FolderRules:
        """Override the given rules of `rules`; with `add`, patterns are added to those of `rules`."""
        # None keeps the stored patterns and ("",) removes them all. E.g. stored ("*.gif",) and given
        # ("raw/",): with `add` both, otherwise ("raw/",) alone.
        patterns = rules.exclude
        if self.exclude is not None:
            new_patterns = tuple(dict.fromkeys(pattern for pattern in self.exclude if pattern))
            patterns = (
                tuple(dict.fromkeys((*patterns, *new_patterns))) if add and new_patterns else new_patterns
            )
        archives = rules.archives if self.archives is None else self.archives
        system = rules.system_folders if self.system_folders is None else self.system_folders
        return replace(rules, exclude=patterns, archives=archives, system_folders=system)


@dataclass
class IndexPlan:
    """The paths that one run lists.

    Attributes
    ----------
    named : list of path
        The paths of the command, in the catalogue's spelling.
    rules : dict from path to FolderRules
        Rules of every path that is listed: the named ones, and roots below them.
    remembered : dict from path to FolderRules
        Paths that become roots, which are indexed again when no path is named.
    doubles : dict from path to path
        Roots that are another root by a second name -> that root; earlier versions stored both.
    forgotten : frozenset of path
        Paths that were removed with --forget and are not named now.
    is_new : bool
        Some named path was not a root before.
    notes : list of str
        Messages for the user.
    """

    named: list[Path] = field(default_factory=list)
    rules: dict[Path, FolderRules] = field(default_factory=dict)
    remembered: dict[Path, FolderRules] = field(default_factory=dict)
    doubles: dict[Path, Path] = field(default_factory=dict)
    forgotten: frozenset[Path] = frozenset()
    is_new: bool = False
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._shadows: dict[Path, frozenset[Path]] = {}
        self._canonical: CanonicalPaths | None = None

    def skipped(self, catalog: Path | None) -> frozenset[str]:
        """Return real paths that a walk does not enter: other listed paths, forgotten ones, the catalogue."""
        # Real paths: a walk comes to a folder by its own name, which a root may know through a link. The
        # folder of the catalogue may lie inside a root.
        paths = [*self.rules, *self.forgotten, *([] if catalog is None else [catalog])]
        return frozenset(os.path.realpath(path) for path in paths)

    def leaves_out(self, path: bytes, *, member: bool = False) -> bool:
        """Whether a file below these paths, known from an earlier run, would not be listed by this run."""
        file = Path(os.fsdecode(path))
        for folder in (file, *file.parents):  # the nearest listed path decides
            if folder in self.forgotten or folder in self.doubles:
                return True
            if folder in self.rules:
                if not self._shadowed(folder).isdisjoint((file, *file.parents)):
                    return True
                return self.rules[folder].leaves_out(file, member=member)
        return False

    def _shadowed(self, root: Path) -> frozenset[Path]:
        """Return folders below a root that are listed as another root, whose name is a link to them.

        Example: `/p/links/raw` is a link to `/p/raw`, and both `/p` and `/p/links/raw` are roots. Then the
        files are listed as `/p/links/raw/...`, and `/p/raw` is shadowed below `/p`.
        """
        if self._canonical is None:
            self._canonical = CanonicalPaths(self.rules)
        if root not in self._shadows:
            real = os.path.realpath(root)
            self._shadows[root] = frozenset(
                root / os.path.relpath(os.path.realpath(other), real)
                for other in self._canonical.inside(root)
            )
        return self._shadows[root]


def known_roots(store: Store) -> list[Path]:
    """List the roots, whether they exist on disk now or not.

    Raises
    ------
    CatalogError
        There are none.
    """
    roots = list(stored_rules(store.database))
    if not roots:
        raise CatalogError(f"{store.name} is empty: name a folder to index, as in  diptych index ~/Pictures")
    return roots


def plan_run(
    store: Store, paths: Sequence[Path], given: RuleOverrides, *, remember: bool = True
) -> IndexPlan:
    """Determine which paths a run lists, and by which rules.

    Parameters
    ----------
    paths : sequence of path
        Absolute paths; empty for all roots.
    given : RuleOverrides
        Rules for these paths and for roots below them.
    remember : bool
        The paths become roots, unless the walk of another root includes them anyway.

    Raises
    ------
    CatalogError
        No path is given, and there are no roots.
    """
    roots = stored_rules(store.database)
    canonical, plan = CanonicalPaths(roots), IndexPlan()
    # Only catalogues of earlier versions have such pairs: since then a root is spelt as the first one.
    doubles = {root: stored for root in roots if (stored := canonical.of(root)) != root}
    for path in paths or known_roots(store):
        stored = canonical.of(path)
        if stored != path and path not in doubles:
            plan.notes.append(f"{path} is indexed as {stored}, which is another name of the same folder")
        plan.rules.setdefault(stored, FolderRules(stored))
    # From here on only the stored spellings are used.
    plan.named = list(plan.rules)
    root_index = PathIndex(roots)
    plan.forgotten = frozenset(forgotten_paths(store.database)).difference(plan.named if remember else ())
    forgotten_index = PathIndex(plan.forgotten)
    for path in plan.named if paths and remember else ():
        plan.notes += [
            f"{forgotten} was removed with --forget and stays out: name it to index it again"
            for forgotten in forgotten_index.of(path)
            if os.path.lexists(forgotten)
        ]
    for path in plan.named:
        inherited = rules_of(path, roots)
        # A named path becomes a root with a copy of the rules above it if it gets rules of its own, or if the
        # walk of the root above would not come to it.
        own = inherited
        if remember and path not in roots and (given or not _is_reached(path, inherited, plan.forgotten)):
            own = replace(inherited, base=path)
            if inherited.base != path:
                plan.notes.append(
                    f"{path}, inside {inherited.base}, is remembered as a folder of its own from now on"
                )
        plan.rules[path] = given.over(own)
        # Roots below keep their own rules; patterns given for the path above are added to theirs.
        for inner in (*root_index.of(path), *canonical.inside(path)):
            if inner not in doubles:
                # Added, not replaced: `index /p --exclude tmp/` must not undo what /p/raw excludes.
                plan.rules.setdefault(inner, given.over(roots[inner], add=True))
    # The files of a double are listed by its other name; under this one they will be found gone and be
    # removed.
    plan.doubles = {root: stored for root, stored in doubles.items() if stored in plan.rules}
    if remember:
        plan.is_new = not roots.keys() >= set(plan.named)
        plan.remembered = {path: rules for path, rules in plan.rules.items() if rules.base == path}
    return plan


def _is_reached(path: Path, rules: FolderRules, forgotten: frozenset[Path]) -> bool:
    """Whether the walk of a root includes this path below it."""
    # Links below the root are not followed: the real path must have the same relative part.
    if rules.base == path or os.path.realpath(path) != os.path.join(  # noqa: PTH118 - real paths are text
        os.path.realpath(rules.base), path.relative_to(rules.base)
    ):
        return False
    if not forgotten.isdisjoint((path, *path.parents)):
        return False
    relative = path.relative_to(rules.base)
    # A walk skips hidden folders, but a user may name one: it then becomes a root of its own.
    if any(part.startswith(".") for part in relative.parts):
        return False
    if path.is_dir():
        in_system_folder = not rules.system_folders and any(
            is_system_folder(name, parent)
            for parent, name in zip(("", *relative.parts), relative.parts, strict=False)
        )
        return not in_system_folder and not rules.excludes(f"{relative.as_posix()}/")
    is_listed = is_picture(path.name) or (rules.archives and is_archive(path))
    return is_listed and not rules.leaves_out(path)


def save_roots(store: Store, roots: Mapping[Path, FolderRules]) -> None:
    """Store these paths as roots, with their rules."""
    with store.database.writing():
        for root, rules in roots.items():
            store.database.run(
                "INSERT INTO roots (path, exclude, archives, system_folders) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (path) DO UPDATE SET exclude = excluded.exclude, "
                "archives = excluded.archives, system_folders = excluded.system_folders",
                (
                    os.fsencode(root),
                    json.dumps(rules.exclude),
                    int(rules.archives),
                    int(rules.system_folders),
                ),
            )


def mark_finished(store: Store, roots: Iterable[Path], when: str) -> None:
    """Store when these roots were last indexed completely."""
    with store.database.writing():
        store.database.many(
            "UPDATE roots SET finished = ? WHERE path = ?", ((when, os.fsencode(root)) for root in roots)
        )


def forgotten_paths(database: Database) -> list[Path]:
    """List the paths that were removed with --forget and stay out until they are named again."""
    return [
        Path(os.fsdecode(bytes(row[0]))) for row in database.all("SELECT path FROM forgotten ORDER BY path")
    ]


def unforget(store: Store, paths: Iterable[Path]) -> None:
    """Delete these paths from the forgotten ones, so that they are indexed again."""
    with store.database.writing():
        store.database.many("DELETE FROM forgotten WHERE path = ?", ((os.fsencode(path),) for path in paths))
