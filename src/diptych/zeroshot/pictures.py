"""What a classifier accepts as pictures: paths, bytes, open pictures, lists of these, or vectors.

They go through `diptych.embedding.batches`; here a picture that cannot be read raises. For failures told one
by one and for progress, hand in vectors made there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from diptych.embedding.batches import collect, embed_images
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.media import Source
from diptych.zeroshot.scoring import Floats, unit

Pictures: TypeAlias = Source | Iterable[Source] | NDArray[np.floating]


def vectors(encoder: Encoder, images: Pictures, *, batch_size: int, exact: bool) -> Floats:
    """Unit rows of the pictures, (N, dim); an array is taken for vectors already.

    Raises
    ------
    InputError
        An array that is not (N, dim) or (dim,) numbers, or something that is no picture.
    ImageError
        A picture that cannot be read.
    """
    if isinstance(images, np.ndarray):
        return _rows(images, encoder.dim)
    if not _is_one(images) and not isinstance(images, Iterable):
        raise InputError(
            f"pictures came as {type(images).__name__}: expected a path, a picture, a list, or vectors"
        )
    several = [images] if _is_one(images) else cast("Iterable[Source]", images)
    items = ((str(number), one) for number, one in enumerate(several))
    stream = embed_images(encoder, items, batch_size=batch_size, exact=exact, strict=True)
    return collect(stream, encoder.dim).vectors


def _is_one(images: object) -> TypeGuard[Source]:
    """One picture rather than several: an open file is iterable too, line by line."""
    return isinstance(images, str | Path | bytes | Image) or hasattr(images, "read")


def _rows(array: NDArray[np.floating], dim: int) -> Floats:
    if array.ndim not in (1, 2) or array.shape[-1] != dim or not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"an array of shape {array.shape} and type {array.dtype}: expected vectors of this encoder, "
            f"(N, {dim}) floats; for pixels use PIL.Image.fromarray"
        )
    if not np.isfinite(array).all():
        raise InputError("the vectors hold numbers that are not finite (NaN or infinity)")
    return unit(np.atleast_2d(array))
