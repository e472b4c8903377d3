"""Random access to tar archives: the offset and size of each member, and its bytes.

The index is one pass over the headers; data is skipped by seeking. A `.tar.gz` is not seekable, so it is
unpacked once: in memory while small, else to a temporary file that is removed with the reader. `shards.py`
interprets the members.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
import warnings
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from diptych.errors import DataError, SaveError
from diptych.files.tars import TarReader, headers

MEMORY_LIMIT = 256 * 2**20  # bytes of one unpacked archive kept in memory
_COPY_BYTES = 2**20  # read at a time
_GZIP_MAGIC = b"\x1f\x8b"


class Blob(Protocol):
    """Bytes that threads may read at any offset."""

    def read(self, offset: int, size: int) -> bytes:
        """Give `size` bytes from `offset`, or raise DataError."""


class FileBlob:
    """A file, opened for each read: no lock between threads, and no limit on the number of shards."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, offset: int, size: int) -> bytes:
        """Give `size` bytes from `offset`, or raise DataError."""
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error}") from error
        if len(data) != size:
            raise DataError(f"{self.path} ends before byte {offset + size:,}: it was cut short")
        return data


class MemoryBlob:
    """An archive held in memory."""

    def __init__(self, name: str, data: bytes | bytearray) -> None:
        self.name, self.data = name, data

    def read(self, offset: int, size: int) -> bytes:
        """Give `size` bytes from `offset`, or raise DataError."""
        data = bytes(self.data[offset : offset + size])
        if len(data) != size:
            raise DataError(f"{self.name} ends before byte {offset + size:,}: it was cut short")
        return data


class Spool:
    """Bytes written sequentially, then read at any offset: in memory while small, else in a file."""

    def __init__(self, name: str) -> None:
        self.name, self.size = name, 0
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def write(self, data: bytes) -> int:
        """Append; returns the offset."""
        start, self.size = self.size, self.size + len(data)
        try:
            if self._file is None and self.size > MEMORY_LIMIT:
                handle, name = tempfile.mkstemp(prefix="diptych-", suffix=".spool")
                # Removed with this object, or when the interpreter ends.
                weakref.finalize(self, _remove, name)
                self._file = os.fdopen(handle, "wb")
                self._path = Path(name)
                self._file.write(self._memory)
                self._memory = bytearray()
            if self._file is None:
                self._memory += data
            else:
                self._file.write(data)
        except OSError as error:
            raise SaveError(
                f"{self.name} could not be unpacked to {tempfile.gettempdir()}: {error}"
            ) from error
        return start

    def done(self) -> Blob:
        """End writing; the spool must outlive the blob."""
        if self._file is None:
            return MemoryBlob(self.name, self._memory)
        self._file.close()
        return FileBlob(self._path)


Member = tuple[str, int, int]  # name, offset and size of its data


class Tar:
    """One archive: its members and their bytes.

    Parameters
    ----------
    path : Path
        A tar, plain or compressed with gzip (recognised by its first bytes, not by its name).

    Raises
    ------
    DataError
        Not a tar, or not readable. A truncated archive is read up to its end, with a warning.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cut_short = False
        try:
            with path.open("rb") as file:
                packed = file.read(2) == _GZIP_MAGIC
            self.blob: Blob = self._unpack() if packed else FileBlob(path)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from error

    @property
    def name(self) -> str:
        """File name without `.tar` or `.tar.gz`."""
        return self.path.name.removesuffix(".gz").removesuffix(".tgz").removesuffix(".tar")

    def members(self) -> Iterator[Member]:
        """Walk the headers of the ordinary files, in the archive's order."""
        with self._stream() as stream:
            try:
                with TarReader.open(fileobj=stream, mode="r:") as tar:
                    for member in headers(tar):
                        if not member.issparse():
                            yield member.name, member.offset_data, member.size
            except tarfile.ReadError as error:
                if "unexpected end" not in str(error):
                    raise DataError(
                        f"{self.path} is not a tar archive ({error}): expected a .tar or .tar.gz"
                    ) from error
                self.cut_short = True
            except (tarfile.TarError, ValueError, UnicodeError, EOFError) as error:
                raise DataError(f"{self.path} is not a tar archive that can be read: {error}") from error
        if self.cut_short:
            warnings.warn(f"{self.path} ends too early; its records before that are used", stacklevel=2)

    def _stream(self) -> IO[bytes]:
        if isinstance(self.blob, MemoryBlob):
            return io.BytesIO(self.blob.data)  # a second copy, for the time of the pass
        return (self.blob.path if isinstance(self.blob, FileBlob) else self.path).open("rb")

    def _unpack(self) -> Blob:
        self._spool = Spool(str(self.path))
        with gzip.open(self.path) as packed:
            try:
                # `read1` and not `read`, which would lose the bytes before damaged data.
                while data := packed.read1(_COPY_BYTES):
                    self._spool.write(data)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                # As for a plain archive, what was read before the damage is used.
                if self._spool.size == 0:
                    raise DataError(f"{self.path} is not a gzip file that can be read: {error}") from error
                self.cut_short = True
        return self._spool.done()


def _remove(name: str) -> None:
    Path(name).unlink(missing_ok=True)
