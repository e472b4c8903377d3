"""Copy pictures into one folder per label; files are never overwritten or left incomplete."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Iterable
from pathlib import Path

from diptych.errors import SaveError
from diptych.files.disk import file_stems, replace_file


def folders_of(labels: Iterable[str]) -> dict[str, str]:
    """A distinct folder name for each label, valid on any file system.

    Examples
    --------
    >>> folders_of(["cats/dogs: both?", "..", "Cat", "cat"])
    {'cats/dogs: both?': 'cats_dogs_ both_', '..': 'label', 'Cat': 'Cat', 'cat': 'cat (2)'}
    """
    distinct = list(dict.fromkeys(labels))
    return dict(zip(distinct, file_stems(distinct, spaces=True, fallback="label"), strict=True))


def copy_into(folder: Path, source: Path) -> Path:
    """Copy a file into a folder and return its new path; a number is added if the name is used.

    A file that is there already is not copied again, so that the same command resumes.

    Raises
    ------
    SaveError
        The disk is full, or the folder is not writable.
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
            f"{source} could not be copied to {folder} ({error}). Earlier copies stay; to continue, run the "
            "same command again"
        ) from error
    return free
