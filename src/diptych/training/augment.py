"""Training augmentation: crops on uint8 pictures, colours on whole batches, every choice from the visit's number.

Shapes: B pictures, S side in pixels. No global random state is read; `order.uniforms` gives each visit its row of
numbers, so a picture's augmentation depends on nothing but seed, epoch and key. What is evaluated later is
preprocessed by `diptych.inputs`, not here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from diptych.errors import DataError
from diptych.training.order import UInts, uniforms
from diptych.training.pictures import Pixels

Floats = NDArray[np.float64]

ATTEMPTS = 10  # crops tried before the fallback, as in torchvision
# Columns of a visit's row of uniform numbers.
CAPTION, FLIP, COLOUR, BRIGHTNESS, CONTRAST, SATURATION, HUE, GREY, ERASE = range(9)
ERASE_AREA, ERASE_RATIO, ERASE_TOP, ERASE_LEFT, ANGLE = range(9, 14)
CROPS = 14
COLUMNS = CROPS + 2 * ATTEMPTS + 2

_LUMA = torch.tensor([0.299, 0.587, 0.114])
# RGB <-> YIQ, where a turn of the I-Q plane is a change of hue (ITU-R BT.601 luma).
_TO_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What happens to a picture on its way into a batch.

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

    def __post_init__(self) -> None:
        shares = {"flip": self.flip, "grayscale": self.grayscale, "erasing": self.erasing}
        shares["jitter_probability"] = self.jitter_probability
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise DataError(f"augment.{name} is {value}: expected a probability from 0 to 1")
        for name, (low, high) in {"scale": self.scale, "erasing_scale": self.erasing_scale}.items():
            if not 0 < low <= high <= 1:
                raise DataError(f"augment.{name} is {(low, high)}: expected 0 < low <= high <= 1")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise DataError(f"augment.ratio is {self.ratio}: expected 0 < low <= high")
        if len(self.jitter) != 4 or min(self.jitter) < 0 or max(self.jitter[:3]) > 1 or self.jitter[3] > 0.5:
            raise DataError(
                f"augment.jitter is {self.jitter}: expected (brightness, contrast, saturation) from 0 to 1 and hue "
                "from 0 to 0.5"
            )


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
        return np.stack([*((sizes - side[:, None]) // 2).T, side, side], axis=1)
    share = _between(draws[:, CROPS : CROPS + ATTEMPTS], *config.scale)  # (B, ATTEMPTS)
    ratio = np.exp(_between(draws[:, CROPS + ATTEMPTS : CROPS + 2 * ATTEMPTS], *np.log(config.ratio)))
    area = share * sizes.prod(axis=1)[:, None]
    shapes = np.rint(np.sqrt(np.stack([area / ratio, area * ratio], axis=2))).astype(
        np.int64
    )  # (B, ATTEMPTS, 2)
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
    return np.maximum(np.stack([narrow, wide], axis=1), 1)


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
    out = torch.empty((len(pixels), 3, side, side), dtype=torch.uint8, memory_format=torch.channels_last)
    for n, (picture, (top, left, height, width)) in enumerate(zip(pixels, boxes.tolist(), strict=True)):
        whole = torch.from_numpy(picture).permute(2, 0, 1).unsqueeze(0)  # (1, 3, H, W), channels last
        part = whole[:, :, top : top + height, left : left + width]
        out[n] = F.interpolate(part, (side, side), mode="bicubic", antialias=True)[0]
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
    (B, 3, S, S) float32
    """
    device = images.device
    colours = images.permute(0, 2, 3, 1).flatten(1, 2).float().div_(255)  # (B, S*S, 3)
    side = images.shape[-1]
    if config is not None:
        draws = uniforms(numbers, COLUMNS)
        colours = _jitter(colours, draws, config)
    colours = colours.sub_(torch.tensor(mean, device=device)).div_(torch.tensor(std, device=device))
    out = colours.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (B, 3, S, S), channels last
    if config is not None and config.rotation > 0:
        out = _rotate(out, _between(draws[:, ANGLE], -config.rotation, config.rotation))
    if config is not None and config.erasing > 0:
        out = _erase(out, draws, config)
    return out


def _jitter(colours: Tensor, draws: Floats, config: AugmentConfig) -> Tensor:
    """Brightness, then contrast about the mean grey, then saturation and hue: one 3x3 matrix per picture."""
    grey = draws[:, GREY] < config.grayscale
    if not any(config.jitter) and not grey.any():
        return colours
    on = draws[:, COLOUR] < config.jitter_probability
    brightness, contrast, saturation = (
        torch.from_numpy(np.where(on, _between(draws[:, column], 1 - width, 1 + width), 1.0)).float()
        for column, width in zip((BRIGHTNESS, CONTRAST, SATURATION), config.jitter, strict=False)
    )
    angle = np.where(on, _between(draws[:, HUE], -config.jitter[3], config.jitter[3]), 0.0) * 2 * math.pi
    saturation = torch.where(torch.from_numpy(grey), 0.0, saturation)
    matrix = _turn(saturation, torch.from_numpy(angle).float()) * (brightness * contrast)[:, None, None]
    # Saturation and hue leave greys alone, so the mean grey may be added after them.
    middle = (colours.mean(1) @ _LUMA.to(colours.device)) * brightness.to(colours.device)  # (B,)
    shift = (1 - contrast).to(colours.device) * middle
    changed = torch.baddbmm(shift[:, None, None], colours, matrix.mT.to(colours.device))
    return changed.clamp_(0, 1)


def _turn(saturation: Tensor, angle: Tensor) -> Tensor:
    """Scale and turn colour about the grey axis: (B, 3, 3)."""
    cos, sin = saturation * angle.cos(), saturation * angle.sin()
    turn = torch.zeros(len(angle), 3, 3)
    turn[:, 0, 0] = 1
    turn[:, 1, 1], turn[:, 1, 2], turn[:, 2, 1], turn[:, 2, 2] = cos, -sin, sin, cos
    result: Tensor = torch.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ
    return result


def _erase(images: Tensor, draws: Floats, config: AugmentConfig) -> Tensor:
    side = images.shape[-1]
    on = draws[:, ERASE] < config.erasing
    area = _between(draws[:, ERASE_AREA], *config.erasing_scale) * side * side
    ratio = np.exp(_between(draws[:, ERASE_RATIO], *np.log((0.5, 2.0))))
    shape = np.clip(np.rint(np.sqrt(np.stack([area / ratio, area * ratio], 1))), 1, side)  # (B, 2)
    start = np.floor(draws[:, [ERASE_TOP, ERASE_LEFT]] * (side - shape + 1))
    at = np.arange(side)
    inside = (at >= start[:, :, None]) & (at < (start + shape)[:, :, None])  # (B, 2, S)
    box = inside[:, 0, :, None] & inside[:, 1, None, :] & on[:, None, None]  # (B, S, S)
    # After normalisation 0 is the mean colour.
    return images.masked_fill_(torch.from_numpy(box).to(images.device)[:, None], 0.0)


def _rotate(images: Tensor, degrees: Floats) -> Tensor:
    angle = torch.from_numpy(np.deg2rad(degrees)).float()
    zero = torch.zeros_like(angle)
    rows = [angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero]
    turn = torch.stack(rows, 1).view(-1, 2, 3).to(images.device)
    grid = F.affine_grid(turn, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _between(uniform: Floats, low: float, high: float) -> Floats:
    return low + (high - low) * uniform
