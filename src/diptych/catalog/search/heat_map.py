"""Heat maps: where in a picture a text query matches, and an overlay of the map on the picture.

Windows of two sizes are cut out of the picture and encoded like pictures, which works with every encoder and
shows what that encoder itself responds to. (Patch tokens, where an encoder gives them, are too coarse in
small models and mixed with their neighbours by attention in large ones.) Some windows are near to every text,
so the mean over the background texts is subtracted from each cosine: what remains is specific to this query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diptych.encoder import Encoder

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

WINDOW_SIDES = (1 / 2, 1 / 3)  # sides of the windows, relative to the shorter side of the picture
STEP = 1 / 3  # between neighbouring windows, relative to their side
SIDE = 96  # longer side of the map, pixels
WARM = np.array([255, 72, 0], np.float32)  # colour of the best match, RGB
MOST = 0.72  # highest opacity of that colour, so that the picture stays visible

Box = tuple[int, int, int, int]


def heat_map(encoder: Encoder, image: Image.Image, query: FloatArray, background: FloatArray) -> FloatArray:
    """How well each location matches a query, from 0 to 1: (h, w) of the whole picture, longer side `SIDE`.

    `query` is an embedding, (dim,); `background` are embeddings of everyday texts, (B, dim); `image` is RGB.
    Scaled so that the minimum is 0 and the maximum 1.
    """
    boxes = windows(image.width, image.height)
    embeddings = encoder.encode_images([image.crop(box) for box in boxes])  # (W, dim)
    # Linear in the query, so one product does both: e.q - mean_b(e.b) = e.(q - mean_b(b)).
    scores = embeddings @ (query - background.mean(0))  # (W,)
    shrink = SIDE / max(image.size)
    height, width = max(1, round(image.height * shrink)), max(1, round(image.width * shrink))
    total, weight = np.zeros((height, width), np.float32), np.full((height, width), 1e-6, np.float32)
    for (left, top, right, bottom), score in zip(boxes, scores, strict=True):
        # The score of a window counts most in its middle and least at its edge.
        down, across = _bump(top, bottom, image.height, height), _bump(left, right, image.width, width)
        bump = down[:, None] * across  # (h, w)
        total += score * bump
        weight += bump
    heat = total / weight
    low, high = float(heat.min()), float(heat.max())
    scaled: FloatArray = ((heat - low) / max(high - low, 1e-9)).astype(np.float32)
    return scaled


def windows(width: int, height: int) -> list[Box]:
    """Overlapping squares that cover a picture, as (left, top, right, bottom).

    Examples
    --------
    >>> boxes = windows(300, 200)
    >>> len(boxes), boxes[0], boxes[-1]
    (105, (0, 0, 100, 100), (233, 133, 300, 200))
    """
    boxes: list[Box] = []
    for relative_side in WINDOW_SIDES:
        side = max(1, round(min(width, height) * relative_side))
        for top in _starts(height, side):
            boxes += [(left, top, left + side, top + side) for left in _starts(width, side)]
    return boxes


def _starts(length: int, side: int) -> list[int]:
    """Where windows begin along an axis: evenly spaced, the first at 0, the last flush with the end."""
    steps = max(1, round((length - side) / (side * STEP))) if length > side else 0
    return [round((length - side) * step / steps) if steps else 0 for step in range(steps + 1)]


def _bump(start: int, stop: int, length: int, cells: int) -> FloatArray:
    """Smooth weights of a window over the cells of an axis: 1 in its middle, 0.02 at its edge, 0 outside."""
    centres = (np.arange(cells, dtype=np.float32) + 0.5) * (length / cells)
    inside = np.clip((centres - start) / max(stop - start, 1), 0, 1)
    bump: FloatArray = np.sin(np.pi * inside).astype(np.float32) ** 2 + 0.02 * ((inside > 0) & (inside < 1))
    return bump


def overlay(image: Image.Image, heat: FloatArray) -> Image.Image:
    """The picture nearly grey under the map in one warm colour, at the size of the picture."""
    small = Image.fromarray((heat * 255).round().astype(np.uint8))
    opacity = np.asarray(small.resize(image.size, Image.Resampling.BICUBIC), np.float32) / 255
    opacity = opacity[..., None] ** 2 * MOST  # (H, W, 1); squared, so that weak matches are hardly tinted
    grey = np.asarray(image.convert("L"), np.float32)[..., None]  # (H, W, 1)
    base = 0.65 * grey + 0.35 * np.asarray(image, np.float32)  # (H, W, 3)
    return Image.fromarray((base * (1 - opacity) + WARM * opacity).round().astype(np.uint8))
