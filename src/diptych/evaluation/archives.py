"""Files of a folder or a tar archive (plain or compressed), one after another: names first, bytes on the way.

What the names mean is `datasets.py`'s. Nothing is ever unpacked to disk, so a path inside an archive can do
no harm.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from diptych.errors import DataError

# What a broken or cut archive raises, by compression; OSError holds BadGzipFile and read errors.
_BROKEN = (tarfile.TarError, EOFError, zlib.error, OSError)


@dataclass(frozen=True)
class Entry:
    """One picture: where it lies, its name there and its size in bytes."""

    path: Path
    name: PurePosixPath
    size: int


@dataclass(frozen=True)
class Member:
    """One file: its name inside the folder or archive, with forward slashes, and its size in bytes."""

    name: PurePosixPath
    size: int


def scan(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[Member, bytes | None]]:
    """Every file below a folder or in an archive, with its bytes where `wanted` says so; hidden ones not.

    The order is the archive's own, or sorted within each folder; it is the same on every pass. An archive is
    read once, from its start to its end.

    Raises
    ------
    DataError
        The path is not there, or the archive is broken or cut short.
    """
    return _scan_folder(path, wanted) if path.is_dir() else _scan_tar(path, wanted)


def _scan_folder(
    root: Path, wanted: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[Member, bytes | None]]:
    """Files below a folder, sorted, links to folders not followed."""
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(file for file in files if not file.startswith(".")):
            path = Path(folder) / file
            name = PurePosixPath(path.relative_to(root).as_posix())
            try:
                member = Member(name, path.stat().st_size)
                data = path.read_bytes() if wanted(name) else None
            except OSError:
                # A dangling link, no permission: the decoder names the file and finds it empty.
                member, data = Member(name, 0), b""
            yield member, data


def _scan_tar(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[Member, bytes | None]]:
    """Regular files of an archive; a name that comes twice counts once."""
    seen: set[PurePosixPath] = set()
    try:
        with tarfile.open(path, "r:*") as tar:
            for info in tar:
                tar.members = []  # type: ignore[attr-defined]  # else all headers stay in memory
                name = PurePosixPath(info.name)
                if not info.isreg() or name.name.startswith(".") or name in seen:
                    continue
                seen.add(name)
                file = tar.extractfile(info) if wanted(name) else None
                yield Member(name, info.size), None if file is None else file.read()
    except FileNotFoundError:
        raise DataError(f"{path} is not there: expected a folder or a tar archive") from None
    except _BROKEN as error:
        raise DataError(
            f"{path} cannot be read to its end as a tar archive ({error}): it may be cut short or be another "
            "kind of file; fetch or pack it again"
        ) from error
