"""Golden embeddings: those of a few fixed images and texts, recorded once and computed again later.

A change of weights, preprocessing, driver or runtime is so reported at once, before results are odd.
A catalogue records its own (`golden_embeddings`) when a space is created, and compares cosines. An exported
model holds its images and texts with the embeddings of the original, and compares errors with their spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diptych.encoder import Encoder
from diptych.errors import CatalogError, WeightsError

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

TEXTS = ("a dog on a beach", "two red cars in the snow")
MAX_DISTINCT_COSINE = 0.9999  # above this for two different images, the encoder does not work
MIN_EQUAL_COSINE = 0.98  # float16 and 8-bit weights stay above it, another model does not

# Largest accepted error of golden embeddings, relative to their spread around the mean. A tower that gives
# the same vector for every image has error 1 or more, while its cosines may be high: embeddings of many
# models lie in a narrow cone.
MAX_GOLDEN_ERROR = {"float32": 0.02, "bfloat16": 0.25, "int8": 0.6}


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


def check_tower(expected: FloatArray, actual: FloatArray, precision: str, title: str) -> None:
    """Raise if a tower's embeddings differ from the stored golden ones, relative to the spread of those.

    Raises
    ------
    WeightsError
        The error is too large: the runtime, the files, or the machine are at fault.
    """
    spread = float(np.sqrt(((expected - expected.mean(0)) ** 2).sum(1).mean()))
    error = float(np.sqrt(((expected - actual) ** 2).sum(1).mean())) / max(spread, 1e-6)
    if not error <= MAX_GOLDEN_ERROR[precision]:
        raise WeightsError(
            f"{title}: golden vectors are missed by {error:.2f} of their spread, the maximum is "
            f"{MAX_GOLDEN_ERROR[precision]}. The files, the runtime's version or the tokenizer are not those "
            "that it was exported with: export the model again, or load the weights with runtime='torch'"
        )
