"""Sequential reader of the files of a folder, a zip or a tar (plain or compressed).

Nothing is unpacked to disk, so paths inside an archive cannot write outside a folder.
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

# An image before decoding: the bytes of its file, or pixels if there is no file.
Content: TypeAlias = "bytes | Image"

# Errors of a broken or truncated archive, by compression; OSError includes BadGzipFile and read errors.
_BROKEN = (tarfile.TarError, EOFError, zlib.error, OSError)


@dataclass(frozen=True)
class ImageEntry:
    """An image: its folder or archive, its name in there and its size in bytes."""

    path: Path
    name: PurePosixPath
    size: int


@dataclass(frozen=True)
class ArchiveMember:
    """A file of a folder or archive.

    Attributes
    ----------
    name : PurePosixPath
        Name inside the folder or archive.
    size : int
        Bytes.
    version : tuple of int
        Result of `version_of` for a file in a folder; empty in an archive, which has a version as a whole.
    """

    name: PurePosixPath
    size: int
    version: tuple[int, ...] = ()


def version_of(path: Path) -> tuple[int, ...]:
    """Time of the last change (ns), size and inode of a file; empty if it is missing.

    The time is the later of modification and status change: tools can set only the first, as `cp -p` does.
    """
    try:
        return _version(path.stat())
    except OSError:
        return ()


def _version(state: os.stat_result) -> tuple[int, ...]:
    return max(state.st_mtime_ns, state.st_ctime_ns), state.st_size, state.st_ino


NameFilter: TypeAlias = Callable[[PurePosixPath], bool]
Files: TypeAlias = Iterator[tuple[ArchiveMember, bytes | None]]
Members: TypeAlias = "Iterator[tuple[ArchiveMember, Content | None]]"


class Unread(bytes):
    """Empty bytes in place of a file that was not read, with the reason.

    Examples
    --------
    >>> Unread.because("a pipe"), Unread.because("a pipe").reason
    (b'', 'a pipe')
    """

    reason: str

    @classmethod
    def because(cls, reason: str) -> Self:
        """Create with a reason."""
        self = cls()
        self.reason = reason
        return self


def scan(path: Path, needs_content: NameFilter) -> Files:
    """Yield every file below a folder or in an archive, with its bytes if `needs_content` returns True.

    Hidden files and folders, and folders of operating systems (@eaDir, __MACOSX), are left out. Files that
    are not regular, exceed `Limits.max_bytes` or cannot be read are yielded as `Unread`.

    The order is that of the archive, or sorted within each folder; it is the same on every pass. An archive
    is read once, from start to end.

    Raises
    ------
    DataError
        The path is missing, or the archive is broken or truncated.
    """
    if path.is_dir():
        return _scan_folder(path, needs_content)
    return (_scan_zip if path.suffix.lower() == ".zip" else _scan_tar)(path, needs_content)


def _scan_folder(root: Path, needs_content: NameFilter) -> Files:
    """Yield files below a folder, sorted, without following links to folders."""
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
                member = ArchiveMember(name, state.st_size, _version(state))
                data = _read(path, state) if needs_content(name) else None
            except OSError as error:  # a dangling link, no permission
                member, data = ArchiveMember(name, 0), Unread.because(error.strerror or str(error))
            yield member, data


def _read(path: Path, state: os.stat_result) -> bytes:
    """Read a regular file; reading a pipe would wait for a writer forever."""
    if not stat.S_ISREG(state.st_mode):
        return Unread.because("not a regular file: a pipe, a socket or a device")
    unread = _too_large(state.st_size)
    return path.read_bytes() if unread is None else unread


def _too_large(size: int) -> Unread | None:
    """`Unread` for a file above the size limit, which must not be loaded into memory; else None."""
    try:
        Limits().check_bytes(size)
    except ImageError as error:
        return Unread.because(str(error))
    return None


def _scan_tar(path: Path, needs_content: NameFilter) -> Files:
    """Yield regular files of a tar; of repeated names only the first."""
    names: set[PurePosixPath] = set()
    try:
        with TarReader.open(path, "r:*") as tar:
            for info in headers(tar):
                name = _inside(info.name)
                if name.name.startswith(".") or name in names or is_in_system_folder(name.parts[:-1]):
                    continue
                names.add(name)
                yield ArchiveMember(name, info.size), _extract(tar, info) if needs_content(name) else None
    except FileNotFoundError:
        raise DataError(f"{path} is not there: expected a folder or a tar archive") from None
    except _BROKEN as error:
        raise DataError(
            f"{path} cannot be read to its end as a tar archive ({error}): it may be cut short or be another "
            "kind of file; fetch or pack it again"
        ) from error


def _scan_zip(path: Path, needs_content: NameFilter) -> Files:
    """Yield files of a zip; of repeated names only the first.

    Members that are damaged, encrypted or too large are yielded as `Unread`.
    """
    try:
        files: dict[PurePosixPath, Packed] = {}
        for file in list_files(path):
            files.setdefault(_inside(file.name), file)
        chosen = {file.name for name, file in files.items() if needs_content(name)}
        contents = iter_members(path, chosen)
        for name, file in files.items():
            content: bytes | None = None
            if file.name in chosen:
                _, data = next(contents)  # both are in the order of the zip's directory
                content = Unread.because(str(data)) if isinstance(data, ImageError) else data
            yield ArchiveMember(name, file.size), content
    except ImageError as error:
        raise DataError(f"{error}; expected a zip archive: fetch or pack it again") from error


def _inside(name: str) -> PurePosixPath:
    """Name of a member below the root of its archive: "/data/a.png" from `tar -P` becomes data/a.png."""
    path = PurePosixPath(name)
    return path.relative_to(path.anchor) if path.is_absolute() else path


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes | None:
    """Read the bytes of a regular member."""
    if (unread := _too_large(info.size)) is not None:
        return unread
    file = tar.extractfile(info)
    return None if file is None else file.read()
