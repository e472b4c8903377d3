"""Perceptual hashes of the cells of regular grids, to find collages and framed pictures.

Cells are the halves, quarters and ninths of a picture, each with and without a border of one colour, and the
whole without its frame. A cell that shows a picture of the catalogue has nearly the hash of that picture.
Parts at other locations are proposed by visual words and vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diptych.matching.hashes import perceptual_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

Box = tuple[int, int, int, int]

GRIDS = ((1, 1), (2, 1), (1, 2), (2, 2), (3, 3))  # columns and rows
SIDE = 256  # longer side that is cut into cells, pixels
LEAST = 16  # shorter side of a cell, pixels
BORDER_TOLERANCE = 32.0  # largest difference of a border pixel from the colour of the border, of 255
BORDER_OUTLIERS = 0.1  # fraction of the pixels of a border line that may differ more, by JPEG artefacts
LEAST_CONTRAST = 10.0  # standard deviation of the brightness, of 255; below it a hash is meaningless


def cell_hashes(image: Image.Image) -> NDArray[np.uint64]:
    """Perceptual hashes of the cells with enough contrast, (n,); of the whole picture only if it has a frame.

    Parameters
    ----------
    image : PIL.Image.Image
        Upright RGB.

    Examples
    --------
    >>> picture = Image.effect_noise((12, 12), 90).resize((96, 96)).convert("RGB")
    >>> wall = Image.new("RGB", (192, 192), "white")
    >>> wall.paste(picture, (96, 0))
    >>> from diptych.matching.hashes import hamming
    >>> int(hamming(cell_hashes(wall), perceptual_hash(picture)).min()) <= 4
    True
    """
    image = image.copy()
    image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels = np.asarray(image, np.float32)  # (h, w, 3)
    boxes: dict[Box, None] = {}
    for columns, rows in GRIDS:
        for number in range(columns * rows):
            left, upper, right, lower = cell = _cell(image.size, columns, rows, number)
            cut = trimmed(pixels[upper:lower, left:right])
            if cut is not None:
                boxes[cell] = None  # with its border too: a plain sky looks like a border
                boxes[left + cut[0], upper + cut[1], left + cut[2], upper + cut[3]] = None
    boxes.pop((0, 0, *image.size), None)  # the hash of the whole picture is stored already
    return np.array([perceptual_hash(image.crop(box)) for box in boxes], np.uint64)


def trimmed(pixels: FloatArray) -> Box | None:
    """The box inside borders of one colour; None if it is too small or has too little contrast.

    Parameters
    ----------
    pixels : (h, w, 3) from 0 to 255
    """
    height, width = pixels.shape[:2]
    if min(height, width) < LEAST:
        return None
    upper, lower = _border(pixels), height - _border(pixels[::-1])
    across = pixels.swapaxes(0, 1)
    left, right = _border(across), width - _border(across[::-1])
    if min(lower - upper, right - left) < LEAST or pixels[upper:lower, left:right].std() < LEAST_CONTRAST:
        return None
    return left, upper, right, lower


def _border(lines: FloatArray) -> int:
    """The number of lines at the beginning that have the same single colour."""
    colour = np.median(lines[0], axis=0)
    for number, line in enumerate(lines):  # usually stops at the first
        if (np.abs(line - colour).max(-1) > BORDER_TOLERANCE).mean() > BORDER_OUTLIERS:
            return number
    return len(lines)


def _cell(size: tuple[int, int], columns: int, rows: int, number: int) -> Box:
    (width, height), (row, column) = size, divmod(number, columns)
    return (
        round(width * column / columns),
        round(height * row / rows),
        round(width * (column + 1) / columns),
        round(height * (row + 1) / rows),
    )
