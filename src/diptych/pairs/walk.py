"""Records of one shard, in the order they lie in it: a tar read from front to back.

A record is what stands together under one key: KEY.jpg with KEY.txt or KEY.json, next to each other, as every
tool that writes shards puts them. `tars.py` reads archives at random, for which it keeps an index; here
nothing is kept, so a shard can be as long as it likes and lie anywhere.
"""

from __future__ import annotations

import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from diptych.errors import DataError
from diptych.media import IMAGE_SUFFIXES
from diptych.media.captions import captions_of_fields, captions_of_text, parse_json
from diptych.media.locations import open_location, retried
from diptych.media.tars import TarReader, headers


@dataclass(frozen=True)
class Streamed:
    """A record on its way: its number in the shard, its key, the encoded picture and its captions."""

    index: int
    key: str
    image: bytes
    captions: tuple[str, ...]


class Walk:
    """The usable records of a shard from one number on.

    Parameters
    ----------
    location : str
        File, URL or command.
    start : int
        Number of the first record wanted; all that the shard holds are counted, usable or not.
    wanted : callable
        Told a record's number; the bytes of others are not read where the shard can be sought in.
    field : str, optional
        JSON field of the captions.
    name : str, optional
        Of the shard, which the records' keys begin with; by default the file's, without its suffix.
    tries, seconds : int, float
        How often to try a shard that fails, and how long to wait before the second try.

    Attributes
    ----------
    dropped : Counter of str
        Records that are no pair, by reason.
    reached : int
        Records the shard was read up to.
    """

    def __init__(
        self,
        location: str,
        start: int = 0,
        wanted: Callable[[int], bool] = lambda index: True,
        *,
        field: str | None = None,
        name: str = "",
        tries: int = 3,
        seconds: float = 1.0,
    ) -> None:
        self.location, self.reached, self.dropped = location, start, Counter[str]()
        self._wanted, self._field, self._tries, self._seconds = wanted, field, tries, seconds
        self._running: Iterator[Streamed] | None = None
        self._counted = start - 1
        folder, slash, file = (name or PurePosixPath(location).name).rpartition("/")
        self._shard = folder + slash + file.partition(".tar")[0].removesuffix(".tgz")

    def __iter__(self) -> Iterator[Streamed]:
        """Give the records.

        Raises
        ------
        DataError
            The shard could not be read to its end, in spite of all tries. What came before was given.
        """
        while True:
            record = retried(self._next, self._tries, self._seconds)
            if record is None:
                return
            self.reached = record.index + 1
            yield record

    def _next(self, attempt: int) -> Streamed | None:
        """The next record; after a failure the shard is opened anew and read up to where it broke off."""
        if self._running is None or attempt:
            self._running = self._read(self.reached)
        try:
            return next(self._running, None)
        except (tarfile.TarError, zlib.error, UnicodeError, ValueError) as error:
            raise DataError(f"{self.location} is not a tar archive that can be read: {error}") from error

    def _read(self, start: int) -> Iterator[Streamed]:
        with open_location(self.location) as stream, open_shard(stream) as tar:
            index, key, parts = -1, "", dict[str, bytes]()
            for number, stem, role, member in record_members(tar):
                if number != index:
                    if (record := self._record(index, key, parts)) is not None:
                        yield record
                    index, key, parts = number, stem, {}
                if index >= start and self._wanted(index):
                    data = tar.extractfile(member)
                    parts[role] = b"" if data is None else data.read()
            # An archive ends with a block of zeros; one that does not was cut off, if only there.
            whole = _position(tar) >= tar.offset + tarfile.BLOCKSIZE
            record = self._record(index, key, parts) if whole or _complete(parts) else None
            if record is not None:
                yield record
            if not whole:
                raise DataError(f"{self.location} ends too early")

    def _record(self, index: int, key: str, parts: dict[str, bytes]) -> Streamed | None:
        """What was read of a record as a pair, None if it is none."""
        if not parts:
            return None
        captions: tuple[str, ...] = ()
        if "txt" in parts and self._field is None:
            captions = captions_of_text(parts["txt"])
        elif "json" in parts:
            captions = captions_of_fields(parse_json(parts["json"]), self._field)
        if "image" in parts and captions:
            return Streamed(index, f"{self._shard}/{key}", parts["image"], captions)
        if index > self._counted:  # once, also where the shard is read again
            self.dropped["no caption" if "image" in parts else "no picture"] += 1
            self._counted = index
        return None


def record_members(tar: TarReader) -> Iterator[tuple[int, str, str, tarfile.TarInfo]]:
    """Read the headers of a shard: for each member of a record its number, key, role and header.

    The role is "image", "txt" or "json"; members of other kinds are left out. A record is a run of members
    with one key.

    Raises
    ------
    tarfile.TarError, EOFError, zlib.error, OSError
        As `media.tars.headers`.
    """
    index, key = -1, ""
    for member in headers(tar):
        stem, role = _name(member.name)
        if not role:
            continue
        if stem != key:
            index, key = index + 1, stem
        yield index, stem, role, member


def open_shard(stream: IO[bytes]) -> TarReader:
    """Open a tar, plain or compressed, from a stream; what is not read is skipped where the stream allows."""
    mode = "r:" if _plain(stream) else "r|*"
    return TarReader.open(fileobj=stream, mode=mode)  # type: ignore[call-overload, no-any-return]


def _complete(parts: dict[str, bytes]) -> bool:
    return "image" in parts and len(parts) > 1


def _position(tar: tarfile.TarFile) -> int:
    """How far an archive has been read, unpacked."""
    return 0 if tar.fileobj is None else tar.fileobj.tell()


def _name(member: str) -> tuple[str, str]:
    """A member's key and what it is of the record: image, txt or json; nothing if it is none of them."""
    path = PurePosixPath(member)
    stem, dot, suffix = path.name.partition(".")
    if not (stem and dot):
        return "", ""
    suffix = suffix.lower()
    role = "image" if f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES else suffix
    return str(path.with_name(stem)), role if role in ("image", "txt", "json") else ""


def _plain(stream: IO[bytes]) -> bool:
    """Whether this is a tar that can be sought in: nothing is read that is not wanted."""
    if not stream.seekable():
        return False
    magic = stream.read(2)
    stream.seek(0)
    return magic != b"\x1f\x8b"
