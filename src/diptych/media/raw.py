"""Camera RAW files: the preview inside where it is large enough for a model, else developed by LibRaw.

Every camera puts a finished JPEG beside the sensor's values; it is the picture the photographer saw, and
reading it takes hundredths of the time of developing. The library is optional.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, BinaryIO

from PIL import Image, JpegImagePlugin

from diptych.extras import require

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef"}
    | {".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f"}
)
CheckSize = Callable[[int, int], None]

_ORIENTATION, _SOFTWARE = 0x0112, 0x0131
_EXIF_OF_FLIP = {3: 3, 5: 8, 6: 6}  # LibRaw's half turn, quarter turn to the left, to the right
_QUARTER_TURNS = (5, 6)
_TIFF_LIKE = {  # first bytes -> the TIFF they stand for; those of Olympus and Panasonic are their own
    **dict.fromkeys((b"II*\0", b"IIRO", b"IIRS", b"IIU\0"), b"II*\0"),
    **dict.fromkeys((b"MM\0*", b"MMOR"), b"MM\0*"),
}


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
    MissingExtraError
        The library is not installed.
    """
    with _library().imread(file) as raw:
        check(raw.sizes.width, raw.sizes.height)
        if target is None:
            return _developed(raw)
        preview = _preview(raw, check)
        if preview is not None and min(preview.size) >= 2 * target:
            return preview
        return _developed(raw, half_size=min(raw.sizes.width, raw.sizes.height) >= 4 * target)


def raw_header(file: BinaryIO) -> tuple[tuple[int, int], Image.Exif]:
    """Width and height of the developed picture, upright, and the EXIF; nothing is developed.

    Raises
    ------
    MissingExtraError
        The library is not installed.
    """
    with _library().imread(file) as raw:
        sizes, exif = raw.sizes, Image.Exif()
        size = (sizes.iwidth, sizes.iheight)
        file.seek(0)
        start = file.read(4)
        if start in _TIFF_LIKE:  # in most cameras' hands the file is a TIFF, under its own or another name
            file.seek(4)
            exif.load_from_fp(io.BytesIO(_TIFF_LIKE[start] + file.read()))
        else:
            preview = _preview(raw, lambda width, height: None)
            exif = exif if preview is None else preview.getexif()
    return (size[::-1] if sizes.flip in _QUARTER_TURNS else size), exif


def _library() -> Any:
    return require("rawpy", extra="media", purpose="read camera RAW pictures")


def _developed(raw: Any, *, half_size: bool = False) -> Image.Image:
    pixels = raw.postprocess(use_camera_wb=True, output_bps=8, half_size=half_size)  # (H, W, 3), upright
    return Image.fromarray(pixels)


def _preview(raw: Any, check: CheckSize) -> Image.Image | None:
    """The largest preview, not yet decoded where it is a JPEG; None where there is none to be read."""
    library = _library()
    try:
        thumb = raw.extract_thumb()
        if thumb.format == library.ThumbFormat.JPEG:
            image: Image.Image = JpegImagePlugin.JpegImageFile(io.BytesIO(thumb.data))
        else:
            image = Image.fromarray(thumb.data)
        check(*image.size)
    except (library.LibRawError, SyntaxError, OSError):
        return None
    _say_how_it_lies(image, raw.sizes)
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
