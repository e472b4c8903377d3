"""Sequential reading of tar headers, with limits against hostile archives.

Nothing is unpacked to disk, so a member's name cannot cause harm. The contents are interpreted by the
callers: images (`diptych.media.folders.archives`), training pairs, labelled data sets.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import IO, Any

# Bytes of headers before one member. Names take up to a few thousand, extended attributes up to 64 KB each.
LONGEST = 2**20


class TarReader(tarfile.TarFile):
    """`tarfile.TarFile` with a limit on the size of headers; `TarReader.open` is used like `tarfile.open`.

    Long names, extended attributes and sparse maps precede a member, and tarfile reads them into memory
    whole: a compressed archive of a few kilobytes could exhaust the memory.
    """

    def next(self) -> tarfile.TarInfo | None:
        """The next header; raises TarError if it takes more than `LONGEST` bytes."""
        file: Any = self.fileobj
        position = self.offset
        self.fileobj = _LimitedReader(file, position)  # type: ignore[assignment]
        try:
            member = super().next()
        finally:
            self.fileobj = file
        # Global pax headers, which hold for all members that follow, are kept: they count too.
        if sum(len(name) + len(value) for name, value in self.pax_headers.items()) > LONGEST:
            raise _too_long(position)
        return member


class _LimitedReader:
    """A file that gives at most `LONGEST` bytes, used while one header is read."""

    def __init__(self, file: IO[bytes], position: int) -> None:
        self._file, self._position, self._left = file, position, LONGEST
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._left:
            raise _too_long(self._position)
        self._left -= size
        return self._file.read(size)


def _too_long(position: int) -> tarfile.TarError:
    return tarfile.TarError(f"the headers at byte {position:,} take more than {LONGEST:,} bytes")


def headers(tar: TarReader) -> Iterator[tarfile.TarInfo]:
    """Iterate over the regular files of an open archive; headers are not kept, so any length is possible.

    Raises
    ------
    tarfile.TarError, EOFError, zlib.error, OSError
        The archive is damaged; the caller adds its name to the message.
    """
    before = -1
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # otherwise all headers are kept in memory
        if member.size < 0 or tar.offset <= before:  # older Pythons would loop back to it forever
            raise tarfile.ReadError(f"the header at byte {member.offset:,} has a size below zero")
        before = tar.offset
        if member.isreg():
            yield member
