"""The one way a picture is loaded: any source and mode in, an upright RGB picture out, or an ImageError.

Everything that reads pictures comes through `load_image`, so that phone photographs stand upright and a
broken or hostile file costs a message, whoever asks. It reads no network (see `urls`) and resizes nothing,
apart from the decoder's own halving on request.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from PIL import Image, JpegImagePlugin

from diptych.errors import DiptychError, ImageError
from diptych.media.colours import to_rgb
from diptych.media.formats import open_picture

Source: TypeAlias = str | Path | bytes | BinaryIO | Image.Image

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Limits:
    """How large a picture may be before it is refused, unread and undecoded.

    The default number of pixels lets the 108-megapixel pictures of phones through; decoded, that is 360 MB.

    Examples
    --------
    >>> Limits(max_pixels=1_000_000).max_bytes
    268435456
    """

    max_bytes: int = 256 * 2**20  # of the file
    max_pixels: int = 120_000_000  # width times height, by the header

    def check_bytes(self, count: int) -> None:
        """Raise ImageError for a file over the limit."""
        if count > self.max_bytes:
            raise ImageError(f"{count:,} bytes, over the limit of {self.max_bytes:,} (Limits.max_bytes)")

    def check_size(self, width: int, height: int) -> None:
        """Raise ImageError for a picture over the limit, or without pixels."""
        if width * height > self.max_pixels:
            raise ImageError(
                f"{width:,} x {height:,} = {width * height:,} pixels, "
                f"over the limit of {self.max_pixels:,} (Limits.max_pixels)"
            )
        if width < 1 or height < 1:
            raise ImageError(f"{width} x {height} pixels: there is nothing to see")


_DEFAULT_LIMITS = Limits()


def load_image(source: Source, *, target: int | None = None, limits: Limits = _DEFAULT_LIMITS) -> Image.Image:
    """A picture as upright RGB, whatever it came from.

    Parameters
    ----------
    source : str, Path, bytes, binary file or PIL.Image.Image
        A string is a path, never a URL. Of an animation the first frame is taken.
    target : int, optional
        The side in pixels a model will see. Lets the JPEG decoder halve the picture while decoding (several
        times faster on large photographs), the shorter side never below twice the target. By default
        decoding is exact.
    limits : Limits, optional
        Refuse larger files and pictures before decoding them.

    Returns
    -------
    PIL.Image.Image
        A new picture in mode RGB that carries no metadata, so that it is not turned upright twice.

    Raises
    ------
    ImageError
        Missing, a folder, empty, truncated, too large, or no picture at all; the message names the source.
    MissingExtraError
        A HEIC or camera RAW file, and the library for it is not installed.

    Examples
    --------
    >>> load_image(Image.new("L", (40, 30))).mode
    'RGB'
    >>> load_image(b"plain words")
    Traceback (most recent call last):
        ...
    diptych.errors.ImageError: 11 bytes in memory: not a picture: the bytes are text
    """
    if target is not None and target < 1:
        raise ImageError(f"target must be a side in pixels above 0, got {target}")
    name = _name(source)
    try:
        return _load(source, name, target, limits)
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error.__cause__
    except DiptychError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise ImageError(f"{name}: cannot be decoded, truncated or damaged: {_reason(error)}") from error


def _load(source: Source, name: str, target: int | None, limits: Limits) -> Image.Image:
    if isinstance(source, Image.Image):
        limits.check_size(*source.size)
        image = source
    else:
        image = open_picture(_read(source, limits), name, limits.check_size)
        if target is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            # Both sides stay at or above what is asked for, so orientation does not matter here.
            image.draft(None, (2 * target, 2 * target))
    image.load()
    orientation = _orientation(image)  # asked after loading: TIFF pictures turn themselves and then say 1
    upright = to_rgb(image)
    if orientation != 1:
        upright = upright.transpose(_UPRIGHT[orientation])
    return _bare(upright, image)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata is no reason to refuse the pixels
        return 1
    return value if value in _UPRIGHT else 1


def _bare(image: Image.Image, original: Image.Image) -> Image.Image:
    """The pixels alone: no metadata, no open file, nothing shared with the caller's picture."""
    if image is original:
        image = image.copy()
    image.info = {}
    return image


def _read(source: str | Path | bytes | BinaryIO, limits: Limits) -> bytes:
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
    if not data:
        raise ImageError("empty (0 bytes): expected a picture")
    return data


def _read_file(path: Path, limits: Limits) -> bytes:
    try:
        return _read_plain_file(path, limits)
    except ImageError:
        raise
    except FileNotFoundError as error:
        raise ImageError("there is no such file") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        raise ImageError(f"cannot be read: {_reason(error)}") from error


def _read_plain_file(path: Path, limits: Limits) -> bytes:
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("a folder, not a picture: find_images lists the pictures in it")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not a plain file")  # a pipe would wait, /dev/zero would never end
    limits.check_bytes(status.st_size)
    with path.open("rb") as file:
        return file.read(limits.max_bytes + 1)  # it may have grown since


def _name(source: object) -> str:
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, bytes | bytearray | memoryview):
        return f"{len(source):,} bytes in memory"
    if isinstance(source, Image.Image):
        named = getattr(source, "filename", "")
        return str(named) if named else f"a PIL picture of {source.width} x {source.height}"
    named = getattr(source, "name", None)
    return os.fspath(named) if isinstance(named, str) else f"a {type(source).__name__}"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    first = error.args[0] if error.args else ""  # bytes from LibRaw
    said = first.decode("utf-8", "replace") if isinstance(first, bytes) else str(error)
    return said.strip() or type(error).__name__
