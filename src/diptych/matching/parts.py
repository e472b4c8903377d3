"""Finding a picture inside another: at any place, at any size from a third up, and how well it fits there.

Normalised cross-correlation (J. P. Lewis, "Fast Normalized Cross-Correlation", 1995) of small copies at a
row of sizes tells roughly where; from there the box is moved and scaled until it fits best, and what lies in
it is compared block by block. Turned and mirrored parts are not looked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diptych.matching.pixels import BLANK, SIDE, BlockSimilarity, Thumbnail, compare_pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

Box = tuple[float, float, float, float]

COARSE = 48  # pixels of the longer side of the whole in the first search
THUMB = 32  # side of the square that tells in a moment whether two pictures may be the same
STEP = 1.06  # from one size of the part to the next
LEAST = 0.28  # of the whole's longer side, what a part has at least
FLAT = 16.0  # variance, of 255 squared, of a window that shows nothing
ROUGH, CLOSER = 0.75, 0.8  # least correlation that is looked at closer, and after the first steps of that
# While the box is fitted: pixels of the longer side of the part, and the steps taken, as shares of the whole.
_STEPS = ((64, (0.016, 0.008)), (128, (0.006, 0.003)))


@dataclass(frozen=True, eq=False)
class PartMatch:
    """Where a part lies in a whole, and how well it fits.

    Attributes
    ----------
    box : (left, upper, right, lower)
        As shares of the whole's width and height, 0 to 1.
    correlation : float
        Of the brightness inside the box with the part's.
    agreement : BlockSimilarity
        Of the two, block by block.
    outside : float
        Deviation of the brightness outside the box, of 255: a frame of one colour has next to none.
    """

    box: Box
    correlation: float
    agreement: BlockSimilarity
    outside: float

    @property
    def area(self) -> float:
        """Of the box, as a share of the whole."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


def part_sizes(aspect: float) -> list[tuple[int, int]]:
    """Width and height of a part of this aspect at every size looked for, largest first."""
    longer = np.geomspace(1, LEAST, int(np.log(1 / LEAST) / np.log(STEP)) + 1) * COARSE
    sizes = [(s, s / aspect) if aspect >= 1 else (s * aspect, s) for s in longer.tolist()]
    whole = [(round(width), round(height)) for width, height in sizes]
    return [size for size in dict.fromkeys(whole) if min(size) >= 8]


class GreyThumbnail:
    """A picture at its smallest, ready to be looked for, or looked into.

    Parameters
    ----------
    grey : (h, w) uint8
        Brightness, as `small_grey` gives it.
    """

    def __init__(self, grey: NDArray[np.uint8]) -> None:
        self.grey = grey

    @property
    def blank(self) -> bool:
        """Whether it shows next to nothing: such pictures all look the same."""
        return float(self.grey.std()) < BLANK

    @cached_property
    def thumb(self) -> FloatArray:
        """Brightness squeezed into a square, of mean 0 and norm 1, (THUMB, THUMB)."""
        image = Image.fromarray(self.grey).resize((THUMB, THUMB), Image.Resampling.BILINEAR)
        return _normal(np.asarray(image, np.float32)).reshape(THUMB, THUMB)

    @cached_property
    def spectrum(self) -> NDArray[np.complex64]:
        """Of `grey`, padded."""
        return np.fft.rfft2(self._centred, (COARSE, COARSE)).astype(np.complex64)

    @cached_property
    def sums(self) -> tuple[FloatArray, FloatArray]:
        """Summed areas of `grey` and of its square, (h + 1, w + 1)."""
        return _summed(self._centred), _summed(self._centred**2)

    @cached_property
    def templates(self) -> tuple[tuple[tuple[int, int], ...], NDArray[np.complex64]]:
        """Sizes of the part, and the conjugate spectrum at each, of mean 0 and norm 1."""
        sizes = part_sizes(self.grey.shape[1] / self.grey.shape[0])
        image = Image.fromarray(self.grey)
        spectra = np.empty((len(sizes), COARSE, COARSE // 2 + 1), np.complex64)
        for number, size in enumerate(sizes):
            grey = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)
            spectra[number] = np.fft.rfft2(_normal(grey).reshape(grey.shape), (COARSE, COARSE))
        return tuple(sizes), np.conjugate(spectra)

    @property
    def _centred(self) -> FloatArray:
        return self.grey.astype(np.float32) - np.float32(self.grey.mean())


def small_grey(look: Thumbnail) -> NDArray[np.uint8]:
    """Brightness of a picture, its longer side `COARSE` pixels, (h, w)."""
    grey = look.grey.resize(_fitting(look.size, COARSE), Image.Resampling.BOX)
    return np.asarray(grey, np.uint8)


def locate_part(part: GreyThumbnail, whole: GreyThumbnail) -> tuple[float, Box]:
    """Where a part may lie in a whole: the best correlation over all sizes and places, and its box."""
    sizes, spectra = part.templates
    height, width = whole.grey.shape
    windows = _windows(sizes, width, height)
    if windows is None:
        return 0.0, (0.0, 0.0, 1.0, 1.0)
    matched = np.fft.irfft2(spectra[windows.skipped :] * whole.spectrum, (COARSE, COARSE))
    matched = matched[:, : windows.valid.shape[1], : windows.valid.shape[2]]
    first, second = (windows.sum(table) for table in whole.sums)
    # The norm of every window around its own mean; that of flat ones is raised, not to divide by.
    norm = np.sqrt(np.maximum(second - first * first / windows.counts, FLAT * windows.counts))
    matched = np.where(windows.valid, matched / norm, -1)
    number, y, x = np.unravel_index(int(matched.argmax()), matched.shape)
    w, h = sizes[windows.skipped + int(number)]
    box = (x / width, y / height, (x + w) / width, (y + h) / height)
    return float(matched[number, y, x]), (float(box[0]), float(box[1]), float(box[2]), float(box[3]))


def fit_part(part: Thumbnail, whole: Thumbnail, box: Box) -> PartMatch:
    """Fit a part into a whole, from about where it lies.

    Examples
    --------
    >>> whole = Image.effect_mandelbrot((160, 120), (-2, -1.2, 1, 1.2), 60).convert("RGB")
    >>> part = Thumbnail(whole.crop((40, 20, 140, 100)))
    >>> rough, box = locate_part(GreyThumbnail(small_grey(part)), GreyThumbnail(small_grey(Thumbnail(whole))))
    >>> found = fit_part(part, Thumbnail(whole), box)
    >>> [round(160 * found.box[0]), round(120 * found.box[1])], rough > ROUGH, found.correlation > 0.98
    ([40, 20], True, True)
    """
    correlation, box = _fit(part, whole, box)
    return _placed(part, whole, box, correlation)


@dataclass(frozen=True, eq=False)
class _Windows:
    """Every place of a part of every size in a whole, as corners in a table of summed areas.

    Legend: N sizes that fit, Y x X places.
    """

    skipped: int  # sizes that are too large
    counts: FloatArray  # (N, 1, 1), pixels of a window
    corners: NDArray[np.int32]  # (4, N, Y, X), flat: lower and upper right, lower and upper left
    valid: NDArray[np.bool_]  # (N, Y, X), wholly inside

    def sum(self, table: FloatArray) -> FloatArray:
        """Of what was summed, over every window, (N, Y, X)."""
        lower_right, upper_right, lower_left, upper_left = (table.take(one) for one in self.corners)
        return np.asarray(lower_right - upper_right - lower_left + upper_left)


@lru_cache(maxsize=64)  # pictures of a collection have few shapes
def _windows(sizes: tuple[tuple[int, int], ...], width: int, height: int) -> _Windows | None:
    skipped = sum(w > width or h > height for w, h in sizes)
    fitting = np.array(sizes[skipped:], np.int32)
    if not len(fitting):
        return None
    w, h = fitting[:, 0, None, None], fitting[:, 1, None, None]  # (N, 1, 1)
    y = np.arange(height - int(h.min()) + 1, dtype=np.int32)[None, :, None]
    x = np.arange(width - int(w.min()) + 1, dtype=np.int32)[None, None, :]
    valid = (y + h <= height) & (x + w <= width)  # (N, Y, X)
    lower, right = np.minimum(y + h, height), np.minimum(x + w, width)
    line = width + 1
    corners = np.stack(
        [
            np.broadcast_to(one, valid.shape)
            for one in (lower * line + right, y * line + right, lower * line + x, y * line + x)
        ]
    )
    return _Windows(skipped, (w * h).astype(np.float32), corners, valid)


def _fit(part: Thumbnail, whole: Thumbnail, box: Box) -> tuple[float, Box]:
    """Move and scale a box until what lies in it fits best; its correlation, and the box."""
    aspect = part.aspect / whole.aspect  # of the box, in shares of the whole
    widest = min(1.0, aspect) + 1e-9
    at = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, min(box[2] - box[0], widest))
    best = 0.0
    for side, steps in _STEPS:
        size = _fitting(part.size, min(side, max(part.size)))
        target = _normal(_grey(part, size))

        def fit(x: float, y: float, width: float) -> float:
            inside = _in_pixels(_inside(x, y, width, width / aspect), whole.size)
            return float(target @ _normal(_grey(whole, size, inside)))  # noqa: B023 - called in this round only

        best = fit(*at)
        for step in steps:
            best, at = _climb(fit, at, best, step, widest)
        if best < CLOSER:
            break  # it will not come to anything
    return best, _inside(*at, at[2] / aspect)


Spot = tuple[float, float, float]  # middle, and width, as shares of the whole


def _climb(
    fit: Callable[..., float], at: Spot, best: float, step: float, widest: float
) -> tuple[float, Spot]:
    """Take steps of this size as long as they help, a few times."""
    for _ in range(3):
        before = best
        for move in ((0, 0, 1), (1, 0, 0), (0, 1, 0)):
            for sign in (step, -step):
                tried = (at[0] + sign * move[0], at[1] + sign * move[1], at[2] + sign * move[2])
                value = fit(*tried) if 0.05 < tried[2] <= widest else 0.0
                if value > best:
                    best, at = value, tried
                    break
        if best == before:
            break
    return best, at


def _inside(x: float, y: float, width: float, height: float) -> Box:
    """A box around a middle, pushed into the unit square."""
    width, height = min(width, 1.0), min(height, 1.0)
    left = min(max(x - width / 2, 0.0), 1 - width)
    upper = min(max(y - height / 2, 0.0), 1 - height)
    return left, upper, left + width, upper + height


def _placed(part: Thumbnail, whole: Thumbnail, box: Box, correlation: float) -> PartMatch:
    pixels = _in_pixels(box, whole.size)
    there = max(round(pixels[2] - pixels[0]), 1), max(round(pixels[3] - pixels[1]), 1)
    longer = min(max(there), max(part.size), SIDE)
    size = _fitting(part.size, longer)
    agreement = compare_pixels(part.pixels(size), whole.pixels(size, pixels))
    grey = np.asarray(whole.grey, np.float32)
    outside = np.ones(grey.shape, bool)
    left, upper, right, lower = (round(edge) for edge in pixels)
    outside[max(upper - 1, 0) : lower + 1, max(left - 1, 0) : right + 1] = False
    return PartMatch(box, correlation, agreement, float(grey[outside].std()) if outside.any() else 0.0)


def _grey(look: Thumbnail, size: tuple[int, int], box: Box | None = None) -> FloatArray:
    return np.asarray(look.grey.resize(size, Image.Resampling.BILINEAR, box=box), np.float32)


def _normal(grey: FloatArray) -> FloatArray:
    """Flat, of mean 0 and norm 1."""
    flat = grey.reshape(-1) - grey.mean()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-6))


def _fitting(size: tuple[int, int], longer: int) -> tuple[int, int]:
    scale = longer / max(size)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _in_pixels(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    return box[0] * width, box[1] * height, min(box[2] * width, width), min(box[3] * height, height)


def _summed(values: FloatArray) -> FloatArray:
    """Summed areas; of a small picture around its mean, single precision holds them."""
    return np.asarray(np.pad(values.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0))), np.float32)
