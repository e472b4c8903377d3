"""Embeddings of a classifier's input: paths, bytes, PIL images, lists of these, or embeddings.

Images are encoded by `diptych.embedding.batches`; here an unreadable image raises an error. To get a list of
failures or progress, compute the embeddings there and pass them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from diptych.embedding.batches import collect, embed_images
from diptych.encoder import Encoder, normalize
from diptych.errors import InputError
from diptych.media import Source

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

Pictures: TypeAlias = Source | Iterable[Source] | NDArray[np.floating]


def image_embeddings(encoder: Encoder, images: Pictures, *, batch_size: int, exact: bool) -> FloatArray:
    """Normalised embeddings of images, (N, dim); an array is taken as embeddings.

    Raises
    ------
    InputError
        An array that is not (N, dim) or (dim,) floats, or something that is not an image.
    ImageError
        An image that cannot be read.
    """
    if isinstance(images, np.ndarray):
        return _normalised(images, encoder.dim)
    if not _is_single(images) and not isinstance(images, Iterable):
        raise InputError(
            f"pictures came as {type(images).__name__}: expected a path, a picture, a list, or vectors"
        )
    sources = [images] if _is_single(images) else cast("Iterable[Source]", images)
    items = ((str(number), image) for number, image in enumerate(sources))
    stream = embed_images(encoder, items, batch_size=batch_size, exact=exact, strict=True)
    return collect(stream, encoder.dim).vectors


def _is_single(images: object) -> TypeGuard[Source]:
    """Whether this is a single image; an open file is iterable too, line by line."""
    return isinstance(images, str | Path | bytes | Image) or hasattr(images, "read")


def _normalised(array: NDArray[np.floating], dim: int) -> FloatArray:
    if array.ndim not in (1, 2) or array.shape[-1] != dim or not np.issubdtype(array.dtype, np.floating):
        raise InputError(
            f"an array of shape {array.shape} and type {array.dtype}: expected vectors of this encoder, "
            f"(N, {dim}) floats; for pixels use PIL.Image.fromarray"
        )
    if not np.isfinite(array).all():
        raise InputError("the vectors contain NaN or infinity: expected finite numbers")
    return normalize(np.atleast_2d(array))
