"""Decoded pictures and their captions to crops and one caption each: what a worker does last.

Everything by chance hangs on the visits' numbers, so it does not matter who does it, where and when.
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
    leave_out_words,
)
from diptych.training.data.order import UInts, uniforms
from diptych.training.data.pictures import Pixels

Found = tuple[Pixels, tuple[str, ...]]  # a decoded picture and its captions, at least one


def prepare(
    found: Sequence[Found], numbers: UInts, augment: AugmentConfig | None, side: int
) -> tuple[Tensor, list[str], list[str]]:
    """Crop pictures and choose captions.

    Parameters
    ----------
    found : B pairs of pixels and captions
    numbers : (B,) uint64
        The visits' numbers.
    augment : AugmentConfig or None
        None takes the middle square and the first caption.
    side : int
        Of the crops, pixels.

    Returns
    -------
    crops : (B, 3, side, side) uint8
    captions : list of str
        As they are to be read.
    whole : list of str
        With the words that were left out by chance.
    """
    pixels = [picture for picture, _ in found]
    draws = uniforms(numbers, COLUMNS)
    sizes = np.array([picture.shape[:2] for picture in pixels], np.int64).reshape(-1, 2)
    mirrored = draws[:, FLIP] < (0.0 if augment is None else augment.flip)
    chosen = [
        captions[0 if augment is None else int(draw * len(captions))]
        for (_, captions), draw in zip(found, draws[:, CAPTION].tolist(), strict=True)
    ]
    read = chosen
    if augment is not None and augment.drop_words:
        read = [
            leave_out_words(caption, numbers[n : n + 1], augment.drop_words)
            for n, caption in enumerate(chosen)
        ]
    return crop(pixels, crop_boxes(sizes, draws, augment), side, mirrored), read, chosen
