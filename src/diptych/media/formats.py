"""Bytes to an opened, not yet decoded picture: which decoder, and whether the file is worth trying.

Pillow's decoders are asked directly, from a list of formats: `Image.open` would also try ones that start
other programs (EPS runs Ghostscript) and checks sizes by a global limit and a warning of its own, where this
package has limits per call. HEIC and camera RAW come from optional libraries.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from PIL import Image

from diptych.errors import ImageError
from diptych.extras import require

# Formats that begin with bytes of their own, the common ones first. MPO comes with JPEG.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"),
    *("PPM", "ICO", "QOI", "PSD", "DDS", "SGI", "PCX", "ICNS", "DIB"),
)
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".kdc", ".mrw", ".nef", ".nrw", ".orf", ".pef"}
    | {".raf", ".raw", ".rw2", ".sr2", ".srf", ".srw", ".x3f"}
)
_PILLOW = r"PIL\."  # the modules whose warnings are kept quiet
CheckSize = Callable[[int, int], None]


def open_picture(data: bytes, name: str, check: CheckSize) -> Image.Image:
    """Open a picture by its bytes; only its header is read where the format allows.

    Parameters
    ----------
    data : bytes
        The whole file.
    name : str
        Its name; only the suffix of a camera RAW file matters, since those look like TIFF.
    check : callable
        Called with width and height before any pixel is decoded; raises to refuse.

    Raises
    ------
    ImageError
        No decoder knows the bytes.
    MissingExtraError
        HEIC or RAW without the library for it.
    """
    if PurePath(name).suffix.lower() in RAW_SUFFIXES:
        return _open_raw(data, check)
    _quiet_pillow()
    image = _identify(data, name)
    if image is None and data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
        return _open_heif(data, check)
    if image is None:
        raise ImageError(_what_instead(data))
    check(*image.size)
    return image


def _identify(data: bytes, name: str) -> Image.Image | None:
    Image.preinit()
    prefix = data[:16]
    for kind in _FORMATS:
        if kind not in Image.OPEN:
            Image.init()  # the rarer plugins, about 30 ms, only once needed
        if kind not in Image.OPEN:
            continue  # this build of Pillow lacks it
        factory, accept = Image.OPEN[kind]
        try:
            if accept is not None and accept(prefix) is not True:
                continue  # False, or a string: known, but this build cannot decode it
            return factory(io.BytesIO(data), name)
        except (SyntaxError, IndexError, TypeError, struct.error):
            continue  # what Pillow's plugins raise for "not mine after all"
    return None


def _open_heif(data: bytes, check: CheckSize) -> Image.Image:
    heif: Any = require("pillow_heif", extra="media", purpose="read HEIC pictures")
    opened = heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True)
    check(*opened.size)
    image: Image.Image = opened.to_pillow()
    # The library turns the picture itself; what is left of the EXIF must not turn it again.
    image.info.pop("exif", None)
    return image


def _open_raw(data: bytes, check: CheckSize) -> Image.Image:
    rawpy: Any = require("rawpy", extra="media", purpose="read camera RAW pictures")
    with rawpy.imread(io.BytesIO(data)) as raw:
        check(raw.sizes.width, raw.sizes.height)
        return Image.fromarray(raw.postprocess(use_camera_wb=True, output_bps=8))  # turned upright by it


def _what_instead(data: bytes) -> str:
    """Why no decoder knew these bytes, as far as their beginning tells."""
    start = data[:512].lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "not a picture: the bytes are an HTML page"
    if b"<svg" in start:
        return "an SVG drawing: convert it to PNG first"
    if data.startswith(b"%PDF"):
        return "a PDF document: convert its pages to pictures first"
    if data.startswith((b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")):
        return "the beginning of a picture, but its header is truncated or damaged"
    if b"\0" not in data[:512] and _is_text(data[:512]):
        return "not a picture: the bytes are text"
    return "not a picture of a known format"


def _is_text(data: bytes) -> bool:
    try:
        text = data[: len(data) - 3].decode() if len(data) == 512 else data.decode()
    except UnicodeDecodeError as error:
        return error.start > 500  # a character cut in two at the end
    return all(c.isprintable() or c.isspace() for c in text)


def _quiet_pillow() -> None:
    """Keep Pillow's remarks on odd but readable files ("Corrupt EXIF data") off the screen.

    One narrow filter, put in place once and again where it was removed. `catch_warnings` would not do: it
    swaps the process's filters, which decoding threads would leave in any order.
    """
    if not any(rule[:3] == ("ignore", None, UserWarning) and _is_ours(rule[3]) for rule in warnings.filters):
        warnings.filterwarnings("ignore", category=UserWarning, module=_PILLOW)


def _is_ours(module: object) -> bool:
    return getattr(module, "pattern", None) == _PILLOW
