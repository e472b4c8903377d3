"""Encoder protocols: map images and texts to embeddings in a shared space.

Classifier, evaluation, catalogue and applications depend on these protocols only; `diptych.backends`
implements them, with torch and without. To embed many files, with error handling and progress, see
`diptych.embedding.batches`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from PIL.Image import Image

    FloatArray: TypeAlias = NDArray[np.float32]


def normalize(rows: ArrayLike) -> FloatArray:
    """Scale rows, (..., dim), to length one in float32; rows of zeros stay zeros.

    Examples
    --------
    >>> normalize([[3, 4], [0, 0]]).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    import numpy as np  # here: the command line loads the protocols before it needs NumPy

    full = np.asarray(rows, np.float32)
    lengths = np.linalg.norm(full, axis=-1, keepdims=True)
    return np.asarray(full / np.maximum(lengths, np.finfo(np.float32).tiny), np.float32)


@runtime_checkable
class Encoder(Protocol):
    """Maps images and texts to embeddings of unit length in a shared space.

    Attributes
    ----------
    identity : str
        Hash of weights, activation, preprocessing and tokenizer. Encoders of equal identity give the same
        embeddings; stored embeddings name the identity of their encoder.
    dim : int
        Dimension of an embedding.
    input_size : int
        Side of the model's square input in pixels; a decoder may scale an image down towards it.
    logit_scale : float
        Factor on cosine similarities before a softmax or sigmoid, already exponentiated.
    logit_bias : float
        Added after scaling; 0 unless the model was trained with the sigmoid loss.
    """

    @property
    def identity(self) -> str:
        """Hash of weights, activation, preprocessing and tokenizer."""
        ...

    @property
    def dim(self) -> int:
        """Dimension of an embedding."""
        ...

    @property
    def input_size(self) -> int:
        """Side of the model's square input in pixels."""
        ...

    @property
    def logit_scale(self) -> float:
        """Factor on cosine similarities, already exponentiated."""
        ...

    @property
    def logit_bias(self) -> float:
        """Added after scaling; 0 without a sigmoid loss."""
        ...

    def encode_images(self, images: Sequence[Image]) -> FloatArray:
        """Embed decoded RGB images, (N, dim) float32 of unit length."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts, (N, dim) float32 of unit length."""
        ...


@runtime_checkable
class FeatureEncoder(Protocol):
    """An encoder that also gives image features before the projection, for probes (paper, section 3.2)."""

    def image_features(self, images: Sequence[Image]) -> FloatArray:
        """Features of the image tower before the projection, (N, width) float32, not normalised."""
        ...


@runtime_checkable
class PatchEncoder(Protocol):
    """An encoder that also embeds every patch of an image in the shared space, for heat maps."""

    def encode_patches(self, images: Sequence[Image]) -> FloatArray:
        """Embed the patches of decoded RGB images, (N, h, w, dim) float32 of unit length."""
        ...


@runtime_checkable
class PreparingEncoder(Protocol):
    """An encoder whose preprocessing can run separately, in the threads that decode the images.

    `encode_prepared([prepare(image) for image in images])` equals `encode_images(images)`.
    """

    def prepare(self, image: Image) -> FloatArray:
        """Preprocess a decoded RGB image; called from several threads at the same time."""
        ...

    def encode_prepared(self, prepared: Sequence[FloatArray]) -> FloatArray:
        """Embed prepared images, (N, dim) float32 of unit length."""
        ...


@runtime_checkable
class LanguageEncoder(Encoder, Protocol):
    """An encoder whose tokenizer can be set to the language of the texts."""

    def with_language(self, language: str) -> Encoder:
        """The same encoder for texts in another language, such as "de"."""
        ...


@dataclass(frozen=True)
class EncoderCost:
    """Computational cost of an encoder.

    Attributes
    ----------
    parameters : int
        Number of parameters of both towers.
    image_flops : float or None
        Floating point operations for one image, a multiply-add counted as two; None if they cannot be
        counted.
    text_flops : float or None
        Floating point operations for one text of the full context length.

    Examples
    --------
    >>> str(EncoderCost(151_300_000, 8.8e9, 6.0e9))
    '151.3 million parameters, 8.8 GFLOPs a picture, 6.0 GFLOPs a text of full length'
    """

    parameters: int
    image_flops: float | None = None
    text_flops: float | None = None

    def __str__(self) -> str:
        parts = [f"{self.parameters / 1e6:,.1f} million parameters"]
        if self.image_flops is not None:
            parts.append(f"{self.image_flops / 1e9:,.1f} GFLOPs a picture")
        if self.text_flops is not None:
            parts.append(f"{self.text_flops / 1e9:,.1f} GFLOPs a text of full length")
        return ", ".join(parts)


@runtime_checkable
class CostedEncoder(Protocol):
    """An encoder that reports its computational cost."""

    def cost(self) -> EncoderCost:
        """Number of parameters, and operations of a forward pass."""
        ...
