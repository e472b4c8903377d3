"""Undo lists: one line for each moved file, flushed to the device before the file is moved.

A run that is killed at any instant leaves a valid list; putting back may be interrupted and repeated too.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TypeAlias

from diptych.catalog.annotations.annotations import Annotations, remove_annotations
from diptych.catalog.annotations.records import ImageRecord
from diptych.catalog.files.listing import file_at
from diptych.catalog.indexing.reading import read_files
from diptych.catalog.store.store import Store
from diptych.errors import InputError, SaveError
from diptych.files.disk import saving
from diptych.files.moving import move_file, part_of, same_bytes
from diptych.media import Limits

Write: TypeAlias = Callable[[dict[str, object]], None]
_HEADER: dict[str, object] = {"diptych": "undo", "version": 1}


@dataclass(frozen=True)
class UndoLine:
    """One file that was moved.

    Attributes
    ----------
    source, target : Path
        The original path, and the path in the trash.
    companion : bool
        The file is not a picture but a companion of one, see `trash.CompanionFiles`.
    receiver : str
        Hash, in hexadecimal, of the picture that received annotations of this one; "" if none did.
    annotations : Annotations
        The annotations that it received.
    """

    source: Path
    target: Path
    companion: bool = False
    receiver: str = ""
    annotations: Annotations = field(default_factory=Annotations)


@dataclass
class RestoreReport:
    """The result of `put_back`."""

    lines: list[UndoLine] = field(default_factory=list)  # files that were put back
    untouched: int = 0  # number of files that were never moved, or were put back before
    problems: list[tuple[Path, str]] = field(default_factory=list)  # (path, reason)

    @property
    def files(self) -> list[Path]:
        """Pictures that were put back."""
        return [line.source for line in self.lines if not line.companion]


@contextlib.contextmanager
def undo_list(folder: Path, catalog: str = "") -> Iterator[tuple[Path, Write]]:
    """Create a list; yields its path, whose stem names the run, and a function that appends a line.

    `catalog` is the folder of the catalogue, which is updated when files are put back.
    """
    folder = folder.absolute()  # the path is shown to the user, whose working directory may change
    with saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path, file = _new(folder)

    # Called before the file is moved, and returns when the line is on the device. So after a kill the list
    # may name a file that was not moved, which `put_back` recognises, but it never lacks one that was.
    def write(line: dict[str, object]) -> None:
        with saving(path):
            # ASCII escapes preserve file names that are not valid Unicode.
            file.write(json.dumps(line).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())

    with file:
        _locked(file)
        write(_HEADER | ({"catalog": catalog} if catalog else {}))
        yield path, write


def is_being_written(path: Path) -> bool:
    """Whether a running process writes a list; False where the system has no locks."""
    with path.open("rb") as file:
        return not _locked(file)


def _locked(file: BinaryIO) -> bool:
    """Lock a list until it is closed; False if another process holds the lock."""
    if os.name != "posix":
        return True
    import fcntl

    try:
        # The system releases the lock when the file is closed, also by a kill: no stale lock has to be
        # removed.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system does not support locks
        return True
    return True


def _new(folder: Path) -> tuple[Path, BinaryIO]:
    # "x" below fails if the file exists: two runs in the same second get two lists.
    now, number = f"{datetime.now():%Y%m%d-%H%M%S}", 1
    while True:
        path = folder / (f"{now}.jsonl" if number == 1 else f"{now}-{number}.jsonl")
        try:
            return path, path.open("xb")
        except FileExistsError:
            number += 1


def put_back(undo: Path) -> RestoreReport:
    """Move the files of an undo list back; existing files are never overwritten, and it may be repeated.

    Raises
    ------
    InputError
        The file is not an undo list.
    """
    restored = RestoreReport()
    for line in reversed(read_undo(undo)):
        source, target = line.source, line.target
        # The four states of a file. In the trash only: moved. In both places: killed between making the new
        # name and removing the old one, or another file has taken the old name. At the old path only: never
        # moved, or put back before. In neither: lost, by someone else.
        in_trash, is_back = os.path.lexists(target), os.path.lexists(source)
        try:
            if in_trash and not is_back:
                move_file(target, source)
                restored.lines.append(line)
            elif in_trash and _are_same(source, target):
                target.unlink()  # killed after the new name was made and before the old one was removed
                restored.untouched += 1
            elif in_trash:
                restored.problems.append(
                    (source, f"another file has this name now; the moved file stays in {target}")
                )
            elif is_back:
                part_of(target).unlink(missing_ok=True)  # killed while copying
                restored.untouched += 1
            else:
                restored.problems.append((source, f"it is missing, also in {target}"))
            if os.path.lexists(source):
                _remove_empty(target.parent, undo.stem)
        except (OSError, SaveError) as error:
            restored.problems.append((source, str(error)))
    return restored


def take_back(store: Store, restored: RestoreReport) -> int:
    """Add files that were put back to the catalogue; returns how many hold unknown pictures.

    Unknown pictures are embedded by the next indexing. Annotations that a kept picture received from a file
    that is back are withdrawn: that file has them again.
    """
    space, unknown = store.active, len(restored.files)
    if space is None or store.database.readonly:
        return unknown
    with store.database.writing():
        # Only those that are unchanged: what a person has edited since then is not taken away.
        for line in restored.lines:
            for (content,) in store.database.all(
                "SELECT id FROM contents WHERE hash = ?", (bytes.fromhex(line.receiver),)
            ):
                remove_annotations(store.database, content, line.annotations)
    # A picture whose content is known needs no encoder, only a row in `files`. A content that lost its last
    # file to the trash was removed with its embedding, so it is unknown now.
    existing = filter(None, map(file_at, restored.files))
    for read in read_files(existing, Limits()):
        if read.record.error is None and store.stored_results([read.hash], space):
            store.save_images([ImageRecord([read.record], hash=read.hash, stored=True)], space)
            unknown -= 1
    return unknown


def _are_same(source: Path, target: Path) -> bool:
    """Whether an interrupted move has left the complete file under both paths.

    A symbolic link from one path to the other does not count: removing its target would lose the file.
    """
    source_status, target_status = source.lstat(), target.lstat()
    if (source_status.st_dev, source_status.st_ino) == (target_status.st_dev, target_status.st_ino):
        return source_status.st_nlink >= 2 and not source.is_symlink()
    return source.is_symlink() == target.is_symlink() and same_bytes(source, target)


def catalog_of(undo: Path) -> str:
    """The folder of the catalogue that a list belongs to; "" if the list does not name it."""
    header = next(_parsed(_lines_of(undo)[:1]), None) or {}
    return str(header.get("catalog", ""))


def read_undo(path: Path) -> list[UndoLine]:
    """Read all lines. An incomplete last line is ignored: its file was not moved yet.

    Raises
    ------
    InputError
        The file is not an undo list, or damaged.
    """
    lines = _lines_of(path)
    moved: list[UndoLine] = []
    # Line 0 is the header. The `else` of this loop runs unless the header was another program's (`break`).
    for number, line in enumerate(_parsed(lines)):
        if number == 0 and (line is None or line.get("diptych") != "undo"):
            break
        if number and line is None and number < len(lines) - 1:
            raise InputError(
                f"{path}: line {number + 1} is damaged. The files that the list names are in the trash"
            )
        if number and line is not None:
            moved.append(
                UndoLine(
                    Path(str(line["from"])),
                    Path(str(line["to"])),
                    companion="companion_of" in line,
                    receiver=_hexadecimal(line.get("receiver")),
                    annotations=Annotations.from_json(str(line.get("annotations", ""))),
                )
            )
    else:
        if lines:
            return moved
    raise InputError(
        f"{path} is not an undo list: expected a file that  diptych duplicates --trash  has named"
    )


def _hexadecimal(value: object) -> str:
    return value if isinstance(value, str) and re.fullmatch("([0-9a-f]{2})*", value) else ""


def _lines_of(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def _parsed(lines: Sequence[bytes]) -> Iterator[dict[str, object] | None]:
    for line in lines:
        try:
            parsed = json.loads(line)
            yield parsed if isinstance(parsed, dict) else None
        except ValueError:
            yield None


def _remove_empty(folder: Path, run: str) -> None:
    """Remove a folder and its parents up to the folder of the run, as long as they are empty."""
    if run not in folder.parts:
        return
    while True:
        try:
            folder.rmdir()
        except OSError:
            return
        if folder.name == run:
            return
        folder = folder.parent
