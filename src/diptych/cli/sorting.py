"""Copying pictures into one folder a label; nothing is ever overwritten or left half-copied."""

from __future__ import annotations

import filecmp
import re
import shutil
from pathlib import Path

from diptych.errors import SaveError

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]')  # by one file system or another


def folder_name(label: str) -> str:
    """A label as the name of a folder, on any file system.

    Examples
    --------
    >>> folder_name("cats/dogs: both?"), folder_name(".."), len(folder_name("x" * 500))
    ('cats_dogs_ both_', 'label', 80)
    """
    return _FORBIDDEN.sub("_", label)[:80].strip(" .") or "label"


def copy_into(folder: Path, label: str, source: Path) -> Path:
    """Copy a file into the label's folder and return its new path; where a name is taken, a number is added.

    The same file copied again stays where it is, so the same command again is the way to resume.

    Raises
    ------
    SaveError
        No space, no permission.
    """
    target = folder / folder_name(label)
    try:
        target.mkdir(parents=True, exist_ok=True)
        free = target / source.name
        number = 2
        while free.exists():
            if filecmp.cmp(source, free, shallow=False):
                return free
            free = target / f"{source.stem} ({number}){source.suffix}"
            number += 1
        part = free.with_name(f".{free.name}.part")
        try:
            shutil.copy2(source, part)
            part.replace(free)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise SaveError(
            f"{source} could not be copied to {target}: {error.strerror or error}. What was copied stays; "
            "the same command again goes on"
        ) from error
    return free
