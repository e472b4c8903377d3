"""Lists by which moved files are put back: one line for each, on the device before the file moves.

A run that is killed at any instant leaves a list that is good; putting back may be killed and repeated too.
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

from diptych.catalog.annotations.annotations import Annotations
from diptych.errors import InputError, SaveError
from diptych.files.disk import saving
from diptych.files.moving import move_file, part_of, same_bytes

Write: TypeAlias = Callable[[dict[str, object]], None]
_HEADER: dict[str, object] = {"diptych": "undo", "version": 1}


@dataclass(frozen=True)
class UndoLine:
    """One file that was moved.

    Attributes
    ----------
    source, target : Path
        From where, and to where.
    companion : bool
        It is no picture but a file that belongs to one, see `companions`.
    receiver : str
        The hash, in hexadecimal, of the picture that got annotations of this one; "" where none did.
    annotations : Annotations
        Which ones it got.
    """

    source: Path
    target: Path
    companion: bool = False
    receiver: str = ""
    annotations: Annotations = field(default_factory=Annotations)


@dataclass
class RestoreReport:
    """What came of putting back.

    Attributes
    ----------
    lines : list of UndoLine
        Of files that are back in their places.
    untouched : int
        Were never moved, or are back already.
    problems : list of (Path, reason)
    """

    lines: list[UndoLine] = field(default_factory=list)
    untouched: int = 0
    problems: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """Pictures that are back in their places."""
        return [line.source for line in self.lines if not line.companion]


@contextlib.contextmanager
def undo_list(folder: Path, catalog: str = "") -> Iterator[tuple[Path, Write]]:
    """A new list in a folder: its path, whose stem names the run, and what writes a line for good.

    Parameters
    ----------
    folder : Path
    catalog : str
        The folder of the catalogue that has to be told when files are put back.
    """
    folder = folder.absolute()  # the list is named to the user, who may be elsewhere when it is needed
    with saving(folder):
        folder.mkdir(parents=True, exist_ok=True)
        path, file = _new(folder)

    def write(line: dict[str, object]) -> None:
        with saving(path):
            # ASCII: names that are no text come back unharmed.
            file.write(json.dumps(line).encode("ascii") + b"\n")
            file.flush()
            os.fsync(file.fileno())

    with file:
        _locked(file)
        write(_HEADER | ({"catalog": catalog} if catalog else {}))
        yield path, write


def is_being_written(path: Path) -> bool:
    """Whether a run at work writes a list; False where the system has no locks to tell."""
    with path.open("rb") as file:
        return not _locked(file)


def _locked(file: BinaryIO) -> bool:
    """Lock a list until it is closed; False where another process has locked it."""
    if os.name != "posix":
        return True
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _new(folder: Path) -> tuple[Path, BinaryIO]:
    now, number = f"{datetime.now():%Y%m%d-%H%M%S}", 1
    while True:
        path = folder / (f"{now}.jsonl" if number == 1 else f"{now}-{number}.jsonl")
        try:
            return path, path.open("xb")
        except FileExistsError:
            number += 1


def put_back(undo: Path) -> RestoreReport:
    """Put the files of an undo list back where they were; nothing is written over, and it may be repeated.

    Raises
    ------
    InputError
        It is no undo list.
    """
    restored = RestoreReport()
    for line in reversed(read_undo(undo)):
        source, target = line.source, line.target
        there, back = os.path.lexists(target), os.path.lexists(source)
        try:
            if there and not back:
                move_file(target, source)
                restored.lines.append(line)
            elif there and _both(source, target):
                target.unlink()  # killed between giving the new name and taking the old: that one stays
                restored.untouched += 1
            elif there:
                restored.problems.append(
                    (source, f"something is there again; the moved one stays in {target}")
                )
            elif back:
                part_of(target).unlink(missing_ok=True)  # killed while it was copied
                restored.untouched += 1
            else:
                restored.problems.append((source, f"it is neither there nor in {target}"))
            if os.path.lexists(source):
                _remove_empty(target.parent, undo.stem)
        except (OSError, SaveError) as error:
            restored.problems.append((source, str(error)))
    return restored


def _both(source: Path, target: Path) -> bool:
    """Whether a file that was being moved is whole in both places; a link to the moved one is no file."""
    one, two = source.lstat(), target.lstat()
    if (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino):
        return one.st_nlink >= 2 and not source.is_symlink()
    return source.is_symlink() == target.is_symlink() and same_bytes(source, target)


def catalog_of(undo: Path) -> str:
    """The catalogue whose files a list is of; "" in lists that do not say."""
    header = next(_parsed(_lines_of(undo)[:1]), None) or {}
    return str(header.get("catalog", ""))


def read_undo(path: Path) -> list[UndoLine]:
    """Every line; a last one that was cut short was never acted upon.

    Raises
    ------
    InputError
        It is no undo list, or damaged.
    """
    lines = _lines_of(path)
    moved: list[UndoLine] = []
    for number, line in enumerate(_parsed(lines)):
        if number == 0 and (line is None or line.get("diptych") != "undo"):
            break
        if number and line is None and number < len(lines) - 1:
            raise InputError(
                f"{path}: line {number + 1} is damaged. The files it and others name are in the trash"
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
        f"{path} is no undo list of diptych: expected one that  diptych duplicates --trash  named"
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
    """Remove what a run's folder leaves behind, as far up as it is empty, itself at last."""
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
