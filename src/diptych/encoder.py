"""The waist: pictures and texts as rows of one space.

Everything above this file (classifier, evaluation, catalogue, applications) depends on this small contract
and nothing else; `diptych.backends` fulfils it, with torch and without. Files, failures and progress are
not its business: see `diptych.embedding.batches`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    FloatArray: TypeAlias = NDArray[np.float32]


@runtime_checkable
class Encoder(Protocol):
    """Pictures and texts as rows of one space, each row of length one.

    Attributes
    ----------
    identity : str
        Hash of weights, activation, preprocessing and tokenizer: two encoders with one identity give the
        same vectors, and a file of vectors names the identity it was made with.
    dim : int
        Length of a row.
    input_size : int
        Side in pixels of the square the model sees: what a decoder may aim for.
    logit_scale : float
        Factor on cosines before a softmax or sigmoid, already exponentiated.
    logit_bias : float
        Added after the scale; 0 unless the model was trained with the sigmoid loss.
    """

    @property
    def identity(self) -> str:
        """Hash of weights, activation, preprocessing and tokenizer."""
        ...

    @property
    def dim(self) -> int:
        """Length of a row."""
        ...

    @property
    def input_size(self) -> int:
        """Side of the square the model sees, pixels."""
        ...

    @property
    def logit_scale(self) -> float:
        """Factor on cosines, already exponentiated."""
        ...

    @property
    def logit_bias(self) -> float:
        """Added after the scale; 0 without a sigmoid loss."""
        ...

    def encode_images(self, images: Sequence[Image]) -> FloatArray:
        """Decoded RGB pictures as unit rows, (N, dim) float32."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> FloatArray:
        """Texts as unit rows, (N, dim) float32."""
        ...


@runtime_checkable
class FeatureEncoder(Protocol):
    """An encoder that also gives the features before the projection, for probes (paper, section 3.2)."""

    def image_features(self, images: Sequence[Image]) -> FloatArray:
        """Decoded RGB pictures as rows of the image tower's own width, (N, width) float32, not normalised."""
        ...


@runtime_checkable
class PatchEncoder(Protocol):
    """An encoder that also places every patch of a picture in the shared space, for heat maps."""

    def encode_patches(self, images: Sequence[Image]) -> FloatArray:
        """Decoded RGB pictures as grids of unit rows, (N, h, w, dim) float32."""
        ...


@runtime_checkable
class PreparingEncoder(Protocol):
    """An encoder that lets pictures be made ready one by one, in the threads that decode them.

    `encode_prepared([prepare(image) for image in images])` gives what `encode_images(images)` gives.
    """

    def prepare(self, image: Image) -> FloatArray:
        """One decoded RGB picture as the model reads it; called from several threads at once."""
        ...

    def encode_prepared(self, prepared: Sequence[FloatArray]) -> FloatArray:
        """Prepared pictures as unit rows, (N, dim) float32."""
        ...


@runtime_checkable
class LanguageEncoder(Encoder, Protocol):
    """An encoder that can be set to the language of its texts, where its tokenizer takes one."""

    def with_language(self, language: str) -> Encoder:
        """The same encoder for texts in another language, such as "de"."""
        ...


@dataclass(frozen=True)
class EncoderCost:
    """What an encoder costs, to be read beside its accuracy.

    Attributes
    ----------
    parameters : int
        Of both towers.
    image_flops : float or None
        Floating point operations of one picture, a multiplication with its addition as two; None where they
        cannot be counted.
    text_flops : float or None
        Of one text of the full context length.

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
    """An encoder that knows what it costs."""

    def cost(self) -> EncoderCost:
        """Parameters, and operations of a forward pass."""
        ...
