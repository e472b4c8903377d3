"""Move copies to a trash folder, never delete them, and write a list that undoes it.

Right before a file is moved, the kept file is read again: it must exist, be a different file, and still show
the same picture. The undo line is flushed to the device before the file is moved, so a run that is killed at
any instant can be undone.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from diptych.catalog.annotations.annotations import (
    HAND,
    Annotations,
    annotate,
    missing_from,
    read_annotations,
)
from diptych.catalog.annotations.records import ListedFile
from diptych.catalog.duplicates.groups import DuplicateGroup
from diptych.catalog.duplicates.keeping import File
from diptych.catalog.duplicates.undo import Write, undo_list
from diptych.catalog.files.listing import file_at
from diptych.catalog.store.entries import digests_of
from diptych.catalog.store.store import Store
from diptych.errors import DiptychError, InputError, SaveError
from diptych.files.moving import digest, move_file
from diptych.matching.detail_view import DetailView, confirm_same_image
from diptych.matching.parts import GreyThumbnail, small_grey
from diptych.matching.pixels import SIDE, Thumbnail
from diptych.matching.verdicts import Tier, judge_pair, screen_pair
from diptych.media.folders.files import is_picture
from diptych.media.folders.keys import Companions
from diptych.media.folders.sidecar_names import Sidecars
from diptych.media.images import load_file
from diptych.media.metadata.sidecar_fields import SidecarFields, merge_fields

FOLDER = ".diptych-trash"  # hidden, so that indexing skips it


@dataclass
class TrashReport:
    """The result of `move_to_trash`.

    Attributes
    ----------
    undo : Path or None
        The undo list; None if there was nothing to move.
    files : list of (from, to)
        Pictures. A file with several names (hard links) is moved with all names that are indexed.
    companions : list of (from, to)
        Captions and sidecars of these pictures.
    size : int
        Bytes freed in the original folders: 0 for a file that has a further name elsewhere.
    annotated : int
        Kept pictures that received tags or a rating of a moved one.
    refused : list of (File, reason)
        Files that were not moved.
    unmoved : list of (Path, reason)
        Companions of a moved picture that could not be moved.
    """

    undo: Path | None = None
    files: list[tuple[Path, Path]] = field(default_factory=list)
    companions: list[tuple[Path, Path]] = field(default_factory=list)
    size: int = 0
    annotated: int = 0
    refused: list[tuple[File, str]] = field(default_factory=list)
    unmoved: list[tuple[Path, str]] = field(default_factory=list)


def move_to_trash(
    store: Store,
    groups: Sequence[DuplicateGroup],
    trash: Path | None = None,
    *,
    tiers: Collection[Tier],
    lists: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> TrashReport:
    """Move the files of groups that are not kept to a trash folder; members of archives stay.

    Parameters
    ----------
    store : Store
        Moved files are removed from it.
    trash : Path, optional
        By default a hidden folder in each indexed folder, so that moving is a rename. Relative paths are
        preserved.
    tiers : collection of Tier
        Relations to the kept file for which a file is moved.
    lists : Path, optional
        Folder of the undo list; by default in the folder of the catalogue.
    progress : callable, optional
        Called with the number of further files that were handled.

    Raises
    ------
    InputError
        The trash folder is inside an indexed folder, where it would be indexed again.
    SaveError
        The catalogue is read-only, or the device is full.
    """
    if lists is None:
        if store.folder is None:
            raise InputError("this catalogue has no folder: name one for the undo list")
        lists = store.folder / "undo"
    if store.database.readonly:
        raise SaveError(f"{store.folder} is read-only: it could not record what was moved")
    roots = [Path(os.fsdecode(bytes(row[0]))) for row in store.database.all("SELECT path FROM roots")]
    target_of = _target_function(roots, trash)
    moved, kept_names = TrashReport(), {group.kept.file.name for group in groups}
    # Members of archives cannot be moved, and a file that another group keeps must not be.
    todo = [
        (member.file, group.kept.file, member.tier)
        for group in groups
        for member in group.others
        if member.tier in tiers and member.file.name not in kept_names and not member.file.member
    ]
    if not todo:
        return moved
    with undo_list(lists, "" if store.folder is None else str(store.folder.absolute())) as (undo, write):
        moved.undo = undo
        run = _Run(store, lambda path: target_of(path, undo.stem), write, moved)
        for file, keep, tier in todo:
            reason = run.move(file, keep, tier)
            if reason is not None:
                moved.refused.append((file, reason))
            if progress:
                progress(1)
    return moved


# ---------------------------------------------------------------------------------------------- companions


class CompanionFiles:
    """Finds the companion files of pictures; each folder is listed once and cached.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.jpg", "a.txt", "a.jpg.xmp", "b.jpg", "b.nef", "b.xmp"):
    ...         written = Path(folder, name).write_bytes(b"")
    ...     companions = CompanionFiles()
    ...     [path.name for name in ("a.jpg", "b.jpg") for path in companions.of(Path(folder, name))]
    ['a.jpg.xmp', 'a.txt']
    """

    def __init__(self) -> None:
        self._pictures: dict[Path, dict[str, set[str]]] = {}  # folder -> file -> pictures it belongs to
        self._files: dict[Path, dict[str, list[str]]] = {}  # folder -> picture -> files that belong to it

    def of(self, picture: Path) -> list[Path]:
        """The files that belong to this picture alone, sorted.

        They existed when the folder was listed, and may have been removed since.
        """
        pictures, files = self._listed(picture.parent)
        names = files.get(picture.name, ())
        return [picture.with_name(name) for name in sorted(names) if pictures[name] == {picture.name}]

    def leave(self, picture: Path) -> None:
        """Note that a picture was moved: files that it shared with one other picture belong to that one."""
        pictures, files = self._listed(picture.parent)
        for name in files.get(picture.name, ()):
            pictures[name].discard(picture.name)

    def _listed(self, folder: Path) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
        if folder not in self._pictures:
            self._pictures[folder], self._files[folder] = _of_folder(folder)
        return self._pictures[folder], self._files[folder]


def _of_folder(folder: Path) -> tuple[dict[str, set[str]], dict[str, list[str]]]:
    pictures: dict[str, set[str]] = defaultdict(set)
    files: dict[str, list[str]] = {}
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are all that is needed
    except OSError:
        return pictures, files
    companions, sidecars = Companions(names), Sidecars(names)
    for name in filter(is_picture, names):
        files[name] = list(dict.fromkeys((*companions.of(name).values(), *sidecars.of(name))))
        for companion in files[name]:
            pictures[companion].add(name)
    return pictures, files


# ------------------------------------------------------------------------------------------------- moving


@dataclass
class _Run:
    """One run: the target of each file, the writer of the undo list, and the report."""

    store: Store
    target_of: Callable[[Path], Path]
    write: Write
    moved: TrashReport
    companion_files: CompanionFiles = field(default_factory=CompanionFiles)

    def move(self, file: File, keep: File, tier: Tier) -> str | None:
        """Check a file, write its undo line, move it, forget it; returns the reason if it stays."""
        database, added = self.store.database, Annotations()
        # Paths that differ only in links to folders are one name.
        names = list({os.path.realpath(name): name for name in (*file.names, file.path)}.values())
        # Holds the lock of the database: another run that wants to move the kept file waits, and then sees
        # that its own kept file is gone. Without it, two runs could each move the file that the other one
        # keeps.
        with database.writing():
            reason = still_copy(file, keep, tier)
            if reason is not None:
                return reason
            added = missing_from(database, keep.content, _annotations_of(self.store, file, keep))
            line: dict[str, object] = {"kept": keep.name, "tier": tier, "bytes": file.size}
            if added:
                receiver = digests_of(database, [keep.content])[keep.content].hex()
                line |= {"receiver": receiver, "annotations": added.to_json()}
            # Hard links: the space is freed only when all names have gone.
            for name in names:
                reason = self._move_name(name, keep, line)
                if reason is not None:
                    break
                self.moved.files.append((name, self.target_of(name)))
            gone = [name for name in (file.path, *file.names) if not os.path.lexists(name)]
            # In the transaction that checked the file. If it cannot be committed, the files are in the trash
            # and their tags were not passed on; the undo list brings the files back.
            if added and gone:
                annotate(database, keep.content, added)
                self.moved.annotated += 1
        # After the transaction, as it takes the lock again. A kill before it leaves rows of files that do not
        # exist, which the next indexing removes like those of any deleted file.
        self.store.forget([(os.fsencode(name), "") for name in gone])
        if reason is None:
            with contextlib.suppress(OSError):  # a drive that was disconnected meanwhile
                links = self.target_of(names[-1]).lstat().st_nlink
                self.moved.size += file.size if links <= len(names) else 0
        return reason

    def _move_name(self, name: Path, keep: File, line: dict[str, object]) -> str | None:
        """Move one name of a file with its companions; the reason if that fails."""
        target = self.target_of(name)
        companions = self.companion_files.of(name)
        self.write({"from": str(name), "to": str(target), **line})
        try:
            move_file(name, target)
            if not os.path.lexists(keep.path):
                # Both paths lead to one file although the system reports two, e.g. on a network share that is
                # mounted twice. Only moving one of them shows it.
                move_file(target, name)
                return f"{keep.name} is the same file by another path: is one drive indexed by two paths?"
        except (OSError, SaveError) as error:
            return str(error)
        for companion in companions:
            self._move_companion(companion, name)
        self.companion_files.leave(name)
        return None

    def _move_companion(self, companion: Path, picture: Path) -> None:
        target = self.target_of(companion)
        self.write({"from": str(companion), "to": str(target), "companion_of": str(picture)})
        try:
            move_file(companion, target)
            self.moved.companions.append((companion, target))
        except (OSError, SaveError) as error:
            self.moved.unmoved.append((companion, str(error)))


def _annotations_of(store: Store, file: File, keep: File) -> Annotations:
    """Annotations of a moved file that the kept picture should receive, with those in its sidecars.

    The sidecars move with the file, so their content is passed on as if annotated by hand.
    """
    database = store.database
    texts = database.all(
        "SELECT sidecar_data FROM files WHERE path = ? AND member = '' AND sidecar_data <> ''",
        (os.fsencode(file.path),),
    )
    fields = merge_fields(SidecarFields.from_json(row[0]) for row in texts)
    tags = tuple((HAND, word, 1.0) for word in fields.keywords)
    ratings = ((HAND, fields.rating),) if fields.rating else ()
    if file.content == keep.content:
        return Annotations(tags, ratings)
    stored = read_annotations(database, [file.content]).get(file.content, Annotations())
    stored_names = {tag for _, tag, _ in stored.tags}
    is_rated = any(origin == HAND for origin, _ in stored.ratings)
    return Annotations(
        stored.tags + tuple(entry for entry in tags if entry[1] not in stored_names),
        stored.ratings if is_rated else stored.ratings + ratings,
    )


def still_copy(file: File, keep: File, tier: Tier) -> str | None:
    """Why a file must not be moved, judged by the files on disk; None if it may be moved."""
    # The cheap checks first: names, inodes and times, before bytes or pixels are read.
    current, kept_now = (file_at(path, helpers=False) for path in (file.path, keep.path))
    if current is None:
        return "it no longer exists"
    if kept_now is None:
        return f"the file to keep no longer exists: {keep.name}"
    links = [name for name in file.names if name.is_symlink()]
    if links:
        return f"{links[0]} is a link to it and would break: change the link to {keep.name} first"
    if file.path.samefile(keep.path):
        return f"it is the same file on disk as {keep.name}, by another name"
    if not keep.member and _is_one_file_on_two_mounts(current, kept_now):
        return f"{keep.name} seems to be the same file on another mount of the same drive: remove one of them"
    for indexed, on_disk in ((file, current), (keep, kept_now)):
        if _has_changed(indexed, on_disk):  # the rules have compared an outdated file
            return f"{indexed.name} has changed since it was indexed: run diptych index"
    try:
        if tier == "bytes":
            same = not keep.member and digest(file.path) == digest(keep.path)
            return None if same else f"it is no longer identical to {keep.name}"
        return _still_alike(file, keep, tier)
    except (DiptychError, OSError) as error:
        return str(error)


def _is_one_file_on_two_mounts(a: ListedFile, b: ListedFile) -> bool:
    """Whether two files differ only in their device, like one file on a share that is mounted twice.

    Copies have different inodes, and two files do not change in the same nanosecond.
    """
    states = [(file.inode, file.size, file.modified, file.changed) for file in (a, b)]
    return a.device != b.device and states[0] == states[1] and 0 not in (a.inode, a.changed)


def _has_changed(file: File, on_disk: ListedFile) -> bool:
    """Whether a file has changed since it was indexed; the size of a member is not that of its archive."""
    return on_disk.modified != file.modified or (not file.member and on_disk.size != file.size)


def _still_alike(file: File, keep: File, tier: Tier) -> str | None:
    pair = (keep, file)
    thumbnails = [Thumbnail.of(load_file(each.path, each.member, target=SIDE // 2)) for each in pair]
    if tier == "scene":
        return None  # both can be read; pixels cannot confirm a scene
    grey = [GreyThumbnail(small_grey(thumbnail)) for thumbnail in thumbnails]
    screening = screen_pair(grey[0], grey[1], parts=tier == "part")
    verdict = judge_pair(thumbnails[0], thumbnails[1], screening)
    if verdict is not None and tier == "picture":
        verdict = confirm_same_image(verdict, *(DetailView.at(each.path, each.member) for each in pair))
    # `whole` 1: the file to be moved contains the one that is kept, and moving it would lose the rest of it.
    if verdict is None or verdict.tier not in ("picture", tier) or verdict.whole == 1:
        return f"it no longer shows the same as {keep.name}"
    return None


def _target_function(roots: Sequence[Path], trash: Path | None) -> Callable[[Path, str], Path]:
    """The function from (path, name of the run) to the path in the trash."""
    if trash is None:
        folders = sorted(
            (root if root.is_dir() else root.parent for root in roots), key=lambda folder: len(folder.parts)
        )

        def in_root(path: Path, run: str) -> Path:
            home = next((folder for folder in folders if path.is_relative_to(folder)), path.parent)
            return home / FOLDER / run / path.relative_to(home)

        return in_root
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
