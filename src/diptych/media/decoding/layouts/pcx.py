"""PCX of one bit with the two palette colours of its header, which Pillow ignores.

If both colours are equal, the program wrote no palette: the image is black and white, as in GIMP.
"""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image, PcxImagePlugin

from diptych.media.decoding.layouts.lazy import LazyImage


def open_pcx(file: BinaryIO, name: str) -> Image.Image:
    """Open a PCX; no pixels are decoded."""
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
