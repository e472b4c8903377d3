"""Copying pictures into one folder a label; nothing is ever overwritten or left half-copied."""

from __future__ import annotations

import filecmp
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from diptych.disk import place
from diptych.errors import SaveError

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')  # by one file system or another
_LONGEST = 80  # characters of a folder's name


def folders_of(labels: Iterable[str]) -> dict[str, str]:
    """A folder's name for each label: allowed on any file system, and each label its own.

    Examples
    --------
    >>> folders_of(["cats/dogs: both?", "..", "Cat", "cat"])
    {'cats/dogs: both?': 'cats_dogs_ both_', '..': 'label', 'Cat': 'Cat', 'cat': 'cat (2)'}
    """
    folders: dict[str, str] = {}
    taken: set[str] = set()
    for label in dict.fromkeys(labels):
        name = own = _FORBIDDEN.sub("_", label)[:_LONGEST].strip(" .") or "label"
        number = 1
        while own.casefold() in taken:  # some file systems take Cat and cat for one name
            number += 1
            own = f"{name} ({number})"
        taken.add(own.casefold())
        folders[label] = own
    return folders


def copy_into(folder: Path, source: Path) -> Path:
    """Copy a file into a folder and return its new path; where a name is taken, a number is added.

    The same file copied again stays where it is, so the same command again is the way to resume.

    Raises
    ------
    SaveError
        No space, no permission.
    """
    try:
        free = folder / source.name
        number = 2
        while free.exists():
            if filecmp.cmp(source, free, shallow=False):
                return free
            free = folder / f"{source.stem} ({number}){source.suffix}"
            number += 1
        place(free, lambda part: shutil.copy2(source, part))
    except OSError as error:
        raise SaveError(
            f"{source} could not be copied to {folder} ({error}). What was copied stays; the same command "
            "again goes on"
        ) from error
    return free
