"""Pictures that lack their last bytes: used where nearly all pixels are there, else refused.

Cameras that lose power, recovered cards and broken downloads leave such files. Viewers show them whatever is
missing; here a picture of which more than 2 % is grey would get scores for what it does not show.
"""

from __future__ import annotations

import hashlib
import io
import re

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin

from diptych.media.decoding import png

ALLOWED = 0.02  # the share of a picture that may be missing
_START, _END = b"\xff\xd8", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # of JPEG; bytes of pixels have a zero behind each ff
_BLOCK = 16  # rows and columns of the largest usual unit
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA


def completed(image: Image.Image, data: bytes, target: int | None) -> Image.Image | None:
    """The loaded picture of a file that ends too early; None where too much of it is missing.

    Parameters
    ----------
    image : PIL.Image.Image
        As it was opened, before its pixels could not be loaded.
    data : bytes
        The whole file.
    target : int, optional
        As for `load_image`.
    """
    if isinstance(image, PngImagePlugin.PngImageFile):
        whole = png.completed(data, ALLOWED)
        if whole is None:
            return None
        again = png.open_png(io.BytesIO(whole), "")
        again.load()
        return again
    is_jpeg = isinstance(image, JpegImagePlugin.JpegImageFile) and data.startswith(_START)  # no RAW's preview
    if is_jpeg and _has_all_scans(data):
        return _completed_jpeg(data, target)
    return None


def _completed_jpeg(data: bytes, target: int | None) -> Image.Image | None:
    """The picture with an end put to its file, as libjpeg's own readers do.

    What is missing becomes grey, which may as well be what the picture shows. So it is decoded once more
    with noise behind the last byte: where the two begin to differ, the file had ended.
    """
    data = data.rstrip(b"\xff")  # half of a marker
    noise = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(128)).replace(b"\xff", b"\x55")
    ended, noisy = (_jpeg(data + tail + _END, target) for tail in (b"", noise))
    differs = np.asarray(ended) != np.asarray(noisy)  # (H, W) or (H, W, C)
    differs = differs.any(axis=tuple(range(2, differs.ndim)))
    rows = np.flatnonzero(differs.any(axis=1))
    if not len(rows):
        return ended
    height, width = differs.shape
    left = height - rows[0]  # rows from the first that differs
    missing = left * width
    if left <= _BLOCK:
        missing -= left * int(np.flatnonzero(differs.any(axis=0))[0])
    return ended if missing <= ALLOWED * height * width else None


def _jpeg(data: bytes, target: int | None) -> Image.Image:
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    if target is not None:
        image.draft(None, (2 * target, 2 * target))
    image.load()
    return image


def _has_all_scans(data: bytes) -> bool:
    """Whether every coefficient of every component was begun to be sent in all its bits."""
    bits: dict[int, list[int | None]] = {}  # component -> for each coefficient, the lowest bit that came
    progressive, at = False, 2
    while (found := _MARKER.search(data, at)) is not None:
        kind, at = found[0][1], found.end()
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
