"""Camera RAW files: the preview inside where it is large enough for a model, else developed by LibRaw.

Every camera puts a finished JPEG beside the sensor's values; it is the picture the photographer saw, and
reading it takes hundredths of the time of developing. The library is optional.
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Callable, Iterator
from pathlib import PurePath
from typing import Any, BinaryIO

from PIL import Image, JpegImagePlugin

from diptych.errors import ImageError
from diptych.extras import require
from diptych.media.decoding.native import LibrawMessages, libraw_messages

RAW_SUFFIXES = frozenset(
    {".3fr", ".ari", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".erf", ".fff"}
    | {".gpr", ".iiq", ".k25", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".ori", ".pef"}
    | {".ptx", ".pxn", ".raf", ".raw", ".rw2", ".rwl", ".rwz", ".sr2", ".srf", ".srw", ".x3f"}
)
CheckSize = Callable[[int, int], None]

_ORIENTATION, _SOFTWARE = 0x0112, 0x0131
_EXIF_OF_FLIP = {3: 3, 5: 8, 6: 6}  # LibRaw's half turn, quarter turn to the left, to the right
_QUARTER_TURNS = (5, 6)
_TIFF_LIKE = {  # first bytes -> the TIFF they stand for; those of Olympus and Panasonic are their own
    **dict.fromkeys((b"II*\0", b"IIRO", b"IIRS", b"IIU\0"), b"II*\0"),
    **dict.fromkeys((b"MM\0*", b"MMOR"), b"MM\0*"),
}


# What files of cameras begin with that are no TIFF, or say themselves that they are more.
_MAGIC = (b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"II\x1a\0\0\0HEAPCCDR")
_NOT_RAW = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"8BPS", b"\0\0\0\x0cjP  ", b"qoif")
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_PHOTOMETRIC, _COMPRESSION, _CHILDREN, _DNG_VERSION = 262, 259, 330, 50706
_SENSOR = {32803, 34892}  # values of a colour filter array, or of each colour before development
_CAMERA_COMPRESSIONS = {32767, 32770, 34713, 65000, 65535}  # Sony's, Samsung's, Nikon's, Kodak's, Pentax's
_MOST_DIRECTORIES, _MOST_TAGS = 30, 1000


def is_raw(file: BinaryIO, name: str) -> bool:
    """Whether a file is a camera's RAW: by its content, and by its name where the content leaves it open.

    Parameters
    ----------
    file : binary file
        Can be sought in; left at its beginning.
    name : str
        Decides for TIFFs of old cameras, which say nothing of what they are.
    """
    file.seek(0)
    start = file.read(16)
    named = PurePath(name).suffix.lower() in RAW_SUFFIXES
    try:
        if start.startswith(_MAGIC) or start[4:12] == b"ftypcrx ":
            return True
        if start.startswith(_NOT_RAW) or start[4:8] == b"ftyp":
            return False
        if start[:4] in _TIFF:
            return named or start[8:10] == b"CR" or _holds_sensor_values(file, _TIFF[start[:4]])
        return named
    finally:
        file.seek(0)


def _holds_sensor_values(file: BinaryIO, order: str) -> bool:
    """Whether a directory of a TIFF says that its pixels are a sensor's."""
    file.seek(4)
    waiting, seen = [file.read(4)], set[int]()
    while waiting and len(seen) < _MOST_DIRECTORIES:
        at = int.from_bytes(waiting.pop(), "little" if order == "<" else "big")
        if at in seen or at < 8:
            continue
        seen.add(at)
        file.seek(at)
        count = int.from_bytes(file.read(2), "little" if order == "<" else "big")
        entries = file.read(12 * min(count, _MOST_TAGS))
        waiting.append(file.read(4))
        for tag, kind, number, value in struct.iter_unpack(
            f"{order}HHI4s", entries[: len(entries) // 12 * 12]
        ):
            short = int.from_bytes(value[:2], "little" if order == "<" else "big")
            if tag == _DNG_VERSION or (tag == _PHOTOMETRIC and short in _SENSOR):
                return True
            if tag == _COMPRESSION and short in _CAMERA_COMPRESSIONS:
                return True
            if tag == _CHILDREN and kind in (4, 13) and number == 1:
                waiting.append(value)
            elif tag == _CHILDREN and kind in (4, 13) and number <= _MOST_DIRECTORIES:
                file.seek(int.from_bytes(value, "little" if order == "<" else "big"))
                waiting += [file.read(4) for _ in range(number)]
    return False


def open_raw(file: BinaryIO, check: CheckSize, target: int | None) -> Image.Image:
    """A picture that stands upright once its EXIF orientation is followed.

    Parameters
    ----------
    file : binary file
        Read whole.
    check : callable
        Called with width and height before anything is decoded; raises to refuse.
    target : int, optional
        The side in pixels a model will see. With it the preview is taken where its shorter side is at least
        twice that, and developing may halve the picture; without it the picture is developed in full.

    Raises
    ------
    ImageError
        The sensor's values are truncated or damaged: LibRaw would put black or noise in their place.
    NotRawError
        LibRaw knows no camera that writes such files.
    MissingExtraError
        The library is not installed.
    """
    with _opened(file) as (raw, said):
        check(raw.sizes.width, raw.sizes.height)
        if target is not None:
            before = len(said.collect())
            preview = _preview(raw, check, target)
            del said.collect()[before:]  # what is wrong with the preview alone
            if preview is not None and min(preview.size) >= 2 * target:
                return preview
        half = target is not None and min(raw.sizes.width, raw.sizes.height) >= 4 * target
        picture = _developed(raw, half_size=half)
    if said.messages:
        raise ImageError(f"a camera RAW file, truncated or damaged: {'; '.join(said.messages)} (LibRaw)")
    return picture


class NotRawError(ImageError):
    """LibRaw does not know such files."""


@contextlib.contextmanager
def _opened(file: BinaryIO) -> Iterator[tuple[Any, LibrawMessages]]:
    """The file in LibRaw, and what LibRaw says of it, complete once this is left."""
    library = _library()
    with libraw_messages() as said:
        try:
            file.seek(0)
            with library.imread(file) as raw:
                yield raw, said
        except library.LibRawFileUnsupportedError as error:
            raise NotRawError("LibRaw knows no camera that writes such files") from error
        except library.LibRawIOError as error:
            raise ImageError("a camera RAW file, truncated or damaged: it ends too early (LibRaw)") from error


def raw_header(file: BinaryIO) -> tuple[tuple[int, int], Image.Exif]:
    """Width and height of the developed picture, upright, and the EXIF; nothing is developed.

    Raises
    ------
    MissingExtraError
        The library is not installed.
    """
    with _opened(file) as (raw, _):
        sizes, exif = raw.sizes, Image.Exif()
        size = (sizes.iwidth, sizes.iheight)
        file.seek(0)
        start = file.read(4)
        if start in _TIFF_LIKE:  # in most cameras' hands the file is a TIFF, under its own or another name
            file.seek(4)
            exif.load_from_fp(io.BytesIO(_TIFF_LIKE[start] + file.read()))
        else:
            preview = _preview(raw, lambda width, height: None, None)
            exif = exif if preview is None else preview.getexif()
    return (size[::-1] if sizes.flip in _QUARTER_TURNS else size), exif


def _library() -> Any:
    return require("rawpy", extra="media", purpose="read camera RAW pictures")


def _developed(raw: Any, *, half_size: bool = False) -> Image.Image:
    pixels = raw.postprocess(use_camera_wb=True, output_bps=8, half_size=half_size)  # (H, W, 3), upright
    return Image.fromarray(pixels)


def _preview(raw: Any, check: CheckSize, target: int | None) -> Image.Image | None:
    """The largest preview, decoded where there is a target; None where there is none to be read."""
    library = _library()
    try:
        thumb = raw.extract_thumb()
        if thumb.format == library.ThumbFormat.JPEG:
            image: Image.Image = JpegImagePlugin.JpegImageFile(io.BytesIO(thumb.data))
        else:
            image = Image.fromarray(thumb.data)
        check(*image.size)
        _say_how_it_lies(image, raw.sizes)
        if target is not None:
            if isinstance(image, JpegImagePlugin.JpegImageFile):
                image.draft(None, (2 * target, 2 * target))
            image.load()
    except (library.LibRawError, SyntaxError, OSError):
        return None
    return image


def _say_how_it_lies(image: Image.Image, sizes: Any) -> None:
    """A preview with no orientation of its own lies as the sensor's values do, unless its shape says no."""
    exif = image.getexif()
    # LibRaw gives the sensor's orientation to previews without one, upright ones too.
    if _ORIENTATION in exif and not str(exif.get(_SOFTWARE)).startswith("dcraw"):
        return
    turned = (image.width > image.height) != (sizes.width > sizes.height)
    upright = turned and sizes.flip in _QUARTER_TURNS
    exif[_ORIENTATION] = 1 if upright else _EXIF_OF_FLIP.get(sizes.flip, 1)
