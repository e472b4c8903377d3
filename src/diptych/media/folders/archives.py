"""Pictures inside zip, cbz and tar archives, read in place: which there are, and their bytes.

A zip and a plain tar are read at random; a compressed tar only from its start, so many members of one are
best read in one pass (`iter_members`). Nothing is unpacked to disk and no name becomes a path, so
"../../x.jpg" is a name like any other. Decoding is left to `images`; pairs for training and labelled sets
have readers of their own, on the same `tars`.
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
_ZIP_MAGIC = (b"PK\3\4", b"PK\5\6")  # with members, without
_PACKED_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")
_ENCRYPTED = 0x1  # a zip's flag
_LOCAL_HEADER = 30  # bytes before a zip member's name
# A compressed tar may unpack to this many times its size and this many bytes before it is called a bomb:
# pictures hardly compress at all.
_MOST_TIMES, _MOST_BYTES = 100, 2**30


@dataclass(frozen=True)
class ArchiveEntry:
    r"""One picture of an archive, or a file of captions beside it.

    Attributes
    ----------
    name : str
        As the archive has it, with forward slashes; bytes that are no UTF-8 are escaped ("caf\udce9.jpg"), so
        that it can be printed and kept anywhere. A name, not a path to write to.
    size : int
        In bytes, unpacked, as the archive declares it.
    modified : float
        Seconds since 1970; a zip tells no zone and is taken as UTC.
    offset : int, optional
        Where its bytes (in a zip, its header) begin in the archive; None where it can only be read in turn.
    captions : tuple of ArchiveEntry
        KEY.txt and KEY.json beside KEY.jpg, see `keys`.
    sidecars : tuple of ArchiveEntry
        XMP and Google Takeout's JSON of the picture, see `sidecar_names`.
    """

    name: str
    size: int
    modified: float
    offset: int | None
    captions: tuple[ArchiveEntry, ...] = ()
    sidecars: tuple[ArchiveEntry, ...] = ()


def is_archive(path: str | Path) -> bool:
    """Whether a file is an archive by its name.

    Examples
    --------
    >>> is_archive("holiday/2019.ZIP"), is_archive("shard-000001.tar"), is_archive("a.jpg")
    (True, True, False)
    """
    return str(path).lower().endswith(ARCHIVE_SUFFIXES)


def list_archive(path: str | Path) -> list[ArchiveEntry]:
    """The pictures of an archive, in its order, chosen by suffix as `find_images` does; hidden ones are not.

    Parameters
    ----------
    path : str or Path
        A zip or cbz, or a tar, plain or compressed; told by its first bytes, not by its name.

    Returns
    -------
    list of ArchiveEntry
        A name that comes twice counts once, the first time.

    Raises
    ------
    ImageError
        Missing, damaged, cut short or no archive; the message names it.
    """
    path = Path(path)
    with naming(name_of(path)):
        return _with_captions(_entries(path))


def list_files(path: str | Path) -> list[ArchiveEntry]:
    """Every file of an archive whatever its suffix, in its order; hidden ones are not.

    Parameters, errors and names that come twice are as for `list_archive`.
    """
    path = Path(path)
    with naming(name_of(path)):
        return [entry for entry in _entries(path) if not _is_hidden(PurePosixPath(entry.name))]


def read_member(path: str | Path, member: ArchiveEntry | str, limits: Limits | None = None) -> bytes:
    """The bytes of one member.

    Parameters
    ----------
    path : str or Path
        The archive. In a compressed tar everything before the member is unpacked first.
    member : ArchiveEntry or str
        From `list_archive`, or a name; a plain tar is read without a search where it is an entry.
    limits : Limits, optional
        `max_bytes` holds for what is declared and for what comes out.

    Raises
    ------
    ImageError
        The archive is missing or damaged, or the member is not in it, encrypted, damaged or too large; the
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
        raise ImageError(f"it holds no {name_of(name)}: list_archive lists what there is")


def iter_members(
    path: str | Path, names: Iterable[str] | None = None, limits: Limits | None = None
) -> Iterator[tuple[str, bytes | ImageError]]:
    """Members one after another, in the archive's order, in one pass.

    Parameters
    ----------
    path : str or Path
        The archive.
    names : iterable of str, optional
        Which; by default every picture. Ones the archive does not hold are passed over.
    limits : Limits, optional
        `max_bytes` holds for each.

    Yields
    ------
    name : str
    data : bytes or ImageError
        An error in place of bytes is this member's alone: encrypted, damaged, too large.

    Raises
    ------
    ImageError
        The archive is missing, or damaged where nothing after it can be read; what came before was given.
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
    """Every file of an archive, each name once."""
    kind = _kind(path)
    if kind == "zip":
        for name, file in _directory(path).items():
            yield ArchiveEntry(name, file.file_size, _zip_time(file), file.header_offset)
        return
    for _, info in _walk_tar(path, packed=kind == "packed"):
        time = float(info.mtime) if math.isfinite(info.mtime) else 0.0
        yield ArchiveEntry(info.name, info.size, time, None if kind == "packed" else info.offset_data)


def _with_captions(entries: Iterable[ArchiveEntry]) -> list[ArchiveEntry]:
    """The pictures, each with its captions and sidecars."""
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


def _is_hidden(place: PurePosixPath) -> bool:
    """Left out on a disk, too: hidden names, the "._" shadows of macOS, folders that systems keep."""
    hidden = any(part.startswith(".") and part not in (".", "..") for part in place.parts)
    return hidden or is_in_system_folder(place.parts[:-1])


def _is_picture(name: str) -> bool:
    place = PurePosixPath(name)
    return place.suffix.lower() in IMAGE_SUFFIXES and not _is_hidden(place)


def _members(
    path: Path, names: Collection[str] | None, limits: Limits
) -> Iterator[tuple[str, bytes | ImageError]]:
    kind = _kind(path)
    names = None if names is None else {_plain(name) for name in names}
    if kind == "zip":
        yield from _zip_members(path, names, limits)
        return
    for tar, info in _walk_tar(path, packed=kind == "packed"):
        if _is_picture(info.name) if names is None else info.name in names:
            data: bytes | ImageError
            try:
                with naming(name_of(info.name)):
                    limits.check_bytes(info.size)
            except ImageError as error:
                data = error
            else:
                data = _extract(tar, info)  # what breaks here breaks all that follows
            yield info.name, data


# ------------------------------------------------------------------------------------------------- tar


def _walk_tar(path: Path, *, packed: bool) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The regular files of a tar, each name once, sparse ones not; of a compressed one until it is a bomb."""
    most = _MOST_TIMES * path.stat().st_size + _MOST_BYTES
    seen: set[str] = set()
    with TarReader.open(path, "r:*" if packed else "r:") as tar:
        for info in headers(tar):
            info.name = _plain(info.name)
            if packed and info.offset_data + info.size > most:
                raise ImageError(
                    f"a bomb: it unpacks to more than {most:,} bytes, {_MOST_TIMES} times its size"
                )
            if info.name not in seen and not info.issparse():
                seen.add(info.name)
                yield tar, info


def _plain(name: str) -> str:
    r"""A member's name as a text that can be printed and kept in any database.

    Examples
    --------
    >>> _plain("caf\udce9\0.jpg")
    'caf\\udce9\\0.jpg'
    """
    return name_of(name).replace("\0", "\\0")


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(info)
    return b"" if file is None else file.read()


def _at_offset(path: Path, entry: ArchiveEntry, limits: Limits) -> bytes:
    """A member of a plain tar; its header, just before it, tells whether the archive is still the same."""
    limits.check_bytes(entry.size)
    with path.open("rb", buffering=0) as file:
        file.seek(max((entry.offset or 0) - tarfile.BLOCKSIZE, 0))
        head, data = file.read(tarfile.BLOCKSIZE), file.read(entry.size)
    try:
        same = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape").size == entry.size == len(data)
    except tarfile.HeaderError:
        same = False
    if not same:
        raise ImageError("not where it was: the archive has changed since it was listed")
    return data


# ------------------------------------------------------------------------------------------------- zip


def _directory(path: Path) -> dict[str, zipfile.ZipInfo]:
    """The files of a zip by name; read again only when the archive has changed."""
    state = path.stat()
    return _read_directory(path, state.st_mtime_ns, state.st_size, state.st_ctime_ns, state.st_ino)


@lru_cache(maxsize=4)
def _read_directory(path: Path, *_: int) -> dict[str, zipfile.ZipInfo]:
    found: dict[str, zipfile.ZipInfo] = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                found.setdefault(info.filename, info)
        _refuse_overlaps(archive.infolist())
    return found


def _refuse_overlaps(files: list[zipfile.ZipInfo]) -> None:
    """Members that share their bytes are how some bombs are made (Fifield, "A better zip bomb", 2019)."""
    end = 0
    for info in sorted(files, key=lambda info: info.header_offset):
        if info.header_offset < end:
            raise ImageError(f"a bomb: {name_of(info.filename)} overlaps the member before it")
        end = info.header_offset + _LOCAL_HEADER + info.compress_size


def _zip_time(info: zipfile.ZipInfo) -> float:
    try:
        return float(calendar.timegm((*info.date_time, 0, 0, 0)))
    except ValueError:  # month 0: some programs leave the time out
        return 0.0


def _zip_members(
    path: Path, names: Collection[str] | None, limits: Limits
) -> Iterator[tuple[str, bytes | ImageError]]:
    for name, info in _chosen(_directory(path), names):
        data: bytes | ImageError
        try:
            with naming(name_of(name)):
                data = _inflate(path, info, limits)
        except ImageError as error:
            data = error
        yield name, data


def _chosen(
    found: dict[str, zipfile.ZipInfo], names: Collection[str] | None
) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    if names is not None and len(names) == 1:  # a search through a hundred thousand for each would add up
        (name,) = names
        return iter([(name, found[name])] if name in found else [])
    return (
        (name, info)
        for name, info in found.items()
        if (_is_picture(name) if names is None else name in names)
    )


def _inflate(path: Path, info: zipfile.ZipInfo, limits: Limits) -> bytes:
    """One member's bytes. Never more come out than are declared, and their sum is checked."""
    limits.check_bytes(info.file_size)
    if info.flag_bits & _ENCRYPTED:
        raise ImageError("encrypted: unpack the archive with its password")
    with path.open("rb") as file:
        file.seek(info.header_offset)
        head = file.read(_LOCAL_HEADER)
        if not head.startswith(_ZIP_MAGIC[0]):
            raise zipfile.BadZipFile("there is no member where the directory has one")
        file.seek(sum(struct.unpack("<HH", head[-4:])), 1)  # its name, and fields of its own
        # Opened by hand, not by ZipFile, which reads the whole directory again each time.
        with zipfile.ZipExtFile(file, "r", info) as member:
            data = member.read()
    if len(data) != info.file_size:
        raise zipfile.BadZipFile(f"{len(data):,} bytes instead of {info.file_size:,}")
    return data
