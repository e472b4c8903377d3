"""Fallback to libvips (an extra) for layouts that neither Pillow nor this package reads.

It reads LogLuv, signed and 64-bit samples, JPEG 2000 inside TIFF, and whatever its own libraries support.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from diptych.errors import ImageError
from diptych.media.decoding.layouts.lazy import LayoutError


def read_by_vips(data: bytes, refusal: LayoutError, check: Callable[[int, int], None]) -> Image.Image:
    """Decode an image by libvips, in sRGB and upright.

    Parameters
    ----------
    data : bytes
        The whole file.
    refusal : LayoutError
        The error of the other decoders.
    check : callable
        Called with width and height before any pixel is decoded; raises to refuse.

    Raises
    ------
    ImageError
        libvips is not installed, or cannot read the file either; the message begins with `refusal`.
    """
    try:
        vips: Any = importlib.import_module("pyvips")
    except (ImportError, OSError):  # OSError: the shared library is missing
        raise ImageError(f"{refusal}; libvips may: pip install 'diptych[vips]'") from refusal
    try:
        image = vips.Image.new_from_buffer(data, "")
        check(image.width, image.height)
        image = image.autorot().colourspace("srgb")
        if image.hasalpha():
            image = image.flatten(background=[255, 255, 255])
        pixels = np.asarray(image.cast("uchar").numpy())
    except vips.Error as error:
        reason = " ".join(str(error).split())
        raise ImageError(f"{refusal}; nor does libvips: {reason}") from error
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    return Image.fromarray(np.ascontiguousarray(pixels[..., :3] if pixels.ndim == 3 else pixels))
