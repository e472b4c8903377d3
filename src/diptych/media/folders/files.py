"""Find image files by suffix from paths, folders and glob patterns; no file is opened."""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from diptych.errors import ImageError
from diptych.files.unicode_text import existing_path
from diptych.media.decoding.formats import HEIF_SUFFIXES
from diptych.media.decoding.raw import RAW_SUFFIXES
from diptych.media.folders.system_folders import is_system_folder
from diptych.media.sources import name_of

_MTIME_STEP = 2_000_000_000  # ns; the coarsest resolution of modification times (FAT)
_PILLOW_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib", ".tif", ".tiff",
    ".avif", ".jp2", ".j2k", ".jpx", ".jpf", ".jpc", ".j2c", ".jxl", ".ppm", ".pgm", ".pbm", ".pnm", ".ico",
    ".qoi", ".psd", ".psb", ".dds", ".pcx", ".apng",
})  # fmt: skip
IMAGE_SUFFIXES: frozenset[str] = _PILLOW_SUFFIXES | HEIF_SUFFIXES | RAW_SUFFIXES


def find_images(
    paths: Sequence[str | Path],
    *,
    recursive: bool = True,
    on_error: Callable[[ImageError], None] | None = None,
) -> list[Path]:
    """Find the image files named by paths, folders and patterns; sorted, without repeats.

    Parameters
    ----------
    paths : sequence of str or Path
        A file is taken whatever its suffix. A folder gives the files with a suffix of `IMAGE_SUFFIXES`,
        without hidden files and system folders (`SYSTEM_FOLDERS`). A string with ``*``, ``?`` or ``[`` that
        is not an existing path is a pattern; ``**`` matches nested folders.
    recursive : bool
        Include sub-folders. Symbolic links to folders are not followed.
    on_error : callable, optional
        Called with an error for each sub-folder that cannot be listed; by default such folders are skipped.

    Returns
    -------
    list of Path
        Empty if the folders hold no images. Bytes of a name that are not UTF-8 become surrogates, as in
        `os.fsdecode`, so that the file can be opened.

    Raises
    ------
    ImageError
        A path does not exist, or a pattern matches nothing.

    Examples
    --------
    >>> find_images(["no/such/place"])
    Traceback (most recent call last):
        ...
    diptych.errors.ImageError: no/such/place: there is no such file or folder
    """
    images: set[Path] = set()
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for match in _matches(path):
            images.update(_in_folder(match, recursive, on_error) if match.is_dir() else [match])
    return sorted(images)


def _matches(path: str | Path) -> list[Path]:
    """The existing files and folders that a path or pattern names."""
    pattern = existing_path(Path(path).expanduser())
    if _exists(pattern):
        return [pattern]
    if not glob.has_magic(str(path)):
        raise ImageError(f"{name_of(path)}: there is no such file or folder")
    matches = [Path(match) for match in glob.glob(str(pattern), recursive=True)]  # noqa: PTH207 - absolute patterns too
    matches = [match for match in matches if not _in_unnamed_system_folder(match, pattern)]
    # A pattern may match any files, so they are selected by suffix, as in a folder.
    chosen = [match for match in matches if match.is_dir() or is_picture(match.name)]
    if not chosen:
        raise ImageError(f"{name_of(path)}: no picture matches this pattern")
    return chosen


def _in_unnamed_system_folder(match: Path, pattern: Path) -> bool:
    """Whether a match is in a system folder that the pattern does not name explicitly."""
    folders = zip(("", *match.parts), match.parts[:-1], strict=False)
    return any(is_system_folder(name, parent) and name not in pattern.parts for parent, name in folders)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a null byte
        return False


def _in_folder(
    folder: Path, recursive: bool, on_error: Callable[[ImageError], None] | None
) -> Iterator[Path]:
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise _not_listed(error, folder) from error

    def report(error: OSError) -> None:
        if on_error is not None:
            on_error(_not_listed(error, folder))

    for root, folders, names in os.walk(folder, onerror=report):
        # Hidden folders hold thumbnails and the "._" files of macOS.
        parent = os.path.basename(root)  # noqa: PTH119 - os.walk gives strings
        folders[:] = [
            name
            for name in folders
            if recursive and not name.startswith(".") and not is_system_folder(name, parent)
        ]
        yield from (Path(root) / name for name in names if is_picture(name))


def _not_listed(error: OSError, folder: Path) -> ImageError:
    where = name_of(os.fsdecode(error.filename or folder))
    return ImageError(f"{where}: the folder cannot be listed: {error.strerror}")


def is_picture(name: str) -> bool:
    """Whether a file name has the suffix of an image and is not hidden."""
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def stable_mtime(folder: Path) -> int | None:
    """Modification time of a folder in nanoseconds, as key of a cache; None shortly after a change.

    File systems record times in steps of up to two seconds, so another change within that time may leave the
    modification time as it is. A time in the future comes from the clock of another machine and is accepted.
    """
    modified = folder.stat().st_mtime_ns
    return None if 0 <= time.time_ns() - modified < _MTIME_STEP else modified
