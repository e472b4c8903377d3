"""Texts and pictures as scores, and scores as answers; ties are settled by expectation, as in the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.embedding.batches import embed_texts
from diptych.encoder import Encoder
from diptych.stats.metrics import ROUNDING
from diptych.zeroshot.scoring import sphere_mean

Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.float32]


def answer_embeddings(encoder: Encoder, answers: Sequence[Sequence[str]]) -> Rows:
    """One unit row per answer: the mean on the sphere over its wordings, (C, dim).

    A text that comes in many answers is encoded once.
    """
    texts = list(dict.fromkeys(text for wordings in answers for text in wordings))
    place = {text: index for index, text in enumerate(texts)}
    rows = embed_texts(encoder, texts)
    flat = [place[text] for wordings in answers for text in wordings]
    starts = np.cumsum([0, *(len(wordings) for wordings in answers)])[:-1].astype(np.intp)
    return sphere_mean(rows[flat], starts)


def answer_probabilities(scores: NDArray[np.floating]) -> Floats:
    """How probably each answer is given, (N, C): all of it to the best, or parts where several tie.

    Examples
    --------
    >>> answer_probabilities(np.array([[0.1, 0.9, 0.2], [0.5, 0.5, 0.1]])).tolist()
    [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    """
    best = scores >= scores.max(axis=1, keepdims=True) - ROUNDING
    found: Floats = best / best.sum(axis=1, keepdims=True)
    return found


def top1_hits(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> Floats:
    """Probability that the answer is the right one, (N,)."""
    found: Floats = answer_probabilities(scores)[np.arange(len(labels)), labels]
    return found


def confusion(shares: Floats, labels: NDArray[np.integer]) -> list[list[float]]:
    """Share of each answer (column) among the pictures of each class (row); NaN rows where there are none.

    Examples
    --------
    >>> confusion(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), np.array([0, 0, 1]))
    [[0.5, 0.5], [1.0, 0.0]]
    """
    classes = shares.shape[1]
    table = np.full((classes, classes), np.nan)
    for label in np.unique(labels):
        table[label] = shares[labels == label].mean(axis=0)
    return [[float(cell) for cell in row] for row in table]
