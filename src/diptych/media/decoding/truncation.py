"""Truncated images: accepted if at most 2 % of the pixels are missing, otherwise refused.

They come from cameras that lost power, recovered memory cards and interrupted downloads. Viewers display them
however much is missing, but a model would then score grey areas instead of the content.
"""

from __future__ import annotations

import hashlib
import io
import re

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from diptych.media.decoding import png

ALLOWED = 0.02  # fraction of an image that may be missing
_START, _END = b"\xff\xd8", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # JPEG marker; in entropy-coded data ff is followed by 00
_BLOCK = 16  # rows and columns of the largest common coding unit (MCU)
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA


def recover_truncated(image: Image.Image, data: bytes, target: int | None) -> Image.Image | None:
    """Load an image from a truncated file; None if too much is missing.

    Parameters
    ----------
    image : PIL.Image.Image
        The opened image, whose pixels could not be loaded.
    data : bytes
        The content of the file.
    target : int, optional
        As for `load_image`.
    """
    if isinstance(image, PngImagePlugin.PngImageFile):
        repaired = png.complete_png(data, ALLOWED)
        if repaired is None:
            return None
        reopened = png.open_png(io.BytesIO(repaired), "")
        reopened.load()
        return reopened
    # The second condition excludes previews of RAW files.
    is_jpeg = isinstance(image, JpegImagePlugin.JpegImageFile) and data.startswith(_START)
    if is_jpeg and _has_all_scans(data):
        return _completed_jpeg(data, target)
    return None


def _completed_jpeg(data: bytes, target: int | None) -> Image.Image | None:
    """Decode with an end marker appended, as libjpeg's own readers do.

    Missing pixels become grey, which cannot be distinguished from grey content. So the file is decoded a
    second time with noise appended: the pixels from which the two results differ were missing. E.g. of 1,000
    rows the first difference is in row 990: 10 of 1,000 rows are missing, less than 2 %.
    """
    data = data.rstrip(b"\xff")  # an incomplete marker
    noise = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(128)).replace(b"\xff", b"\x55")
    decoded, noisy = (_jpeg(data + tail + _END, target) for tail in (b"", noise))
    differs = np.asarray(decoded) != np.asarray(noisy)  # (H, W) or (H, W, C)
    differs = differs.any(axis=tuple(range(2, differs.ndim)))
    rows = np.flatnonzero(differs.any(axis=1))
    if not len(rows):
        return decoded
    height, width = differs.shape
    left = height - rows[0]  # rows from the first that differs
    missing = left * width
    if left <= _BLOCK:
        missing -= left * int(np.flatnonzero(differs.any(axis=0))[0])
    return decoded if missing <= ALLOWED * height * width else None


def _jpeg(data: bytes, target: int | None) -> Image.Image:
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if target is not None:
        image.draft(None, (2 * target, 2 * target))
    image.load()
    return image


def _has_all_scans(data: bytes) -> bool:
    """Whether scans of all bits of all coefficients of every component have at least begun.

    A progressive JPEG sends coefficients and their bits in several scans. A file that ends before the last
    scan begins has blurred pixels everywhere, which comparing pixels cannot detect.
    """
    bits: dict[int, list[int | None]] = {}  # component -> lowest bit sent of each of its 64 coefficients
    progressive, at = False, 2
    while (marker := _MARKER.search(data, at)) is not None:
        kind, at = marker[0][1], marker.end()
        body = data[at + 2 : at + int.from_bytes(data[at : at + 2], "big")]
        if kind in _FRAMES and len(body) >= 6:
            progressive = kind in _PROGRESSIVE
            bits = {component: [None] * 64 for component in body[6 : 6 + 3 * body[5] : 3]}
        elif kind == _SCAN and body and len(body) >= 4 + 2 * body[0]:
            count = body[0]
            first, last, low = 0, 63, 0
            if progressive:
                first, last, low = body[1 + 2 * count], body[2 + 2 * count], body[3 + 2 * count] & 15
            for component in body[1 : 1 + 2 * count : 2]:
                if component in bits:
                    bits[component][first : last + 1] = [low] * (min(last, 63) - first + 1)
        if kind != 0xD8 and kind != 0xD9:
            at += 2 + len(body)
    return bool(bits) and all(low == 0 for component in bits.values() for low in component)
