"""The evaluation transform: an RGB picture to the square of numbers the image encoder sees.

The same as torchvision's Resize, CenterCrop, ToTensor and Normalize on a Pillow picture, without torchvision.
Decoding, orientation and colours are left to `diptych.media`, augmentation to `diptych.training.data`.
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
    """One picture as the encoder sees it.

    Parameters
    ----------
    image : PIL.Image.Image
        In mode RGB, upright, as `diptych.media.load_image` gives it.
    config : PreprocessConfig, optional
        By default CLIP's at 224 pixels.

    Returns
    -------
    ndarray of float32, shape (3, size, size)

    Raises
    ------
    ImageError
        The picture is not RGB or has no pixels.

    Examples
    --------
    >>> preprocess(Image.new("RGB", (640, 480)), PreprocessConfig(size=32)).shape
    (3, 32, 32)
    """
    config = config or PreprocessConfig()
    row = np.empty((3, config.size, config.size), dtype=np.float32)
    _fill(image, row, config)
    return row


def preprocess_batch(
    images: Sequence[Image.Image], config: PreprocessConfig | None = None, *, threads: int | None = None
) -> FloatArray:
    """Several pictures at once, resized on several cores (Pillow lets go of the interpreter meanwhile).

    Parameters
    ----------
    images : sequence of PIL.Image.Image
        In mode RGB, of any sizes.
    config : PreprocessConfig, optional
        By default CLIP's at 224 pixels.
    threads : int, optional
        By default one for each core.

    Returns
    -------
    ndarray of float32, shape (N, 3, size, size)
    """
    config = config or PreprocessConfig()
    batch = np.empty((len(images), 3, config.size, config.size), dtype=np.float32)  # (N, 3, S, S)
    workers = min(threads or processors(), len(images))
    if workers <= 1:
        for image, row in zip(images, batch, strict=True):
            _fill(image, row, config)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda image, row: _fill(image, row, config), images, batch))
    return batch


def _fill(image: Image.Image, row: FloatArray, config: PreprocessConfig) -> None:
    """Write one picture into its row, (3, S, S)."""
    pixels = np.asarray(_square(image, config))  # (S, S, 3) uint8
    for channel, table in enumerate(_normalised(config)):
        np.take(table, pixels[:, :, channel], out=row[channel], mode="clip")


def _square(image: Image.Image, config: PreprocessConfig) -> Image.Image:
    """Resized to size x size; cropped at the centre, or with a border, where the config says so."""
    if image.mode != "RGB":
        raise ImageError(
            f"expected an RGB picture, got mode {image.mode}: diptych.media.load_image gives RGB"
        )
    width, height = image.size
    if not (width and height):
        raise ImageError(f"a picture of {width} x {height} pixels has nothing to see")
    size, resample = config.size, _FILTERS[config.interpolation]
    if config.resize == "squash":
        return image.resize((size, size), resample)
    if config.resize == "longest":
        ratio = max(width, height) / size
        across, down = max(1, round(width / ratio)), max(1, round(height / ratio))
        square = Image.new("RGB", (size, size), (config.fill_color,) * 3)
        square.paste(image.resize((across, down), resample), ((size - across) // 2, (size - down) // 2))
        return square
    short = min(width, height)
    across, down = int(size * width / short), int(size * height / short)  # torchvision cuts off the fraction
    left, top = round((across - size) / 2), round((down - size) / 2)  # to even, as torchvision does
    if max(across, down) <= 64 * size:
        resized = image.resize((across, down), resample)
        return resized.crop((left, top, left + size, top + size))
    # A strip of 1 x 100,000 pixels would become one of 224 x 22,400,000: compute the crop alone, which may
    # differ from the two steps by one grey level.
    x, y = width / across, height / down
    return image.resize((size, size), resample, box=(left * x, top * y, (left + size) * x, (top + size) * y))


@lru_cache(maxsize=32)
def _normalised(config: PreprocessConfig) -> NDArray[np.float32]:
    """What each of a channel's 256 values becomes, (3, 256): exact, and no arithmetic per picture."""
    values = np.arange(256, dtype=np.float32)[None] / np.float32(255)  # (1, 256)
    mean = np.asarray(config.mean, dtype=np.float32)[:, None]  # (3, 1)
    std = np.asarray(config.std, dtype=np.float32)[:, None]  # (3, 1)
    return (values - mean) / std


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS or Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
