"""Image corruptions of Hendrycks and Dietterich at five severities.

(Hendrycks and Dietterich 2019, arXiv 1903.12261: fifteen kinds, and four more for validation.)

The strengths are those published with ImageNet-C, for images of 224 pixels. Lengths in pixels (radii, widths
of blurs, displacements, sizes of flakes) are multiplied by the image's shorter side / 224, so that small and
large images look equally blurred; on images of 32 pixels the mild blurs have almost no effect. Other
strengths are not scaled: noise, colours, factors of zoom and pixelate, JPEG quality. The code is our own, and
its pixels differ from the original's:

- frost is synthetic; the original overlays photographs of frost;
- glass moves every pixel once, by the sum of the original's moves, instead of swapping pixels one by one;
- the clouds of fog and the streaks of motion and snow come from other generators, and water has no
  highlights.

Elastic is as published: severity 2 is harsher than 3, because 1 and 2 deform the whole image, the others
small regions. Noise is as for ImageNet-C, harsher than CIFAR-10-C's.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from diptych.errors import ImageError, InputError
from diptych.evaluation.robustness.corruption_fields import (
    Array,
    Rng,
    blurred,
    convolved,
    disc,
    frost,
    plasma,
    scaled,
    scipy,
    smooth_noise,
    streak,
)

SIDE = 224  # of the pictures that the published lengths are for
SEVERITIES = (1, 2, 3, 4, 5)
_LONGEST = 2048  # largest side of a layer of snow or drops; on longer images they are stretched
VERSION = 1  # of the corruptions' output; part of fingerprints, so that results of versions are not mixed


@dataclass(frozen=True)
class Corruption:
    """A kind of corruption.

    Attributes
    ----------
    apply : callable
        From an image, a strength, a random generator and the factor on lengths to an image.
    strengths : tuple of five
        One per severity, for `apply`.
    kind : str
        The family: noise, blur, weather, digital, or extra (the four for validation).
    """

    apply: Callable[[Array, Any, Rng, float], Array]
    strengths: tuple[Any, ...]
    kind: str


def corrupt(
    picture: Image.Image, corruption: str, severity: int, *, seed: int = 0, key: str = ""
) -> Image.Image:
    """Return a corrupted copy of an image, deterministic in the arguments.

    Parameters
    ----------
    picture : PIL.Image.Image
        RGB or grey (L), of any size.
    corruption : str
        A name of `CORRUPTIONS`.
    severity : int
        1 to 5.
    key : str
        Name of the image. Random numbers depend only on seed, corruption, severity and key: not on the order
        of images or the thread.

    Returns
    -------
    PIL.Image.Image
        With the same mode and size.

    Raises
    ------
    InputError
        An unknown corruption or severity.
    ImageError
        Another mode, or an empty image.
    MissingExtraError
        SciPy is not installed.

    Examples
    --------
    >>> picture = Image.new("RGB", (32, 24), "orange")
    >>> noisy = corrupt(picture, "gaussian_noise", 3, key="a.jpg")
    >>> noisy.size, noisy == corrupt(picture, "gaussian_noise", 3, key="a.jpg")
    ((32, 24), True)
    >>> noisy == corrupt(picture, "gaussian_noise", 3, key="b.jpg")
    False
    """
    check(corruption, severity)
    if picture.mode not in ("RGB", "L") or not (picture.width and picture.height):
        raise ImageError(
            f"a picture of mode {picture.mode} and {picture.width} x {picture.height} pixels: expected "
            "RGB or grey with some pixels; diptych.media.load_image gives RGB"
        )
    named = f"{seed}\0{corruption}\0{severity}\0{key}".encode("utf-8", "surrogateescape")
    rng = np.random.default_rng(int.from_bytes(hashlib.blake2b(named, digest_size=16).digest()))
    kind = CORRUPTIONS[corruption]
    array = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    corrupted = kind.apply(array, kind.strengths[severity - 1], rng, min(picture.size) / SIDE)
    return _image(corrupted).convert(picture.mode)


def check(corruption: str, severity: int) -> None:
    """Raise InputError for an unknown corruption or severity."""
    if corruption not in CORRUPTIONS:
        raise InputError(f"no corruption is called {corruption!r}; there are {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise InputError(f"severity {severity!r}: expected a whole number from 1 (mild) to 5")


def _image(array: Array) -> Image.Image:
    return Image.fromarray((np.clip(array, 0, 1) * 255 + 0.5).astype(np.uint8))


# ---- noise ----


def _gaussian(picture: Array, strength: float, rng: Rng, scale: float) -> Array:
    return picture + np.float32(strength) * rng.standard_normal(picture.shape, np.float32)


def _shot(picture: Array, photons: float, rng: Rng, scale: float) -> Array:
    return (rng.poisson(picture * photons) / photons).astype(np.float32)


def _impulse(picture: Array, fraction: float, rng: Rng, scale: float) -> Array:
    drawn = rng.random(picture.shape, np.float32)
    salted = np.where(drawn > 1 - fraction / 2, np.float32(1), picture)
    return np.where(drawn < fraction / 2, np.float32(0), salted)


def _speckle(picture: Array, strength: float, rng: Rng, scale: float) -> Array:
    return picture * (1 + np.float32(strength) * rng.standard_normal(picture.shape, np.float32))


# ---- blur ----


def _defocus(picture: Array, strength: tuple[float, float], rng: Rng, scale: float) -> Array:
    radius, blur = strength
    return convolved(picture, disc(radius * scale, blur * scale))


def _glass(picture: Array, strength: tuple[float, int, int], rng: Rng, scale: float) -> Array:
    sigma, most, times = strength
    (height, width), soft = picture.shape[:2], blurred(picture, sigma * scale)
    # Each of `times` moves is from -most to most pixels. On small images the sum is a fraction of a pixel,
    # such as 0.3: random rounding then moves 30 % of the pixels by 1 and the others by 0.
    moves = rng.uniform(-(most + 0.5), most + 0.5, (times, 2, height, width)).sum(0) * scale
    moves = np.floor(moves + rng.random(moves.shape)).astype(np.intp)
    rows = np.clip(np.arange(height)[:, None] + moves[0], 0, height - 1)
    columns = np.clip(np.arange(width)[None] + moves[1], 0, width - 1)
    return blurred(soft[rows, columns], sigma * scale)


def _motion(picture: Array, strength: tuple[float, float], rng: Rng, scale: float) -> Array:
    radius, sigma = strength
    angle = math.radians(rng.uniform(-45, 45))
    return convolved(picture, streak(radius * scale, sigma * scale, angle))


def _zoom(picture: Array, strength: tuple[float, float], rng: Rng, scale: float) -> Array:
    most, step = strength
    image, (height, width) = _image(picture), picture.shape[:2]
    total, count = picture.copy(), 1
    for factor in np.arange(1, most, step):
        across, down = width * (1 - 1 / factor) / 2, height * (1 - 1 / factor) / 2
        box = (across, down, width - across, height - down)
        total += np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box)) / np.float32(
            255
        )
        count += 1
    return total / count


def _soften(picture: Array, sigma: float, rng: Rng, scale: float) -> Array:
    return blurred(picture, sigma * scale)


# ---- weather ----


def _snow(picture: Array, strength: tuple[float, ...], rng: Rng, scale: float) -> Array:
    mean, spread, size, least, radius, sigma, kept = strength
    height, width = picture.shape[:2]
    # Flakes smaller than a pixel become a haze: they are generated at the published size and then scaled.
    rows, columns = _published(height, width)
    layer = rng.normal(mean, spread, (math.ceil(rows / size), math.ceil(columns / size))).astype(np.float32)
    layer = scaled(layer, rows, columns)
    flakes = np.clip(np.where(layer < least, 0, layer), 0, 1).astype(np.float32)
    falling = math.radians(rng.uniform(45, 135))
    flakes = convolved(flakes[..., None], streak(radius, sigma, falling))[..., 0]
    flakes = scaled(flakes, height, width)[..., None]
    grey = picture @ np.array([0.299, 0.587, 0.114], np.float32)
    white = kept * picture + (1 - kept) * np.maximum(picture, (1.5 * grey + 0.5)[..., None])
    whole: Array = white + flakes + flakes[::-1, ::-1]
    return whole


def _published(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of an image of this shape, scaled to the size of the published strengths."""
    factor = SIDE / min(height, width)
    return min(round(height * factor), _LONGEST), min(round(width * factor), _LONGEST)


def _frost(picture: Array, strength: tuple[float, float], rng: Rng, scale: float) -> Array:
    kept, ice = strength
    return np.float32(kept) * picture + np.float32(ice) * frost(picture.shape[:2], rng)


def _fog(picture: Array, strength: tuple[float, float], rng: Rng, scale: float) -> Array:
    thick, decay = strength
    brightest = float(picture.max())
    clouded = picture + np.float32(thick) * plasma(picture.shape[:2], decay, rng)[..., None]
    return clouded * np.float32(brightest / (brightest + thick))


def _brightness(picture: Array, more: float, rng: Rng, scale: float) -> Array:
    """Increase HSV's value; hue and saturation are kept."""
    value = picture.max(-1, keepdims=True)
    brighter = np.clip(value + np.float32(more), 0, 1)
    result: Array = np.where(value > 0, picture / np.maximum(value, 1e-6), 1) * brighter
    return result


def _spatter(picture: Array, strength: tuple[float, ...], rng: Rng, scale: float) -> Array:
    """Drops of water, at severities 4 and 5 of mud, where smoothed noise exceeds a level."""
    mean, spread, sigma, least, soft, mud = strength
    noise = rng.normal(mean, spread, (*_published(*picture.shape[:2]), 1)).astype(np.float32)
    noise = blurred(noise, sigma)
    if mud:
        cover = blurred((noise > least).astype(np.float32), soft)
        cover = np.where(cover < 0.8, 0, cover)
    else:
        cover = np.clip((noise - least) / 0.05, 0, 1) * np.float32(soft)
    colour = np.array([63, 42, 20] if mud else [175, 238, 238], np.float32) / 255
    cover = scaled(cover[..., 0], *picture.shape[:2])[..., None]
    whole: Array = picture * (1 - cover) + colour * cover
    return whole


# ---- digital ----


def _contrast(picture: Array, kept: float, rng: Rng, scale: float) -> Array:
    mean = picture.mean((0, 1), keepdims=True)
    result: Array = (picture - mean) * np.float32(kept) + mean
    return result


def _elastic(picture: Array, strength: tuple[float, float, float], rng: Rng, scale: float) -> Array:
    alpha, sigma, bend = (part * min(picture.shape[:2]) for part in strength)
    height, width = picture.shape[:2]
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    # An affine map is defined by the random moves of three corners of a centred square.
    centre, third = np.array([height, width]) / 2, min(height, width) / 3
    before = np.array([[third, third], [third, -third], [-third, -third]])
    after = before + rng.uniform(-bend, bend, before.shape)
    ones = np.ones((3, 1))
    matrix = np.linalg.solve(np.hstack([after, ones]), before)  # (3, 2): from output to input positions
    down, across = rows - centre[0], columns - centre[1]
    taken = [down * matrix[0, i] + across * matrix[1, i] + matrix[2, i] + centre[i] for i in (0, 1)]
    taken = [position + alpha * smooth_noise(height, width, sigma, rng) for position in taken]
    mapped = scipy("ndimage").map_coordinates
    return np.stack([mapped(picture[..., c], taken, order=1, mode="reflect") for c in range(3)], axis=-1)


def _pixelate(picture: Array, fraction: float, rng: Rng, scale: float) -> Array:
    image, box = _image(picture), Image.Resampling.BOX
    small = image.resize((max(1, int(image.width * fraction)), max(1, int(image.height * fraction))), box)
    return np.asarray(small.resize(image.size, box), dtype=np.float32) / 255


def _jpeg(picture: Array, quality: int, rng: Rng, scale: float) -> Array:
    buffer = io.BytesIO()
    _image(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), dtype=np.float32) / 255


def _saturate(picture: Array, strength: tuple[float, float], rng: Rng, scale: float) -> Array:
    """Multiply HSV's saturation by a factor and add an offset; hue and value are kept."""
    factor, more = strength
    value = picture.max(-1, keepdims=True)
    least = picture.min(-1, keepdims=True)
    before = (value - least) / np.maximum(value, 1e-6)
    after = np.clip(before * factor + more, 0, 1)
    ratio = np.where(before > 1e-6, after / np.maximum(before, 1e-6), 0)
    result: Array = value - (value - picture) * ratio
    return result


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption(_gaussian, (0.08, 0.12, 0.18, 0.26, 0.38), "noise"),
    "shot_noise": Corruption(_shot, (60, 25, 12, 5, 3), "noise"),
    "impulse_noise": Corruption(_impulse, (0.03, 0.06, 0.09, 0.17, 0.27), "noise"),
    "defocus_blur": Corruption(_defocus, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)), "blur"),
    "glass_blur": Corruption(
        _glass, ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2)), "blur"
    ),
    "motion_blur": Corruption(_motion, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)), "blur"),
    "zoom_blur": Corruption(
        _zoom, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)), "blur"
    ),
    "snow": Corruption(
        _snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
        "weather",
    ),
    "frost": Corruption(_frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)), "weather"),
    "fog": Corruption(_fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)), "weather"),
    "brightness": Corruption(_brightness, (0.1, 0.2, 0.3, 0.4, 0.5), "weather"),
    "contrast": Corruption(_contrast, (0.4, 0.3, 0.2, 0.1, 0.05), "digital"),
    "elastic": Corruption(
        _elastic,
        # Strength and width of the waves, and range of the corners' moves, as fractions of the side.
        ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02), (0.12, 0.01, 0.02)),
        "digital",
    ),
    "pixelate": Corruption(_pixelate, (0.6, 0.5, 0.4, 0.3, 0.25), "digital"),
    "jpeg": Corruption(_jpeg, (25, 18, 15, 10, 7), "digital"),
    "speckle_noise": Corruption(_speckle, (0.15, 0.2, 0.35, 0.45, 0.6), "extra"),
    "gaussian_blur": Corruption(_soften, (1, 2, 3, 4, 6), "extra"),
    "spatter": Corruption(
        _spatter,
        (
            (0.65, 0.3, 4, 0.69, 0.6, 0),
            (0.65, 0.3, 3, 0.68, 0.6, 0),
            (0.65, 0.3, 2, 0.68, 0.5, 0),
            (0.65, 0.3, 1, 0.65, 1.5, 1),
            (0.67, 0.4, 1, 0.65, 1.5, 1),
        ),
        "extra",
    ),
    "saturate": Corruption(_saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)), "extra"),
}
# The fifteen that are measured by default.
STANDARD = tuple(name for name, corruption in CORRUPTIONS.items() if corruption.kind != "extra")
