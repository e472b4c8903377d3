"""Overlapping parts of a picture, for "is this part of a larger picture, or a larger picture of this"."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image

Box = tuple[int, int, int, int]


def tiles(
    image: Image.Image, areas: Sequence[float] = (1.0, 0.5, 0.25), *, overlap: float = 0.5, side: int = 32
) -> list[tuple[Box, Image.Image]]:
    """Parts of a picture of its own shape, each scale laid over all of it.

    Parameters
    ----------
    image : PIL.Image.Image
        Upright RGB, as `load_image` gives it.
    areas : sequence of float
        Of each scale, the share of the picture one tile covers; 1 is the whole picture.
    overlap : float
        How much of a tile's side its neighbour covers at least, from 0 to below 1. With the half, what is as
        large as a tile finds one that covers at least nine sixteenths of it, wherever it lies.
    side : int
        Scales whose tiles would be shorter than this many pixels are left out, apart from the whole.

    Returns
    -------
    list of (box, PIL.Image.Image)
        Boxes are (left, upper, right, lower) in pixels, the last two exclusive, as Pillow has them. Scales in
        the order asked for, tiles from the top left on.

    Raises
    ------
    ValueError
        A share or an overlap outside its range.

    Examples
    --------
    >>> [box for box, _ in tiles(Image.new("RGB", (160, 120)), (1, 0.25))][:3]
    [(0, 0, 160, 120), (0, 0, 80, 60), (40, 0, 120, 60)]
    """
    if not all(0 < area <= 1 for area in areas) or not 0 <= overlap < 1:
        raise ValueError(
            f"expected areas above 0 to 1 and an overlap from 0 to below 1, got {tuple(areas)} and {overlap}"
        )
    boxes = [box for area in areas for box in _boxes(image.size, math.sqrt(area), overlap, side)]
    return [(box, image.crop(box)) for box in dict.fromkeys(boxes)]


def _boxes(size: tuple[int, int], scale: float, overlap: float, side: int) -> list[Box]:
    width, height = (max(1, round(length * scale)) for length in size)
    if scale < 1 and min(width, height) < side:
        return []
    return [
        (x, y, x + width, y + height)
        for y in _starts(size[1], height, overlap)
        for x in _starts(size[0], width, overlap)
    ]


def _starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin so that they cover a length evenly, from one end to the other."""
    steps = math.ceil((length - tile) / max(tile * (1 - overlap), 1))
    return [round((length - tile) * step / steps) for step in range(steps + 1)] if steps else [0]
