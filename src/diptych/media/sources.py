"""Sources of images (paths, bytes, open files), limits on their size, and their names in messages.

The type of a file is checked before it is read: a pipe would block forever and /dev/zero never ends.
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
_BYTES_PER_PIXEL = 4  # limit on the file size: more than compressed RGB of 16 bits takes
_PIXELS = re.compile(r"(\d+(?:\.\d+)?)\s*(|[mg]p?|[mg]egapixels?|[mg]igapixels?)", re.IGNORECASE)


def read_pixels(text: str) -> int:
    """Parse a number of pixels such as "200MP".

    Raises
    ------
    InputError
        The text is not a number of pixels.

    Examples
    --------
    >>> read_pixels("200MP"), read_pixels("1.5 GP"), read_pixels("120000000")
    (200000000, 1500000000, 120000000)
    """
    match = _PIXELS.fullmatch(text.strip())
    scale = {"": 1, "m": 10**6, "g": 10**9}[match[2][:1].lower()] if match else 0
    pixels = round(float(match[1]) * scale) if match else 0
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
    """Limits on the size of an image, checked before it is read and decoded.

    The default is 300 million pixels, enough for 200-megapixel phone photographs and large panoramas.
    Decoded, that is 1.2 GB, and twice as much while colours are converted; images over 64 million pixels are
    decoded one at a time. Files may have 4 bytes per allowed pixel. The option ``--max-pixels`` and the
    environment variable ``DIPTYCH_MAX_PIXELS`` change both limits.

    Examples
    --------
    >>> Limits(max_pixels=1_000_000).max_bytes
    1200000000
    """

    max_bytes: int = field(default_factory=_max_bytes)  # size of the file
    max_pixels: int = field(default_factory=_max_pixels)  # width times height, from the header

    def check_bytes(self, count: int) -> None:
        """Raise ImageError for a file over the limit."""
        if count > self.max_bytes:
            raise ImageError(
                f"{count:,} bytes, over the limit of {self.max_bytes:,}"
                f"{_way_out(-(-count // _BYTES_PER_PIXEL))} (files may have {_BYTES_PER_PIXEL} bytes a pixel)"
            )

    def check_size(self, width: int, height: int) -> None:
        """Raise ImageError for an image over the limit, or without pixels."""
        if width * height > self.max_pixels:
            raise ImageError(
                f"{width:,} x {height:,} = {width * height:,} pixels, over the limit of {self.max_pixels:,}"
                f"{_way_out(width * height)}"
            )
        if width < 1 or height < 1:
            raise ImageError(f"{width} x {height} pixels: the picture is empty")


def _way_out(pixels: int) -> str:
    return f": --max-pixels {-(-pixels // 1_000_000)}MP (or {MAX_PIXELS_VARIABLE}) allows it"


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Translate any error into an ImageError that begins with the name; keep other errors of this package."""
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error.__cause__
    except DiptychError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged files
        raise ImageError(f"{name}: cannot be decoded, truncated or damaged: {reason_of(error)}") from error


def read_source(source: str | Path | bytes | BinaryIO, limits: Limits) -> bytes:
    """Read all bytes of a source.

    Raises
    ------
    ImageError
        The source is missing, a folder, empty, over `Limits.max_bytes`, or of another type.
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
def open_source(source: str | Path | bytes | BinaryIO, limits: Limits) -> Iterator[BinaryIO]:
    """Open a source as a seekable file; a path is not read as a whole.

    Raises
    ------
    ImageError
        As for `read_source`.
    """
    if isinstance(source, str | Path):
        size = plain_file(Path(source))
        limits.check_bytes(size)
        _refuse_empty(size)
        with _translate_os_errors():
            file = Path(source).open("rb")  # noqa: SIM115 - closed below, outside the translation of errors
        with file:
            yield file
    else:
        yield io.BytesIO(read_source(source, limits))


def plain_file(path: Path) -> int:
    """Return the size of a regular file; refuse anything else without opening it.

    Raises
    ------
    ImageError
        The path is missing, a folder, a pipe or a device.
    """
    with _translate_os_errors():
        status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("a folder, not a picture: find_images lists the pictures in it")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a plain file")
    return status.st_size


class BorderedBytes(bytes):
    """An encoded image with a border on each side, which `load_image` crops.

    Examples
    --------
    >>> BorderedBytes.by(1, b"...").border
    1
    """

    border: int

    @classmethod
    def by(cls, border: int, data: bytes) -> Self:
        """Mark encoded bytes as having a border of so many pixels."""
        self = cls(data)
        self.border = border
        return self


def name_of(source: object) -> str:
    """The name of a source for messages."""
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
    """Escape lone surrogates (from file names that are not UTF-8), which terminals and JSON cannot encode."""
    return name.encode("utf-8", "backslashreplace").decode()


def reason_of(error: Exception) -> str:
    """The message of an error, never empty."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = error.args[0] if error.args else ""  # LibRaw's messages are bytes
    message = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(error)
    return message.strip() or type(error).__name__


def _read_file(path: Path, limits: Limits) -> bytes:
    limits.check_bytes(plain_file(path))
    with _translate_os_errors(), path.open("rb") as file:
        return file.read(limits.max_bytes + 1)  # the file may have grown since the check


@contextlib.contextmanager
def _translate_os_errors() -> Iterator[None]:
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
