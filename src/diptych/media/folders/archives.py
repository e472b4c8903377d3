"""List and read images in zip, cbz and tar archives without unpacking.

Zip and uncompressed tar archives allow random access; a compressed tar is read from its start, so many
members are best read in one pass (`iter_members`). Nothing is written to disk and names are not used as
paths, so "../../x.jpg" is harmless. Training pairs and labelled data sets have readers of their own.
"""

from __future__ import annotations

import calendar
import math
import struct
import tarfile
import zipfile
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from diptych.errors import ImageError
from diptych.files.tars import TarReader, headers
from diptych.media.folders.files import IMAGE_SUFFIXES
from diptych.media.folders.keys import Companions
from diptych.media.folders.sidecar_names import Sidecars
from diptych.media.folders.system_folders import is_in_system_folder
from diptych.media.sources import Limits, name_of, naming, plain_file

ARCHIVE_SUFFIXES = (".zip", ".cbz", ".tar", ".cbt", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_ZIP_MAGIC = (b"PK\3\4", b"PK\5\6")  # with members, and empty
_PACKED_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_ENCRYPTED = 0x1  # flag of a zip member
_LOCAL_HEADER = 30  # bytes before a zip member's name
# A compressed tar may unpack to 100 times its size plus 1 GiB before it is refused as a decompression bomb;
# encoded images hardly compress at all.
_MOST_TIMES, _MOST_BYTES = 100, 2**30


@dataclass(frozen=True)
class ArchiveEntry:
    r"""An image in an archive, or one of its caption files and sidecars.

    Attributes
    ----------
    name : str
        As stored, with forward slashes; bytes that are not UTF-8 are escaped ("caf\udce9.jpg"), so that the
        name can be printed and stored. Not a path to write to.
    size : int
        Declared uncompressed size in bytes.
    modified : float
        Seconds since 1970; times in zip archives have no time zone and are interpreted as UTC.
    offset : int, optional
        Position of its data (in a zip, its header) in the archive; None if it can only be read sequentially.
    captions : tuple of ArchiveEntry
        KEY.txt and KEY.json of KEY.jpg, see `keys`.
    sidecars : tuple of ArchiveEntry
        XMP and Google Takeout JSON of the image, see `sidecar_names`.
    """

    name: str
    size: int
    modified: float
    offset: int | None
    captions: tuple[ArchiveEntry, ...] = ()
    sidecars: tuple[ArchiveEntry, ...] = ()


def is_archive(path: str | Path) -> bool:
    """Whether the name of a file is that of an archive.

    Examples
    --------
    >>> is_archive("holiday/2019.ZIP"), is_archive("shard-000001.tar"), is_archive("a.jpg")
    (True, True, False)
    """
    return str(path).lower().endswith(ARCHIVE_SUFFIXES)


def list_archive(path: str | Path) -> list[ArchiveEntry]:
    """List the images of an archive in stored order, selected as by `find_images`: by suffix, not hidden.

    Parameters
    ----------
    path : str or Path
        A zip or cbz, or a tar, plain or compressed; detected by its first bytes, not by its name.

    Returns
    -------
    list of ArchiveEntry
        Of several members with the same name only the first.

    Raises
    ------
    ImageError
        The file is missing, damaged, truncated or not an archive; the message names it.
    """
    path = Path(path)
    with naming(name_of(path)):
        return _with_captions(_entries(path))


def list_files(path: str | Path) -> list[ArchiveEntry]:
    """List all files of an archive regardless of suffix, without hidden ones; otherwise as `list_archive`."""
    path = Path(path)
    with naming(name_of(path)):
        return [entry for entry in _entries(path) if not _is_hidden(PurePosixPath(entry.name))]


def read_member(path: str | Path, member: ArchiveEntry | str, limits: Limits | None = None) -> bytes:
    """Read the bytes of one member.

    Parameters
    ----------
    path : str or Path
        The archive. In a compressed tar everything before the member is decompressed first.
    member : ArchiveEntry or str
        An entry of `list_archive`, or a name; an entry of a plain tar is read without a search.
    limits : Limits, optional
        `max_bytes` applies to the declared and to the actual size.

    Raises
    ------
    ImageError
        The archive is missing or damaged, or the member is missing, encrypted, damaged or too large; the
        message names both.

    Examples
    --------
    >>> read_member("holiday.zip", "beach.jpg")
    Traceback (most recent call last):
        ...
    diptych.errors.ImageError: holiday.zip: there is no such file
    """
    path, limits = Path(path), limits or Limits()
    name = member if isinstance(member, str) else member.name
    with naming(name_of(path)):
        if isinstance(member, ArchiveEntry) and member.offset is not None and _kind(path) == "tar":
            with naming(name_of(name)):
                return _at_offset(path, member, limits)
        for _, data in _members(path, {name}, limits):
            if isinstance(data, ImageError):
                raise data
            return data
        raise ImageError(f"it holds no {name_of(name)}: list_archive lists its pictures")


def iter_members(
    path: str | Path, names: Iterable[str] | None = None, limits: Limits | None = None
) -> Iterator[tuple[str, bytes | ImageError]]:
    """Read members sequentially in one pass, in stored order.

    Parameters
    ----------
    path : str or Path
        The archive.
    names : iterable of str, optional
        Names of the members; by default all images. Names that do not exist are ignored.
    limits : Limits, optional
        `max_bytes` applies to each member.

    Yields
    ------
    name : str
    data : bytes or ImageError
        An error concerns this member only: encrypted, damaged, or too large.

    Raises
    ------
    ImageError
        The archive is missing, or damaged so that nothing more can be read; earlier members have been
        yielded.
    """
    path, limits = Path(path), limits or Limits()
    with naming(name_of(path)):
        for name, data in _members(path, None if names is None else set(names), limits):
            yield name, ImageError(f"{name_of(path)}: {data}") if isinstance(data, ImageError) else data


# ------------------------------------------------------------------------------------- of either kind


def _kind(path: Path) -> str:
    plain_file(path)
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(_ZIP_MAGIC) or (path.suffix.lower() in (".zip", ".cbz") and zipfile.is_zipfile(path)):
        return "zip"
    return "packed" if start.startswith(_PACKED_MAGIC) else "tar"


def _entries(path: Path) -> Iterator[ArchiveEntry]:
    """All files of an archive, each name once."""
    kind = _kind(path)
    if kind == "zip":
        for name, file in _zip_members_by_name(path).items():
            yield ArchiveEntry(name, file.file_size, _zip_time(file), file.header_offset)
        return
    for _, info in _walk_tar(path, packed=kind == "packed"):
        time = float(info.mtime) if math.isfinite(info.mtime) else 0.0
        yield ArchiveEntry(info.name, info.size, time, None if kind == "packed" else info.offset_data)


def _with_captions(entries: Iterable[ArchiveEntry]) -> list[ArchiveEntry]:
    """The images, each with its captions and sidecars."""
    files = {entry.name: entry for entry in entries if not _is_hidden(PurePosixPath(entry.name))}
    texts, sidecars = Companions(files), Sidecars(files)
    return [
        replace(
            entry,
            captions=tuple(files[text] for text in texts.of(name).values()),
            sidecars=tuple(files[sidecar] for sidecar in sidecars.of(name)),
        )
        for name, entry in files.items()
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES
    ]


def _is_hidden(path: PurePosixPath) -> bool:
    """Names that are skipped on disk too: hidden files, "._" files of macOS, system folders."""
    hidden = any(part.startswith(".") and part not in (".", "..") for part in path.parts)
    return hidden or is_in_system_folder(path.parts[:-1])


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not _is_hidden(path)


def _members(
    path: Path, names: Collection[str] | None, limits: Limits
) -> Iterator[tuple[str, bytes | ImageError]]:
    kind = _kind(path)
    names = None if names is None else {_printable(name) for name in names}
    if kind == "zip":
        yield from _zip_members(path, names, limits)
        return
    for tar, info in _walk_tar(path, packed=kind == "packed"):
        if _is_image(info.name) if names is None else info.name in names:
            data: bytes | ImageError
            try:
                with naming(name_of(info.name)):
                    limits.check_bytes(info.size)
            except ImageError as error:
                data = error
            else:
                data = _extract(tar, info)  # an error here is raised: nothing after it can be read
            yield info.name, data


# ------------------------------------------------------------------------------------------------- tar


def _walk_tar(path: Path, *, packed: bool) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The regular files of a tar, each name once, without sparse files; a decompression bomb is refused."""
    limit = _MOST_TIMES * path.stat().st_size + _MOST_BYTES
    visited: set[str] = set()
    with TarReader.open(path, "r:*" if packed else "r:") as tar:
        for info in headers(tar):
            info.name = _printable(info.name)
            if packed and info.offset_data + info.size > limit:
                raise ImageError(
                    f"a bomb: it unpacks to more than {limit:,} bytes, {_MOST_TIMES} times its size"
                )
            if info.name not in visited and not info.issparse():
                visited.add(info.name)
                yield tar, info


def _printable(name: str) -> str:
    r"""A member's name as text that can be printed and stored in any database.

    Examples
    --------
    >>> _printable("caf\udce9\0.jpg")
    'caf\\udce9\\0.jpg'
    """
    return name_of(name).replace("\0", "\\0")


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    return b"" if file is None else file.read()


def _at_offset(path: Path, entry: ArchiveEntry, limits: Limits) -> bytes:
    """Read a member of a plain tar; the header just before it shows whether the archive is unchanged."""
    limits.check_bytes(entry.size)
    with path.open("rb", buffering=0) as file:
        file.seek(max((entry.offset or 0) - tarfile.BLOCKSIZE, 0))
        head, data = file.read(tarfile.BLOCKSIZE), file.read(entry.size)
    try:
        same = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape").size == entry.size == len(data)
    except tarfile.HeaderError:
        same = False
    if not same:
        raise ImageError("it is not at its position: the archive has changed since it was listed")
    return data


# ------------------------------------------------------------------------------------------------- zip


def _zip_members_by_name(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip by name; cached until the archive changes."""
    state = path.stat()
    return _read_directory(path, state.st_mtime_ns, state.st_size, state.st_ctime_ns, state.st_ino)


@lru_cache(maxsize=4)
def _read_directory(path: Path, *_: int) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                members.setdefault(info.filename, info)
        _refuse_overlaps(archive.infolist())
    return members


def _refuse_overlaps(files: list[zipfile.ZipInfo]) -> None:
    """Refuse members that overlap, a kind of decompression bomb (Fifield, "A better zip bomb", 2019)."""
    end = 0
    for info in sorted(files, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ImageError(f"a bomb: {name_of(info.filename)} overlaps the member before it")
        end = info.header_offset + _LOCAL_HEADER + info.compress_size


def _zip_time(info: zipfile.ZipInfo) -> float:
    try:
        return float(calendar.timegm((*info.date_time, 0, 0, 0)))
    except ValueError:  # month 0: some programs store no time
        return 0.0


def _zip_members(
    path: Path, names: Collection[str] | None, limits: Limits
) -> Iterator[tuple[str, bytes | ImageError]]:
    for name, info in _select(_zip_members_by_name(path), names):
        data: bytes | ImageError
        try:
            with naming(name_of(name)):
                data = _inflate(path, info, limits)
        except ImageError as error:
            data = error
        yield name, data


def _select(
    members: dict[str, zipfile.ZipInfo], names: Collection[str] | None
) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    if names is not None and len(names) == 1:  # fast path: no scan of the whole directory for each member
        (name,) = names
        return iter([(name, members[name])] if name in members else [])
    return (
        (name, info)
        for name, info in members.items()
        if (_is_image(name) if names is None else name in names)
    )


def _inflate(path: Path, info: zipfile.ZipInfo, limits: Limits) -> bytes:
    """Decompress one member; ZipExtFile gives at most the declared size and verifies the checksum."""
    limits.check_bytes(info.file_size)
    if info.flag_bits & _ENCRYPTED:
        raise ImageError("encrypted: unpack the archive with its password")
    with path.open("rb") as file:
        file.seek(info.header_offset)
        head = file.read(_LOCAL_HEADER)
        if not head.startswith(_ZIP_MAGIC[0]):
            raise zipfile.BadZipFile("there is no member at the position that the directory gives")
        file.seek(sum(struct.unpack("<HH", head[-4:])), 1)  # skip the name and the extra fields
        # Opened directly: ZipFile would read the whole directory again each time.
        with zipfile.ZipExtFile(file, "r", info) as member:
            data = member.read()
    if len(data) != info.file_size:
        raise zipfile.BadZipFile(f"{len(data):,} bytes instead of {info.file_size:,}")
    return data
