"""Hashes of the cells of a picture: a collage is found by them, and a picture that was framed.

Halves, quarters and ninths, with borders of one colour and without, and the whole without its frame. A cell
that holds a picture of the catalogue has that picture's hash. Parts at any other place are proposed by their
vectors, see `proposals`.
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
SIDE = 256  # pixels of the longer side that is cut into cells
LEAST = 16  # pixels of a cell's side
PLAIN = 32.0  # by which a pixel of a border differs from its colour at most, of 255
SPECKS = 0.1  # share of a border's line that may differ more: JPEG
TOLD = 10.0  # deviation of the brightness below which a cell shows too little for its hash to mean something


def cell_hashes(image: Image.Image) -> NDArray[np.uint64]:
    """Perceptual hashes of the cells that show something, (n,); of the whole only where it has a frame.

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
                boxes[cell] = None  # a sky at its edge is no border: the cell counts with and without
                boxes[left + cut[0], upper + cut[1], left + cut[2], upper + cut[3]] = None
    boxes.pop((0, 0, *image.size), None)  # the whole has a hash already
    return np.array([perceptual_hash(image.crop(box)) for box in boxes], np.uint64)


def trimmed(pixels: FloatArray) -> Box | None:
    """The box inside borders of one colour; None where less than a little is left, or it shows nothing.

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
    if min(lower - upper, right - left) < LEAST or pixels[upper:lower, left:right].std() < TOLD:
        return None
    return left, upper, right, lower


def _border(lines: FloatArray) -> int:
    """How many of the first lines are of one colour, the same for all."""
    colour = np.median(lines[0], axis=0)
    for number, line in enumerate(lines):  # nearly always the first one ends it
        if (np.abs(line - colour).max(-1) > PLAIN).mean() > SPECKS:
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
