"""Training augmentation: crops on uint8 pictures, colours on whole batches.

Shapes: B pictures, S side in pixels. No global random state is read; `order.uniforms` gives each visit its
row of numbers, so a picture's augmentation depends on nothing but seed, epoch and key. Preprocessing for
evaluation is the work of `diptych.inputs`.
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
from diptych.training.data.order import UInts, uniforms
from diptych.training.data.pictures import Pixels

Floats = NDArray[np.float64]

ATTEMPTS = 10  # crops tried before the fallback, as in torchvision
# Columns of a visit's row of uniform numbers.
CAPTION, FLIP, COLOUR, BRIGHTNESS, CONTRAST, SATURATION, HUE, GREY, ERASE = range(9)
ERASE_AREA, ERASE_RATIO, ERASE_TOP, ERASE_LEFT, ANGLE = range(9, 14)
CROPS = 14
COLUMNS = CROPS + 2 * ATTEMPTS + 2

_LUMA = np.array([0.299, 0.587, 0.114])
# RGB <-> YIQ, where a turn of the I-Q plane is a change of hue (ITU-R BT.601 luma).
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What happens to a picture on its way into a batch, and to its caption.

    The defaults are the paper's: a random resized crop that is nearly the whole picture, nothing else.
    """

    scale: tuple[float, float] = (0.9, 1.0)  # share of the area that a crop keeps
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width over height of a crop, before it is made square
    flip: float = 0.0  # probability of a mirror image
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)  # brightness, contrast, saturation, hue
    jitter_probability: float = 0.8
    grayscale: float = 0.0  # probability
    erasing: float = 0.0  # probability that a box is painted over with the mean colour
    erasing_scale: tuple[float, float] = (0.02, 0.2)  # the box's share of the area
    rotation: float = 0.0  # largest turn in degrees, either way
    drop_words: float = 0.0  # probability that a word of the caption is left out; one word always stays

    def __post_init__(self) -> None:
        shares = {"flip": self.flip, "grayscale": self.grayscale, "erasing": self.erasing}
        shares["drop_words"] = self.drop_words
        shares["jitter_probability"] = self.jitter_probability
        for name, value in shares.items():
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


def leave_out_words(caption: str, number: UInts, probability: float) -> str:
    """Leave out some words of a caption (Wei and Zou 2019, arXiv 1901.11196), by its visit's number (1,).

    Examples
    --------
    >>> leave_out_words("a dog runs in the snow", np.array([7], np.uint64), 0.3)
    'dog runs the snow'
    """
    words = caption.split()
    draws = uniforms(number, COLUMNS + len(words))[0, COLUMNS:]
    kept = draws >= probability
    kept[draws.argmax()] = True
    return " ".join(word for word, keep in zip(words, kept, strict=True) if keep)


def crop_boxes(sizes: NDArray[np.int64], draws: Floats, config: AugmentConfig | None) -> NDArray[np.int64]:
    """Choose each picture's crop.

    Parameters
    ----------
    sizes : (B, 2) int64
        Height and width.
    draws : (B, COLUMNS)
        Uniform numbers of the visits.
    config : AugmentConfig or None
        None takes the largest square in the middle.

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
    share = _between(draws[:, CROPS : CROPS + ATTEMPTS], *config.scale)  # (B, ATTEMPTS)
    ratio = np.exp(_between(draws[:, CROPS + ATTEMPTS : CROPS + 2 * ATTEMPTS], *np.log(config.ratio)))
    area = share * sizes.prod(axis=1)[:, None]
    exact = np.sqrt(np.stack([area / ratio, area * ratio], axis=2))  # (B, ATTEMPTS, 2)
    shapes = np.rint(exact).astype(np.int64)
    fits = ((shapes > 0) & (shapes <= sizes[:, None, :])).all(axis=2)
    rows = np.arange(len(sizes))
    shape = shapes[rows, fits.argmax(axis=1)]
    offset = np.floor(draws[:, -2:] * (sizes - shape + 1)).astype(np.int64)
    none = ~fits.any(axis=1)
    shape[none] = _fallback(sizes[none], config.ratio)
    offset[none] = (sizes[none] - shape[none]) // 2
    return np.concatenate([offset, shape], axis=1)


def _fallback(sizes: NDArray[np.int64], ratio: tuple[float, float]) -> NDArray[np.int64]:
    """As much of the picture as the ratio allows."""
    height, width = sizes[:, 0], sizes[:, 1]
    narrow = np.minimum(height, np.rint(width / ratio[0]).astype(np.int64))
    wide = np.minimum(width, np.rint(height * ratio[1]).astype(np.int64))
    shapes: NDArray[np.int64] = np.maximum(np.stack([narrow, wide], axis=1), 1)
    return shapes


def crop(
    pixels: Sequence[Pixels], boxes: NDArray[np.int64], side: int, mirrored: NDArray[np.bool_]
) -> Tensor:
    """Cut the boxes out and bring them to one side: bicubic with antialiasing.

    Parameters
    ----------
    pixels : B arrays of (H, W, 3) uint8
    boxes : (B, 4)
    side : int
    mirrored : (B,) bool

    Returns
    -------
    (B, 3, side, side) uint8, channels last in memory
        torch has a vectorised kernel for that layout; it is why the arrays are not transposed first.
    """
    pieces = []
    for picture, (top, left, height, width) in zip(pixels, boxes.tolist(), strict=True):
        # Cut and turned in NumPy, which takes a tenth of torch's time for it.
        part = picture[top : top + height, left : left + width].transpose(2, 0, 1)[None]  # (1, 3, H, W)
        pieces.append(F.interpolate(torch.from_numpy(part), (side, side), mode="bicubic", antialias=True))
    out = torch.cat(pieces) if pieces else torch.empty((0, 3, side, side), dtype=torch.uint8)
    flips = torch.from_numpy(mirrored)
    if mirrored.any():
        out[flips] = out[flips].flip(3)
    return out


def finish(
    images: Tensor, numbers: UInts, config: AugmentConfig | None, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Change the colours and normalise a batch.

    Parameters
    ----------
    images : (B, 3, S, S) uint8
        On any device.
    numbers : (B,) uint64
        The visits' numbers.
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
    draws = uniforms(numbers, COLUMNS)
    out = _jitter(planes, draws, config, mean, std).view(-1, 3, side, side)
    if config.rotation > 0:
        out = _rotate(out, _between(draws[:, ANGLE], -config.rotation, config.rotation))
    return _erase(out, draws, config) if config.erasing > 0 else out


def _normalise(planes: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    middle, width = (torch.tensor(values, device=planes.device)[:, None] for values in (mean, std))
    return planes.sub_(255 * middle).div_(255 * width)


def _jitter(
    planes: Tensor, draws: Floats, config: AugmentConfig, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Brightness, contrast about the mean grey, saturation, hue and normalisation: one matrix per picture."""
    grey = draws[:, GREY] < config.grayscale
    if not any(config.jitter) and not grey.any():
        return _normalise(planes, mean, std)
    on = draws[:, COLOUR] < config.jitter_probability
    widths = zip((BRIGHTNESS, CONTRAST, SATURATION), config.jitter, strict=False)
    brightness, contrast, saturation = (
        np.where(on, _between(draws[:, column], 1 - width, 1 + width), 1.0) for column, width in widths
    )
    angle = np.where(on, _between(draws[:, HUE], -config.jitter[3], config.jitter[3]), 0.0) * 2 * np.pi
    middle = planes.mean(2).cpu().double().numpy() @ _LUMA * brightness  # (B,), 0 to 255
    matrix = _turn(np.where(grey, 0.0, saturation), angle) * (brightness * contrast)[:, None, None]
    # Saturation and hue leave greys alone, so the mean grey may be added after them.
    shift = ((1 - contrast) * middle)[:, None] - 255 * np.array(mean)  # (B, 3)
    scale = 1 / (255 * np.array(std))
    out = torch.baddbmm(
        torch.from_numpy((shift * scale)[:, :, None]).to(planes),
        torch.from_numpy(matrix * scale[:, None]).to(planes),
        planes,
    )
    for channel in range(3):  # colours from 0 to 1, seen through the normalisation
        low, high = (0 - mean[channel]) / std[channel], (1 - mean[channel]) / std[channel]
        out[:, channel].clamp_(low, high)
    return out


def _turn(saturation: Floats, angle: Floats) -> Floats:
    """Scale and turn colour about the grey axis: (B, 3, 3)."""
    cos, sin = saturation * np.cos(angle), saturation * np.sin(angle)
    turn = np.zeros((len(angle), 3, 3))
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cos, -sin, sin, cos
    result: Floats = np.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ
    return result


def _erase(images: Tensor, draws: Floats, config: AugmentConfig) -> Tensor:
    side = images.shape[-1]
    chosen = np.flatnonzero(draws[:, ERASE] < config.erasing)
    draws = draws[chosen]
    area = _between(draws[:, ERASE_AREA], *config.erasing_scale) * side * side
    ratio = np.exp(_between(draws[:, ERASE_RATIO], *np.log((0.5, 2.0))))
    shape = np.clip(np.rint(np.sqrt(np.stack([area / ratio, area * ratio], 1))), 1, side)  # (n, 2)
    start = np.floor(draws[:, [ERASE_TOP, ERASE_LEFT]] * (side - shape + 1))
    boxes = np.concatenate([start, start + shape], 1).astype(int)
    for n, (top, left, bottom, right) in zip(chosen.tolist(), boxes.tolist(), strict=True):
        images[n, :, top:bottom, left:right] = 0.0  # the mean colour, after normalisation
    return images


def _rotate(images: Tensor, degrees: Floats) -> Tensor:
    angle = torch.from_numpy(np.deg2rad(degrees)).float()
    zero = torch.zeros_like(angle)
    rows = [angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero]
    turn = torch.stack(rows, 1).view(-1, 2, 3).to(images.device)
    grid = F.affine_grid(turn, list(images.shape), align_corners=False)
    turned: Tensor = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return turned


def _between(uniform: Floats, low: float, high: float) -> Floats:
    return low + (high - low) * uniform
