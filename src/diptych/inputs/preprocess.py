"""Evaluation preprocessing: RGB image to normalised array.

Equal to torchvision's Resize, CenterCrop, ToTensor and Normalize on a PIL image, without torchvision.
Decoding is in `diptych.media`, augmentation in `diptych.training.data`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diptych.errors import ImageError
from diptych.inputs.config import PreprocessConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float32]

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def preprocess(image: Image.Image, config: PreprocessConfig | None = None) -> FloatArray:
    """Preprocess an image for the image encoder.

    Parameters
    ----------
    image : PIL.Image.Image
        In mode RGB, upright, as `diptych.media.load_image` gives it.
    config : PreprocessConfig, optional
        By default that of CLIP with 224 pixels.

    Returns
    -------
    ndarray of float32, shape (3, size, size)

    Raises
    ------
    ImageError
        The image is not RGB or has no pixels.

    Examples
    --------
    >>> preprocess(Image.new("RGB", (640, 480)), PreprocessConfig(size=32)).shape
    (3, 32, 32)
    """
    config = config or PreprocessConfig()
    row = np.empty((3, config.size, config.size), dtype=np.float32)
    _preprocess_into(image, row, config)
    return row


def preprocess_batch(
    images: Sequence[Image.Image], config: PreprocessConfig | None = None, *, threads: int | None = None
) -> FloatArray:
    """Preprocess several images, in several threads (Pillow releases the interpreter lock while resizing).

    Parameters
    ----------
    images : sequence of PIL.Image.Image
        In mode RGB, of any sizes.
    config : PreprocessConfig, optional
        By default that of CLIP with 224 pixels.
    threads : int, optional
        By default one per processor.

    Returns
    -------
    ndarray of float32, shape (N, 3, size, size)
    """
    config = config or PreprocessConfig()
    batch = np.empty((len(images), 3, config.size, config.size), dtype=np.float32)  # (N, 3, S, S)
    workers = min(threads or processors(), len(images))
    if workers <= 1:
        for image, row in zip(images, batch, strict=True):
            _preprocess_into(image, row, config)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda image, row: _preprocess_into(image, row, config), images, batch))
    return batch


def _preprocess_into(image: Image.Image, row: FloatArray, config: PreprocessConfig) -> None:
    """Preprocess an image into a row of a batch, (3, S, S)."""
    pixels = np.asarray(_resize(image, config))  # (S, S, 3) uint8
    for channel, table in enumerate(_normalisation_table(config)):
        np.take(table, pixels[:, :, channel], out=row[channel], mode="clip")


def _resize(image: Image.Image, config: PreprocessConfig) -> Image.Image:
    """Resize to size x size pixels, with a centre crop or padding as configured."""
    if image.mode != "RGB":
        raise ImageError(
            f"expected an RGB picture, got mode {image.mode}: diptych.media.load_image gives RGB"
        )
    width, height = image.size
    if not (width and height):
        raise ImageError(f"a picture of {width} x {height} pixels is empty: expected 1 x 1 or more")
    size, resample = config.size, _FILTERS[config.interpolation]
    if config.resize == "squash":
        return image.resize((size, size), resample)
    if config.resize == "longest":
        ratio = max(width, height) / size
        across, down = max(1, round(width / ratio)), max(1, round(height / ratio))
        padded = Image.new("RGB", (size, size), (config.fill_color,) * 3)
        padded.paste(image.resize((across, down), resample), ((size - across) // 2, (size - down) // 2))
        return padded
    short = min(width, height)
    across, down = int(size * width / short), int(size * height / short)  # truncated, as in torchvision
    left, top = round((across - size) / 2), round((down - size) / 2)  # half to even, as in torchvision
    if max(across, down) <= 64 * size:
        resized = image.resize((across, down), resample)
        return resized.crop((left, top, left + size, top + size))
    # An image of 1 x 100,000 pixels would be resized to 224 x 22,400,000: resize the crop region alone, which
    # may differ from the two steps by one grey level.
    x, y = width / across, height / down
    return image.resize((size, size), resample, box=(left * x, top * y, (left + size) * x, (top + size) * y))


@lru_cache(maxsize=32)
def _normalisation_table(config: PreprocessConfig) -> NDArray[np.float32]:
    """Normalised value of each of the 256 levels of a channel, (3, 256): exact and faster than arithmetic."""
    values = np.arange(256, dtype=np.float32)[None] / np.float32(255)  # (1, 256)
    mean = np.asarray(config.mean, dtype=np.float32)[:, None]  # (3, 1)
    std = np.asarray(config.std, dtype=np.float32)[:, None]  # (3, 1)
    return (values - mean) / std


def processors() -> int:
    """Number of processors available to this process."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS or Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
