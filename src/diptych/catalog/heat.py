"""Which patches of a picture the words fit: a map of the picture, and the map laid over it.

An encoder that gives a row for every patch is asked how near each patch is to the query. Some patches are
near to whatever is asked (CLIP's towers keep global matters in quiet corners), so from each patch's cosine
its mean over the background texts is taken: what is left is what this query finds there and others do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diptych.encoder import PatchEncoder
from diptych.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import Encoder, FloatArray

WARM = np.array([255, 72, 0], np.float32)  # colour of what fits best
MOST = 0.72  # its share at most, so that the picture stays visible


def heat_map(encoder: Encoder, image: Image.Image, query: FloatArray, background: FloatArray) -> FloatArray:
    """How well each patch fits, from 0 to 1.

    Parameters
    ----------
    encoder : Encoder
        One that has `encode_patches`.
    image : PIL.Image.Image
        Upright RGB.
    query : (dim,) float32
    background : (B, dim) float32
        Rows of texts about anything.

    Returns
    -------
    ndarray of float32, shape (h, w)
        Of the square the model sees; its least patch is 0, its best 1.

    Raises
    ------
    InputError
        The encoder gives no patches.
    """
    if not isinstance(encoder, PatchEncoder):
        raise InputError(
            f"{type(encoder).__name__} gives no rows of patches, so it cannot say where in a picture the "
            "words fit: use the model itself, not an exported one"
        )
    patches = encoder.encode_patches([image])[0]  # (h, w, dim)
    fit = patches @ query - patches @ background.mean(0)  # (h, w)
    low, high = float(fit.min()), float(fit.max())
    scaled: FloatArray = ((fit - low) / max(high - low, 1e-9)).astype(np.float32)
    return scaled


def overlay(image: Image.Image, heat: FloatArray, *, square: bool = True) -> Image.Image:
    """The picture in grey, the map over it in one warm colour.

    Parameters
    ----------
    image : PIL.Image.Image
    heat : (h, w) float32
        From 0 to 1.
    square : bool
        The map belongs to the middle square, which is what a model of preprocessing "shortest" sees; else to
        the whole picture.
    """
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side) if square else (0, 0, *image.size)
    size = (box[2] - box[0], box[3] - box[1])
    small = Image.fromarray((heat * 255).round().astype(np.uint8))
    shares: NDArray[np.float32] = np.zeros((image.height, image.width, 1), np.float32)  # (H, W, 1)
    grown = np.asarray(small.resize(size, Image.Resampling.BICUBIC), np.float32) / 255
    shares[box[1] : box[3], box[0] : box[2], 0] = grown**2 * MOST  # squared: what hardly fits stays quiet
    grey = np.asarray(image.convert("L"), np.float32)[..., None]  # (H, W, 1)
    base = 0.65 * grey + 0.35 * np.asarray(image, np.float32)  # (H, W, 3)
    mixed = base * (1 - shares) + WARM * shares
    return Image.fromarray(mixed.round().astype(np.uint8))
