"""Files of a folder, a zip or a tar (plain or compressed), one after another: names first, bytes on the way.

What the names mean is `layouts.py`'s; files that hold many pictures are `containers.py`'s. Nothing is ever
unpacked to disk, so a path inside an archive can do no harm.
"""

from __future__ import annotations

import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self, TypeAlias

from diptych.errors import DataError, ImageError
from diptych.files.tars import TarReader, headers
from diptych.media import ArchiveEntry as Packed
from diptych.media import Limits, is_in_system_folder, is_system_folder, iter_members, list_files

if TYPE_CHECKING:
    from PIL.Image import Image

# What stands for a picture until it is decoded: the bytes of its file, or pixels where there is no file.
Content: TypeAlias = "bytes | Image"

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
    """One file.

    Attributes
    ----------
    name : PurePosixPath
        Its name inside the folder or archive.
    size : int
        Bytes.
    version : tuple of int
        As `version_of` gives it, of a file in a folder; empty in an archive, whose version is its own.
    """

    name: PurePosixPath
    size: int
    version: tuple[int, ...] = ()


def version_of(path: Path) -> tuple[int, ...]:
    """Time of the last change (ns), size and inode of a file; empty where it is not there.

    The time is the later of modification and of status change: tools may set the first, as `cp -p` does, and
    not the second.
    """
    try:
        return _version(path.stat())
    except OSError:
        return ()


def _version(state: os.stat_result) -> tuple[int, ...]:
    return max(state.st_mtime_ns, state.st_ctime_ns), state.st_size, state.st_ino


class Unread(bytes):
    """In place of a file's bytes: nothing, and why they were not read.

    Examples
    --------
    >>> Unread.because("a pipe"), Unread.because("a pipe").reason
    (b'', 'a pipe')
    """

    reason: str

    @classmethod
    def because(cls, reason: str) -> Self:
        """No bytes, for this reason."""
        self = cls()
        self.reason = reason
        return self


def scan(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[Member, bytes | None]]:
    """Every file below a folder or in an archive, with its bytes where `wanted` says so.

    Hidden files and folders, and folders that systems keep for themselves (@eaDir, __MACOSX), are left out.

    What is no regular file, over `Limits.max_bytes` or refused by the system comes as `Unread`.

    The order is the archive's own, or sorted within each folder; it is the same on every pass. An archive is
    read once, from its start to its end.

    Raises
    ------
    DataError
        The path is not there, or the archive is broken or cut short.
    """
    if path.is_dir():
        return _scan_folder(path, wanted)
    return (_scan_zip if path.suffix.lower() == ".zip" else _scan_tar)(path, wanted)


def _scan_folder(
    root: Path, wanted: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[Member, bytes | None]]:
    """Files below a folder, sorted, links to folders not followed."""
    for folder, folders, files in os.walk(root):
        parent = os.path.basename(folder)  # noqa: PTH119 - os.walk gives text
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and not is_system_folder(name, parent)
        )
        for file in sorted(file for file in files if not file.startswith(".")):
            path = Path(folder) / file
            name = PurePosixPath(path.relative_to(root).as_posix())
            try:
                state = path.stat()
                member = Member(name, state.st_size, _version(state))
                data = _read(path, state) if wanted(name) else None
            except OSError as error:  # a dangling link, no permission
                member, data = Member(name, 0), Unread.because(error.strerror or str(error))
            yield member, data


def _read(path: Path, state: os.stat_result) -> bytes:
    """The bytes of a regular file; a pipe would wait for a writer for ever."""
    if not stat.S_ISREG(state.st_mode):
        return Unread.because("not a regular file: a pipe, a socket or a device")
    unread = _too_large(state.st_size)
    return path.read_bytes() if unread is None else unread


def _too_large(size: int) -> Unread | None:
    """What stands for a file that no decoder would take, so that it never fills the memory."""
    try:
        Limits().check_bytes(size)
    except ImageError as error:
        return Unread.because(str(error))
    return None


def _scan_tar(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[Member, bytes | None]]:
    """Regular files of an archive; a name that comes twice counts once."""
    seen: set[PurePosixPath] = set()
    try:
        with TarReader.open(path, "r:*") as tar:
            for info in headers(tar):
                name = _inside(info.name)
                if name.name.startswith(".") or name in seen or is_in_system_folder(name.parts[:-1]):
                    continue
                seen.add(name)
                yield Member(name, info.size), _extract(tar, info) if wanted(name) else None
    except FileNotFoundError:
        raise DataError(f"{path} is not there: expected a folder or a tar archive") from None
    except _BROKEN as error:
        raise DataError(
            f"{path} cannot be read to its end as a tar archive ({error}): it may be cut short or be another "
            "kind of file; fetch or pack it again"
        ) from error


def _scan_zip(path: Path, wanted: Callable[[PurePosixPath], bool]) -> Iterator[tuple[Member, bytes | None]]:
    """Files of a zip; a name that comes twice counts once.

    A member that is damaged, encrypted or too large comes as `Unread`.
    """
    try:
        files: dict[PurePosixPath, Packed] = {}
        for file in list_files(path):
            files.setdefault(_inside(file.name), file)
        chosen = {file.name for name, file in files.items() if wanted(name)}
        contents = iter_members(path, chosen)
        for name, file in files.items():
            content: bytes | None = None
            if file.name in chosen:
                _, data = next(contents)  # both go by the order of the zip's directory
                content = Unread.because(str(data)) if isinstance(data, ImageError) else data
            yield Member(name, file.size), content
    except ImageError as error:
        raise DataError(f"{error}; expected a zip archive: fetch or pack it again") from error


def _inside(name: str) -> PurePosixPath:
    """A member's name below the root of its archive: "/data/a.png", as `tar -P` packs it, is data/a.png."""
    path = PurePosixPath(name)
    return path.relative_to(path.anchor) if path.is_absolute() else path


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes | None:
    """The bytes of a regular member."""
    if (unread := _too_large(info.size)) is not None:
        return unread
    file = tar.extractfile(info)
    return None if file is None else file.read()
