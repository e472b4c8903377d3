"""Find the duplicates of a catalogue, in groups with their evidence.

Four tiers. *bytes*: identical files. *picture*: the same picture saved again, resized, mirrored, or rotated
by its EXIF data. *part*: cropped, framed, written over, recoloured, or inside a larger picture. *scene*: the
same scene a moment later, which is not a duplicate. Only the first two tiers count as copies.
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
    """The result of `find_duplicates`.

    Attributes
    ----------
    groups : tuple of DuplicateGroup
        By tier.
    pictures, files : int
        How many were compared; a file with several names (links) counts once.
    failed : dict
        Content -> why the picture could not be read.
    """

    groups: tuple[DuplicateGroup, ...]
    pictures: int
    files: int
    failed: dict[int, str] = field(default_factory=dict)

    def of(self, tier: Tier) -> tuple[DuplicateGroup, ...]:
        """The groups of one tier."""
        return tuple(group for group in self.groups if group.tier == tier)

    def to_remove(self, tiers: Collection[Tier]) -> list[File]:
        """Files that are direct copies of a kept file, each once; never one that is kept in another group."""
        # A file may be in several groups, e.g. as a copy in one and as the whole of a collage in another.
        kept_files = {group.kept.file for group in self.groups}
        copies: dict[File, None] = {}  # a dict keeps the order
        for group in self.groups:
            for member in group.others:
                if (
                    member.tier in tiers
                    # Not direct: a-b and b-c are pairs, a-c is not. If a is kept, c was compared with b only,
                    # and nobody has seen that c shows what a shows.
                    and member.direct
                    and not member.file.member
                    and member.file not in kept_files
                ):
                    copies[member.file] = None
        return list(copies)


def find_duplicates(
    store: Store,
    space: Space | None = None,
    *,
    tiers: Collection[Tier] = TIERS,
    rules: Sequence[KeepRule] | None = None,
    folders: Sequence[Path] = (),
    filters: Filter | None = None,
    stage: Stage | None = None,
) -> DuplicateGroups:
    """Find the duplicates of a catalogue.

    Pictures that are new since the last run are compared with all; the other pairs are stored. A run may be
    interrupted at any time; the next one resumes.

    Parameters
    ----------
    space : Space, optional
        The active one by default.
    tiers : collection of {"bytes", "picture", "part", "scene"}
        "part" takes longest.
    rules : sequence of KeepRule, optional
        Decide which file of a group is kept; `keeping.DEFAULT_RULES` by default.
    folders : sequence of Path
        Compare only files in these folders, with each other.
    filters : Filter, optional
        Compare only pictures and files that pass the filter, with each other.

    Raises
    ------
    CatalogError
        The catalogue is empty.
    InputError
        An unknown tier, or a folder (also of a rule) without any indexed file.
    """
    unknown = [tier for tier in tiers if tier not in TIERS]
    if unknown or not tiers:
        raise InputError(
            f"there is no tier {unknown[0] if unknown else ''!r}: expected some of {', '.join(TIERS)}"
        )
    space = space or store.active
    if space is None:
        raise CatalogError(f"{store.folder} holds no pictures yet: index some with  diptych index PATH")
    rules = parse_rules() if rules is None else rules
    for folder in (*folders, *(rule.folder for rule in rules if rule.folder is not None)):
        _check_folder(store, folder)
    files = files_of(store, folders)
    if filters:
        files = _passing(store, space, files, filters)
    pairs, cache = PairStore(store.database, space.info.identity), ThumbnailCache(store.database)
    try:
        if set(tiers) != {"bytes"}:
            # Restricts the pictures that are compared now, not those that they are compared with: their pairs
            # are complete, and a later run over everything need not compare them again.
            only = set(files) if folders or filters else None
            compare_new(space, pairs, cache, parts="part" in tiers, only=only, stage=stage or silent)
        groups = make_groups(pairs, files, rules, tiers)
    finally:
        cache.close()
    return DuplicateGroups(tuple(groups), len(files), sum(map(len, files.values())), dict(cache.failed))


def _passing(
    store: Store, space: Space, files: Mapping[int, list[File]], filters: Filter
) -> dict[int, list[File]]:
    """The files that pass a filter, by content."""
    # A filter on tags or dates concerns the picture, one on folders or names the file itself: hence both
    # sets. Any name of a file counts, as `merge_links` has merged them.
    contents = set(space.contents_of(allowed_rows(space, filters).tolist()).values())
    passes, values = file_conditions(filters, store.database)
    sql = f"SELECT f.path, f.member FROM files f WHERE {passes or '1 = 1'}"
    names = {(Path(os.fsdecode(bytes(path))), member) for path, member in store.database.all(sql, values)}
    passing = {
        content: [
            file
            for file in own_files
            if any((path, file.member) in names for path in (file.path, *file.names))
        ]
        for content, own_files in files.items()
        if content in contents
    }
    return {content: own_files for content, own_files in passing.items() if own_files}


def _inside(store: Store, folders: Sequence[Path]) -> tuple[str, list[Any]]:
    """SQL condition, with its values, for files in one of these folders."""
    inside = Filter(folders=tuple(folder.expanduser() for folder in folders))
    condition, values = file_conditions(inside, store.database)
    return condition or "1 = 1", values


def _check_folder(store: Store, folder: Path) -> None:
    """Refuse a folder without indexed files: a misspelt one would change which files are kept."""
    condition, values = _inside(store, [folder])
    if not store.database.all(f"SELECT 1 FROM files f WHERE {condition} LIMIT 1", values):
        raise InputError(
            f"the catalogue has no picture in {folder}: name an indexed folder by the path with which it was "
            "indexed (see diptych catalog info)"
        )


def files_of(store: Store, folders: Sequence[Path] = ()) -> dict[int, list[File]]:
    """The files of all pictures that could be decoded, by content; only those in these folders, if any.

    Several names of one file (links) are merged: removing one name as a copy of another could remove the
    picture.
    """
    condition, values = _inside(store, folders)
    # `annotated`, the first CASE below: 2 for a caption or a sidecar beside this file, which would move into
    # the trash with it; 1 for tags by hand or a rating, which belong to the content, so identical files share
    # them.
    files: dict[int, list[tuple[File, FileId]]] = defaultdict(list)
    for path, member, content, modified, device, inode, *picture, has_exif, annotated in store.database.all(
        "SELECT f.path, f.member, c.id, f.modified, f.device, f.inode, c.format, c.width, c.height, c.bytes, "
        "c.taken IS NOT NULL OR c.camera <> '' OR c.latitude IS NOT NULL, "
        "CASE WHEN f.caption <> '' OR f.sidecar <> 0 THEN 2 "
        "WHEN EXISTS (SELECT 1 FROM tags t WHERE t.content = c.id AND t.origin = 'hand') "
        "OR EXISTS (SELECT 1 FROM ratings r WHERE r.content = c.id) THEN 1 ELSE 0 END "
        "FROM files f JOIN contents c ON c.id = f.content "
        f"WHERE c.error IS NULL AND f.error IS NULL AND ({condition}) ORDER BY f.path, f.member",
        values,
    ):
        kind, width, height, size = picture
        file = File(
            Path(os.fsdecode(bytes(path))),
            *(member, content, kind or "", width or 0, height or 0, size, modified, bool(has_exif)),
            annotated=annotated,
        )
        files[content].append((file, (device, inode)))
    return {content: merge_links(own_files) for content, own_files in files.items()}


def merge_links(files: Sequence[tuple[File, FileId]]) -> list[File]:
    """Merge the names of each file: the file itself comes before symbolic links to it.

    Names with equal inodes are candidates. Device numbers in the catalogue may be outdated, since they change
    when a drive is plugged in again, so for these the current numbers on disk decide.
    """
    if len(files) == 1:
        return [files[0][0]]
    merged = [file for file, (_, inode) in files if not inode]  # listings on Windows have no inodes
    # With the member: all members of an archive have its inode. E.g. (42, "a.jpg") and (42, "b.jpg") are two
    # pictures.
    by_inode: dict[tuple[int, str], list[tuple[File, FileId]]] = defaultdict(list)
    for file, file_id in files:
        if file_id[1]:
            by_inode[file_id[1], file.member].append((file, file_id))
    for same in by_inode.values():
        by_id: dict[FileId, list[File]] = defaultdict(list)
        for file, file_id in same:
            # A single name, the usual case, is not looked up on disk. Where the file is gone, the stored
            # number has to do.
            by_id[file_id if len(same) == 1 else _current_id(file.path) or file_id].append(file)
        for links in by_id.values():
            # Moving a link frees nothing, and moving its target breaks it: the target is the file, the links
            # are names.
            first = min(links, key=_link_order) if len(links) > 1 else links[0]
            others = tuple(link.path for link in links if link is not first)
            merged.append(replace(first, names=others) if others else first)
    return sorted(merged, key=lambda file: (os.fsencode(file.path), file.member))


def _current_id(path: Path) -> FileId | None:
    file = file_at(path, helpers=False)
    return None if file is None else (file.device, file.inode)


def _link_order(file: File) -> tuple[bool, bool]:
    """Sort key: whether the file is a symbolic link, and whether its path contains one."""
    return file.path.is_symlink(), os.path.realpath(file.path) != str(file.path)
