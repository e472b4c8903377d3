"""Block-wise structural similarity of two pictures, tolerant to JPEG compression and resizing.

Both pictures are resized to a common size, brightness and contrast are equalised, and every block of 8 x 8
pixels is compared by its structure. A picture that was saved again is similar in every block; one that was
written over, or taken a moment later, is not. `parts` locates a picture inside another.
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

SIDE = 256  # longer side of the pictures that are compared, pixels
BLOCK = 8  # side of a block, pixels; an overlay of 3 % of the side of the picture fills one
NOISE = 60.0  # variance, of 255 squared, below which a block is flat and its structure is JPEG noise
TEXTURE = 3 * NOISE  # variance above which a block is textured
BLANK = 3.0  # standard deviation of the brightness, of 255, below which a picture is blank
SHIFT = 20.0  # difference in brightness, of 255, that halves the similarity of a block
BRIGHTNESS_CHANGE = 0.06  # change in brightness allowed to a block, relative to the strength of its colours
GAIN = 1.25  # largest ratio of the contrasts of two copies
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow has it
_FLIP = Image.Transpose.FLIP_LEFT_RIGHT


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """A picture reduced to the size at which copies are compared: upright RGB, at most `SIDE` long."""

    image: Image.Image

    @classmethod
    def of(cls, image: Image.Image) -> Thumbnail:
        """Reduce a decoded picture of any size."""
        if max(image.size) <= SIDE:
            return cls(image)
        size = fitting_size(image.size, SIDE)
        return cls(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""
        return self.image.size

    @property
    def aspect(self) -> float:
        """Width divided by height."""
        return self.image.width / self.image.height

    @cached_property
    def blank(self) -> bool:
        """Whether it has next to no contrast: all such pictures are alike."""
        return float(np.asarray(self.grey, np.float32).std()) < BLANK

    @cached_property
    def grey(self) -> Image.Image:
        """The brightness."""
        return self.image.convert("L")

    def mirrored(self) -> Thumbnail:
        """Mirror left to right."""
        return Thumbnail(self.image.transpose(_FLIP))

    def pixels(
        self, size: tuple[int, int], box: tuple[float, float, float, float] | None = None
    ) -> FloatArray:
        """Resample the whole, or a box in pixels, to this size: (height, width, 3), 0 to 255."""
        if size == self.size and box is None:
            return np.asarray(self.image, np.float32)
        return np.asarray(self.image.resize(size, Image.Resampling.LANCZOS, box=box), np.float32)


@dataclass(frozen=True, eq=False)
class BlockSimilarity:
    """Similarity of two pictures, block by block.

    Attributes
    ----------
    blocks : (rows, columns) float32
        Structural similarity of each block, -1 to 1.
    textured : (rows, columns) bool
        Blocks with texture in either picture.
    colour : float
        Mean absolute difference in brightness, or in a colour difference where that is larger, of 255.
    shifts : (rows, columns) float32
        Difference in brightness of each block, relative to the median block: compression changes all blocks
        alike, so even a small object that moved stands out.
    """

    blocks: FloatArray
    textured: NDArray[np.bool_]
    colour: float
    shifts: FloatArray

    @property
    def mean(self) -> float:
        """Mean similarity over all blocks."""
        return float(self.blocks.mean())

    @property
    def worst(self) -> float:
        """Similarity of the least similar block."""
        return float(self.blocks.min())

    def fraction_above(self, least: float, *, textured: bool = True) -> float:
        """Fraction of the textured blocks, or of all, with at least this similarity; 0 if there are none."""
        blocks = self.blocks[self.textured] if textured else self.blocks
        return float((blocks >= least).mean()) if blocks.size else 0.0


def fitting_size(size: tuple[int, int], longer: int, *, least: int = 1) -> tuple[int, int]:
    """Width and height with this longer side and the same aspect; no side shorter than `least`."""
    scale = longer / max(size)
    return max(round(size[0] * scale), least), max(round(size[1] * scale), least)


def compare_thumbnails(a: Thumbnail, b: Thumbnail) -> BlockSimilarity:
    """Compare two pictures that are stretched to the same size, edge on edge.

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
    """Compare two arrays of equal shape, (height, width, 3), 0 to 255."""
    x, y = blocks_of(a @ _GREY), blocks_of(b @ _GREY)  # (rows, columns, 64)
    uniform = np.full(x.shape[-1], 1 / x.shape[-1], np.float32)  # a matrix product is faster than mean(-1)
    mean_x, mean_y = x @ uniform, y @ uniform
    x, y = x - mean_x[..., None], y - mean_y[..., None]
    mean_y = _equalised(mean_y, mean_x)
    var_x, var_y = (x * x) @ uniform, (y * y) @ uniform
    # The contrast and structure terms of SSIM (Z. Wang et al., "Image Quality Assessment", 2004) on blocks
    # that do not overlap. Its luminance term exaggerates differences of dark blocks; here a difference counts
    # the same everywhere. E.g. variances 500 and 500, covariance 450: (900 + 60) / (1000 + 60) = 0.91; flat
    # blocks with variances 5 and 5 and covariance 0 still get 60 / 70 = 0.86.
    alike = (2 * ((x * y) @ uniform) + NOISE) / (var_x + var_y + NOISE)
    shifts = np.abs(mean_x - mean_y)
    alike *= SHIFT**2 / (SHIFT**2 + shifts**2)
    tints_a, tints_b = _tints(a), _tints(b)  # (2, rows, columns)
    # JPEG stores colours at half the resolution, so edges of strong colours become brighter or darker.
    strength = np.maximum(np.abs(tints_a).mean(0), np.abs(tints_b).mean(0))
    shifts /= np.median(shifts) + 2 + BRIGHTNESS_CHANGE * strength
    tint_difference = np.abs(tints_a - tints_b).mean((1, 2)).max()
    colour = max(float(tint_difference), abs(float(a.mean() - b.mean())))
    textured = np.maximum(var_x, var_y) > TEXTURE
    return BlockSimilarity(np.asarray(alike, np.float32), textured, colour, np.asarray(shifts, np.float32))


def blocks_of(grey: FloatArray) -> FloatArray:
    """Split a picture into blocks, (rows, columns, 64); one smaller than a block is a single block."""
    if min(grey.shape) < BLOCK:
        return grey.reshape(1, 1, -1)
    rows, columns = grey.shape[0] // BLOCK, grey.shape[1] // BLOCK
    cut = grey[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)
    return cut.swapaxes(1, 2).reshape(rows, columns, BLOCK * BLOCK)


def _tints(pixels: FloatArray) -> FloatArray:
    """Mean red minus green and mean blue minus green of every block, (2, rows, columns)."""
    height, width = pixels.shape[:2]
    high, wide = (BLOCK, BLOCK) if min(height, width) >= BLOCK else (height, width)
    rows, columns = height // high, width // wide
    cut = pixels[: rows * high, : columns * wide].reshape(rows, high, columns, wide * 3)
    lines = cut.sum(1).reshape(rows, columns, wide, 3).sum(2) / (high * wide)  # (rows, columns, 3)
    return np.stack([lines[..., 0] - lines[..., 1], lines[..., 2] - lines[..., 1]])


def _equalised(means: FloatArray, reference: FloatArray) -> FloatArray:
    """Block means after a linear fit to the brightness and contrast of a reference.

    The fit is repeated without the third of the blocks that fits worst, so that an overlay does not distort
    it.
    """
    inliers = np.ones(means.shape, bool)
    for _ in range(2):
        x, y = means[inliers], reference[inliers]
        spread = float(x.var()) + 1
        # Least-squares slope cov(x, y) / var(x), drawn towards 1 for flat pictures by the 1 in both.
        gain = np.clip((float(((x - x.mean()) * (y - y.mean())).mean()) + 1) / spread, 1 / GAIN, GAIN)
        levelled = (means - x.mean()) * gain + y.mean()
        residuals = np.abs(reference - levelled)
        inliers = residuals <= np.quantile(residuals, 2 / 3)
    return np.asarray(levelled, np.float32)
