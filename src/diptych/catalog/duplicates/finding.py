"""Duplicates of a catalogue: found once, kept, and told in groups with their evidence.

Four tiers. *bytes*: files that are equal. *picture*: one picture saved again, resized, mirrored, turned by
its EXIF data. *part*: cut, framed, written over, in other colours, or inside a larger picture. *scene*: the
same thing a moment later, which is no duplicate. Only the first two are ever taken for copies.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from diptych.catalog.database.spaces import Space
from diptych.catalog.duplicates.comparing import compare_new
from diptych.catalog.duplicates.groups import DuplicateGroup, make_groups
from diptych.catalog.duplicates.keeping import File, KeepRule, parse_rules
from diptych.catalog.duplicates.pairs import PairStore
from diptych.catalog.duplicates.thumbnail_cache import ThumbnailCache
from diptych.catalog.files.listing import file_at
from diptych.catalog.store.filters import Filter, allowed_rows, file_conditions
from diptych.catalog.store.store import Store
from diptych.errors import CatalogError, InputError
from diptych.matching.verdicts import TIERS, Tier
from diptych.progress import Stage, silent

FileId: TypeAlias = tuple[int, int]  # device and inode


@dataclass(frozen=True)
class DuplicateGroups:
    """What was found.

    Attributes
    ----------
    groups : tuple of DuplicateGroup
        By tier.
    pictures, files : int
        How many were looked at; a file with several names is one.
    failed : dict
        Picture -> why it could not be read again, of those it was asked of.
    """

    groups: tuple[DuplicateGroup, ...]
    pictures: int
    files: int
    failed: dict[int, str] = field(default_factory=dict)

    def of(self, tier: Tier) -> tuple[DuplicateGroup, ...]:
        """The groups of one tier."""
        return tuple(group for group in self.groups if group.tier == tier)

    def to_remove(self, tiers: Collection[Tier]) -> list[File]:
        """Files that are copies of one that is kept, each once; none that is kept in another group."""
        kept = {group.kept.file for group in self.groups}
        found: dict[File, None] = {}
        for group in self.groups:
            for member in group.others:
                if (
                    member.tier in tiers
                    and member.direct
                    and not member.file.member
                    and member.file not in kept
                ):
                    found[member.file] = None
        return list(found)


def find_duplicates(
    store: Store,
    space: Space | None = None,
    *,
    tiers: Collection[Tier] = TIERS,
    rules: Sequence[KeepRule] | None = None,
    folders: Sequence[Path] = (),
    where: Filter | None = None,
    stage: Stage | None = None,
) -> DuplicateGroups:
    """Find the duplicates of a catalogue.

    What is new since the last time is compared with everything; the rest is known. It may be stopped at any
    instant, and goes on where it stood.

    Parameters
    ----------
    store : Store
    space : Space, optional
        By default the active one.
    tiers : collection of {"bytes", "picture", "part", "scene"}
        "part" takes longest.
    rules : sequence of KeepRule, optional
        Which file of a group is kept; by default `keeping.DEFAULT_RULES`.
    folders : sequence of Path
        Only files in these, compared with each other.
    where : Filter, optional
        Only pictures and files that pass it, compared with each other.
    stage : callable, optional
        `stage(what, total)` gives a context with a progress function.

    Raises
    ------
    CatalogError
        The catalogue is empty.
    InputError
        A tier that there is none of; a folder, of a rule too, that no indexed file is in.
    """
    wrong = [tier for tier in tiers if tier not in TIERS]
    if wrong or not tiers:
        raise InputError(
            f"there is no tier {wrong[0] if wrong else ''!r}: expected some of {', '.join(TIERS)}"
        )
    space = space or store.active
    if space is None:
        raise CatalogError(f"{store.folder} holds no pictures yet: index some with  diptych index PATH")
    rules = parse_rules() if rules is None else rules
    for folder in (*folders, *(rule.folder for rule in rules if rule.folder is not None)):
        _check_folder(store, folder)
    files = files_of(store, folders)
    if where:
        files = _passing(store, space, files, where)
    pairs, looks = PairStore(store.database, space.info.identity), ThumbnailCache(store.database)
    try:
        if set(tiers) != {"bytes"}:
            only = set(files) if folders or where else None
            compare_new(space, pairs, looks, parts="part" in tiers, only=only, stage=stage or silent)
        groups = make_groups(pairs, files, rules, tiers)
    finally:
        looks.close()
    return DuplicateGroups(tuple(groups), len(files), sum(map(len, files.values())), dict(looks.failed))


def _passing(
    store: Store, space: Space, files: Mapping[int, list[File]], where: Filter
) -> dict[int, list[File]]:
    """Those of these files that pass a filter, with their pictures."""
    contents = set(space.contents_of(allowed_rows(space, where).tolist()).values())
    passes, values = file_conditions(where, store.database)
    sql = f"SELECT f.path, f.member FROM files f WHERE {passes or '1 = 1'}"
    names = {(Path(os.fsdecode(bytes(path))), member) for path, member in store.database.all(sql, values)}
    kept = {
        content: [
            file for file in held if any((path, file.member) in names for path in (file.path, *file.names))
        ]
        for content, held in files.items()
        if content in contents
    }
    return {content: held for content, held in kept.items() if held}


def _inside(store: Store, folders: Sequence[Path]) -> tuple[str, list[Any]]:
    """What a file has to be, to lie in one of these folders, as SQL and its values."""
    wanted = Filter(folders=tuple(folder.expanduser() for folder in folders))
    where, values = file_conditions(wanted, store.database)
    return where or "1 = 1", values


def _check_folder(store: Store, folder: Path) -> None:
    """Refuse a folder with nothing in it: a slip of the pen would decide what is kept."""
    where, values = _inside(store, [folder])
    if not store.database.all(f"SELECT 1 FROM files f WHERE {where} LIMIT 1", values):
        raise InputError(
            f"no picture in the catalogue is in {folder}: name an indexed folder, by the path that was given "
            "to index it (see diptych catalog info)"
        )


def files_of(store: Store, folders: Sequence[Path] = ()) -> dict[int, list[File]]:
    """The files of every picture that could be decoded, by content; only those in these folders, if any.

    Names of one file are one: taking a name away for being a copy of another would take the picture.
    """
    where, values = _inside(store, folders)
    found: dict[int, list[tuple[File, FileId]]] = defaultdict(list)
    for path, member, content, modified, device, inode, *picture, told, annotated in store.database.all(
        "SELECT f.path, f.member, c.id, f.modified, f.device, f.inode, c.format, c.width, c.height, c.bytes, "
        "c.taken IS NOT NULL OR c.camera <> '' OR c.latitude IS NOT NULL, "
        "CASE WHEN f.caption <> '' OR f.sidecar <> 0 THEN 2 "
        "WHEN EXISTS (SELECT 1 FROM tags t WHERE t.content = c.id AND t.origin = 'hand') "
        "OR EXISTS (SELECT 1 FROM ratings r WHERE r.content = c.id) THEN 1 ELSE 0 END "
        "FROM files f JOIN contents c ON c.id = f.content "
        f"WHERE c.error IS NULL AND f.error IS NULL AND ({where}) ORDER BY f.path, f.member",
        values,
    ):
        kind, width, height, size = picture
        file = File(
            Path(os.fsdecode(bytes(path))),
            *(member, content, kind or "", width or 0, height or 0, size, modified, bool(told)),
            annotated=annotated,
        )
        found[content].append((file, (device, inode)))
    return {content: merge_links(files) for content, files in found.items()}


def merge_links(files: Sequence[tuple[File, FileId]]) -> list[File]:
    """Files of one picture, each by one name: that of the file itself before those of links to it."""
    if len(files) == 1:
        return [files[0][0]]
    alone = [file for file, (_, inode) in files if not inode]  # Windows' listings tell of no inodes
    sets: dict[tuple[int, str], list[tuple[File, FileId]]] = defaultdict(list)
    for file, place in files:
        if place[1]:
            sets[place[1], file.member].append((file, place))
    for same in sets.values():
        # Devices change their numbers when they are plugged in anew: what is on disk now decides.
        of_one: dict[FileId, list[File]] = defaultdict(list)
        for file, place in same:
            of_one[place if len(same) == 1 else _place_now(file.path) or place].append(file)
        for names in of_one.values():
            first = min(names, key=_by_links) if len(names) > 1 else names[0]
            others = tuple(one.path for one in names if one is not first)
            alone.append(replace(first, names=others) if others else first)
    return sorted(alone, key=lambda file: (os.fsencode(file.path), file.member))


def _place_now(path: Path) -> FileId | None:
    found = file_at(path, helpers=False)
    return None if found is None else (found.device, found.inode)


def _by_links(file: File) -> tuple[bool, bool]:
    """Whether it is a link, and whether its path leads over one."""
    return file.path.is_symlink(), os.path.realpath(file.path) != str(file.path)
