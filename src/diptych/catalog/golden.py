"""Golden vectors: what an encoder made of fixed pictures and texts when a space was begun.

A catalogue keeps them and asks again at opening: weights, preprocessing, a driver or a runtime that changed
show here and not in odd results (an encoder that gives every picture one vector has gone unnoticed
elsewhere for weeks).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diptych.encoder import Encoder
from diptych.errors import CatalogError

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

TEXTS = ("a dog on a beach", "two red cars in the snow")
CLOSE = 0.98  # least cosine: half precision and 8-bit weights stay above it, another model does not


def pictures() -> list[Image.Image]:
    """Two fixed pictures with edges, colours and gradients, (96 x 128) pixels."""
    y, x = np.mgrid[0:96, 0:128].astype(np.float64)  # (96, 128)
    rings = np.stack([np.hypot(x - c, y - 48) * s % 256 for c, s in ((30, 3), (64, 5), (100, 7))], -1)
    board = np.stack([(x // 16 + y // 12) % 2 * 255, x * 2, y * 2.6], -1)
    return [Image.fromarray(pixels.astype(np.uint8)) for pixels in (rings, board)]


def golden_rows(encoder: Encoder) -> FloatArray:
    """Rows of the two pictures, then of the two texts, (4, dim) float32."""
    return np.concatenate([encoder.encode_images(pictures()), encoder.encode_texts(TEXTS)])


def check_rows(now: FloatArray, kept: FloatArray, *, what: str) -> None:
    """Compare rows made now with those that were kept.

    Raises
    ------
    CatalogError
        They are not the same vectors.
    """
    cosines = np.einsum("nd,nd->n", now, kept)
    if not (cosines >= CLOSE).all():  # NaN too
        least = float(np.nan_to_num(cosines, nan=-1).min())
        raise CatalogError(
            f"this encoder no longer makes the {what} that the catalogue holds (cosine {least:.3f}, expected "
            f"{CLOSE} or more), though it has the same identity: a driver, a runtime or a library has changed. "
            "Try another --device, --runtime or --precision, or embed again with --reembed"
        )


def check_pictures(encoder: Encoder, kept: FloatArray) -> None:
    """Ask the encoder for the golden pictures again; CatalogError where the rows differ."""
    check_rows(encoder.encode_images(pictures()), kept[:2], what="rows of pictures")


def encode_checked(encoder: Encoder, texts: Sequence[str], kept: FloatArray) -> FloatArray:
    """Rows of texts, (N, dim), made in one call with the golden texts, which are checked."""
    rows = encoder.encode_texts([*texts, *TEXTS])
    check_rows(rows[len(texts) :], kept[2:], what="rows of texts")
    return rows[: len(texts)]
