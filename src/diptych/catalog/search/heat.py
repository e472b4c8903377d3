"""Where in a picture the words fit: a map of the picture, and the map laid over it.

Windows of two sizes are cut out of the picture and encoded like pictures, so every encoder can be asked, and
what is marked is what the encoder itself finds there. (The rows of single patches, of encoders that give
them, are fewer than a map needs in small models and led astray by their neighbours in large ones.) Some
windows are near to whatever is asked, so from each cosine its mean over the background texts is taken: what
is left is what this query finds there and others do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diptych.encoder import Encoder

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

SHARES = (1 / 2, 1 / 3)  # sides of the windows, of the picture's shorter side
STEP = 1 / 3  # from window to window, of their side
SIDE = 96  # pixels of the map's longer side
WARM = np.array([255, 72, 0], np.float32)  # colour of what fits best
MOST = 0.72  # its share at most, so that the picture stays visible

Box = tuple[int, int, int, int]


def heat_map(encoder: Encoder, image: Image.Image, query: FloatArray, background: FloatArray) -> FloatArray:
    """How well each place fits, from 0 to 1.

    Parameters
    ----------
    encoder : Encoder
    image : PIL.Image.Image
        Upright RGB.
    query : (dim,) float32
    background : (B, dim) float32
        Rows of texts about anything.

    Returns
    -------
    ndarray of float32, shape (h, w)
        Of the whole picture, the longer side `SIDE`; its least place is 0, its best 1.
    """
    boxes = windows(image.width, image.height)
    rows = encoder.encode_images([image.crop(box) for box in boxes])  # (W, dim)
    fits = rows @ (query - background.mean(0))  # (W,)
    shrink = SIDE / max(image.size)
    height, width = max(1, round(image.height * shrink)), max(1, round(image.width * shrink))
    total, weight = np.zeros((height, width), np.float32), np.full((height, width), 1e-6, np.float32)
    for (left, top, right, bottom), fit in zip(boxes, fits, strict=True):
        # A window speaks for its middle more than for its edge.
        down, across = _bump(top, bottom, image.height, height), _bump(left, right, image.width, width)
        bump = down[:, None] * across  # (h, w)
        total += fit * bump
        weight += bump
    heat = total / weight
    low, high = float(heat.min()), float(heat.max())
    scaled: FloatArray = ((heat - low) / max(high - low, 1e-9)).astype(np.float32)
    return scaled


def windows(width: int, height: int) -> list[Box]:
    """Overlapping squares all over a picture, as (left, top, right, bottom).

    Examples
    --------
    >>> boxes = windows(300, 200)
    >>> len(boxes), boxes[0], boxes[-1]
    (105, (0, 0, 100, 100), (233, 133, 300, 200))
    """
    boxes: list[Box] = []
    for share in SHARES:
        side = max(1, round(min(width, height) * share))
        for top in _starts(height, side):
            boxes += [(left, top, left + side, top + side) for left in _starts(width, side)]
    return boxes


def _starts(length: int, side: int) -> list[int]:
    steps = max(1, round((length - side) / (side * STEP))) if length > side else 0
    return [round((length - side) * step / steps) if steps else 0 for step in range(steps + 1)]


def _bump(start: int, stop: int, length: int, cells: int) -> FloatArray:
    """A smooth weight over the cells of a side: 1 in the window's middle, little at its edge, 0 outside."""
    centres = (np.arange(cells, dtype=np.float32) + 0.5) * (length / cells)
    inside = np.clip((centres - start) / max(stop - start, 1), 0, 1)
    bump: FloatArray = np.sin(np.pi * inside).astype(np.float32) ** 2 + 0.02 * ((inside > 0) & (inside < 1))
    return bump


def overlay(image: Image.Image, heat: FloatArray) -> Image.Image:
    """The picture nearly grey, the map over it in one warm colour; of the picture's size."""
    small = Image.fromarray((heat * 255).round().astype(np.uint8))
    share = np.asarray(small.resize(image.size, Image.Resampling.BICUBIC), np.float32) / 255
    share = share[..., None] ** 2 * MOST  # (H, W, 1); squared: what hardly fits stays quiet
    grey = np.asarray(image.convert("L"), np.float32)[..., None]  # (H, W, 1)
    base = 0.65 * grey + 0.35 * np.asarray(image, np.float32)  # (H, W, 3)
    return Image.fromarray((base * (1 - share) + WARM * share).round().astype(np.uint8))
