"""The paths a catalogue is of: which they are, how each is spelt, and what each leaves out.

A file belongs to the nearest indexed path at or above it, and that one's rules decide about it, whichever
command lists it. An indexed path that is reached by two names, through a link, is kept under the first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from diptych.catalog.database.database import Database
from diptych.catalog.store.folder_rules import FolderRules
from diptych.catalog.store.paths import Below, Spelling, rules_of, stored_rules
from diptych.catalog.store.store import Store
from diptych.errors import CatalogError
from diptych.media.folders.archives import is_archive
from diptych.media.folders.files import is_picture
from diptych.media.folders.system_folders import is_system_folder


@dataclass(frozen=True)
class GivenRules:
    """Rules as a command gives them; None leaves what was remembered.

    Attributes
    ----------
    exclude : tuple of str, optional
        ("",) for no pattern any more.
    archives, system_folders : bool, optional
    """

    exclude: tuple[str, ...] | None = None
    archives: bool | None = None
    system_folders: bool | None = None

    def __bool__(self) -> bool:
        return self != GivenRules()

    def over(self, rules: FolderRules, *, add: bool = False) -> FolderRules:
        """These rules where they are given, else the others; with `add` patterns come beside the others'."""
        patterns = rules.exclude
        if self.exclude is not None:
            wanted = tuple(dict.fromkeys(pattern for pattern in self.exclude if pattern))
            patterns = tuple(dict.fromkeys((*patterns, *wanted))) if add and wanted else wanted
        archives = rules.archives if self.archives is None else self.archives
        system = rules.system_folders if self.system_folders is None else self.system_folders
        return replace(rules, exclude=patterns, archives=archives, system_folders=system)


@dataclass
class Plan:
    """What one run lists.

    Attributes
    ----------
    named : list of path
        The paths that were asked for, spelt as the catalogue spells them.
    rules : dict from path to FolderRules
        Of every path that is listed: the named ones, and indexed ones below them.
    remembered : dict from path to FolderRules
        Those that are indexed again when no path is named.
    doubles : dict from path to path
        Indexed paths that are another one by another name: earlier versions kept both.
    forgotten : frozenset of path
        What was taken out by name and is not named now.
    is_new : bool
        A named path was not indexed before.
    notes : list of str
        What a person should know.
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
        self._spelling: Spelling | None = None

    def skipped(self, catalog: Path | None) -> frozenset[str]:
        """Real paths that no walk enters: it is another one's, was taken out, or is the catalogue."""
        places = [*self.rules, *self.forgotten, *([] if catalog is None else [catalog])]
        return frozenset(os.path.realpath(place) for place in places)

    def leaves_out(self, path: bytes, *, member: bool = False) -> bool:
        """Whether a file below these paths, known from before, is none that a walk of now comes to."""
        place = Path(os.fsdecode(path))
        for above in (place, *place.parents):
            if above in self.forgotten or above in self.doubles:
                return True
            if above in self.rules:
                if not self._shadowed(above).isdisjoint((place, *place.parents)):
                    return True
                return self.rules[above].leaves_out(place, member=member)
        return False

    def _shadowed(self, root: Path) -> frozenset[Path]:
        """Folders below a path that are listed as another one, which a link gives its name."""
        if self._spelling is None:
            self._spelling = Spelling(self.rules)
        if root not in self._shadows:
            real = os.path.realpath(root)
            self._shadows[root] = frozenset(
                root / os.path.relpath(os.path.realpath(other), real) for other in self._spelling.inside(root)
            )
        return self._shadows[root]


def known_roots(store: Store) -> list[Path]:
    """What was indexed before, whether it is there now or not.

    Raises
    ------
    CatalogError
        Nothing was.
    """
    roots = list(stored_rules(store.database))
    if not roots:
        raise CatalogError(f"{store.name} holds nothing yet: name a folder, as in  diptych index ~/Pictures")
    return roots


def plan_run(store: Store, paths: Sequence[Path], given: GivenRules, *, remember: bool = True) -> Plan:
    """What a run over these absolute paths lists, and by which rules.

    Parameters
    ----------
    store : Store
    paths : sequence of path
        Empty for every indexed path.
    given : GivenRules
        Rules for these paths and for indexed ones below them.
    remember : bool
        The paths are indexed ones from now on, where the walk of another one does not come to them anyway.

    Raises
    ------
    CatalogError
        No path is named, and none is known.
    """
    known = stored_rules(store.database)
    spelling, plan = Spelling(known), Plan()
    doubles = {root: spelt for root in known if (spelt := spelling.of(root)) != root}
    for path in paths or known_roots(store):
        spelt = spelling.of(path)
        if spelt != path and path not in doubles:
            plan.notes.append(f"{path} is indexed as {spelt}: one folder by two names")
        plan.rules.setdefault(spelt, FolderRules(spelt))
    plan.named = list(plan.rules)
    below = Below(known)
    plan.forgotten = frozenset(forgotten_paths(store.database)).difference(plan.named if remember else ())
    inside = Below(plan.forgotten)
    for path in plan.named if paths and remember else ():
        plan.notes += [
            f"{one} was taken out with --forget and stays out: name it to index it again"
            for one in inside.of(path)
            if os.path.lexists(one)
        ]
    for path in plan.named:
        above = rules_of(path, known)
        own = above
        if remember and path not in known and (given or not _is_reached(path, above, plan.forgotten)):
            own = replace(above, base=path)
            if above.base != path:
                plan.notes.append(f"{path}, inside {above.base}, is remembered by itself from now on")
        plan.rules[path] = given.over(own)
        for inner in (*below.of(path), *spelling.inside(path)):
            if inner not in doubles:
                plan.rules.setdefault(inner, given.over(known[inner], add=True))
    plan.doubles = {root: spelt for root, spelt in doubles.items() if spelt in plan.rules}
    if remember:
        plan.is_new = not known.keys() >= set(plan.named)
        plan.remembered = {path: rules for path, rules in plan.rules.items() if rules.base == path}
    return plan


def _is_reached(path: Path, rules: FolderRules, forgotten: frozenset[Path]) -> bool:
    """Whether the walk over an indexed path comes to this path below it by itself."""
    if rules.base == path or os.path.realpath(path) != os.path.join(  # noqa: PTH118 - real paths are text
        os.path.realpath(rules.base), path.relative_to(rules.base)
    ):
        return False
    if not forgotten.isdisjoint((path, *path.parents)):
        return False
    inside = path.relative_to(rules.base)
    if any(part.startswith(".") for part in inside.parts):
        return False
    if path.is_dir():
        system = not rules.system_folders and any(
            is_system_folder(name, parent)
            for parent, name in zip(("", *inside.parts), inside.parts, strict=False)
        )
        return not system and not rules.excludes(f"{inside.as_posix()}/")
    wanted = is_picture(path.name) or (rules.archives and is_archive(path))
    return wanted and not rules.leaves_out(path)


def remember(store: Store, roots: Mapping[Path, FolderRules]) -> None:
    """Index these paths when nothing is named, each by its rules."""
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


def finished(store: Store, roots: Iterable[Path], when: str) -> None:
    """Note when these paths were last indexed to the end."""
    with store.database.writing():
        store.database.many(
            "UPDATE roots SET finished = ? WHERE path = ?", ((when, os.fsencode(root)) for root in roots)
        )


def forgotten_paths(database: Database) -> list[Path]:
    """What was taken out by name, and is left out until it is named again."""
    return [
        Path(os.fsdecode(bytes(row[0]))) for row in database.all("SELECT path FROM forgotten ORDER BY path")
    ]


def index_again(store: Store, paths: Iterable[Path]) -> None:
    """Paths that were taken out and are named again: they are left out no more."""
    with store.database.writing():
        store.database.many("DELETE FROM forgotten WHERE path = ?", ((os.fsencode(path),) for path in paths))
