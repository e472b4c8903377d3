"""Files beside a picture that belong to it: captions, and metadata that other programs keep in sidecars.

Whoever moves a picture moves them with it: without the picture they say nothing, and the picture without them
has lost what a person wrote.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from diptych.media.files import IMAGE_SUFFIXES

# photo.txt, photo.json and photo.xmp (Adobe) are named by the stem, which photo.nef beside photo.jpg shares;
# photo.jpg.xmp (darktable, digiKam) and photo.jpg.json (Google Takeout) by the whole name.
_OF_STEM = (".txt", ".json", ".xmp")
_OF_NAME = (".xmp", ".json", ".supplemental-metadata.json")


def companions(picture: Path) -> list[Path]:
    """The files that belong to a picture file and to no other picture beside it, sorted.

    Only names are tried, so that the work does not grow with the folder.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("a.jpg", "a.txt", "a.jpg.xmp", "b.jpg", "b.nef", "b.xmp"):
    ...         written = Path(folder, name).write_bytes(b"")
    ...     [path.name for name in ("a.jpg", "b.jpg") for path in companions(Path(folder, name))]
    ['a.jpg.xmp', 'a.txt']
    """
    stem, name = picture.stem, picture.name
    of_name = [name + suffix for suffix in _in_both_cases(_OF_NAME)]
    of_stem = [stem + suffix for suffix in _in_both_cases(_OF_STEM)]
    there = _existing(picture, of_name)
    if (shared := _existing(picture, of_stem)) and not _has_twin(picture):
        there |= shared
    return sorted(there.values())


def _existing(picture: Path, names: list[str]) -> dict[tuple[int, int], Path]:
    """Files of these names beside a picture, by device and inode: some systems take both cases for one."""
    there: dict[tuple[int, int], Path] = {}
    for name in names:
        path = picture.with_name(name)
        with contextlib.suppress(OSError):
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode):
                there.setdefault((status.st_dev, status.st_ino), path)
    return there


def _has_twin(picture: Path) -> bool:
    """Whether another picture beside it has the same stem."""
    return any(
        picture.stem + suffix != picture.name and os.path.lexists(picture.with_suffix(suffix))
        for suffix in _in_both_cases(sorted(IMAGE_SUFFIXES))
    )


def _in_both_cases(suffixes: tuple[str, ...] | list[str]) -> list[str]:
    return [case for suffix in suffixes for case in (suffix, suffix.upper())]
