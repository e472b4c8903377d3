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
SAME = 0.9999  # cosine of different pictures that no working encoder reaches
CLOSE = 0.98  # least cosine: half precision and 8-bit weights stay above it, another model does not


def pictures() -> list[Image.Image]:
    """Two fixed pictures with edges, colours and gradients, (96 x 128) pixels."""
    y, x = np.mgrid[0:96, 0:128].astype(np.float64)  # (96, 128)
    rings = np.stack(
        [np.hypot(x - c, y - 48) * s % m for c, s, m in ((30, 3, 256), (64, 5, 99), (99, 7, 50))], -1
    )
    board = np.stack([(x // 16 + y // 12) % 2 * 64, 128 + x % 128, 160 + y % 96], -1)
    return [Image.fromarray(pixels.astype(np.uint8)) for pixels in (rings, board)]


def golden_rows(encoder: Encoder) -> FloatArray:
    """Rows of the two pictures, then of the two texts, (4, dim) float32.

    Raises
    ------
    CatalogError
        Both pictures get one vector, or a row is not of length one.
    """
    rows = np.concatenate([encoder.encode_images(pictures()), encoder.encode_texts(TEXTS)])
    lengths = np.linalg.norm(rows, axis=1)
    if not np.allclose(lengths, 1, atol=0.01) or rows[0] @ rows[1] > SAME:
        raise CatalogError(
            f"this encoder is not fit for a catalogue: two different pictures have the cosine "
            f"{float(rows[0] @ rows[1]):.4f}, and its rows have the lengths {lengths.round(3).tolist()}, "
            "expected 1. Try another --device, --runtime or --precision"
        )
    return rows


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
            f"{CLOSE} or more), though it has the same identity: a driver, a runtime or a library has "
            "changed. Try another --device, --runtime or --precision, or embed again with --reembed"
        )


def check_pictures(encoder: Encoder, kept: FloatArray) -> None:
    """Ask the encoder for the golden pictures again; CatalogError where the rows differ."""
    check_rows(encoder.encode_images(pictures()), kept[:2], what="rows of pictures")


def encode_checked(encoder: Encoder, texts: Sequence[str], kept: FloatArray) -> FloatArray:
    """Rows of texts, (N, dim), made in one call with the golden texts, which are checked."""
    rows = encoder.encode_texts([*texts, *TEXTS])
    check_rows(rows[len(texts) :], kept[2:], what="rows of texts")
    return rows[: len(texts)]
