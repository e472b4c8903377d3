"""Training augmentation: crops of uint8 images and choice of captions in workers, colours of whole batches.

Shapes: B images, S side in pixels. No global random state is read: `order.uniforms` gives each visit a row of
random numbers, so an image's augmentation depends only on seed, epoch and key. Preprocessing for evaluation
is in `diptych.inputs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import DataError
from diptych.training.data.image_cache import Pixels
from diptych.training.data.order import UInts, uniforms

Floats = NDArray[np.float64]

ATTEMPTS = 10  # crops tried before the fallback, as in torchvision
# Columns of a visit's row of uniform random numbers. Then come the area and the ratio of each crop attempt,
# and the offset of the crop.
CAPTION, FLIP, COLOUR, BRIGHTNESS, CONTRAST, SATURATION, HUE, GREY, ERASE = range(9)
ERASE_AREA, ERASE_RATIO, ERASE_TOP, ERASE_LEFT, ANGLE = range(9, 14)
CROPS = 14
COLUMNS = CROPS + 2 * ATTEMPTS + 2

_LUMA = np.array([0.299, 0.587, 0.114])
# RGB to YIQ (ITU-R BT.601 luma), where a rotation of the I-Q plane changes the hue.
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Augmentation of images and captions.

    The defaults are the paper's: only a random resized crop that is nearly the whole image.
    Names of class and fields are stored in checkpoints.
    """

    scale: tuple[float, float] = (0.9, 1.0)  # share of the area that a crop keeps
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width over height of a crop, before it is made square
    flip: float = 0.0  # probability of a horizontal flip
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # brightness, contrast, saturation, hue
    jitter_probability: float = 0.8
    grayscale: float = 0.0  # probability
    erasing: float = 0.0  # probability that a box is filled with the mean colour
    erasing_scale: tuple[float, float] = (0.02, 0.2)  # the box's share of the area
    rotation: float = 0.0  # largest rotation in degrees, either way
    drop_words: float = 0.0  # probability that a word of the caption is dropped; one word always stays

    def __post_init__(self) -> None:
        probabilities = {"flip": self.flip, "grayscale": self.grayscale, "erasing": self.erasing}
        probabilities["drop_words"] = self.drop_words
        probabilities["jitter_probability"] = self.jitter_probability
        for name, value in probabilities.items():
            if not 0 <= value <= 1:
                raise DataError(f"augment.{name} is {value}: expected a probability from 0 to 1")
        for name, (low, high) in {"scale": self.scale, "erasing_scale": self.erasing_scale}.items():
            if not 0 < low <= high <= 1:
                raise DataError(f"augment.{name} is {(low, high)}: expected 0 < low <= high <= 1")
        if not 0 <= self.rotation <= 180:
            raise DataError(f"augment.rotation is {self.rotation}: expected degrees from 0 to 180")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise DataError(f"augment.ratio is {self.ratio}: expected 0 < low <= high")
        if len(self.jitter) != 4 or min(self.jitter) < 0 or max(self.jitter[:3]) > 1 or self.jitter[3] > 0.5:
            raise DataError(
                f"augment.jitter is {self.jitter}: expected (brightness, contrast, saturation) from 0 to 1 "
                "and hue from 0 to 0.5"
            )


def drop_words_of(caption: str, number: UInts, probability: float) -> str:
    """Drop random words of a caption (Wei and Zou 2019, arXiv 1901.11196); `number` (1,) is its visit's.

    Examples
    --------
    >>> drop_words_of("a dog runs in the snow", np.array([7], np.uint64), 0.3)
    'dog runs the snow'
    """
    words = caption.split()
    random = uniforms(number, COLUMNS + len(words))[0, COLUMNS:]  # one for each word, after the image's
    stays = random >= probability
    stays[random.argmax()] = True
    return " ".join(word for word, keep in zip(words, stays, strict=True) if keep)


def crop_boxes(sizes: NDArray[np.int64], random: Floats, config: AugmentConfig | None) -> NDArray[np.int64]:
    """Choose the crop of each image.

    Parameters
    ----------
    sizes : (B, 2) int64
        Height and width.
    random : (B, COLUMNS)
        Uniform random numbers of the visits.
    config : AugmentConfig or None
        None takes the largest centred square.

    Returns
    -------
    (B, 4) int64
        Top, left, height, width.
    """
    if config is None:
        side = sizes.min(axis=1)
        middle = (sizes - side[:, None]) // 2
        squares: NDArray[np.int64] = np.stack([middle[:, 0], middle[:, 1], side, side], axis=1)
        return squares
    # All attempts at once, as in torchvision's RandomResizedCrop: the first one that fits is taken.
    area_share = _between(random[:, CROPS : CROPS + ATTEMPTS], *config.scale)  # (B, ATTEMPTS)
    ratio = np.exp(_between(random[:, CROPS + ATTEMPTS : CROPS + 2 * ATTEMPTS], *np.log(config.ratio)))
    area = area_share * sizes.prod(axis=1)[:, None]
    exact = np.sqrt(np.stack([area / ratio, area * ratio], axis=2))  # (B, ATTEMPTS, 2)
    shapes = np.rint(exact).astype(np.int64)
    fits = ((shapes > 0) & (shapes <= sizes[:, None, :])).all(axis=2)
    rows = np.arange(len(sizes))
    shape = shapes[rows, fits.argmax(axis=1)]
    offset = np.floor(random[:, -2:] * (sizes - shape + 1)).astype(np.int64)
    none = ~fits.any(axis=1)  # no attempt fits: the largest centred box of an allowed ratio
    shape[none] = _fallback(sizes[none], config.ratio)
    offset[none] = (sizes[none] - shape[none]) // 2
    return np.concatenate([offset, shape], axis=1)


def _fallback(sizes: NDArray[np.int64], ratio: tuple[float, float]) -> NDArray[np.int64]:
    """Shape of the largest box of an allowed ratio, (B, 2)."""
    height, width = sizes[:, 0], sizes[:, 1]
    narrow = np.minimum(height, np.rint(width / ratio[0]).astype(np.int64))
    wide = np.minimum(width, np.rint(height * ratio[1]).astype(np.int64))
    shapes: NDArray[np.int64] = np.maximum(np.stack([narrow, wide], axis=1), 1)
    return shapes


def crop(
    pixels: Sequence[Pixels], boxes: NDArray[np.int64], side: int, mirrored: NDArray[np.bool_]
) -> Tensor:
    """Cut out the boxes and resize them to one side: bicubic with antialiasing.

    Parameters
    ----------
    pixels : B arrays of (H, W, 3) uint8
    boxes : (B, 4)
    mirrored : (B,) bool

    Returns
    -------
    (B, 3, side, side) uint8, channels last in memory
        torch has a vectorised kernel for that layout, so the arrays are not transposed first.
    """
    crops = []
    for image, (top, left, height, width) in zip(pixels, boxes.tolist(), strict=True):
        # Sliced and transposed in NumPy, which takes a tenth of torch's time.
        box = image[top : top + height, left : left + width].transpose(2, 0, 1)[None]  # (1, 3, H, W)
        crops.append(F.interpolate(torch.from_numpy(box), (side, side), mode="bicubic", antialias=True))
    out = torch.cat(crops) if crops else torch.empty((0, 3, side, side), dtype=torch.uint8)
    flips = torch.from_numpy(mirrored)
    if mirrored.any():
        out[flips] = out[flips].flip(3)
    return out


def adjust_colours(
    images: Tensor, numbers: UInts, config: AugmentConfig | None, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Change the colours and normalise a batch.

    Parameters
    ----------
    images : (B, 3, S, S) uint8
        On any device.
    numbers : (B,) uint64
        Visit numbers.
    config : AugmentConfig or None
        None only normalises.
    mean, std : 3 numbers each
        Of the model's preprocessing, for colours from 0 to 1.

    Returns
    -------
    (B, 3, S, S) float32, contiguous
    """
    side = images.shape[-1]
    planes = images.contiguous().flatten(2).float()  # (B, 3, S*S), 0 to 255
    if config is None:
        return _normalise(planes, mean, std).view(-1, 3, side, side)
    random = uniforms(numbers, COLUMNS)
    out = _jitter(planes, random, config, mean, std).view(-1, 3, side, side)
    if config.rotation > 0:
        out = _rotate(out, _between(random[:, ANGLE], -config.rotation, config.rotation))
    return _erase(out, random, config) if config.erasing > 0 else out


def _normalise(planes: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    middle, width = (torch.tensor(values, device=planes.device)[:, None] for values in (mean, std))
    return planes.sub_(255 * middle).div_(255 * width)


def _jitter(
    planes: Tensor, random: Floats, config: AugmentConfig, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Brightness, contrast about the mean grey, saturation, hue and normalisation: one matrix per picture."""
    grey = random[:, GREY] < config.grayscale
    if not any(config.jitter) and not grey.any():
        return _normalise(planes, mean, std)
    on = random[:, COLOUR] < config.jitter_probability
    widths = zip((BRIGHTNESS, CONTRAST, SATURATION), config.jitter, strict=False)
    brightness, contrast, saturation = (
        np.where(on, _between(random[:, column], 1 - width, 1 + width), 1.0) for column, width in widths
    )
    angle = np.where(on, _between(random[:, HUE], -config.jitter[3], config.jitter[3]), 0.0) * 2 * np.pi
    middle = planes.mean(2).cpu().double().numpy() @ _LUMA * brightness  # (B,), 0 to 255
    matrix = (
        _hue_and_saturation(np.where(grey, 0.0, saturation), angle) * (brightness * contrast)[:, None, None]
    )
    # Saturation and hue do not change greys, so the shift of contrast, a grey, may be added after them.
    shift = ((1 - contrast) * middle)[:, None] - 255 * np.array(mean)  # (B, 3)
    scale = 1 / (255 * np.array(std))
    out = torch.baddbmm(
        torch.from_numpy((shift * scale)[:, :, None]).to(planes),
        torch.from_numpy(matrix * scale[:, None]).to(planes),
        planes,
    )
    for channel in range(3):  # limits of 0 and 1 after normalisation
        low, high = (0 - mean[channel]) / std[channel], (1 - mean[channel]) / std[channel]
        out[:, channel].clamp_(low, high)
    return out


def _hue_and_saturation(saturation: Floats, angle: Floats) -> Floats:
    """Matrices that scale saturation and rotate hue about the grey axis: (B, 3, 3)."""
    cos, sin = saturation * np.cos(angle), saturation * np.sin(angle)
    rotation = np.zeros((len(angle), 3, 3))  # in YIQ; Y, the luma, is kept
    rotation[:, 0, 0] = 1
    rotation[:, 1, 1], rotation[:, 1, 2], rotation[:, 2, 1], rotation[:, 2, 2] = cos, -sin, sin, cos
    result: Floats = np.linalg.inv(_TO_YIQ) @ rotation @ _TO_YIQ
    return result


def _erase(images: Tensor, random: Floats, config: AugmentConfig) -> Tensor:
    side = images.shape[-1]
    chosen = np.flatnonzero(random[:, ERASE] < config.erasing)
    random = random[chosen]
    area = _between(random[:, ERASE_AREA], *config.erasing_scale) * side * side
    ratio = np.exp(_between(random[:, ERASE_RATIO], *np.log((0.5, 2.0))))
    shape = np.clip(np.rint(np.sqrt(np.stack([area / ratio, area * ratio], 1))), 1, side)  # (n, 2)
    start = np.floor(random[:, [ERASE_TOP, ERASE_LEFT]] * (side - shape + 1))
    boxes = np.concatenate([start, start + shape], 1).astype(int)
    for n, (top, left, bottom, right) in zip(chosen.tolist(), boxes.tolist(), strict=True):
        images[n, :, top:bottom, left:right] = 0.0  # the mean colour, after normalisation
    return images


def _rotate(images: Tensor, degrees: Floats) -> Tensor:
    angle = torch.from_numpy(np.deg2rad(degrees)).float()
    zero = torch.zeros_like(angle)
    rows = [angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero]
    matrices = torch.stack(rows, 1).view(-1, 2, 3).to(images.device)  # affine, without translation
    grid = F.affine_grid(matrices, list(images.shape), align_corners=False)
    rotated: Tensor = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return rotated


def _between(uniform: Floats, low: float, high: float) -> Floats:
    return low + (high - low) * uniform


DecodedPair = tuple[Pixels, tuple[str, ...]]  # a decoded image and its captions, at least one


def crop_pairs(
    pairs: Sequence[DecodedPair], numbers: UInts, augment: AugmentConfig | None, side: int
) -> tuple[Tensor, list[str], list[str]]:
    """Crop images and choose captions.

    All random choices are functions of the visit numbers, so any worker may make them at any time.

    Parameters
    ----------
    pairs : sequence of B DecodedPair
    numbers : (B,) uint64
        Visit numbers.
    augment : AugmentConfig or None
        None takes the centre crop and the first caption.
    side : int
        Of the crops, in pixels.

    Returns
    -------
    crops : (B, 3, side, side) uint8
    captions : list of str
        With words dropped, for the model.
    full_captions : list of str
        The same captions with all words, by which equal captions are recognised.
    """
    pixels = [image for image, _ in pairs]
    random = uniforms(numbers, COLUMNS)  # (B, COLUMNS); the columns are named above
    sizes = np.array([image.shape[:2] for image in pixels], np.int64).reshape(-1, 2)
    mirrored = random[:, FLIP] < (0.0 if augment is None else augment.flip)
    shortened, chosen = choose_captions([captions for _, captions in pairs], numbers, augment)
    return crop(pixels, crop_boxes(sizes, random, augment), side, mirrored), shortened, chosen


def choose_captions(
    captions: Sequence[Sequence[str]], numbers: UInts, augment: AugmentConfig | None
) -> tuple[list[str], list[str]]:
    """Choose a caption of each record; the same for a visit whatever happens to its picture.

    Returns
    -------
    captions, full_captions : list of str
        As of `crop_pairs`.
    """
    random = uniforms(numbers, CAPTION + 1)[:, CAPTION].tolist()
    chosen = [
        texts[0 if augment is None else int(value * len(texts))]
        for texts, value in zip(captions, random, strict=True)
    ]
    if augment is None or not augment.drop_words:
        return chosen, chosen
    shortened = [
        drop_words_of(caption, numbers[n : n + 1], augment.drop_words) for n, caption in enumerate(chosen)
    ]
    return shortened, chosen
