"""Model, transform and tokenizer for evaluation harnesses written for open_clip.

CLIP_benchmark and similar programs load a model with a function that returns `(model, transform, tokenizer)`,
then call `model.encode_image(batch)` and `model.encode_text(tokens)`. `open_clip_triple` is such a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from diptych.backends.loading import load
from diptych.inputs import PreprocessConfig, Tokenizer, preprocess
from diptych.media import to_rgb
from diptych.model.clip import CLIP

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class ImageTransform:
    """Evaluation preprocessing of a Pillow image, to (3, S, S) float32."""

    config: PreprocessConfig

    def __call__(self, image: Image) -> Tensor:
        """Convert the colours, resize, crop, normalise."""
        return torch.from_numpy(preprocess(to_rgb(image), self.config))


@dataclass(frozen=True)
class TextTransform:
    """Tokenizer of a text or several texts, to (N, L) int64."""

    tokenizer: Tokenizer

    def __call__(self, texts: str | Sequence[str]) -> Tensor:
        """Token ids, padded to the context length."""
        return torch.from_numpy(self.tokenizer([texts] if isinstance(texts, str) else list(texts)))


class Triple(NamedTuple):
    """Return value of a loader for open_clip's harnesses."""

    model: CLIP
    transform: Callable[[Image], Tensor]
    tokenizer: Callable[[str | Sequence[str]], Tensor]


def open_clip_triple(
    model_name: str = "default",
    pretrained: str | None = None,
    cache_dir: str | Path | None = None,
    device: str = "cpu",
) -> Triple:
    """Load a model as CLIP_benchmark's loaders do.

    Parameters
    ----------
    model_name, pretrained, cache_dir
        As for `diptych.load`.
    device : str
        Device of the model.

    Returns
    -------
    Triple
        Model in float32, transform and tokenizer.

    Raises
    ------
    ModelError
        As `diptych.load`.
    """
    encoder = load(
        model_name, pretrained or None, runtime="torch", device=device, exact=True, cache_dir=cache_dir
    )
    return Triple(encoder.model, ImageTransform(encoder.spec.preprocess), TextTransform(encoder.tokenizer))
