"""Compare a runtime's embeddings with those of the model in float32, and say when they differ too much.

Cosine similarities measure how much each embedding changed; Spearman's rank correlation measures whether text
queries still rank the images alike. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

# Smallest accepted cosine similarities to float32: mean over images or texts, and worst.
MIN_COSINES: Mapping[str, tuple[float, float]] = {
    "float32": (0.9999, 0.9999),
    "bfloat16": (0.9998, 0.998),
    "int8": (0.998, 0.95),
}
MIN_RANK_CORRELATION = {"float32": 0.999, "bfloat16": 0.98, "int8": 0.9}  # mean Spearman over queries


@dataclass(frozen=True)
class RuntimeAgreement:
    """Agreement of a runtime and precision with the model in float32.

    Attributes
    ----------
    image_mean, image_worst, text_mean, text_worst : float
        Cosine similarities between the two embeddings of an image or text.
    order : float
        Spearman's correlation between the two rankings of all images for a text, mean over texts.
    pictures, texts : int
        Number of images and texts that were compared.
    """

    runtime: str
    precision: str
    image_mean: float
    image_worst: float
    text_mean: float
    text_worst: float
    order: float
    pictures: int
    texts: int

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return asdict(self)

    @property
    def shortfall(self) -> str:
        """Message about the first figure below its minimum; empty if there is none."""
        mean, worst = MIN_COSINES[self.precision]
        for title, value, minimum in (
            ("mean cosine of pictures", self.image_mean, mean),
            ("worst cosine of pictures", self.image_worst, worst),
            ("mean cosine of texts", self.text_mean, mean),
            ("worst cosine of texts", self.text_worst, worst),
            ("order of pictures (Spearman)", self.order, MIN_RANK_CORRELATION[self.precision]),
        ):
            if not value >= minimum:  # in this form, NaN is refused too
                return (
                    f"{self.runtime} in {self.precision} is refused: {title} to float32 is {value:.5f}, the "
                    f"minimum is {minimum}. {_REMEDIES[self.precision]}"
                )
        return ""


_REMEDIES = {
    "float32": "Report it with the model's name; meanwhile use runtime='torch'",
    "bfloat16": "Use precision='float32'",
    "int8": "Calibrate on pictures like your own (diptych export MODEL --calibrate FOLDER --int8), or use "
    "precision='bfloat16' or 'float32'",
}


def compare_embeddings(
    runtime: str,
    precision: str,
    images: tuple[FloatArray, FloatArray],
    texts: tuple[FloatArray, FloatArray],
) -> RuntimeAgreement:
    """Compare embeddings in float32 with those of a runtime.

    Parameters
    ----------
    images, texts : pair of arrays
        Normalised embeddings in float32 and from the runtime, (N, dim) each.

    Examples
    --------
    >>> embeddings = np.eye(3, dtype=np.float32)
    >>> agreement = compare_embeddings("onnx", "float32", (embeddings,) * 2, (embeddings[:2],) * 2)
    >>> agreement.image_worst, agreement.order
    (1.0, 1.0)
    """
    image_cosines, text_cosines = _cosines(*images), _cosines(*texts)
    order = spearman(texts[0] @ images[0].T, texts[1] @ images[1].T)
    return RuntimeAgreement(
        runtime=runtime,
        precision=precision,
        image_mean=float(image_cosines.mean()),
        image_worst=float(image_cosines.min()),
        text_mean=float(text_cosines.mean()),
        text_worst=float(text_cosines.min()),
        order=float(order.mean()),
        pictures=len(images[0]),
        texts=len(texts[0]),
    )


def spearman(first_scores: FloatArray, second_scores: FloatArray) -> FloatArray:
    """Spearman's rank correlation of corresponding rows of scores, (N, M) and (N, M) -> (N,).

    Examples
    --------
    >>> spearman(np.array([[1, 2, 3]], np.float32), np.array([[10, 20, 15]], np.float32)).tolist()
    [0.5]
    """
    # argsort of argsort gives ranks; ties, which float scores rarely have, are ranked by position.
    ranks = [scores.argsort(1).argsort(1).astype(np.float64) for scores in (first_scores, second_scores)]
    first, second = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    length = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return np.asarray((first * second).sum(1) / length, np.float32)


def _cosines(first: FloatArray, second: FloatArray) -> FloatArray:
    """Cosine similarities of corresponding rows, (N, D) and (N, D) -> (N,)."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return np.asarray(np.einsum("nd,nd->n", first, second) / lengths, np.float32)
