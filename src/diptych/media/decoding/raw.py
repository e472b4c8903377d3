"""Camera RAW: use the embedded preview if it is large enough for the model, otherwise develop by LibRaw.

Cameras store a JPEG preview with the sensor data. It is the image that the photographer saw, and reading it
takes about a hundredth of the time of developing. The library is optional.
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
_EXIF_OF_FLIP = {3: 3, 5: 8, 6: 6}  # LibRaw's flip -> EXIF orientation: 180, 90 left, 90 right
_QUARTER_TURNS = (5, 6)
_TIFF_LIKE = {  # first bytes -> those of the equivalent TIFF; Olympus and Panasonic use variants
    **dict.fromkeys((b"II*\0", b"IIRO", b"IIRS", b"IIU\0"), b"II*\0"),
    **dict.fromkeys((b"MM\0*", b"MMOR"), b"MM\0*"),
}

# Signatures of camera RAW formats that are not plain TIFF.
_MAGIC = (b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"II\x1a\0\0\0HEAPCCDR")
_NOT_RAW = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"8BPS", b"\0\0\0\x0cjP  ", b"qoif")
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_PHOTOMETRIC, _COMPRESSION, _CHILDREN, _DNG_VERSION = 262, 259, 330, 50706
_SENSOR = {32803, 34892}  # photometric interpretations: colour filter array, linear RAW
_CAMERA_COMPRESSIONS = {32767, 32770, 34713, 65000, 65535}  # Sony's, Samsung's, Nikon's, Kodak's, Pentax's
_MOST_DIRECTORIES, _MOST_TAGS = 30, 1000


def is_raw(file: BinaryIO, name: str) -> bool:
    """Whether a file is camera RAW: by its content, or by its name if the content is ambiguous.

    Parameters
    ----------
    file : binary file
        Seekable; left at its beginning.
    name : str
        Its suffix decides for the plain TIFF files of old cameras.
    """
    file.seek(0)
    start = file.read(16)
    has_raw_suffix = PurePath(name).suffix.lower() in RAW_SUFFIXES
    try:
        if start.startswith(_MAGIC) or start[4:12] == b"ftypcrx ":
            return True
        if start.startswith(_NOT_RAW) or start[4:8] == b"ftyp":
            return False
        if start[:4] in _TIFF:
            return has_raw_suffix or start[8:10] == b"CR" or _holds_sensor_values(file, _TIFF[start[:4]])
        return has_raw_suffix
    finally:
        file.seek(0)


def _holds_sensor_values(file: BinaryIO, order: str) -> bool:
    """Whether a directory of a TIFF declares sensor data.

    Directories form a tree (next directory, children); at most `_MOST_DIRECTORIES` are visited, each once.
    """
    file.seek(4)
    waiting, visited = [file.read(4)], set[int]()
    while waiting and len(visited) < _MOST_DIRECTORIES:
        at = int.from_bytes(waiting.pop(), "little" if order == "<" else "big")
        if at in visited or at < 8:
            continue
        visited.add(at)
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
    """Open a camera RAW file; the EXIF orientation of the result still has to be applied.

    Parameters
    ----------
    file : binary file
        Read completely.
    check : callable
        Called with width and height before anything is decoded; raises to refuse.
    target : int, optional
        Input size of the model in pixels. The preview is used if its shorter side is at least twice the
        target, and developing may halve the size. By default the image is developed at full size.

    Raises
    ------
    ImageError
        The sensor data is truncated or damaged; LibRaw would replace it by black or noise.
    NotRawError
        LibRaw does not support the file.
    MissingExtraError
        The library is not installed.
    """
    with _open_libraw(file) as (raw, log):
        check(raw.sizes.width, raw.sizes.height)
        if target is not None:
            before = len(log.collect())
            preview = _preview(raw, check, target)
            del log.collect()[before:]  # messages about the preview do not matter
            if preview is not None and min(preview.size) >= 2 * target:
                return preview
        half = target is not None and min(raw.sizes.width, raw.sizes.height) >= 4 * target
        image = _developed(raw, half_size=half)
    if log.messages:
        raise ImageError(f"a camera RAW file, truncated or damaged: {'; '.join(log.messages)} (LibRaw)")
    return image


class NotRawError(ImageError):
    """LibRaw does not support the file."""


@contextlib.contextmanager
def _open_libraw(file: BinaryIO) -> Iterator[tuple[Any, LibrawMessages]]:
    """Open the file in LibRaw; the messages are complete when this context is left."""
    library = _library()
    with libraw_messages() as log:
        try:
            file.seek(0)
            with library.imread(file) as raw:
                yield raw, log
        except library.LibRawFileUnsupportedError as error:
            raise NotRawError("LibRaw knows no camera that writes such files") from error
        except library.LibRawIOError as error:
            raise ImageError("a camera RAW file, truncated or damaged: it ends too early (LibRaw)") from error


def raw_header(file: BinaryIO) -> tuple[tuple[int, int], Image.Exif]:
    """Read the upright size of the developed image and the EXIF, without developing.

    Raises
    ------
    MissingExtraError
        The library is not installed.
    """
    with _open_libraw(file) as (raw, _):
        sizes, exif = raw.sizes, Image.Exif()
        size = (sizes.iwidth, sizes.iheight)
        file.seek(0)
        start = file.read(4)
        if start in _TIFF_LIKE:  # most RAW formats are TIFF, some with a signature of their own
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
    """The largest preview, decoded if there is a target; None if there is none or it is damaged."""
    library = _library()
    try:
        thumb = raw.extract_thumb()
        if thumb.format == library.ThumbFormat.JPEG:
            image: Image.Image = JpegImagePlugin.JpegImageFile(io.BytesIO(thumb.data))
        else:
            image = Image.fromarray(thumb.data)
        check(*image.size)
        _set_orientation(image, raw.sizes)
        if target is not None:
            if isinstance(image, JpegImagePlugin.JpegImageFile):
                image.draft(None, (2 * target, 2 * target))
            image.load()
    except (library.LibRawError, SyntaxError, OSError):
        return None
    return image


def _set_orientation(image: Image.Image, sizes: Any) -> None:
    """Give a preview without an orientation that of the sensor data, unless its shape shows it is upright.

    E.g. sensor 6000 x 4000 with a quarter turn and a preview of 1080 x 1620: the preview is upright already.
    """
    exif = image.getexif()
    # LibRaw ("dcraw") writes the orientation of the sensor into previews without one, even into upright ones.
    if _ORIENTATION in exif and not str(exif.get(_SOFTWARE)).startswith("dcraw"):
        return
    turned = (image.width > image.height) != (sizes.width > sizes.height)
    upright = turned and sizes.flip in _QUARTER_TURNS
    exif[_ORIENTATION] = 1 if upright else _EXIF_OF_FLIP.get(sizes.flip, 1)
