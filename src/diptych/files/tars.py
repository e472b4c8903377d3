"""Tar archives at the level every reader of them shares: headers one after another.

Nothing is ever unpacked to disk, so a name inside an archive can do no harm. What members mean is left to the
rooms above: pictures (`archives`), pairs for training, labelled sets for measuring.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, Any

LONGEST = 2**20  # bytes of headers before one file: names are a few thousand, attributes up to 64 KB each


class TarReader(tarfile.TarFile):
    """tarfile's reader, without its trust in headers; `TarReader.open` takes what `tarfile.open` does.

    Long names, attributes and maps of holes come before a file, of any length, and tarfile reads them whole
    before anybody sees the file: in a compressed archive of some kilobytes that can be all of the memory.
    """

    def next(self) -> tarfile.TarInfo | None:
        """The next header; TarError where it takes more than `LONGEST` bytes."""
        file: Any = self.fileobj
        place = self.offset
        self.fileobj = _Sparing(file, place)  # type: ignore[assignment]
        try:
            member = super().next()
        finally:
            self.fileobj = file
        # What is said once for all files to come is kept.
        if sum(len(name) + len(value) for name, value in self.pax_headers.items()) > LONGEST:
            raise _too_long(place)
        return member


class _Sparing:
    """A file that gives so many bytes and no more, for as long as one header is read."""

    def __init__(self, file: IO[bytes], place: int) -> None:
        self._file, self._place, self._left = file, place, LONGEST
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise _too_long(self._place)
        self._left -= size
        return self._file.read(size)


def _too_long(place: int) -> tarfile.TarError:
    return tarfile.TarError(f"the headers at byte {place:,} take more than {LONGEST:,} bytes")


def headers(tar: TarReader) -> Iterator[tarfile.TarInfo]:
    """The regular files of an open archive, in its order; none is kept, so it may be as long as it likes.

    Raises
    ------
    tarfile.TarError, EOFError, zlib.error, OSError
        As tarfile and the decompressor say it, for whoever knows what was being read.
    """
    before = -1
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # else all headers stay in memory
        if member.size < 0 or tar.offset <= before:  # older Pythons would follow it back for ever
            raise tarfile.ReadError(f"the header at byte {member.offset:,} has a size below zero")
        before = tar.offset
        if member.isreg():
            yield member
