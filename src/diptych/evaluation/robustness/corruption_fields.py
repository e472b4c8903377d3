"""Building blocks of corruptions: kernels, convolution, noise fields. Pure functions of arrays.

Random numbers come only from the generator that is passed. `corruptions.py` uses these functions.

Legend: H rows, W columns of an image, (H, W, 3) float32 from 0 to 1.
"""

from __future__ import annotations

import math
from functools import lru_cache
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.extras import require

Array: TypeAlias = NDArray[np.floating[Any]]
Rng: TypeAlias = np.random.Generator

LARGEST_FIELD = 256  # largest side of a fractal's grid; for larger images it is enlarged
_FINE = 9  # sample points per pixel and axis for the coverage of a disc


def scipy(part: str) -> ModuleType:
    """Import a part of SciPy, which is installed by an extra."""
    return require(f"scipy.{part}", extra="evaluation", purpose="corrupt pictures")


def blurred(picture: Array, sigma: float) -> Array:
    """Gaussian blur of `sigma` pixels."""
    result: Array = scipy("ndimage").gaussian_filter(picture, (sigma, sigma, 0), mode="reflect")
    return result


def convolved(picture: Array, kernel: Array) -> Array:
    """Convolve an image with a (2r + 1, 2r + 1) kernel by FFT, mirrored at its edges."""
    fft = scipy("fft")
    (height, width), reach = picture.shape[:2], len(kernel) // 2
    padded = np.pad(picture, ((reach, reach), (reach, reach), (0, 0)), "symmetric").transpose(2, 0, 1)
    shape = [fft.next_fast_len(side, real=True) for side in padded.shape[1:]]
    spectrum = fft.rfft2(padded, shape) * fft.rfft2(kernel, shape)
    # A circular convolution wraps around into the first 2r rows and columns, which are cut off.
    whole = fft.irfft2(spectrum, shape)[:, 2 * reach : 2 * reach + height, 2 * reach : 2 * reach + width]
    result: Array = np.ascontiguousarray(whole.transpose(1, 2, 0), dtype=np.float32)
    return result


@lru_cache(maxsize=64)
def disc(radius: float, blur: float) -> Array:
    """Kernel of a defocused lens: a disc with soft edges, sum 1.

    Examples
    --------
    >>> disc(0.3, 0.0).tolist()                       # within one pixel: no blur
    [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    >>> disc(1.0, 0.0)[1].astype(float).round(2).tolist()
    [0.15, 0.32, 0.15]
    """
    reach = math.ceil(radius + 3 * blur)
    fine = (np.arange(_FINE) - _FINE // 2) / _FINE
    places = (np.arange(-reach, reach + 1)[:, None] + fine).ravel()
    inside = (places[:, None] ** 2 + places[None] ** 2 <= radius**2).astype(np.float64)
    side = 2 * reach + 1
    covered = inside.reshape(side, _FINE, side, _FINE).mean((1, 3))
    if blur:
        covered = scipy("ndimage").gaussian_filter(covered, blur, mode="constant")
    kernel: Array = (covered / covered.sum()).astype(np.float32)
    kernel.setflags(write=False)  # cached, so it is shared by callers
    return kernel


def streak(radius: float, sigma: float, angle: float) -> Array:
    """Kernel of motion blur: a line from the centre outwards with Gaussian decay, sum 1.

    Parameters
    ----------
    radius, sigma : float
        Length and decay, pixels.
    angle : float
        Direction of the line, radians; 0 is to the right, pi / 2 downwards.
    """
    reach = math.ceil(radius) + 1
    along = np.arange(0.0, radius + 1e-9, 0.25)
    weights = np.exp(-((along / max(sigma, 1e-6)) ** 2) / 2)
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    across, down = along * math.cos(angle) + reach, along * math.sin(angle) + reach
    left, top = np.floor(across).astype(int), np.floor(down).astype(int)
    for x in (0, 1):  # bilinear: each point is distributed to the four pixels around it
        for y in (0, 1):
            weight = (1 - abs(across - left - x)) * (1 - abs(down - top - y))
            np.add.at(kernel, (top + y, left + x), weights * weight)
    kernel_sum: Array = (kernel / kernel.sum()).astype(np.float32)
    return kernel_sum


def smooth_noise(height: int, width: int, sigma: float, rng: Rng) -> Array:
    """Uniform noise from -1 to 1, blurred by a Gaussian of `sigma` pixels, (H, W), periodic at its edges."""
    fft = scipy("fft")
    noise = rng.uniform(-1, 1, (height, width)).astype(np.float32)
    down, across = fft.fftfreq(height), fft.rfftfreq(width)
    fading = np.exp(-2 * (math.pi * sigma) ** 2 * (down[:, None] ** 2 + across[None] ** 2))
    smoothed: Array = fft.irfft2(fft.rfft2(noise) * fading.astype(np.float32), (height, width))
    return smoothed


def scaled(
    field: Array, height: int, width: int, box: tuple[float, float, float, float] | None = None
) -> Array:
    """Resize a field, or a box of it, to (H, W), with averaging if that is smaller."""
    image = Image.fromarray(np.ascontiguousarray(field, dtype=np.float32))
    resized: Array = np.array(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return resized


def plasma(shape: tuple[int, ...], decay: float, rng: Rng) -> Array:
    """Clouds: fractal noise from 0 to 1, of shape (H, W), by midpoint displacement.

    (Fournier, Fussell and Carpenter 1982, "Computer rendering of stochastic models".) Each finer octave is
    weaker by `decay` squared; near 1 the cloud is grainy, at 2 smooth.
    """
    height, width = shape
    longest = max(shape)
    size = min(LARGEST_FIELD, 1 << max(longest - 1, 1).bit_length())
    field = np.zeros((size, size), np.float32)
    step, strength = size, 1.0
    while step >= 2:
        half = step // 2
        _displace(field, step, half, strength, rng)
        step, strength = half, strength / decay**2
    low, high = field.min(), field.max()
    whole = (field - low) / max(high - low, 1e-9)
    if longest <= size:
        cropped: Array = whole[:height, :width]
        return cropped
    ratio = size / longest
    return scaled(whole, height, width, (0.0, 0.0, max(width * ratio, 1e-3), max(height * ratio, 1e-3)))


def _displace(field: Array, step: int, half: int, strength: float, rng: Rng) -> None:
    """Compute one octave in place: the centre of each square, then of each of its sides; periodic edges."""

    def noise() -> Array:
        count = len(field) // step
        return rng.uniform(-strength, strength, (count, count)).astype(np.float32)

    corners = field[::step, ::step]
    right, below = np.roll(corners, -1, 1), np.roll(corners, -1, 0)
    field[half::step, half::step] = (corners + right + below + np.roll(below, -1, 1)) / 4 + noise()
    middles = field[half::step, half::step]
    field[::step, half::step] = (corners + right + middles + np.roll(middles, 1, 0)) / 4 + noise()
    field[half::step, ::step] = (corners + below + middles + np.roll(middles, 1, 1)) / 4 + noise()


def frost(shape: tuple[int, ...], rng: Rng) -> Array:
    """Synthetic ice on a window: needles along the ridges of two clouds, thicker towards an edge, (H, W, 3).

    It replaces the photographs of frost that the original overlays.
    """
    height, width = shape
    needles: Array = np.zeros(shape, np.float32)
    for decay, sharp in ((1.25, 5), (1.4, 2.5)):
        cloud = plasma(shape, decay, rng)
        needles = np.maximum(needles, (1 - abs(2 * cloud - 1)) ** np.float32(sharp))
    thick = plasma(shape, 1.7, rng)
    slope = np.linspace(-1, 1, height)[:, None] * rng.uniform(-1, 1)
    slope = slope + np.linspace(-1, 1, width)[None] * rng.uniform(-1, 1)
    cover = np.clip(0.45 + 0.5 * thick + 0.3 * slope, 0, 1)
    ice = np.clip(cover * (0.45 + 0.75 * needles), 0, 1).astype(np.float32)
    tint = np.array([0.88, 0.95, 1.0], np.float32)
    colours: Array = ice[..., None] * tint
    return colours
