"""Class weights of a zero-shot classifier: computed from prompts, and in the file of a saved classifier.

Legend: C classes, R text embeddings that are compared with images (C, or one per text with synonyms="max"),
dim the width of embeddings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors import numpy as safetensors_numpy

from diptych.embedding.batches import embed_texts
from diptych.encoder import Encoder
from diptych.errors import InputError, WeightsError
from diptych.files.disk import write_bytes
from diptych.progress import Progress
from diptych.zeroshot.labels import Label
from diptych.zeroshot.scoring import sphere_mean
from diptych.zeroshot.templates import expand

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

# Negative prompts of multi-label classification. The background is the default, because CLIP mostly ignores
# negation: the embedding of "no people" is close to that of "people".
BACKGROUND = ("a photo.", "a picture.", "an image.", "a photo of something.", "a photo of something else.")
PROMPTS = 4096  # encoded at once: a few seconds for a small model, which encodes common prefixes once
NEGATION = ("a photo without {}.", "a photo with no {}.")

_HEADER_KEY = "diptych.classifier"
_FILE_VERSION = 1


@dataclass(frozen=True, eq=False)
class ClassWeights:
    """Labels with their text embeddings.

    Attributes
    ----------
    labels : tuple of Label, C of them
    text_embeddings : (R, dim) float32
        Unit vectors that images are compared with, class after class.
    counts : (C,) integers
        Number of text embeddings of each class.
    class_embeddings : (C, dim) float32
        One unit vector per class: normalised mean over texts and templates.
    negatives : (C, dim) or (0, dim) float32
        Embedding of the negative prompts of each label; empty where labels compete.
    """

    labels: tuple[Label, ...]
    text_embeddings: FloatArray
    counts: NDArray[np.intp]
    class_embeddings: FloatArray
    negatives: FloatArray

    def concatenate(self, other: ClassWeights) -> Self:
        """Append the classes of another object."""
        return type(self)(
            self.labels + other.labels,
            np.concatenate([self.text_embeddings, other.text_embeddings]),
            np.concatenate([self.counts, other.counts]),
            np.concatenate([self.class_embeddings, other.class_embeddings]),
            np.concatenate([self.negatives, other.negatives]),
        )

    def check_negatives(self, expected: bool) -> Self:
        """Return self; InputError unless it has embeddings of negative prompts exactly if expected."""
        if expected != bool(len(self.negatives)):
            raise InputError("multi_label or activation was changed after fit: call fit again with the names")
        return self

    def select(self, mask: NDArray[np.bool_]) -> Self:
        """Keep only the classes of `mask`, (C,)."""
        return type(self)(
            tuple(label for label, kept in zip(self.labels, mask, strict=True) if kept),
            self.text_embeddings[np.repeat(mask, self.counts)],
            self.counts[mask],
            self.class_embeddings[mask],
            self.negatives[mask] if len(self.negatives) else self.negatives,
        )

    def cosines(self, embeddings: FloatArray) -> FloatArray:
        """Cosine of each embedding with each class, (N, C): the largest over the texts of the class.

        For example 2 classes with counts [2, 1]: of the columns 0, 1, 2 of texts the first class takes the
        maximum of 0 and 1, from `np.maximum.reduceat` with the starts [0, 2].
        """
        cosines: FloatArray = embeddings @ self.text_embeddings.T  # (N, R)
        if (self.counts == 1).all():
            return cosines
        return np.maximum.reduceat(cosines, _starts(self.counts), axis=1)


def compute_weights(
    encoder: Encoder,
    labels: tuple[Label, ...],
    *,
    templates: str | Sequence[str] | None,
    per_text: bool,
    against: str | Sequence[str] | None,
    progress: Progress | None = None,
) -> ClassWeights:
    """Encode the prompts of labels, in large batches so that the encoder can share common prefixes.

    Parameters
    ----------
    per_text : bool
        Keep one embedding per text instead of one per class.
    against : "background", "negation", sequence of str or None
        Negative prompts; None: no such prompts.
    progress : callable, optional
        Called with the number of prompts just encoded.
    """
    texts = [text for label in labels for text in label.texts]
    text_counts = np.array([len(label.texts) for label in labels], dtype=np.intp)
    prompts = expand(texts, templates)
    template_count = len(prompts) // len(texts)
    negative_prompts, negative_counts = _negative_prompts(labels, against)
    embeddings = embed_texts(encoder, prompts + negative_prompts, batch_size=PROMPTS, progress=progress)
    positive_embeddings, negative_embeddings = embeddings[: len(prompts)], embeddings[len(prompts) :]
    # Prompts are ordered by label, then text, then template: with texts [2, 1] and 3 templates the prompts of
    # the two labels start at 0 and 6, and those of the three texts at 0, 3 and 6.
    class_embeddings = sphere_mean(positive_embeddings, _starts(text_counts * template_count))
    text_embeddings, counts = class_embeddings, np.ones_like(text_counts)
    if per_text:
        starts = np.arange(0, len(prompts), template_count)
        text_embeddings, counts = sphere_mean(positive_embeddings, starts), text_counts
    negatives = np.zeros((0, encoder.dim), np.float32)
    if negative_prompts:
        means = sphere_mean(negative_embeddings, _starts(negative_counts))  # one per label, or one for all
        negatives = np.ascontiguousarray(np.broadcast_to(means, (len(labels), encoder.dim)))
    return ClassWeights(labels, text_embeddings, counts, class_embeddings, negatives)


def _negative_prompts(
    labels: Sequence[Label], against: str | Sequence[str] | None
) -> tuple[list[str], NDArray[np.intp]]:
    """Negative prompts, and how many belong to each label; one count if all labels share them."""
    if against is None:
        return [], np.zeros(0, np.intp)
    if against == "negation":
        texts = [expand(label.texts, NEGATION) for label in labels]
        return [text for each in texts for text in each], np.array(
            [len(each) for each in texts], dtype=np.intp
        )
    shared = (
        BACKGROUND if against == "background" else (against,) if isinstance(against, str) else tuple(against)
    )
    return list(shared), np.array([len(shared)], dtype=np.intp)


def _starts(counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Index of the first row of each group of consecutive rows: [2, 1, 3] -> [0, 2, 3]."""
    return np.concatenate([np.zeros(1, np.intp), np.cumsum(counts)[:-1]])


def save_weights(path: Path, header: Mapping[str, Any], weights: ClassWeights) -> None:
    """Write the file of a classifier atomically: safetensors, and JSON in its header.

    Raises
    ------
    SaveError
        There is no space or no permission.
    """
    labels = [asdict(label) for label in weights.labels]
    values = {"version": _FILE_VERSION, **header, "labels": labels, "counts": weights.counts.tolist()}
    # The file format has its own names for the arrays.
    arrays = {
        "rows": weights.text_embeddings,
        "means": weights.class_embeddings,
        "opponents": weights.negatives,
    }
    # safetensors writes the raw memory: a transposed or sliced view would be stored in the wrong order.
    whole = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
    data = safetensors_numpy.save(whole, metadata={_HEADER_KEY: json.dumps(values)})
    write_bytes(path, data)


def load_weights(path: Path) -> tuple[dict[str, Any], ClassWeights]:
    """Read header and weights; nothing is executed.

    Raises
    ------
    WeightsError
        The file is missing, or not a complete saved classifier.
    """
    try:
        data = path.read_bytes()
        arrays = safetensors_numpy.load(data)
        length = int.from_bytes(data[:8], "little")  # of the header; safetensors checked it while loading
        header: dict[str, Any] = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_HEADER_KEY])
        if header["version"] != _FILE_VERSION:
            raise ValueError(f"version {header['version']}, expected {_FILE_VERSION}: fit and save it again")
        return header, _weights_of(header, arrays)
    except FileNotFoundError:
        raise WeightsError(
            f"{path} is not there: expected a classifier saved by ZeroShotClassifier.save"
        ) from None
    except (OSError, SafetensorError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise WeightsError(f"{path} is not a saved classifier ({type(error).__name__}: {error})") from error


def _weights_of(header: Mapping[str, Any], arrays: Mapping[str, Any]) -> ClassWeights:
    """Class weights from the arrays of a file; ValueError if their shapes contradict each other."""
    labels = tuple(
        Label(label["name"], tuple(label["texts"]), tuple(label["groups"])) for label in header["labels"]
    )
    counts = np.array(header["counts"], dtype=np.intp)
    weights = ClassWeights(labels, arrays["rows"], counts, arrays["means"], arrays["opponents"])
    width = weights.class_embeddings.shape[1]
    fits = len(counts) == len(weights.class_embeddings) == len(labels) > 0 and (counts > 0).all()
    texts_shape = weights.text_embeddings.shape
    if not fits or texts_shape != (counts.sum(), width) or weights.negatives.shape[1] != width:
        raise ValueError(
            f"{texts_shape} rows and {weights.class_embeddings.shape} means for {len(labels)} labels"
        )
    if len(weights.negatives) not in (0, len(labels)):
        raise ValueError(f"{len(weights.negatives)} opponents for {len(labels)} labels")
    return weights
