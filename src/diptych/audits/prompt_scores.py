"""Text embeddings of answers, and scores as answers. Tied answers share the probability equally."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.embedding.batches import embed_texts
from diptych.encoder import Encoder
from diptych.reports import Estimate
from diptych.stats.intervals import bounded_mean, correlation, proportion
from diptych.stats.metrics import ROUNDING
from diptych.zeroshot import expand
from diptych.zeroshot.scoring import sphere_mean

Floats: TypeAlias = NDArray[np.float64]
Embeddings: TypeAlias = NDArray[np.float32]


def answer_embeddings(encoder: Encoder, answers: Sequence[Sequence[str]]) -> Embeddings:
    """One unit embedding per answer, the spherical mean over its texts, (C, dim).

    A text that occurs in several answers is encoded once.
    """
    texts = list(dict.fromkeys(text for wordings in answers for text in wordings))
    index_of = {text: index for index, text in enumerate(texts)}
    embeddings = embed_texts(encoder, texts)
    indices = [index_of[text] for wordings in answers for text in wordings]
    starts = np.cumsum([0, *(len(wordings) for wordings in answers)])[:-1].astype(np.intp)
    return sphere_mean(embeddings[indices], starts)


def class_embeddings(encoder: Encoder, names: Sequence[str], templates: str | Sequence[str]) -> Embeddings:
    """One unit embedding per class, the spherical mean over its prompts, (C, dim)."""
    return answer_embeddings(encoder, [expand([name], templates) for name in names])


def answer_probabilities(scores: NDArray[np.floating]) -> Floats:
    """Probability of each answer, (N, C): 1 for the highest score, equal parts where several tie.

    Examples
    --------
    >>> answer_probabilities(np.array([[0.1, 0.9, 0.2], [0.5, 0.5, 0.1]])).tolist()
    [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    """
    best = scores >= scores.max(axis=1, keepdims=True) - ROUNDING
    probabilities: Floats = best / best.sum(axis=1, keepdims=True)
    return probabilities


def top1_hits(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> Floats:
    """Probability that the top-1 answer is correct, (N,)."""
    hits: Floats = answer_probabilities(scores)[np.arange(len(labels)), labels]
    return hits


def accuracy_by_answer(
    probabilities: Floats, labels: NDArray[np.integer], names: Sequence[object]
) -> dict[str, Estimate]:
    """Accuracy on the images of each class, by its name; classes without images are left out."""
    return {
        str(name): proportion(probabilities[labels == index, index])
        for index, name in enumerate(names)
        if (labels == index).any()
    }


def ordered_figures(
    scores: NDArray[np.floating], labels: NDArray[np.integer], values: Sequence[int]
) -> dict[str, Any]:
    """Figures of answers that have an order, as fields of `OrderedAudit`.

    Parameters
    ----------
    scores : (N, C)
    labels : (N,)
        Index of the true answer.
    values : C integers
        Size of each answer, in ascending order.
    """
    probabilities, sizes = answer_probabilities(scores), np.asarray(values)
    distance = abs(np.subtract.outer(sizes, sizes))
    return {
        "accuracy": proportion(top1_hits(scores, labels)),
        "error": bounded_mean((probabilities * distance[labels]).sum(axis=1), float(distance.max())),
        "error_chance": float(distance[labels].mean()),
        "correlation": correlation(probabilities @ sizes, sizes[labels]),
        "confusion": confusion(probabilities, labels),
    }


def confusion(probabilities: Floats, labels: NDArray[np.integer]) -> list[list[float]]:
    """Confusion matrix: share of each answer (column) among images of a class (row), NaN without images.

    Examples
    --------
    >>> confusion(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0, 0, 1]))
    [[0.5, 0.5], [1.0, 0.0]]
    """
    classes = probabilities.shape[1]
    table = np.full((classes, classes), np.nan)
    for label in np.unique(labels):
        table[label] = probabilities[labels == label].mean(axis=0)
    return [[float(cell) for cell in row] for row in table]
