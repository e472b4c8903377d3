"""From encoded bytes to the small array that augmentation crops, and the memory that keeps such arrays.

The array is always the picture brought down to the same side, whether it is kept or not, so that a run with
a cache and one without see the same numbers.
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
    """Decode a picture with its shorter side at most `side`; a smaller one is never enlarged.

    Returns
    -------
    (H, W, 3) uint8

    Raises
    ------
    ImageError
        Not a picture that can be read.
    """
    # Colours as they are stored: evaluation and the reference trainers see them so.
    picture = load_image(data, target=side, srgb=False)
    shorter = min(picture.size)
    if shorter > side:
        width, height = (max(side, round(length * side / shorter)) for length in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return np.array(picture)


class Cache:
    """Decoded pictures in memory, up to a number of bytes; what does not fit is decoded again each time.

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
        """Give a kept picture, or None."""
        return self._kept[part][index]

    def put(self, part: int, index: int, pixels: Pixels) -> None:
        """Keep a picture if there is room."""
        with self._lock:
            if self._kept[part][index] is None and self.used + pixels.nbytes <= self.budget:
                self._kept[part][index] = pixels
                self.used += pixels.nbytes


def free_memory() -> int:
    """Say how many bytes of memory are free; 0 where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return 0
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(values.get("MemAvailable", "0 kB").split()[0]) * 1024


def side_for(image_size: int, smallest_crop: float) -> int:
    """Choose the side at which pictures are kept: enough for the smallest crop (a share of the area).

    Examples
    --------
    >>> side_for(64, 0.9), side_for(64, 0.4), side_for(64, 0.08)
    (80, 102, 128)
    """
    return math.ceil(image_size * max(1.25, min(2.0, 1 / math.sqrt(smallest_crop))))
