"""Template matching: locate a picture inside another, at any position and at scales from about a third up.

Normalised cross-correlation (J. P. Lewis, "Fast Normalized Cross-Correlation", 1995) of small copies at a
series of sizes gives an approximate box. A local search moves and scales the box to the best correlation, and
its content is compared block by block. Rotated and mirrored parts are not found.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diptych.matching.pixels import BLANK, SIDE, BlockSimilarity, Thumbnail, compare_pixels, fitting_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

Box = tuple[float, float, float, float]

COARSE = 48  # longer side of the whole in the coarse search, pixels
SQUARE = 32  # side of the square thumbnails whose correlation screens for equal pictures, pixels
STEP = 1.06  # ratio of consecutive sizes of the part
LEAST = 0.28  # least side of a part, relative to the longer side of the whole
FLAT = 16.0  # variance, of 255 squared, of a window without content
# Least correlation after the coarse search, and after each stage of the refinement.
ROUGH, REFINED = 0.75, 0.8
# Stages of the refinement: longer side of the part in pixels, and step widths relative to the whole.
_STAGES = ((64, (0.016, 0.008)), (128, (0.006, 0.003)))


@dataclass(frozen=True, eq=False)
class PartMatch:
    """The location of a part in a whole, and its similarity to the part.

    Attributes
    ----------
    box : (left, upper, right, lower)
        In fractions of the width and height of the whole.
    correlation : float
        Of the brightness inside the box with that of the part.
    similarity : BlockSimilarity
        Of the content of the box and the part.
    outside : float
        Standard deviation of the brightness outside the box, of 255; next to 0 for a frame of one colour.
    """

    box: Box
    correlation: float
    similarity: BlockSimilarity
    outside: float

    @property
    def area(self) -> float:
        """Area of the box, relative to the whole."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


def part_sizes(aspect: float) -> list[tuple[int, int]]:
    """(width, height) of a part with this aspect at every size of the coarse search, largest first."""
    longer = np.geomspace(1, LEAST, int(np.log(1 / LEAST) / np.log(STEP)) + 1) * COARSE
    sizes = [(s, s / aspect) if aspect >= 1 else (s * aspect, s) for s in longer.tolist()]
    whole = [(round(width), round(height)) for width, height in sizes]
    return [size for size in dict.fromkeys(whole) if min(size) >= 8]


class GreyThumbnail:
    """A tiny grey picture of `small_grey` with cached transforms, for the coarse search."""

    def __init__(self, grey: NDArray[np.uint8]) -> None:
        self.grey = grey

    @property
    def blank(self) -> bool:
        """Whether it has next to no contrast: all such pictures are alike."""
        return float(self.grey.std()) < BLANK

    @cached_property
    def square(self) -> FloatArray:
        """Brightness resized to a square, of mean 0 and norm 1, (SQUARE, SQUARE).

        So the sum of the products of two of them is their correlation.
        """
        image = Image.fromarray(self.grey).resize((SQUARE, SQUARE), Image.Resampling.BILINEAR)
        return _normalised(np.asarray(image, np.float32)).reshape(SQUARE, SQUARE)

    @cached_property
    def spectrum(self) -> NDArray[np.complex64]:
        """Fourier transform of `grey`, padded with zeros to COARSE x COARSE."""
        return np.fft.rfft2(self._centred, (COARSE, COARSE)).astype(np.complex64)

    @cached_property
    def sums(self) -> tuple[FloatArray, FloatArray]:
        """Summed-area tables of `grey` and of its square, (h + 1, w + 1)."""
        return _summed(self._centred), _summed(self._centred**2)

    @cached_property
    def templates(self) -> tuple[tuple[tuple[int, int], ...], NDArray[np.complex64]]:
        """Sizes of the part, and its conjugate spectrum at each size, normalised to mean 0 and norm 1."""
        sizes = part_sizes(self.grey.shape[1] / self.grey.shape[0])
        image = Image.fromarray(self.grey)
        spectra = np.empty((len(sizes), COARSE, COARSE // 2 + 1), np.complex64)
        for number, size in enumerate(sizes):
            grey = np.asarray(image.resize(size, Image.Resampling.BILINEAR), np.float32)
            spectra[number] = np.fft.rfft2(_normalised(grey).reshape(grey.shape), (COARSE, COARSE))
        return tuple(sizes), np.conjugate(spectra)

    @property
    def _centred(self) -> FloatArray:
        return self.grey.astype(np.float32) - np.float32(self.grey.mean())


def small_grey(thumbnail: Thumbnail) -> NDArray[np.uint8]:
    """Brightness of a picture, (h, w), with a longer side of `COARSE` pixels."""
    grey = thumbnail.grey.resize(fitting_size(thumbnail.size, COARSE), Image.Resampling.BOX)
    return np.asarray(grey, np.uint8)


def locate_part(part: GreyThumbnail, whole: GreyThumbnail) -> tuple[float, Box]:
    """Coarse search: the best correlation over all sizes and positions of a part in a whole, and its box.

    For a template t of mean 0 and norm 1 and a window w of the whole, the normalised correlation is
    sum(t * w) / norm(w - mean(w)); the mean of w needs no subtraction in the numerator since t sums to 0. The
    numerators of all positions come from one product of spectra, the norms from summed-area tables.
    """
    sizes, spectra = part.templates
    height, width = whole.grey.shape
    windows = _windows(sizes, width, height)
    if windows is None:
        return 0.0, (0.0, 0.0, 1.0, 1.0)
    spectra = spectra[windows.skipped :] * whole.spectrum
    scores = np.fft.irfft2(spectra, (COARSE, COARSE))  # (N, COARSE, COARSE)
    scores = scores[:, : windows.valid.shape[1], : windows.valid.shape[2]]
    first, second = (windows.sum(table) for table in whole.sums)
    # norm(w - mean(w))**2 = sum(w**2) - sum(w)**2 / n. A lower bound avoids dividing by 0 for flat windows.
    norm = np.sqrt(np.maximum(second - first * first / windows.counts, FLAT * windows.counts))
    scores = np.where(windows.valid, scores / norm, -1)
    number, y, x = np.unravel_index(int(scores.argmax()), scores.shape)
    w, h = sizes[windows.skipped + int(number)]
    box = (x / width, y / height, (x + w) / width, (y + h) / height)
    return float(scores[number, y, x]), (float(box[0]), float(box[1]), float(box[2]), float(box[3]))


def fit_part(part: Thumbnail, whole: Thumbnail, box: Box) -> PartMatch:
    """Refine an approximate box, and compare its content with the part.

    Examples
    --------
    >>> whole = Image.effect_mandelbrot((160, 120), (-2, -1.2, 1, 1.2), 60).convert("RGB")
    >>> part = Thumbnail(whole.crop((40, 20, 140, 100)))
    >>> rough, box = locate_part(GreyThumbnail(small_grey(part)), GreyThumbnail(small_grey(Thumbnail(whole))))
    >>> match = fit_part(part, Thumbnail(whole), box)
    >>> [round(160 * match.box[0]), round(120 * match.box[1])], rough > ROUGH, match.correlation > 0.98
    ([40, 20], True, True)
    """
    correlation, box = _refine(part, whole, box)
    return _compare_at(part, whole, box, correlation)


@dataclass(frozen=True, eq=False)
class _Windows:
    """All windows of N sizes at Y x X positions, as indices into a flattened summed-area table.

    With S the (h + 1, w + 1) table, the sum over rows y..y+H-1 and columns x..x+W-1 is S[y+H, x+W] - S[y,
    x+W] - S[y+H, x] + S[y, x]. Element (r, c) of S has the flat index r * (w + 1) + c. E.g. a whole of 4 x 3
    pixels (w = 4): the 2 x 2 window at (x, y) = (1, 0) has the corners (2, 3), (0, 3), (2, 1) and (0, 1),
    with indices 13, 3, 11 and 1.
    """

    skipped: int  # sizes that are larger than the whole
    counts: FloatArray  # (N, 1, 1), pixels of a window
    corners: NDArray[np.int32]  # (4, N, Y, X): lower right, upper right, lower left, upper left
    valid: NDArray[np.bool_]  # (N, Y, X), the window lies inside the whole

    def sum(self, table: FloatArray) -> FloatArray:
        """Sums over all windows, (N, Y, X), from a summed-area table."""
        lower_right, upper_right, lower_left, upper_left = (table.take(indices) for indices in self.corners)
        return np.asarray(lower_right - upper_right - lower_left + upper_left)


@lru_cache(maxsize=64)  # the pictures of a collection have few different shapes
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
            np.broadcast_to(indices, valid.shape)
            for indices in (lower * line + right, y * line + right, lower * line + x, y * line + x)
        ]
    )
    return _Windows(skipped, (w * h).astype(np.float32), corners, valid)


def _refine(part: Thumbnail, whole: Thumbnail, box: Box) -> tuple[float, Box]:
    """Move and scale a box to the best correlation by coordinate ascent; returns correlation and box."""
    aspect = part.aspect / whole.aspect  # of the box, in fractions of the whole
    widest = min(1.0, aspect) + 1e-9
    at = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2, min(box[2] - box[0], widest))
    best = 0.0
    for side, steps in _STAGES:
        size = fitting_size(part.size, min(side, max(part.size)))
        target = _normalised(_grey(part, size))

        def correlate(x: float, y: float, width: float) -> float:
            inside = _in_pixels(_clamped(x, y, width, width / aspect), whole.size)
            return float(target @ _normalised(_grey(whole, size, inside)))  # noqa: B023 - not kept

        best = correlate(*at)
        for step in steps:
            best, at = _climb(correlate, at, best, step, widest)
        if best < REFINED:
            break  # not a part: finer stages would not help
    return best, _clamped(*at, at[2] / aspect)


Position = tuple[float, float, float]  # x and y of the middle and the width of a box, relative to the whole


def _climb(
    correlate: Callable[..., float], at: Position, best: float, step: float, widest: float
) -> tuple[float, Position]:
    """Change width, x and y in turn by this step while the correlation improves, at most three rounds."""
    for _ in range(3):
        before = best
        for move in ((0, 0, 1), (1, 0, 0), (0, 1, 0)):
            for sign in (step, -step):
                tried = (at[0] + sign * move[0], at[1] + sign * move[1], at[2] + sign * move[2])
                value = correlate(*tried) if 0.05 < tried[2] <= widest else 0.0
                if value > best:
                    best, at = value, tried
                    break
        if best == before:
            break
    return best, at


def _clamped(x: float, y: float, width: float, height: float) -> Box:
    """The box around a middle, moved into the unit square."""
    width, height = min(width, 1.0), min(height, 1.0)
    left = min(max(x - width / 2, 0.0), 1 - width)
    upper = min(max(y - height / 2, 0.0), 1 - height)
    return left, upper, left + width, upper + height


def _compare_at(part: Thumbnail, whole: Thumbnail, box: Box, correlation: float) -> PartMatch:
    """Compare a part with the content of a box."""
    pixels = _in_pixels(box, whole.size)
    box_size = max(round(pixels[2] - pixels[0]), 1), max(round(pixels[3] - pixels[1]), 1)
    # The smaller resolution of the two: enlarging one would only add blur.
    longer = min(max(box_size), max(part.size), SIDE)
    size = fitting_size(part.size, longer)
    similarity = compare_pixels(part.pixels(size), whole.pixels(size, pixels))
    grey = np.asarray(whole.grey, np.float32)
    outside = np.ones(grey.shape, bool)
    left, upper, right, lower = (round(edge) for edge in pixels)
    outside[max(upper - 1, 0) : lower + 1, max(left - 1, 0) : right + 1] = False
    return PartMatch(box, correlation, similarity, float(grey[outside].std()) if outside.any() else 0.0)


def _grey(thumbnail: Thumbnail, size: tuple[int, int], box: Box | None = None) -> FloatArray:
    return np.asarray(thumbnail.grey.resize(size, Image.Resampling.BILINEAR, box=box), np.float32)


def _normalised(grey: FloatArray) -> FloatArray:
    """Flattened, with mean 0 and norm 1."""
    flat = grey.reshape(-1) - grey.mean()
    return np.asarray(flat / max(float(np.linalg.norm(flat)), 1e-6))


def _in_pixels(box: Box, size: tuple[int, int]) -> Box:
    width, height = size
    return box[0] * width, box[1] * height, min(box[2] * width, width), min(box[3] * height, height)


def _summed(values: FloatArray) -> FloatArray:
    """Summed-area table; float32 suffices for a small picture with its mean subtracted."""
    return np.asarray(np.pad(values.astype(np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0))), np.float32)
