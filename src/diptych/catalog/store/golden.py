"""Golden embeddings: reference embeddings of fixed images and texts, made when a space is created.

A catalogue stores them, and whenever an encoder is opened for it they are computed again and compared. So a
change of weights, preprocessing, driver or runtime is reported at once instead of showing as odd results.
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
MAX_DISTINCT_COSINE = 0.9999  # above this for two different images, the encoder does not work
MIN_EQUAL_COSINE = 0.98  # float16 and 8-bit weights stay above it, another model does not


def golden_images() -> list[Image.Image]:
    """Draw two fixed images with edges, colours and gradients, 96 x 128 pixels."""
    y, x = np.mgrid[0:96, 0:128].astype(np.float64)  # (96, 128)
    rings = np.stack(
        [np.hypot(x - c, y - 48) * s % m for c, s, m in ((30, 3, 256), (64, 5, 99), (99, 7, 50))], -1
    )
    board = np.stack([(x // 16 + y // 12) % 2 * 64, 128 + x % 128, 160 + y % 96], -1)
    return [Image.fromarray(pixels.astype(np.uint8)) for pixels in (rings, board)]


def golden_embeddings(encoder: Encoder) -> FloatArray:
    """Embed the two golden images, then the two golden texts, (4, dim) float32.

    Raises
    ------
    CatalogError
        Both images get the same embedding, or an embedding is not a unit vector.
    """
    embeddings = np.concatenate([encoder.encode_images(golden_images()), encoder.encode_texts(TEXTS)])
    lengths = np.linalg.norm(embeddings, axis=1)
    image_cosine = float(embeddings[0] @ embeddings[1])
    if not np.allclose(lengths, 1, atol=0.01) or image_cosine > MAX_DISTINCT_COSINE:
        raise CatalogError(
            "this encoder is not fit for a catalogue: two different pictures have the cosine "
            f"{image_cosine:.4f}, and its vectors have the lengths {lengths.round(3).tolist()}, "
            "expected 1. Try another --device, --runtime or --precision"
        )
    return embeddings


def check_embeddings(embeddings: FloatArray, stored: FloatArray, *, label: str) -> None:
    """Compare embeddings with stored ones, both (n, dim).

    Raises
    ------
    CatalogError
        They are not the same.
    """
    cosines = np.einsum("nd,nd->n", embeddings, stored)
    if not (cosines >= MIN_EQUAL_COSINE).all():  # written so that NaN fails, too
        least = float(np.nan_to_num(cosines, nan=-1).min())
        raise CatalogError(
            f"this encoder no longer makes the {label} that the catalogue holds (cosine {least:.3f}, "
            f"expected {MIN_EQUAL_COSINE} or more), though it has the same identity: a driver, a runtime or "
            "a library has changed. Try another --device, --runtime or --precision, or embed again with "
            "--reembed"
        )


def check_image_embeddings(encoder: Encoder, golden: FloatArray) -> None:
    """Embed the golden images again; CatalogError if the embeddings differ from the stored ones."""
    check_embeddings(encoder.encode_images(golden_images()), golden[:2], label="vectors of pictures")


def encode_checked(encoder: Encoder, texts: Sequence[str], golden: FloatArray) -> FloatArray:
    """Embed texts, (N, dim), and check the golden texts in the same call."""
    embeddings = encoder.encode_texts([*texts, *TEXTS])
    check_embeddings(embeddings[len(texts) :], golden[2:], label="vectors of texts")
    return embeddings[: len(texts)]
