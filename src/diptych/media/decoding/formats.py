"""Detect the format of an image and open it with the right decoder, without decoding pixels yet.

Pillow's plugins are called directly, from a fixed list of formats: `Image.open` would also try plugins that
start other programs (EPS runs Ghostscript), and it checks sizes by a global limit, where this package has
limits per call. HEIC and camera RAW are read by optional libraries.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from PIL import Image, JpegImagePlugin, PcxImagePlugin

from diptych.errors import ImageError, MissingExtraError
from diptych.extras import require
from diptych.media.decoding.layouts.bmp import open_bmp, open_ico
from diptych.media.decoding.layouts.iso_media import open_avif, open_jpeg2000
from diptych.media.decoding.layouts.lazy import LazyImage
from diptych.media.decoding.layouts.psd import open_psd
from diptych.media.decoding.layouts.tiff import open_tiff
from diptych.media.decoding.pillow import pillow_limits_off, quiet_pillow
from diptych.media.decoding.png import open_png
from diptych.media.decoding.raw import CheckSize, NotRawError, is_raw, open_raw

# Formats with a signature, the common ones first. MPO is opened by the JPEG plugin.
BY_BYTES = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000"),
    *("PPM", "ICO", "QOI", "PSD", "DDS", "SGI", "PCX", "ICNS", "DIB"),
)
FORMATS = (*BY_BYTES, "MPO", "HEIF", "JXL", "RAW")  # all formats that can be read
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_HEAD = 512  # bytes that are read to detect the format


def open_image(file: BinaryIO, name: str, check: CheckSize, target: int | None = None) -> Image.Image:
    """Open an image by its content; only its header is read if the format allows.

    Parameters
    ----------
    file : binary file
        Seekable; must stay open until the pixels are loaded.
    name : str
        Its suffix identifies camera RAW if the content does not.
    check : callable
        Called with width and height before any pixel is decoded; raises to refuse.
    target : int, optional
        Input size of the model in pixels: decoders that can scale down do so, with the shorter side at least
        twice the target.

    Raises
    ------
    ImageError
        No decoder recognises the file.
    MissingExtraError
        The library for HEIC or RAW is not installed.
    """
    image = _open_raw(file, name, check, target) if is_raw(file, name) else open_non_raw(file, name)
    check(*image.size)
    if target is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
        # Both sides stay at or above the requested size, so the orientation does not matter here.
        image.draft(None, (2 * target, 2 * target))
    return image


def _open_raw(file: BinaryIO, name: str, check: CheckSize, target: int | None) -> Image.Image:
    try:
        return open_raw(file, check, target)
    except NotRawError:
        try:
            return open_non_raw(file, name)  # a plain TIFF with the suffix of a camera RAW
        except ImageError:
            pass
        raise


def open_non_raw(file: BinaryIO, name: str) -> Image.Image:
    """Open an image of any format except RAW, without limits on its size; no pixels are decoded.

    Raises
    ------
    ImageError
        No decoder recognises the file.
    MissingExtraError
        The library for HEIC is not installed.
    """
    quiet_pillow()
    file.seek(0)
    start = file.read(_HEAD)
    with pillow_limits_off():
        image, reason = _identify(file, start[:16], name)
    if image is None and start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        image = _open_heif(file, name)
    if image is None and start.startswith(_JPEG_XL):
        image = _open_jpeg_xl(file, name)
    if image is None:
        raise ImageError(_explain_unknown(start, reason))
    return image


def _identify(file: BinaryIO, prefix: bytes, name: str) -> tuple[Image.Image | None, str]:
    """The opened image, or None and the error message of the plugin that recognised its beginning."""
    Image.preinit()
    reason = ""
    for kind in BY_BYTES:
        if kind not in Image.OPEN:
            Image.init()  # loads the rarer plugins, about 30 ms, only when needed
        if kind not in Image.OPEN:
            continue  # this build of Pillow lacks it
        factory, accept = Image.OPEN[kind]
        try:
            accepted = accept is None or accept(prefix)
            if accepted is not True:  # False, or a string: recognised, but not supported by this build
                reason = reason or (accepted if isinstance(accepted, str) else "")
                continue
            file.seek(0)
            return _OPENERS.get(kind, factory)(file, name), ""
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            # Pillow's plugins raise these for files of another format and for damaged ones.
            reason = reason or f"{kind}: {error}"
    return None, reason


def _open_heif(file: BinaryIO, name: str) -> Image.Image:
    """Open a HEIC image; the library applies the orientation and resets it in the EXIF."""
    file.seek(0)
    try:
        image: Image.Image = _heif_library().HeifImageFile(file, name)
    except SyntaxError as error:
        raise ImageError(f"the beginning of a HEIC picture, but it is damaged: {error}") from error
    return image


def _open_jpeg_xl(file: BinaryIO, name: str) -> Image.Image:
    require("pillow_jxl", extra="jxl", purpose="read JPEG XL pictures")  # registers itself with Pillow
    file.seek(0)
    try:
        return Image.OPEN["JXL"][0](file, name)
    except (KeyError, SyntaxError) as error:
        raise ImageError(f"JPEG XL, truncated or damaged: {error} (pillow_jxl)") from error


def _open_pcx(file: BinaryIO, name: str) -> Image.Image:
    """PCX of one bit with the two palette colours of its header, which Pillow ignores.

    If both colours are equal, the program wrote no palette: the image is black and white, as in GIMP.
    """
    file.seek(0)
    head = file.read(128)
    file.seek(0)
    image = PcxImagePlugin.PcxImageFile(file, name)
    zero, first = head[16:19], head[19:22]
    if image.mode != "1" or zero == first or len(first) < 3:
        return image

    def decode() -> Image.Image:
        image.load()
        indices = image.convert("L").point([0] * 128 + [1] * 128)
        indices.putpalette(zero + first + bytes(762))
        return indices.convert("RGB")

    return LazyImage("PCX", image.size, decode, image.info)


def _heif_library() -> Any:
    """pi_heif, which only decodes and has no encoders under the GPL; otherwise pillow_heif."""
    try:
        return require("pi_heif", extra="media", purpose="read HEIC pictures")
    except MissingExtraError:
        try:
            return require("pillow_heif", extra="media", purpose="read HEIC pictures")
        except MissingExtraError:
            pass
        raise


def _explain_unknown(data: bytes, reason: str) -> str:
    """Explain from the first bytes why no decoder recognised a file."""
    start = data.lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return "not a picture: the bytes are an HTML page"
    if b"<svg" in start:
        return "an SVG drawing: convert it to PNG first"
    if data.startswith(b"%PDF"):
        return "a PDF document: convert its pages to pictures first"
    if reason and data[4:8] == b"ftyp":
        return f"a picture that Pillow's decoder does not read ({reason})"
    if data.startswith((b"\xff\xd8", b"\x89PNG", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"8BPS")):
        detail = f" ({reason})" if reason else ""
        return f"the beginning of a picture, but its header is truncated or damaged{detail}"
    if b"\0" not in data and _is_text(data):
        return "not a picture: the bytes are text"
    return "not a picture of a known format"


def _is_text(data: bytes) -> bool:
    try:
        text = data[: len(data) - 3].decode() if len(data) == _HEAD else data.decode()
    except UnicodeDecodeError as error:
        return error.start > _HEAD - 12  # a truncated character at the end
    return all(c.isprintable() or c.isspace() for c in text)


# Formats of which Pillow decodes some files wrongly or not at all.
_OPENERS: dict[str, Callable[[BinaryIO, str], Image.Image]] = {
    "PNG": open_png,
    "TIFF": open_tiff,
    "BMP": open_bmp,
    "ICO": open_ico,
    "PSD": open_psd,
    "PCX": _open_pcx,
    "AVIF": open_avif,
    "JPEG2000": open_jpeg2000,
}
