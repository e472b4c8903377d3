"""Records of one shard, in the order they lie in it: a tar read from front to back.

A record is what stands together under one key: KEY.jpg with KEY.txt or KEY.json, next to each other, as every
tool that writes shards puts them (`grouping.py`). `tars.py` reads archives at random, for which it keeps an
index; here nothing is kept, so a shard can be as long as it likes and lie anywhere.
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
from diptych.files.locations import open_location, retried
from diptych.files.tars import TarReader, headers
from diptych.files.text_files import LARGEST_TEXT
from diptych.media.folders.captions import captions_of_fields, captions_of_text, parse_json
from diptych.training.data.sources.grouping import IMAGE, SECOND, Group, Grouping

# Of a member: its bytes, or its header where they can be read later; None where they are not wanted.
Part = bytes | tarfile.TarInfo | None


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
        self._counted, self._second_pictures = start - 1, set[str]()
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
            seekable = stream.seekable() and tar.fileobj is stream
            grouping = Grouping[Part]()
            last: Group[Part] | None = None
            for member in headers(tar):
                yield from self._records(tar, grouping.open(member.name), start)
                group = grouping.group
                if group is None:
                    continue
                wanted, last = group.number >= start and self._wanted(group.number), group
                # Captions may be lent to a record that is wanted.
                if wanted or (grouping.role != IMAGE and not seekable):
                    grouping.keep(_bytes(tar, member, grouping.role))
                else:
                    grouping.keep(member if seekable else None)
            # An archive ends with a block of zeros; one that does not was cut off, if only there.
            whole = _position(tar) >= tar.offset + tarfile.BLOCKSIZE
            done = [group for group in grouping.close() if whole or group is not last or group.complete]
            yield from self._records(tar, done, start)
            if not whole:
                raise DataError(f"{self.location} ends too early")

    def _records(self, tar: TarReader, groups: list[Group[Part]], start: int) -> Iterator[Streamed]:
        """Those of the finished records that are wanted and are pairs."""
        for group in groups:
            if group.number >= start and self._wanted(group.number):
                parts = {
                    role: _bytes(tar, part, role) if isinstance(part, tarfile.TarInfo) else part
                    for role, part in group.parts.items()
                }
                if (record := self._record(group, parts)) is not None:
                    yield record

    def _record(self, group: Group[Part], parts: dict[str, bytes | None]) -> Streamed | None:
        """What was read of a record as a pair, None if it is none."""
        captions: tuple[str, ...] = ()
        name = f"{self._shard}/{group.key}"
        if parts.get("txt") is not None and self._field is None:
            captions = captions_of_text(parts["txt"] or b"", f"{name}.txt")
        elif parts.get("json") is not None:
            captions = captions_of_fields(parse_json(parts["json"] or b"", f"{name}.json"), self._field)
        image = parts.get(IMAGE)
        if image is not None and captions:
            return Streamed(group.number, name, image, captions)
        if group.second and group.second not in self._second_pictures:
            self._second_pictures.add(group.second)
            self.dropped[SECOND] += 1
        elif group.number > self._counted and not (group.accessory or group.second):
            self.dropped["no caption" if IMAGE in parts else "no picture"] += 1
        self._counted = max(self._counted, group.number)  # once, also where the shard is read again
        return None


def _bytes(tar: TarReader, member: tarfile.TarInfo, role: str) -> bytes:
    """What a member holds; nothing of a text that is too long to be captions."""
    if role != IMAGE and member.size > LARGEST_TEXT:
        return b""
    data = tar.extractfile(member)
    return b"" if data is None else data.read()


def open_shard(stream: IO[bytes]) -> TarReader:
    """Open a tar, plain or compressed, from a stream; what is not read is skipped where the stream allows."""
    mode = "r:" if _plain(stream) else "r|*"
    return TarReader.open(fileobj=stream, mode=mode)  # type: ignore[call-overload, no-any-return]


def _position(tar: tarfile.TarFile) -> int:
    """How far an archive has been read, unpacked."""
    return 0 if tar.fileobj is None else tar.fileobj.tell()


def _plain(stream: IO[bytes]) -> bool:
    """Whether this is a tar that can be sought in: nothing is read that is not wanted."""
    if not stream.seekable():
        return False
    magic = stream.read(2)
    stream.seek(0)
    return magic != b"\x1f\x8b"
