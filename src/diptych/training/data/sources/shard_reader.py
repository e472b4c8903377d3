"""Sequential reader of one tar shard: its records in the order of the archive.

A record is the members of one key: KEY.jpg with KEY.txt or KEY.json, next to each other, as every tool that
writes shards puts them (`record_grouping.py`). `tars.py` reads archives at random and keeps an index for it;
here no index is kept, so a shard may have any length and any location.
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
from diptych.training.data.sources.record_grouping import IMAGE, SECOND, RecordGroup, RecordGrouper

# Of a member: its bytes, or its header if they can be read later; None if they are not selected.
MemberContent = bytes | tarfile.TarInfo | None


@dataclass(frozen=True)
class StreamedRecord:
    """A pair: the number of its record in the shard, its key, the encoded image and its captions."""

    index: int
    key: str
    image: bytes
    captions: tuple[str, ...]


class ShardReader:
    """Iterates over the usable records of a shard.

    Parameters
    ----------
    location : str
        File, URL or command.
    start : int
        Number of the first record; all records of the shard are counted, usable or not.
    is_selected : callable
        Filter of record numbers; the bytes of other records are not read if the shard is seekable.
    field : str, optional
        JSON field of the captions.
    name : str, optional
        Of the shard, the prefix of its keys; by default that of the file, without its suffix.
    tries, seconds : int, float
        How often to try a shard that fails, and how long to wait before the second try.

    Attributes
    ----------
    dropped : Counter of str
        Records that are not a pair, by reason.
    reached : int
        Number of the next record.
    """

    def __init__(
        self,
        location: str,
        start: int = 0,
        is_selected: Callable[[int], bool] = lambda index: True,
        *,
        field: str | None = None,
        name: str = "",
        tries: int = 3,
        seconds: float = 1.0,
    ) -> None:
        self.location, self.reached, self.dropped = location, start, Counter[str]()
        self._is_selected, self._field, self._tries, self._seconds = is_selected, field, tries, seconds
        self._running: Iterator[StreamedRecord] | None = None
        self._counted, self._second_pictures = start - 1, set[str]()
        folder, slash, file = (name or PurePosixPath(location).name).rpartition("/")
        self._shard = folder + slash + file.partition(".tar")[0].removesuffix(".tgz")

    def __iter__(self) -> Iterator[StreamedRecord]:
        """Give the records.

        Raises
        ------
        DataError
            The shard could not be read to its end in any try; the records before the failure were yielded.
        """
        while True:
            record = retried(self._next, self._tries, self._seconds)
            if record is None:
                return
            self.reached = record.index + 1
            yield record

    def _next(self, attempt: int) -> StreamedRecord | None:
        """The next record; after a failure the shard is opened again and read from `reached` on."""
        if self._running is None or attempt:
            self._running = self._read(self.reached)
        try:
            return next(self._running, None)
        except (tarfile.TarError, zlib.error, UnicodeError, ValueError) as error:
            raise DataError(f"{self.location} is not a tar archive that can be read: {error}") from error

    def _read(self, start: int) -> Iterator[StreamedRecord]:
        with open_location(self.location) as stream, open_shard(stream) as tar:
            seekable = stream.seekable() and tar.fileobj is stream
            grouper = RecordGrouper[MemberContent]()
            last: RecordGroup[MemberContent] | None = None
            for member in headers(tar):
                yield from self._records(tar, grouper.open(member.name), start)
                group = grouper.group
                if group is None:
                    continue
                is_selected, last = group.number >= start and self._is_selected(group.number), group
                # A selected record may borrow the captions of one that is not: they are read now if the
                # stream cannot seek back to them.
                if is_selected or (grouper.role != IMAGE and not seekable):
                    grouper.keep(_bytes(tar, member, grouper.role))
                else:
                    grouper.keep(member if seekable else None)
            # An archive ends with a block of zeros; without it, it was truncated, and members of the last
            # record may be missing.
            whole = _position(tar) >= tar.offset + tarfile.BLOCKSIZE
            done = [group for group in grouper.close() if whole or group is not last or group.complete]
            yield from self._records(tar, done, start)
            if not whole:
                raise DataError(f"{self.location} ends too early")

    def _records(
        self, tar: TarReader, groups: list[RecordGroup[MemberContent]], start: int
    ) -> Iterator[StreamedRecord]:
        """The pairs among complete records that are selected."""
        for group in groups:
            if group.number >= start and self._is_selected(group.number):
                parts = {
                    role: _bytes(tar, part, role) if isinstance(part, tarfile.TarInfo) else part
                    for role, part in group.parts.items()
                }
                if (record := self._record(group, parts)) is not None:
                    yield record

    def _record(
        self, group: RecordGroup[MemberContent], parts: dict[str, bytes | None]
    ) -> StreamedRecord | None:
        """The pair that a record is; None, counted by reason, if it is none."""
        captions: tuple[str, ...] = ()
        name = f"{self._shard}/{group.key}"
        if parts.get("txt") is not None and self._field is None:
            captions = captions_of_text(parts["txt"] or b"", f"{name}.txt")
        elif parts.get("json") is not None:
            captions = captions_of_fields(parse_json(parts["json"] or b"", f"{name}.json"), self._field)
        image = parts.get(IMAGE)
        if image is not None and captions:
            return StreamedRecord(group.number, name, image, captions)
        if group.second and group.second not in self._second_pictures:
            self._second_pictures.add(group.second)
            self.dropped[SECOND] += 1
        elif group.number > self._counted and not (group.accessory or group.second):
            self.dropped["no caption" if IMAGE in parts else "no picture"] += 1
        self._counted = max(self._counted, group.number)  # once, also if the shard is read again
        return None


def _bytes(tar: TarReader, member: tarfile.TarInfo, role: str) -> bytes:
    """Content of a member; empty for a text that is too long to be captions."""
    if role != IMAGE and member.size > LARGEST_TEXT:
        return b""
    data = tar.extractfile(member)
    return b"" if data is None else data.read()


def open_shard(stream: IO[bytes]) -> TarReader:
    """Open a tar, plain or compressed, from a stream; unread members are skipped if it is seekable."""
    mode = "r:" if _plain(stream) else "r|*"
    return TarReader.open(fileobj=stream, mode=mode)  # type: ignore[call-overload, no-any-return]


def _position(tar: tarfile.TarFile) -> int:
    """Position in the uncompressed archive."""
    return 0 if tar.fileobj is None else tar.fileobj.tell()


def _plain(stream: IO[bytes]) -> bool:
    """Whether this is a seekable and uncompressed tar, of which members can be skipped."""
    if not stream.seekable():
        return False
    magic = stream.read(2)
    stream.seek(0)
    return magic != b"\x1f\x8b"
