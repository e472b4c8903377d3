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
SHIFT = 20.0  # of the brightness, by which a block is half as much alike
STRAY = 0.06  # share of the strength of a block's colours by which its brightness may change
GAIN = 1.25  # contrast may differ by so much
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow has it
_FLIP = Image.Transpose.FLIP_LEFT_RIGHT


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """A picture, small enough to be compared.

    Attributes
    ----------
    image : PIL.Image.Image
        RGB, upright, its longer side at most `SIDE`.
    """

    image: Image.Image

    @classmethod
    def of(cls, image: Image.Image) -> Thumbnail:
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

    def mirrored(self) -> Thumbnail:
        """Left for right."""
        return Thumbnail(self.image.transpose(_FLIP))

    def pixels(
        self, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
    ) -> FloatArray:
        """Resampled to this size, from the whole or a box in pixels, (height, width, 3) from 0 to 255."""
        if size == self.size and box is None:
            return np.asarray(self.image, np.float32)
        return np.asarray(self.image.resize(size, Image.Resampling.LANCZOS, box=box), np.float32)


@dataclass(frozen=True, eq=False)
class BlockSimilarity:
    """How far two pictures agree.

    Attributes
    ----------
    blocks : (rows, columns) float32
        Structural similarity of each block, -1 to 1.
    textured : (rows, columns) bool
        Blocks that show something in either picture.
    colour : float
        Mean difference in brightness, or of the two colour channels where that is more, of 255.
    shifts : (rows, columns) float32
        How much brighter or darker a block is, by what is usual between the two: saving again does the same
        everywhere, and even a small thing that moved stands out.
    """

    blocks: FloatArray
    textured: NDArray[np.bool_]
    colour: float
    shifts: FloatArray

    @property
    def mean(self) -> float:
        """Over all blocks."""
        return float(self.blocks.mean())

    @property
    def worst(self) -> float:
        """Of the block that agrees least."""
        return float(self.blocks.min())

    def fraction_above(self, least: float, *, textured: bool = True) -> float:
        """Of the textured blocks, or of all, how many agree at least so far; 0 where there are none."""
        counted = self.blocks[self.textured] if textured else self.blocks
        return float((counted >= least).mean()) if counted.size else 0.0


def compare_thumbnails(a: Thumbnail, b: Thumbnail) -> BlockSimilarity:
    """Compare two pictures as they lie on each other, edge on edge.

    Examples
    --------
    >>> picture = Image.effect_mandelbrot((96, 64), (-2, -1, 1, 1), 90).convert("RGB")
    >>> small = picture.resize((48, 32), Image.Resampling.BICUBIC)
    >>> compare_thumbnails(Thumbnail(picture), Thumbnail(small)).worst > 0.9
    True
    >>> compare_thumbnails(Thumbnail(picture), Thumbnail(picture).mirrored()).worst < 0
    True
    """
    size = min(a.size[0], b.size[0]), min(a.size[1], b.size[1])
    return compare_pixels(a.pixels(size), b.pixels(size))


def compare_pixels(a: FloatArray, b: FloatArray) -> BlockSimilarity:
    """Compare two arrays of one shape, (height, width, 3) from 0 to 255."""
    x, y = blocks_of(a @ _GREY), blocks_of(b @ _GREY)  # (rows, columns, 64)
    even = np.full(x.shape[-1], 1 / x.shape[-1], np.float32)  # a product is a faster mean
    mean_x, mean_y = x @ even, y @ even
    x, y = x - mean_x[..., None], y - mean_y[..., None]
    mean_y = _levelled(mean_y, mean_x)
    var_x, var_y = (x * x) @ even, (y * y) @ even
    # Contrast and structure of Z. Wang et al., "Image Quality Assessment" (2004), on blocks that do not
    # overlap. Their term for brightness is harsh on dark blocks; here a difference counts the same anywhere.
    alike = (2 * ((x * y) @ even) + NOISE) / (var_x + var_y + NOISE)
    shifts = np.abs(mean_x - mean_y)
    alike *= SHIFT**2 / (SHIFT**2 + shifts**2)
    tints_a, tints_b = _tints(a), _tints(b)  # (2, rows, columns)
    # JPEG keeps colours at half the size: where they are strong, its edges come out brighter or darker.
    strength = np.maximum(np.abs(tints_a).mean(0), np.abs(tints_b).mean(0))
    shifts /= np.median(shifts) + 2 + STRAY * strength
    colour = np.abs(tints_a - tints_b).mean((1, 2)).max()
    apart = max(float(colour), abs(float(a.mean() - b.mean())))
    textured = np.maximum(var_x, var_y) > TEXTURE
    return BlockSimilarity(np.asarray(alike, np.float32), textured, apart, np.asarray(shifts, np.float32))


def blocks_of(grey: FloatArray) -> FloatArray:
    """Blocks of a picture, (rows, columns, 64); of a very small one, the whole as one."""
    if min(grey.shape) < BLOCK:
        return grey.reshape(1, 1, -1)
    rows, columns = grey.shape[0] // BLOCK, grey.shape[1] // BLOCK
    cut = grey[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return cut.swapaxes(1, 2).reshape(rows, columns, BLOCK * BLOCK)


def _tints(pixels: FloatArray) -> FloatArray:
    """Red less green, and blue less green, of every block, (2, rows, columns)."""
    height, width = pixels.shape[:2]
    high, wide = (BLOCK, BLOCK) if min(height, width) >= BLOCK else (height, width)
    rows, columns = height // high, width // wide
    cut = pixels[: rows * high, : columns * wide].reshape(rows, high, columns, wide * 3)
    lines = cut.sum(1).reshape(rows, columns, wide, 3).sum(2) / (high * wide)  # (rows, columns, 3)
    return np.stack([lines[..., 0] - lines[..., 1], lines[..., 2] - lines[..., 1]])


def _levelled(means: FloatArray, like: FloatArray) -> FloatArray:
    """Block means with the brightness and contrast of others; a part that was written over does not count."""
    kept = np.ones(means.shape, bool)
    for _ in range(2):  # the second time without the third that fits worst
        x, y = means[kept], like[kept]
        spread = float(x.var()) + 1
        gain = np.clip((float(((x - x.mean()) * (y - y.mean())).mean()) + 1) / spread, 1 / GAIN, GAIN)
        levelled = (means - x.mean()) * gain + y.mean()
        apart = np.abs(like - levelled)
        kept = apart <= np.quantile(apart, 2 / 3)
    return np.asarray(levelled, np.float32)
