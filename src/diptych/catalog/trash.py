"""Copies moved out of the way, never deleted, with a list by which they are put back.

Right before a file is moved, the one that is kept is read again: it has to be there, another file, and still
the same picture. The line that puts a file back is on the device before the file moves, so a run that is
killed at any instant can be undone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diptych.catalog.closer import Closer, confirmed
from diptych.catalog.entries import load_file
from diptych.catalog.groups import Group
from diptych.catalog.keeping import File
from diptych.catalog.listing import file_at
from diptych.catalog.moving import digest, move_file
from diptych.catalog.parts import Glance, small_grey
from diptych.catalog.pixels import SIDE, Look
from diptych.catalog.reading import read_ahead
from diptych.catalog.records import Found, Picture
from diptych.catalog.store import Store
from diptych.catalog.undo import Write, undo_list
from diptych.catalog.verdicts import Tier, judge, suspect
from diptych.errors import DiptychError, InputError, SaveError
from diptych.media import Limits

FOLDER = ".diptych-trash"  # hidden, so that indexing passes it over


@dataclass
class Moved:
    """What came of moving.

    Attributes
    ----------
    undo : Path or None
        The list that puts the files back; None when nothing was to be moved.
    files : list of (from, to)
    size : int
        Of these, in bytes.
    refused : list of (File, reason)
        What stayed where it is.
    """

    undo: Path | None = None
    files: list[tuple[Path, Path]] = field(default_factory=list)
    size: int = 0
    refused: list[tuple[File, str]] = field(default_factory=list)


def move_to_trash(
    store: Store,
    groups: Sequence[Group],
    trash: Path | None = None,
    *,
    tiers: Collection[Tier],
    lists: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Moved:
    """Move the files of groups that are not kept into a trash folder; what is inside archives stays there.

    Parameters
    ----------
    store : Store
        Forgets what is moved.
    groups : sequence of Group
    trash : Path, optional
        By default a hidden folder in each indexed one, so that moving is renaming. Paths are kept in it.
    tiers : collection of Tier
        What may be moved, by what it is to the kept file.
    lists : Path, optional
        Where the undo list is written; by default in the catalogue's folder.
    progress : callable, optional
        Told how many more were dealt with.

    Raises
    ------
    InputError
        The trash folder is among the pictures, where it would be indexed again.
    SaveError
        The catalogue may not be written to, or the device is full.
    """
    if lists is None:
        if store.folder is None:
            raise InputError("this catalogue has no folder: say where the undo list is to be written")
        lists = store.folder / "undo"
    if store.database.readonly:
        raise SaveError(f"{store.folder} may not be written to, and would not know what was moved")
    roots = [Path(os.fsdecode(bytes(row[0]))) for row in store.database.all("SELECT path FROM roots")]
    place = _places(roots, trash)
    moved, kept = Moved(), {group.kept.file.name for group in groups}
    todo = [
        (member.file, group.kept.file, member.tier)
        for group in groups
        for member in group.others
        if member.tier in tiers and member.file.name not in kept and not member.file.member
    ]
    if not todo:
        return moved
    with undo_list(lists) as (undo, write):
        moved.undo = undo
        for file, keep, tier in todo:
            target = place(file.path, undo.stem)
            reason = _move(store, file, keep, tier, target, write)
            if reason is None:
                moved.files.append((file.path, target))
                moved.size += file.size
            else:
                moved.refused.append((file, reason))
            if progress:
                progress(1)
    return moved


def take_back(store: Store, paths: Sequence[Path]) -> int:
    """Tell the catalogue of files that are back, where it knows their picture; how many it does not know.

    Those are new to it, and the next indexing embeds them.
    """
    space, unknown = store.active, len(paths)
    if space is None or store.database.readonly:
        return unknown
    there = filter(None, map(file_at, paths))
    for read in read_ahead(there, Limits()):
        if read.record.error is None and store.known([read.hash], space):
            store.keep([Picture([read.record], hash=read.hash, known=True)], space)
            unknown -= 1
    return unknown


# ------------------------------------------------------------------------------------------------- moving


def _move(store: Store, file: File, keep: File, tier: Tier, target: Path, write: Write) -> str | None:
    """Check, write down, move, forget; the reason where it stays."""
    # The database's lock: another run that would move the file kept here has to wait, and then sees.
    with store.database.writing():
        reason = still_copy(file, keep, tier)
        if reason is not None:
            return reason
        write(
            {"from": str(file.path), "to": str(target), "kept": keep.name, "tier": tier, "bytes": file.size}
        )
        try:
            move_file(file.path, target)
        except (OSError, SaveError) as error:
            return str(error)
    store.forget([(os.fsencode(file.path), "")])
    return None


def still_copy(file: File, keep: File, tier: Tier) -> str | None:
    """Why a file may not be moved, by what is on disk now; None where it may."""
    here, kept = file_at(file.path), file_at(keep.path)
    if here is None:
        return "it is no longer there"
    if kept is None:
        return f"the one to keep is no longer there: {keep.name}"
    if file.path.samefile(keep.path):
        return f"it is the same file on disk as {keep.name}, by another name"
    for one, found in ((file, here), (keep, kept)):
        if _changed(one, found):  # it was chosen, or not, for what it no longer is
            return f"{one.name} has changed since it was indexed: run diptych index"
    try:
        if tier == "bytes":
            same = not keep.member and digest(file.path) == digest(keep.path)
            return None if same else f"it is no longer the same as {keep.name}"
        return _still_alike(file, keep, tier)
    except (DiptychError, OSError) as error:
        return str(error)


def _changed(file: File, found: Found) -> bool:
    """Whether what is on disk is not what was indexed; of an archive's size its members know nothing."""
    return found.modified != file.modified or (not file.member and found.size != file.size)


def _still_alike(file: File, keep: File, tier: Tier) -> str | None:
    looks = [Look.of(load_file(one.path, one.member, target=SIDE // 2)) for one in (keep, file)]
    if tier == "scene":
        return None  # nothing but that both are there can be asked of a scene
    glances = [Glance(small_grey(look)) for look in looks]
    verdict = judge(looks[0], looks[1], suspect(glances[0], glances[1], parts=tier == "part"))
    if verdict is not None and tier == "picture":
        verdict = confirmed(verdict, *(Closer.at(one.path, one.member) for one in (keep, file)))
    if verdict is None or verdict.tier not in ("picture", tier) or verdict.whole == 1:
        return f"it no longer shows what {keep.name} shows"
    return None


def _places(roots: Sequence[Path], trash: Path | None) -> Callable[[Path, str], Path]:
    """Where a file goes in this run."""
    if trash is None:
        folders = sorted(
            (root if root.is_dir() else root.parent for root in roots), key=lambda one: len(one.parts)
        )

        def beside(path: Path, run: str) -> Path:
            home = next((one for one in folders if path.is_relative_to(one)), path.parent)
            return home / FOLDER / run / path.relative_to(home)

        return beside
    folder = Path(os.path.abspath(trash.expanduser()))  # noqa: PTH100 - resolve() would follow links
    for root in roots:
        if folder.is_relative_to(root) and not any(
            part.startswith(".") for part in folder.relative_to(root).parts
        ):
            raise InputError(
                f"{trash} is inside {root}, which is indexed: its pictures would come back with the next "
                f"diptych index. Choose a folder elsewhere, or one whose name begins with a dot, or auto"
            )
    return lambda path, run: folder / run / path.relative_to(path.anchor)
