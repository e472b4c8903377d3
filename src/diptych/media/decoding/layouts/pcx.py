"""PCX of one bit: its two colours stand in the header, and Pillow takes them for black and white.

Where both are the same, the program wrote none: black and white it is, as in GIMP.
"""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image, PcxImagePlugin

from diptych.media.decoding.layouts.lazy import LazyImage


def open_pcx(file: BinaryIO, name: str) -> Image.Image:
    """Open a PCX; no pixel is decoded yet."""
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
