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

_ORIENTATION = 0x0112
_EXIF_OF_FLIP = {3: 3, 5: 8, 6: 6}  # LibRaw's half turn, quarter turn to the left, to the right
_QUARTER_TURNS = (5, 6)


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


def raw_size(file: BinaryIO) -> tuple[int, int]:
    """Width and height of the developed picture, upright; nothing is developed.

    Raises
    ------
    MissingExtraError
        The library is not installed.
    """
    with _library().imread(file) as raw:
        sizes = raw.sizes
        width, height = sizes.iwidth, sizes.iheight
        return (height, width) if sizes.flip in _QUARTER_TURNS else (width, height)


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
    turned = (image.width > image.height) != (sizes.width > sizes.height)
    if _ORIENTATION not in exif and not (turned and sizes.flip in _QUARTER_TURNS):
        exif[_ORIENTATION] = _EXIF_OF_FLIP.get(sizes.flip, 1)
