"""Decode images to the size from which crops are taken, and cache them in memory.

An image is always scaled down to the same side, cached or not, so that runs with and without a cache get the
same pixels.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.media import load_image

Pixels = NDArray[np.uint8]  # (H, W, 3)


def decode(data: bytes, side: int) -> Pixels:
    """Decode an image with its shorter side at most `side`; smaller ones are not enlarged.

    Returns
    -------
    (H, W, 3) uint8

    Raises
    ------
    ImageError
        It cannot be decoded.
    """
    # Colours as they are stored, without conversion to sRGB: as in the reference trainers.
    image = load_image(data, target=side, srgb=False)
    shorter = min(image.size)
    if shorter > side:
        width, height = (max(side, round(length * side / shorter)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.array(image)


class Cache:
    """Decoded images in memory, up to a number of bytes; those that do not fit are decoded at each use.

    Parameters
    ----------
    sizes : sequence of int
        Records per source.
    budget : int
        Bytes.
    """

    def __init__(self, sizes: Sequence[int], budget: int) -> None:
        self.budget, self.used = budget, 0
        self._kept: list[list[Pixels | None]] = [[None] * size for size in sizes]
        self._lock = threading.Lock()

    def get(self, part: int, index: int) -> Pixels | None:
        """Give a cached image, or None."""
        return self._kept[part][index]

    def put(self, part: int, index: int, pixels: Pixels) -> None:
        """Cache an image if it fits."""
        with self._lock:
            if self._kept[part][index] is None and self.used + pixels.nbytes <= self.budget:
                self._kept[part][index] = pixels
                self.used += pixels.nbytes


def free_memory() -> int:
    """Bytes of available memory; 0 if the system has no /proc/meminfo."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(values.get("MemAvailable", "0 kB").split()[0]) * 1024


def side_for(image_size: int, smallest_crop: float) -> int:
    """Side at which images are cached: enough for the smallest crop (a share of the area).

    Examples
    --------
    >>> side_for(64, 0.9), side_for(64, 0.4), side_for(64, 0.08)
    (80, 102, 128)
    """
    # A crop of the share p of the area has the side sqrt(p) of the image. Limited to 2: the rare crops that
    # are smaller still are enlarged, rather than four times the pixels cached.
    return math.ceil(image_size * max(1.25, min(2.0, 1 / math.sqrt(smallest_crop))))
