"""How far a runtime is from the model in float32, and when that is too far.

Pure functions of rows. Cosines say how far each vector moved; Spearman's coefficient says whether queries in
words would still list the pictures in their order. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.errors import WeightsError

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

# Smallest cosines to float32 that are let pass: the mean over pictures or texts, and the worst.
BARS: Mapping[str, tuple[float, float]] = {
    "float32": (0.9999, 0.9999),
    "bfloat16": (0.9998, 0.998),
    "int8": (0.998, 0.95),
}
ORDER_BAR = {"float32": 0.999, "bfloat16": 0.98, "int8": 0.9}  # mean Spearman over queries
# Golden rows may be off by so much of their own spread. A tower that gives every picture the same vector is
# off by 1, whatever its cosines: those of a model in a narrow cone are high between any two pictures.
GOLDEN_BAR = {"float32": 0.02, "bfloat16": 0.25, "int8": 0.6}


@dataclass(frozen=True)
class Agreement:
    """One runtime and precision beside the model in float32.

    Attributes
    ----------
    runtime, precision : str
    image_mean, image_worst, text_mean, text_worst : float
        Cosines between a picture's or text's two rows.
    order : float
        Spearman's coefficient between the two orders of all pictures for a text, mean over texts.
    pictures, texts : int
        How many were judged.
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
        """Plain values for JSON."""
        return asdict(self)

    @property
    def shortfall(self) -> str:
        """What is below its bar: the figure, the bar and the way out; empty where all is well."""
        mean, worst = BARS[self.precision]
        for what, found, bar in (
            ("mean cosine of pictures", self.image_mean, mean),
            ("worst cosine of pictures", self.image_worst, worst),
            ("mean cosine of texts", self.text_mean, mean),
            ("worst cosine of texts", self.text_worst, worst),
            ("order of pictures (Spearman)", self.order, ORDER_BAR[self.precision]),
        ):
            if not found >= bar:  # so that NaN is refused too
                return (
                    f"{self.runtime} in {self.precision} is refused: {what} to float32 is {found:.5f}, the "
                    f"least is {bar}. {_WAY_OUT[self.precision]}"
                )
        return ""


_WAY_OUT = {
    "float32": "Report it with the model's name; meanwhile use runtime='torch'",
    "bfloat16": "Use precision='float32'",
    "int8": "Calibrate on pictures like your own (diptych export MODEL --calibrate FOLDER --int8), or use "
    "precision='bfloat16' or 'float32'",
}


def judge(
    runtime: str,
    precision: str,
    images: tuple[FloatArray, FloatArray],
    texts: tuple[FloatArray, FloatArray],
) -> Agreement:
    """Compare rows of float32 with those of a runtime.

    Parameters
    ----------
    runtime, precision : str
    images, texts : pair of arrays
        Unit rows in float32 and by the runtime, (N, dim) each.

    Examples
    --------
    >>> rows = np.eye(3, dtype=np.float32)
    >>> found = judge("onnx", "float32", (rows, rows), (rows[:2], rows[:2]))
    >>> found.image_worst, found.order
    (1.0, 1.0)
    """
    image_cosines, text_cosines = _cosines(*images), _cosines(*texts)
    order = spearman(texts[0] @ images[0].T, texts[1] @ images[1].T)
    return Agreement(
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


def spearman(one: FloatArray, other: FloatArray) -> FloatArray:
    """Spearman's coefficient of each row of scores with its fellow, (N, M) twice -> (N,).

    Examples
    --------
    >>> spearman(np.array([[1, 2, 3]], np.float32), np.array([[10, 20, 15]], np.float32)).tolist()
    [0.5]
    """
    ranks = [scores.argsort(1).argsort(1).astype(np.float64) for scores in (one, other)]
    first, second = (rank - rank.mean(1, keepdims=True) for rank in ranks)
    length = np.sqrt((first**2).sum(1) * (second**2).sum(1))
    return np.asarray((first * second).sum(1) / length, np.float32)


def refuse_golden(kept: FloatArray, found: FloatArray, precision: str, what: str) -> None:
    """Raise where rows are not those that were kept, measured by how far the kept ones lie apart.

    Raises
    ------
    WeightsError
        Something is wrong with the runtime, the files, or the machine.
    """
    spread = float(np.sqrt(((kept - kept.mean(0)) ** 2).sum(1).mean()))
    error = float(np.sqrt(((kept - found) ** 2).sum(1).mean())) / max(spread, 1e-6)
    if not error <= GOLDEN_BAR[precision]:
        raise WeightsError(
            f"{what}: golden vectors are missed by {error:.2f} of their spread, at most "
            f"{GOLDEN_BAR[precision]} is let pass. The files, the runtime's version or the tokenizer are not "
            "those it was made with: export the model again, or load the weights with runtime='torch'"
        )


def _cosines(one: FloatArray, other: FloatArray) -> FloatArray:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray(np.einsum("nd,nd->n", one, other) / lengths, np.float32)
