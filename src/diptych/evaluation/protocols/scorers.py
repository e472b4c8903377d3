"""Scorers: classifiers as callables from images to scores, for measuring robustness.

Zero-shot classifiers, linear probes and supervised networks have this common interface. Supervised runs of
this package are loaded by `diptych.backends.load_supervised`; a model of another package needs a few lines:

    class Timm:                                     # pip install timm
        def __init__(self, name, columns):          # columns: of the data set's classes among the model's
            self.model = timm.create_model(name, pretrained=True).eval()
            config = timm.data.resolve_model_data_config(self.model)
            self.transform = timm.data.create_transform(**config, is_training=False)
            self.identity, self.input_size, self.columns = f"timm:{name}", config["input_size"][-1], columns

        def __call__(self, images):
            with torch.inference_mode():
                logits = self.model(torch.stack([self.transform(image) for image in images]))
            return logits[:, self.columns].numpy()
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diptych.datasets.dataset import ImageDataset
from diptych.encoder import Encoder, FeatureEncoder
from diptych.errors import InputError
from diptych.evaluation.protocols.features import DatasetEmbeddings, ImageFunction
from diptych.evaluation.protocols.settings import Setup
from diptych.progress import Progress
from diptych.zeroshot import ZeroShotClassifier
from diptych.zeroshot.labels import Names

if TYPE_CHECKING:
    from PIL.Image import Image

    from diptych.encoder import FloatArray


@runtime_checkable
class Scorer(Protocol):
    """A classifier of images.

    Attributes
    ----------
    identity : str
        Of weights, preprocessing and classes: two scorers with the same identity give the same scores.
    input_size : int
        Side of the model's input, pixels.
    """

    @property
    def identity(self) -> str:
        """Of weights, preprocessing and classes."""
        ...

    @property
    def input_size(self) -> int:
        """Side of the model's input, pixels."""
        ...

    def __call__(self, images: Sequence[Image]) -> FloatArray:
        """Scores of decoded RGB images, (N, C): larger is better, columns in the data set's order."""
        ...


class ZeroShotScorer:
    """Zero-shot classifier as a scorer: an encoder with class names.

    Parameters
    ----------
    names : names
        One for each class, in the data set's order; as for `ZeroShotClassifier.fit`.
    templates : str, sequence of str or None
        As for `ZeroShotClassifier`.
    progress : callable, optional
        Called with the number of prompts just encoded.

    Examples
    --------
    >>> from PIL import Image
    >>> class Brightness:
    ...     identity, dim, input_size, logit_scale, logit_bias = "brightness", 2, 8, 1.0, 0.0
    ...     def encode_images(self, images):
    ...         light = [np.mean(image) / 255 for image in images]
    ...         return np.array([[x, 1 - x] for x in light], np.float32)
    ...     def encode_texts(self, texts):
    ...         return np.array([[float("white" in t), float("black" in t)] for t in texts], np.float32)
    >>> scorer = ZeroShotScorer(Brightness(), ["white", "black"])
    >>> scorer([Image.new("RGB", (8, 8), "white")]).tolist()
    [[1.0, 0.0]]
    """

    def __init__(
        self,
        encoder: Encoder,
        names: Names,
        *,
        templates: str | Sequence[str] | None = "plain",
        progress: Progress | None = None,
    ) -> None:
        self._encoder = encoder
        self._classifier = ZeroShotClassifier(encoder, templates=templates).fit(names, progress=progress)
        self.identity = f"{encoder.identity} zero-shot {_hash(self._classifier.weights_)}"
        self.input_size = encoder.input_size
        self.precision = getattr(encoder, "precision", "float32")

    def __call__(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Cosines with the classes, (N, C), which rank them like probabilities."""
        return self._classifier.cosines(self._encoder.encode_images(images))


class LinearScorer:
    """A linear classifier on frozen features (paper, section 3.2).

    Parameters
    ----------
    coef : (C, D) floats
    intercept : (C,) floats
        As in scikit-learn's LogisticRegression; for two classes one row, for the second class.
    features : bool
        Use features before the projection, as the paper's probes do; else normalised embeddings.

    Raises
    ------
    InputError
        Shapes that do not fit, or an encoder without such features.
    """

    def __init__(
        self, encoder: Encoder, coef: ArrayLike, intercept: ArrayLike, *, features: bool = True
    ) -> None:
        weights, bias = np.asarray(coef, np.float32), np.asarray(intercept, np.float32)
        if weights.ndim != 2 or bias.shape != weights.shape[:1]:
            raise InputError(
                f"coef of shape {weights.shape} and intercept of shape {bias.shape}: expected (C, D) and (C,)"
            )
        if len(weights) == 1:
            weights, bias = np.concatenate([-weights, weights]), np.concatenate([-bias, bias])
        self._weights, self._bias = weights, bias
        self._rows: Any = encoder.encode_images
        if features:
            if not isinstance(encoder, FeatureEncoder):
                raise InputError(f"{type(encoder).__name__} has no image_features: give features=False")
            self._rows = encoder.image_features
        self.identity = f"{encoder.identity} linear {_hash(np.column_stack([weights, bias]))}"
        self.input_size = encoder.input_size
        self.precision = getattr(encoder, "precision", "float32")

    def __call__(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Logits, (N, C)."""
        features = self._rows(images)
        if features.shape[1] != self._weights.shape[1]:
            raise InputError(
                f"the classifier was fitted on {self._weights.shape[1]} features, the encoder gives "
                f"{features.shape[1]}: was it another model, or embeddings (features=False)?"
            )
        logits: NDArray[np.float32] = features @ self._weights.T + self._bias
        return logits


def score(scorer: Scorer, dataset: ImageDataset, setup: Setup) -> DatasetEmbeddings:
    """Compute the scores of the readable images, (N, C), with failures.

    Raises
    ------
    InputError
        A number of scores that differs from that of images, or scores that are not (N, C).
    """
    return setup.embed(ImageFunction(scorer, scorer), dataset)


def _hash(array: NDArray[np.float32]) -> str:
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()
