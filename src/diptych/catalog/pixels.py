"""Whether two pictures show the same pixels, block by block; what JPEG and resizing change is forgiven.

A hash or a vector proposes a pair, here it is looked at. The two are brought to one size, brightness and
contrast are set equal, and every block of eight by eight is compared by its structure. A picture saved again
agrees in every block; one that was written over, or taken a moment later, does not. Finding a picture inside
another is left to `parts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

SIDE = 256  # pixels of the longer side that is compared
BLOCK = 8  # of a block; a sign of three per cent of the picture fills one
NOISE = 60.0  # variance, of 255 squared, below which a block is flat: what JPEG does to it is no structure
TEXTURE = 3 * NOISE  # a block with more than this says something
BLANK = 3.0  # deviation of the brightness below which a picture shows nothing to compare
GAIN = 1.25  # contrast may differ by so much
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow has it
_FLIP = Image.Transpose.FLIP_LEFT_RIGHT


@dataclass(frozen=True, eq=False)
class Look:
    """A picture, small enough to be compared.

    Attributes
    ----------
    image : PIL.Image.Image
        RGB, upright, its longer side at most `SIDE`.
    """

    image: Image.Image

    @classmethod
    def of(cls, image: Image.Image) -> Look:
        """Of a decoded picture of any size."""
        scale = SIDE / max(image.size)
        if scale >= 1:
            return cls(image)
        size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
        return cls(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.image.size

    @property
    def aspect(self) -> float:
        """Width by height."""
        return self.image.width / self.image.height

    @cached_property
    def blank(self) -> bool:
        """Whether it shows next to nothing: such pictures all look the same."""
        return float(np.asarray(self.grey, np.float32).std()) < BLANK

    @cached_property
    def grey(self) -> Image.Image:
        """Its brightness."""
        return self.image.convert("L")

    def mirrored(self) -> Look:
        """Left for right."""
        return Look(self.image.transpose(_FLIP))

    def pixels(
        self, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
    ) -> FloatArray:
        """Resampled to this size, from the whole or a box in pixels, (height, width, 3) from 0 to 255."""
        if size == self.size and box is None:
            return np.asarray(self.image, np.float32)
        return np.asarray(self.image.resize(size, Image.Resampling.LANCZOS, box=box), np.float32)


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far two pictures agree.

    Attributes
    ----------
    blocks : (rows, columns) float32
        Structural similarity of each block, -1 to 1.
    textured : (rows, columns) bool
        Blocks that show something in either picture.
    colour : float
        Mean difference in brightness, or of the two colour channels where that is more, of 255.
    uneven: float
        The block that differs most by the typical one: what saving again does, it does everywhere.
    """

    blocks: FloatArray
    textured: NDArray[np.bool_]
    colour: float
    uneven: float

    @property
    def mean(self) -> float:
        """Over all blocks."""
        return float(self.blocks.mean())

    @property
    def worst(self) -> float:
        """Of the block that agrees least."""
        return float(self.blocks.min())

    def share(self, least: float, *, textured: bool = True) -> float:
        """Of the textured blocks, or of all, how many agree at least so far; 0 where there are none."""
        counted = self.blocks[self.textured] if textured else self.blocks
        return float((counted >= least).mean()) if counted.size else 0.0


def compare(a: Look, b: Look) -> Agreement:
    """Compare two pictures as they lie on each other, edge on edge.

    Examples
    --------
    >>> picture = Image.effect_mandelbrot((96, 64), (-2, -1, 1, 1), 90).convert("RGB")
    >>> small = picture.resize((48, 32), Image.Resampling.BICUBIC)
    >>> compare(Look(picture), Look(small)).worst > 0.9
    True
    >>> compare(Look(picture), Look(picture).mirrored()).worst < 0
    True
    """
    size = min(a.size[0], b.size[0]), min(a.size[1], b.size[1])
    return compare_pixels(a.pixels(size), b.pixels(size))


def compare_pixels(a: FloatArray, b: FloatArray) -> Agreement:
    """Compare two arrays of one shape, (height, width, 3) from 0 to 255."""
    grey_a, grey_b = a @ _GREY, b @ _GREY  # (h, w)
    gain = np.clip((grey_a.std() + 1) / (grey_b.std() + 1), 1 / GAIN, GAIN)
    grey_b = (grey_b - grey_b.mean()) * gain + grey_a.mean()
    x, y = blocks_of(grey_a), blocks_of(grey_b)  # (rows, columns, 64)
    apart = np.sqrt(((x - y) ** 2).mean(-1))
    mean_x, mean_y = x.mean(-1), y.mean(-1)
    x, y = x - mean_x[..., None], y - mean_y[..., None]
    var_x, var_y = (x * x).mean(-1), (y * y).mean(-1)
    # Z. Wang et al., "Image Quality Assessment" (2004), equation 13, on blocks that do not overlap.
    alike = (2 * (x * y).mean(-1) + NOISE) / (var_x + var_y + NOISE)
    alike *= (2 * mean_x * mean_y + NOISE) / (mean_x**2 + mean_y**2 + NOISE)
    uneven = float(apart.max() / (np.median(apart) + 2))
    return Agreement(alike, np.maximum(var_x, var_y) > TEXTURE, _colour(a, b), uneven)


def blocks_of(grey: FloatArray) -> FloatArray:
    """Blocks of a picture, (rows, columns, 64); of a very small one, the whole as one."""
    if min(grey.shape) < BLOCK:
        return grey.reshape(1, 1, -1)
    rows, columns = grey.shape[0] // BLOCK, grey.shape[1] // BLOCK
    cut = grey[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return cut.swapaxes(1, 2).reshape(rows, columns, BLOCK * BLOCK)


def _colour(a: FloatArray, b: FloatArray) -> float:
    """Difference in brightness; blockwise, of red and of blue against green; the largest of the three."""
    tints = (a[..., ::2] - a[..., 1:2]) - (b[..., ::2] - b[..., 1:2])  # (h, w, 2)
    blockwise = [float(np.abs(blocks_of(tints[..., i]).mean(-1)).mean()) for i in (0, 1)]
    return max(*blockwise, abs(float(a.mean() - b.mean())))
