"""Copies moved out of the way, never deleted, with a list by which they are put back.

Right before a file is moved, the one that is kept is read again: it has to be there, another file, and still
the same picture. The line that puts a file back is on the device before the file moves, so a run that is
killed at any instant can be undone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from diptych.catalog.groups import Group
from diptych.catalog.keeping import File
from diptych.catalog.looks import glance_of, read_look
from diptych.catalog.moving import digest, move_file
from diptych.catalog.store import Store
from diptych.catalog.verdicts import Tier, judge, suspect
from diptych.disk import saving
from diptych.errors import DiptychError, InputError, SaveError

FOLDER = ".diptych-trash"  # hidden, so that indexing passes it over
_HEADER = {"diptych": "undo", "version": 1}


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


@dataclass
class Restored:
    """What came of putting back.

    Attributes
    ----------
    files : list of Path
        Back in their places.
    untouched : int
        Were never moved, or are back already.
    problems : list of (Path, reason)
    """

    files: list[Path] = field(default_factory=list)
    untouched: int = 0
    problems: list[tuple[Path, str]] = field(default_factory=list)


def move_to_trash(
    store: Store,
    groups: Sequence[Group],
    trash: Path | None = None,
    *,
    tiers: Collection[Tier] = ("bytes", "picture"),
    progress: Callable[[int], None] | None = None,
) -> Moved:
    """Move the files of groups that are not kept into a trash folder.

    Parameters
    ----------
    store : Store
        Forgets what is moved.
    groups : sequence of Group
    trash : Path, optional
        By default a hidden folder in each indexed one, so that moving is renaming. Paths are kept in it.
    tiers : collection of Tier
        What may be moved, by what it is to the kept file.
    progress : callable, optional
        Told how many more were dealt with.

    Raises
    ------
    InputError
        The trash folder is among the pictures, where it would be indexed again.
    SaveError
        The catalogue may not be written to, or the device is full.
    """
    if store.database.readonly:
        raise SaveError(f"{store.folder} may not be written to, and would not know what was moved")
    roots = [Path(os.fsdecode(bytes(row[0]))) for row in store.database.all("SELECT path FROM roots")]
    place = _places(roots, trash)
    moved, kept = Moved(), {group.kept.file.name for group in groups}
    todo = [
        (member.file, group.kept.file, member.tier)
        for group in groups
        for member in group.others
        if member.tier in tiers and member.file.name not in kept
    ]
    if not todo:
        return moved
    with _undo_list(store.folder / "undo") as (run, undo, write):
        moved.undo = undo
        for file, keep, tier in todo:
            target = place(file.path, run)
            reason = _move(store, file, keep, tier, target, write)
            if reason is None:
                moved.files.append((file.path, target))
                moved.size += file.size
            else:
                moved.refused.append((file, reason))
            if progress:
                progress(1)
    return moved


def put_back(undo: Path) -> Restored:
    """Put the files of an undo list back where they were; nothing is written over, and it may be repeated.

    Raises
    ------
    InputError
        It is no undo list.
    """
    restored = Restored()
    for source, target in reversed(_read_undo(undo)):
        there, back = os.path.lexists(target), os.path.lexists(source)
        try:
            if there and not back:
                move_file(target, source)
                restored.files.append(source)
                _remove_empty(target.parent)
            elif there and os.path.samefile(source, target):
                target.unlink()  # killed between two names of one file: the other one stays
                restored.untouched += 1
            elif there:
                restored.problems.append((source, f"something is there again; the moved one stays in {target}"))
            elif back:
                restored.untouched += 1
            else:
                restored.problems.append((source, f"it is neither there nor in {target}"))
        except (OSError, SaveError) as error:
            restored.problems.append((source, str(error)))
    return restored


# ------------------------------------------------------------------------------------------------- moving


def _move(
    store: Store, file: File, keep: File, tier: Tier, target: Path, write: Callable[[dict[str, object]], None]
) -> str | None:
    """Check, write down, move, forget; the reason where it stays."""
    if file.member:
        return "it is in an archive"
    # The database's lock: another run that would move the file kept here has to wait, and then sees.
    with store.database.writing():
        reason = still_copy(file, keep, tier)
        if reason is not None:
            return reason
        write({"from": str(file.path), "to": str(target), "kept": keep.name, "tier": tier, "bytes": file.size})
        try:
            move_file(file.path, target)
        except (OSError, SaveError) as error:
            return str(error)
    store.forget([(os.fsencode(file.path), "")])
    return None


def still_copy(file: File, keep: File, tier: Tier) -> str | None:
    """Why a file may not be moved, by what is on disk now; None where it may."""
    if not file.path.is_file():
        return "it is no longer there"
    if not keep.path.is_file():
        return f"the one to keep is no longer there: {keep.name}"
    if os.path.samefile(file.path, keep.path):
        return f"it is the same file on disk as {keep.name}, by another name"
    try:
        if tier == "bytes":
            same = not keep.member and digest(file.path) == digest(keep.path)
            return None if same else f"it is no longer the same as {keep.name}"
        return _still_alike(file, keep, tier)
    except (DiptychError, OSError) as error:
        return str(error)


def _still_alike(file: File, keep: File, tier: Tier) -> str | None:
    looks = read_look(keep.path, keep.member), read_look(file.path, file.member)
    if tier == "scene":
        return None  # nothing but that both are there can be asked of a scene
    glances = [glance_of(look) for look in looks]
    verdict = judge(*looks, suspect(*glances, parts=tier == "part"))
    if verdict is None or verdict.tier not in ("picture", tier) or verdict.whole == 1:
        return f"it no longer shows what {keep.name} shows"
    return None


def _places(roots: Sequence[Path], trash: Path | None) -> Callable[[Path, str], Path]:
    """Where a file goes in this run."""
    if trash is None:
        folders = sorted((root if root.is_dir() else root.parent for root in roots), key=lambda one: len(one.parts))

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


# ---------------------------------------------------------------------------------------------- undo list


class _undo_list:
    """A new list in a folder; gives the run's name, the path, and a function that writes a line for good."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> tuple[str, Path, Callable[[dict[str, object]], None]]:
        now, number = f"{datetime.now():%Y%m%d-%H%M%S}", 1
        with saving(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            while True:
                run = now if number == 1 else f"{now}-{number}"
                path = self.folder / f"{run}.jsonl"
                try:
                    self.file: BinaryIO = path.open("xb")
                    break
                except FileExistsError:
                    number += 1
        self.path = path
        self.write(dict(_HEADER))
        return run, path, self.write

    def write(self, line: dict[str, object]) -> None:
        """A line, on the device when this returns. ASCII: names that are no text come back unharmed."""
        with saving(self.path):
            self.file.write(json.dumps(line).encode("ascii") + b"\n")
            self.file.flush()
            os.fsync(self.file.fileno())

    def __exit__(self, *_: object) -> None:
        self.file.close()


def _read_undo(path: Path) -> list[tuple[Path, Path]]:
    """(from, to) of every line; a last one that was cut short was never acted upon."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    found: list[tuple[Path, Path]] = []
    for number, line in enumerate(_parsed(lines)):
        if number == 0 and (line is None or line.get("diptych") != "undo"):
            break
        if number and line is None and number < len(lines) - 1:
            raise InputError(f"{path}: line {number + 1} is damaged. The files it and others name are in the trash")
        if number and line is not None:
            found.append((Path(str(line["from"])), Path(str(line["to"]))))
    else:
        if lines:
            return found
    raise InputError(f"{path} is no undo list of diptych: expected one that  diptych duplicates --trash  named")


def _parsed(lines: Sequence[bytes]) -> Iterator[dict[str, object] | None]:
    for line in lines:
        try:
            parsed = json.loads(line)
            yield parsed if isinstance(parsed, dict) else None
        except ValueError:
            yield None


def _remove_empty(folder: Path) -> None:
    """Remove what the trash leaves behind, as far up as it is empty."""
    while FOLDER in folder.parts or folder.name:
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent
