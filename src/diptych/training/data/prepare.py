"""Crop decoded images and choose one caption each: the last stage of a worker.

All random choices depend on the visit numbers alone, so any worker may make them at any time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from diptych.training.data.augment import (
    CAPTION,
    COLUMNS,
    FLIP,
    AugmentConfig,
    crop,
    crop_boxes,
    drop_words_of,
)
from diptych.training.data.image_cache import Pixels
from diptych.training.data.order import UInts, uniforms

DecodedPair = tuple[Pixels, tuple[str, ...]]  # a decoded image and its captions, at least one


def crop_pairs(
    pairs: Sequence[DecodedPair], numbers: UInts, augment: AugmentConfig | None, side: int
) -> tuple[Tensor, list[str], list[str]]:
    """Crop images and choose captions.

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
    random = uniforms(numbers, COLUMNS)  # (B, COLUMNS): the columns are named in `augment.py`
    sizes = np.array([image.shape[:2] for image in pixels], np.int64).reshape(-1, 2)
    mirrored = random[:, FLIP] < (0.0 if augment is None else augment.flip)
    chosen = [
        captions[0 if augment is None else int(value * len(captions))]
        for (_, captions), value in zip(pairs, random[:, CAPTION].tolist(), strict=True)
    ]
    shortened = chosen
    if augment is not None and augment.drop_words:
        shortened = [
            drop_words_of(caption, numbers[n : n + 1], augment.drop_words) for n, caption in enumerate(chosen)
        ]
    return crop(pixels, crop_boxes(sizes, random, augment), side, mirrored), shortened, chosen
