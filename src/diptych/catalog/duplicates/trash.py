"""Copies moved out of the way, never deleted, with a list by which they are put back.

Right before a file is moved, the one that is kept is read again: it has to be there, another file, and still
the same picture. The line that puts a file back is on the device before the file moves, so a run that is
killed at any instant can be undone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diptych.catalog.annotations.annotations import (
    HAND,
    Annotations,
    annotate,
    missing_from,
    read_annotations,
    remove_annotations,
)
from diptych.catalog.annotations.records import ImageRecord, ListedFile
from diptych.catalog.duplicates.companion_files import CompanionFiles
from diptych.catalog.duplicates.groups import DuplicateGroup
from diptych.catalog.duplicates.keeping import File
from diptych.catalog.duplicates.undo import RestoreReport, Write, undo_list
from diptych.catalog.files.listing import file_at
from diptych.catalog.indexing.reading import read_ahead
from diptych.catalog.store.entries import digests_of
from diptych.catalog.store.store import Store
from diptych.errors import DiptychError, InputError, SaveError
from diptych.files.moving import digest, move_file
from diptych.matching.detail_view import DetailView, confirm_same_image
from diptych.matching.parts import GreyThumbnail, small_grey
from diptych.matching.pixels import SIDE, Thumbnail
from diptych.matching.verdicts import Tier, judge_pair, screen_pair
from diptych.media import Limits
from diptych.media.images import load_file
from diptych.media.metadata.sidecar_fields import SidecarFields, merge_fields

FOLDER = ".diptych-trash"  # hidden, so that indexing passes it over


@dataclass
class TrashReport:
    """What came of moving.

    Attributes
    ----------
    undo : Path or None
        The list that puts the files back; None when nothing was to be moved.
    files : list of (from, to)
        Pictures. A file of several names (hard links) is moved with all of them that are indexed.
    companions : list of (from, to)
        Files that belong to these pictures: captions and metadata beside them.
    size : int
        What the places they were in have more room now, in bytes: nothing for a file that has a further name
        elsewhere.
    annotated : int
        Kept pictures that got tags or a rating of one that was moved.
    refused : list of (File, reason)
        What stayed where it is.
    left : list of (Path, reason)
        Files that belong to a moved picture and could not follow it.
    """

    undo: Path | None = None
    files: list[tuple[Path, Path]] = field(default_factory=list)
    companions: list[tuple[Path, Path]] = field(default_factory=list)
    size: int = 0
    annotated: int = 0
    refused: list[tuple[File, str]] = field(default_factory=list)
    left: list[tuple[Path, str]] = field(default_factory=list)


def move_to_trash(
    store: Store,
    groups: Sequence[DuplicateGroup],
    trash: Path | None = None,
    *,
    tiers: Collection[Tier],
    lists: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> TrashReport:
    """Move the files of groups that are not kept into a trash folder; what is inside archives stays there.

    Parameters
    ----------
    store : Store
        Forgets what is moved.
    groups : sequence of DuplicateGroup
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
    moved, kept = TrashReport(), {group.kept.file.name for group in groups}
    todo = [
        (member.file, group.kept.file, member.tier)
        for group in groups
        for member in group.others
        if member.tier in tiers and member.file.name not in kept and not member.file.member
    ]
    if not todo:
        return moved
    with undo_list(lists, "" if store.folder is None else str(store.folder.absolute())) as (undo, write):
        moved.undo = undo
        run = _Run(store, lambda path: place(path, undo.stem), write, moved)
        for file, keep, tier in todo:
            reason = run.move(file, keep, tier)
            if reason is not None:
                moved.refused.append((file, reason))
            if progress:
                progress(1)
    return moved


def take_back(store: Store, restored: RestoreReport) -> int:
    """Tell the catalogue of files that are back, where it knows their picture; how many it does not know.

    Those are new to it, and the next indexing embeds them. Annotations that a kept picture got from one that
    is back are withdrawn again: the one that is back has them.
    """
    space, unknown = store.active, len(restored.files)
    if space is None or store.database.readonly:
        return unknown
    with store.database.writing():
        for line in restored.lines:
            for (content,) in store.database.all(
                "SELECT id FROM contents WHERE hash = ?", (bytes.fromhex(line.receiver),)
            ):
                remove_annotations(store.database, content, line.annotations)
    there = filter(None, map(file_at, restored.files))
    for read in read_ahead(there, Limits()):
        if read.record.error is None and store.known([read.hash], space):
            store.save_images([ImageRecord([read.record], hash=read.hash, known=True)], space)
            unknown -= 1
    return unknown


# ------------------------------------------------------------------------------------------------- moving


@dataclass
class _Run:
    """One run of moving: where files go, the list that undoes it, and what came of it."""

    store: Store
    place: Callable[[Path], Path]
    write: Write
    moved: TrashReport
    belongings: CompanionFiles = field(default_factory=CompanionFiles)

    def move(self, file: File, keep: File, tier: Tier) -> str | None:
        """Check, write down, move, forget; the reason where it stays."""
        database, given = self.store.database, Annotations()
        # Paths over links to folders are no names of their own.
        names = list({os.path.realpath(name): name for name in (*file.names, file.path)}.values())
        # The database's lock: another run that would move the file kept here has to wait, and then sees.
        with database.writing():
            reason = still_copy(file, keep, tier)
            if reason is not None:
                return reason
            given = missing_from(database, keep.content, _annotations_of(self.store, file, keep))
            line: dict[str, object] = {"kept": keep.name, "tier": tier, "bytes": file.size}
            if given:
                receiver = digests_of(database, [keep.content])[keep.content].hex()
                line |= {"receiver": receiver, "annotations": given.to_json()}
            for name in names:
                reason = self._move_name(name, keep, line)
                if reason is not None:
                    break
                self.moved.files.append((name, self.place(name)))
            gone = [name for name in (file.path, *file.names) if not os.path.lexists(name)]
            if given and gone:
                annotate(database, keep.content, given)
                self.moved.annotated += 1
        self.store.forget([(os.fsencode(name), "") for name in gone])
        if reason is None:
            with contextlib.suppress(OSError):  # of a drive that went away right after
                links = self.place(names[-1]).lstat().st_nlink
                self.moved.size += file.size if links <= len(names) else 0
        return reason

    def _move_name(self, name: Path, keep: File, line: dict[str, object]) -> str | None:
        """One name of a file, with what belongs to it; the reason where it stays."""
        target = self.place(name)
        beside = self.belongings.of(name)
        self.write({"from": str(name), "to": str(target), **line})
        try:
            move_file(name, target)
            if not os.path.lexists(keep.path):
                # Two paths that lead to one file in a way that the system does not tell: a share mounted
                # twice. Nothing but taking one of them away shows it.
                move_file(target, name)
                return f"it is the only file behind {keep.name} too: are two paths of one drive indexed?"
        except (OSError, SaveError) as error:
            return str(error)
        for companion in beside:
            self._move_companion(companion, name)
        self.belongings.leave(name)
        return None

    def _move_companion(self, companion: Path, picture: Path) -> None:
        target = self.place(companion)
        self.write({"from": str(companion), "to": str(target), "companion_of": str(picture)})
        try:
            move_file(companion, target)
            self.moved.companions.append((companion, target))
        except (OSError, SaveError) as error:
            self.moved.left.append((companion, str(error)))


def _annotations_of(store: Store, file: File, keep: File) -> Annotations:
    """What the kept picture should have of a file that is moved: annotations, and what its sidecars say.

    The sidecars go with the file, so what they say is given as if by hand.
    """
    database = store.database
    texts = database.all(
        "SELECT sidecar_data FROM files WHERE path = ? AND member = '' AND sidecar_data <> ''",
        (os.fsencode(file.path),),
    )
    said = merge_fields(SidecarFields.from_json(row[0]) for row in texts)
    tags = tuple((HAND, word, 1.0) for word in said.keywords)
    ratings = ((HAND, said.rating),) if said.rating else ()
    if file.content == keep.content:
        return Annotations(tags, ratings)
    made = read_annotations(database, [file.content]).get(file.content, Annotations())
    named = {tag for _, tag, _ in made.tags}
    rated = any(origin == HAND for origin, _ in made.ratings)
    return Annotations(
        made.tags + tuple(entry for entry in tags if entry[1] not in named),
        made.ratings if rated else made.ratings + ratings,
    )


def still_copy(file: File, keep: File, tier: Tier) -> str | None:
    """Why a file may not be moved, by what is on disk now; None where it may."""
    here, kept = (file_at(path, helpers=False) for path in (file.path, keep.path))
    if here is None:
        return "it is no longer there"
    if kept is None:
        return f"the one to keep is no longer there: {keep.name}"
    links = [name for name in file.names if name.is_symlink()]
    if links:
        return f"{links[0]} is a link to it, and would lead nowhere: let the link lead to {keep.name} first"
    if file.path.samefile(keep.path):
        return f"it is the same file on disk as {keep.name}, by another name"
    if not keep.member and _is_one_file_on_two_mounts(here, kept):
        return (
            f"{keep.name} seems to be this very file on another mount of the same drive: remove one of them"
        )
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


def _is_one_file_on_two_mounts(here: ListedFile, kept: ListedFile) -> bool:
    """Whether two files differ in their device alone, as one file of a share that is mounted twice does.

    Copies have inodes of their own, and no two files change in the same nanosecond.
    """
    states = [(file.inode, file.size, file.modified, file.changed) for file in (here, kept)]
    return here.device != kept.device and states[0] == states[1] and 0 not in (here.inode, here.changed)


def _changed(file: File, found: ListedFile) -> bool:
    """Whether what is on disk is not what was indexed; of an archive's size its members know nothing."""
    return found.modified != file.modified or (not file.member and found.size != file.size)


def _still_alike(file: File, keep: File, tier: Tier) -> str | None:
    looks = [Thumbnail.of(load_file(one.path, one.member, target=SIDE // 2)) for one in (keep, file)]
    if tier == "scene":
        return None  # nothing but that both are there can be asked of a scene
    glances = [GreyThumbnail(small_grey(look)) for look in looks]
    verdict = judge_pair(looks[0], looks[1], screen_pair(glances[0], glances[1], parts=tier == "part"))
    if verdict is not None and tier == "picture":
        verdict = confirm_same_image(verdict, *(DetailView.at(one.path, one.member) for one in (keep, file)))
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
