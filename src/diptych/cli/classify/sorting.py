"""Copying pictures into one folder a label; nothing is ever overwritten or left half-copied."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterable
from pathlib import Path

from diptych.errors import SaveError
from diptych.files.disk import file_stems, replace_file


def folders_of(labels: Iterable[str]) -> dict[str, str]:
    """A folder's name for each label: allowed on any file system, and each label its own.

    Examples
    --------
    >>> folders_of(["cats/dogs: both?", "..", "Cat", "cat"])
    {'cats/dogs: both?': 'cats_dogs_ both_', '..': 'label', 'Cat': 'Cat', 'cat': 'cat (2)'}
    """
    distinct = list(dict.fromkeys(labels))
    return dict(zip(distinct, file_stems(distinct, spaces=True, fallback="label"), strict=True))


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
        replace_file(free, lambda part: shutil.copy2(source, part))
    except OSError as error:
        raise SaveError(
            f"{source} could not be copied to {folder} ({error}). What was copied stays; the same command "
            "again goes on"
        ) from error
    return free
