"""What a picture may come from, within limits, and how messages name it: a path, bytes, an open file.

A file is looked at before it is read: a pipe would wait for ever and /dev/zero would never end. Decoding is
left to `images`, the metadata to `details`.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self, TypeAlias

from PIL import Image

from diptych.errors import DiptychError, ImageError, InputError

Source: TypeAlias = str | Path | bytes | BinaryIO | Image.Image


MAX_PIXELS_VARIABLE = "DIPTYCH_MAX_PIXELS"
_MAX_PIXELS = 300_000_000
_LEAST_MAX_BYTES = 256 * 2**20
_BYTES_PER_PIXEL = 4  # of a file: more than 16 bits of three colours take once they are compressed
_PIXELS = re.compile(r"(\d+(?:\.\d+)?)\s*(|[mg]p?|[mg]egapixels?|[mg]igapixels?)", re.IGNORECASE)


def read_pixels(text: str) -> int:
    """A number of pixels as people write it.

    Raises
    ------
    InputError
        It is none.

    Examples
    --------
    >>> read_pixels("200MP"), read_pixels("1.5 GP"), read_pixels("120000000")
    (200000000, 1500000000, 120000000)
    """
    found = _PIXELS.fullmatch(text.strip())
    scale = {"": 1, "m": 10**6, "g": 10**9}[found[2][:1].lower()] if found else 0
    pixels = round(float(found[1]) * scale) if found else 0
    if pixels < 1:
        raise InputError(f"{text!r} is no number of pixels: expected one such as 400MP, 1.5GP or 400000000")
    return pixels


def _max_pixels() -> int:
    text = os.environ.get(MAX_PIXELS_VARIABLE, "")
    return read_pixels(text) if text else _MAX_PIXELS


def _max_bytes() -> int:
    return max(_LEAST_MAX_BYTES, _BYTES_PER_PIXEL * _max_pixels())


@dataclass(frozen=True)
class Limits:
    """How large a picture may be before it is refused, unread and undecoded.

    By default 300 million pixels: the 200-megapixel pictures of phones and large panoramas come through.
    Decoded, that is 1.2 GB, and twice as much while colours are converted; of pictures over 64 million pixels
    a process decodes one at a time. Files may have 4 bytes for each of these pixels. The option
    ``--max-pixels`` and the environment variable ``DIPTYCH_MAX_PIXELS`` change both.

    Examples
    --------
    >>> Limits(max_pixels=1_000_000).max_bytes
    1200000000
    """

    max_bytes: int = field(default_factory=_max_bytes)  # of the file
    max_pixels: int = field(default_factory=_max_pixels)  # width times height, by the header

    def check_bytes(self, count: int) -> None:
        """Raise ImageError for a file over the limit."""
        if count > self.max_bytes:
            raise ImageError(
                f"{count:,} bytes, over the limit of {self.max_bytes:,}"
                f"{_way_out(-(-count // _BYTES_PER_PIXEL))} (files may have {_BYTES_PER_PIXEL} bytes a pixel)"
            )

    def check_size(self, width: int, height: int) -> None:
        """Raise ImageError for a picture over the limit, or without pixels."""
        if width * height > self.max_pixels:
            raise ImageError(
                f"{width:,} x {height:,} = {width * height:,} pixels, over the limit of {self.max_pixels:,}"
                f"{_way_out(width * height)}"
            )
        if width < 1 or height < 1:
            raise ImageError(f"{width} x {height} pixels: there is nothing to see")


def _way_out(pixels: int) -> str:
    return f": --max-pixels {-(-pixels // 1_000_000)}MP (or {MAX_PIXELS_VARIABLE}) allows it"


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes an ImageError that begins with the name; other refusals stay."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error.__cause__
    except DiptychError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ImageError(f"{name}: cannot be decoded, truncated or damaged: {reason_of(error)}") from error


def read_source(source: str | Path | bytes | BinaryIO, limits: Limits) -> bytes:
    """All bytes of a source.

    Raises
    ------
    ImageError
        Missing, a folder, empty, over `Limits.max_bytes`, or nothing to read from.
    """
    if isinstance(source, str | Path):
        data = _read_file(Path(source), limits)
    elif isinstance(source, bytes | bytearray | memoryview):
        data = bytes(source)
    elif hasattr(source, "read"):
        data = source.read(limits.max_bytes + 1)
        if not isinstance(data, bytes):
            raise ImageError("the file is open as text: open it in binary mode ('rb')")
    else:
        raise ImageError("expected a path, bytes, a binary file or a PIL picture")
    limits.check_bytes(len(data))
    _refuse_empty(len(data))
    return data


@contextlib.contextmanager
def opened(source: str | Path | bytes | BinaryIO, limits: Limits) -> Iterator[BinaryIO]:
    """A source as a file that can be sought in; of a path only what is asked for is read.

    Raises
    ------
    ImageError
        As for `read_source`.
    """
    if isinstance(source, str | Path):
        size = plain_file(Path(source))
        limits.check_bytes(size)
        _refuse_empty(size)
        with _told_by_the_system():
            file = Path(source).open("rb")  # noqa: SIM115 - closed below, where the reader's errors are its own
        with file:
            yield file
    else:
        yield io.BytesIO(read_source(source, limits))


def plain_file(path: Path) -> int:
    """The size of a file that can be opened without waiting; anything else is refused before that.

    Raises
    ------
    ImageError
        Missing, a folder, a pipe or a device.
    """
    with _told_by_the_system():
        status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("a folder, not a picture: find_images lists the pictures in it")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a plain file")
    return status.st_size


class Framed(bytes):
    """A picture's file of which some pixels at each side are no part of the picture: they are cut off.

    Examples
    --------
    >>> Framed.by(1, b"...").border
    1
    """

    border: int

    @classmethod
    def by(cls, border: int, data: bytes) -> Self:
        """The bytes, with a border of so many pixels."""
        self = cls(data)
        self.border = border
        return self


def name_of(source: object) -> str:
    """How a message names a source."""
    if isinstance(source, str | Path):
        return _printable(str(source))
    if isinstance(source, bytes | bytearray | memoryview):
        return f"{len(source):,} bytes in memory"
    if isinstance(source, Image.Image):
        named = getattr(source, "filename", "")
        return _printable(str(named)) if named else f"a PIL picture of {source.width} x {source.height}"
    named = getattr(source, "name", None)
    return _printable(named) if isinstance(named, str) else f"a {type(source).__name__}"


def _printable(name: str) -> str:
    """A name that is no UTF-8 holds lone surrogates, on which every terminal and JSON file would stumble."""
    return name.encode("utf-8", "backslashreplace").decode()


def reason_of(error: Exception) -> str:
    """What a foreign error says, never nothing."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = error.args[0] if error.args else ""  # bytes from LibRaw
    said = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(error)
    return said.strip() or type(error).__name__


def _read_file(path: Path, limits: Limits) -> bytes:
    limits.check_bytes(plain_file(path))
    with _told_by_the_system(), path.open("rb") as file:
        return file.read(limits.max_bytes + 1)  # it may have grown since


@contextlib.contextmanager
def _told_by_the_system() -> Iterator[None]:
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError("there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise ImageError(f"cannot be read: {reason_of(error)}") from error


def _refuse_empty(size: int) -> None:
    if not size:
        raise ImageError("empty (0 bytes): expected a picture")
