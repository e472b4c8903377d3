"""Paths, folders and patterns to a sorted list of picture files, by suffix. Opens none of them."""

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

_SETTLED = 2_000_000_000  # ns after a change
IMAGE_SUFFIXES: frozenset[str] = (
    frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".dib"})
    | frozenset(
        {
            ".tif",
            ".tiff",
            ".avif",
            ".jp2",
            ".j2k",
            ".jpx",
            ".jpf",
            ".jpc",
            ".j2c",
            ".jxl",
            ".ppm",
            ".pgm",
            ".pbm",
            ".pnm",
        }
    )
    | frozenset({".jpf", ".jpc", ".j2c", ".jxl", ".ico", ".qoi", ".psd", ".psb", ".dds", ".pcx", ".apng"})
    | HEIF_SUFFIXES
    | RAW_SUFFIXES
)


def find_images(
    paths: Sequence[str | Path],
    *,
    recursive: bool = True,
    on_error: Callable[[ImageError], None] | None = None,
) -> list[Path]:
    """The picture files that paths, folders and patterns name, each once, sorted.

    Parameters
    ----------
    paths : sequence of str or Path
        A file is taken whatever its suffix, since someone named it. A folder gives the files with a suffix
        of `IMAGE_SUFFIXES`; hidden ones, and folders that systems keep for themselves (`SYSTEM_FOLDERS`) are
        left out. A string with ``*``, ``?`` or ``[`` that is no existing
        path is a pattern; ``**`` crosses folders.
    recursive : bool
        Look into folders inside folders. Links to folders are not followed.
    on_error : callable, optional
        Told of each folder below the named ones that cannot be listed: what is in there is not gone. By
        default such folders are passed over.

    Returns
    -------
    list of Path
        Empty when the folders hold no pictures. Bytes of a name that are no UTF-8 are kept as `os.fsdecode`
        keeps them (surrogates), so that the file can be opened.

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
    found: set[Path] = set()
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for place in _places(path):
            found.update(_in_folder(place, recursive, on_error) if place.is_dir() else [place])
    return sorted(found)


def _places(path: str | Path) -> list[Path]:
    """The existing files and folders one argument names."""
    place = existing_path(Path(path).expanduser())
    if _exists(place):
        return [place]
    if not glob.has_magic(str(path)):
        raise ImageError(f"{name_of(path)}: there is no such file or folder")
    matches = [Path(match) for match in glob.glob(str(place), recursive=True)]  # noqa: PTH207 - absolute patterns too
    matches = [match for match in matches if not _in_unnamed_system_folder(match, place)]
    # A pattern sweeps up whatever lies there: files are chosen by suffix, as in a folder.
    chosen = [match for match in matches if match.is_dir() or is_picture(match.name)]
    if not chosen:
        raise ImageError(f"{name_of(path)}: no picture matches this pattern")
    return chosen


def _in_unnamed_system_folder(match: Path, pattern: Path) -> bool:
    """Whether a match lies in a system folder that the pattern does not name itself."""
    folders = zip(("", *match.parts), match.parts[:-1], strict=False)
    return any(is_system_folder(name, parent) and name not in pattern.parts for parent, name in folders)


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except (OSError, ValueError):  # a name too long, or with a null byte
        return False


def _in_folder(
    folder: Path, recursive: bool, on_error: Callable[[ImageError], None] | None
) -> Iterator[Path]:
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise _not_listed(error, folder) from error

    def told(error: OSError) -> None:
        if on_error is not None:
            on_error(_not_listed(error, folder))

    for root, folders, names in os.walk(folder, onerror=told):
        # Hidden ones hold thumbnails and the "._" shadows of macOS.
        parent = os.path.basename(root)  # noqa: PTH119 - os.walk gives text
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
    """Whether a file's name says it is a picture; hidden ones are not."""
    return not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES


def settled_time(folder: Path) -> int | None:
    """When a folder was changed, in nanoseconds, for remembering what is in it; None right after a change.

    File systems record times in steps of up to two seconds: what appears next may leave the time as it is. A
    time to come is another machine's clock.
    """
    changed = folder.stat().st_mtime_ns
    return None if 0 <= time.time_ns() - changed < _SETTLED else changed
