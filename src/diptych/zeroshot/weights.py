"""The learned state of a classifier: labels and their rows, made by one call to the encoder, joined and cut.

Legend: C classes, R rows that are compared with pictures (C, or one per text when the best synonym counts),
dim the width of the space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from diptych.embedding.batches import embed_texts
from diptych.encoder import Encoder
from diptych.errors import InputError
from diptych.progress import Progress
from diptych.zeroshot.labels import Label
from diptych.zeroshot.scoring import Floats, sphere_mean
from diptych.zeroshot.templates import expand

# What a label is weighed against when it is judged by itself. The background is the default: to these models
# "no people" is mostly about people.
BACKGROUND = ("a photo.", "a picture.", "an image.", "a photo of something.", "a photo of something else.")
PROMPTS = 4096  # encoded at once: a few seconds for a small model, and most of their beginnings are shared
NEGATION = ("a photo without {}.", "a photo with no {}.")


@dataclass(frozen=True, eq=False)
class ClassWeights:
    """Labels with their rows.

    Attributes
    ----------
    labels : tuple of Label, C of them
    rows : (R, dim) float32
        What pictures are compared with, class after class.
    counts : (C,) integers
        How many rows each class has.
    means : (C, dim) float32
        One unit row per class: mean on the sphere over texts and templates.
    opponents : (C, dim) or (0, dim) float32
        What each label is weighed against when it is judged by itself; none where labels compete.
    """

    labels: tuple[Label, ...]
    rows: Floats
    counts: NDArray[np.intp]
    means: Floats
    opponents: Floats

    def join(self, other: ClassWeights) -> Self:
        """These classes, then the others."""
        return type(self)(
            self.labels + other.labels,
            np.concatenate([self.rows, other.rows]),
            np.concatenate([self.counts, other.counts]),
            np.concatenate([self.means, other.means]),
            np.concatenate([self.opponents, other.opponents]),
        )

    def check_opponents(self, wanted: bool) -> Self:
        """Itself, if it has opponents just where labels are weighed against some; InputError otherwise."""
        if wanted != bool(len(self.opponents)):
            raise InputError("multi_label or activation was changed after fit: call fit again with the names")
        return self

    def keep(self, mask: NDArray[np.bool_]) -> Self:
        """Only the classes that `mask` (C,) marks."""
        return type(self)(
            tuple(label for label, kept in zip(self.labels, mask, strict=True) if kept),
            self.rows[np.repeat(mask, self.counts)],
            self.counts[mask],
            self.means[mask],
            self.opponents[mask] if len(self.opponents) else self.opponents,
        )

    def cosines(self, vectors: Floats) -> Floats:
        """Cosine of each vector with each class, (N, C): with its best row where it has several."""
        table: Floats = vectors @ self.rows.T  # (N, R)
        return table if (self.counts == 1).all() else np.maximum.reduceat(table, _starts(self.counts), axis=1)


def learn(
    encoder: Encoder,
    labels: tuple[Label, ...],
    *,
    templates: str | Sequence[str] | None,
    best_text: bool,
    against: str | Sequence[str] | None,
    progress: Progress | None = None,
) -> ClassWeights:
    """Rows for these labels. Prompts go to the encoder in large batches: it shares the work between them.

    Parameters
    ----------
    best_text : bool
        One row per text rather than one per class.
    against : "background", "negation", sequence of str or None
        Opponents to make; None for none.
    progress : callable, optional
        Called with the number of prompts just encoded.
    """
    texts = [text for label in labels for text in label.texts]
    per_label = np.array([len(label.texts) for label in labels], dtype=np.intp)
    prompts = expand(texts, templates)
    per_text = len(prompts) // len(texts)
    rivals, per_rival = _opponents(labels, against)
    vectors = embed_texts(encoder, prompts + rivals, batch_size=PROMPTS, progress=progress)
    own, rest = vectors[: len(prompts)], vectors[len(prompts) :]
    means = sphere_mean(own, _starts(per_label * per_text))
    rows = sphere_mean(own, np.arange(0, len(prompts), per_text)) if best_text else means
    counts = per_label if best_text else np.ones_like(per_label)
    opponents = np.zeros((0, encoder.dim), np.float32)
    if rivals:
        made = sphere_mean(rest, _starts(per_rival))  # one per label, or one for all
        opponents = np.ascontiguousarray(np.broadcast_to(made, (len(labels), encoder.dim)))
    return ClassWeights(labels, rows, counts, means, opponents)


def _opponents(
    labels: Sequence[Label], against: str | Sequence[str] | None
) -> tuple[list[str], NDArray[np.intp]]:
    """Texts of the opponents, and how many belong to each."""
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
    """Where each group of consecutive rows begins."""
    return np.concatenate([np.zeros(1, np.intp), np.cumsum(counts)[:-1]])
