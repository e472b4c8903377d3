"""Names for clusters: the words that are more frequent in a cluster than in the whole collection.

The most similar word is not a good name: in an album of dogs it would be "a dog" everywhere, and some words
are near to every picture. Each picture is distributed over all words by a softmax, as in zero-shot
classification. A cluster is named by the word with the largest p log(p / q), where p is its probability in
the cluster and q in the collection: the contribution of the word to the divergence of the two distributions
(Kullback and Leibler 1951). E.g. "dog" with p = q = 0.6 scores 0; "snow" with p = 0.3 and q = 0.2 scores 0.3
* log(1.5) = 0.12.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.embedding.batches import embed_texts
from diptych.zeroshot import expand
from diptych.zeroshot.label_files import read_labels_file
from diptych.zeroshot.scoring import softmax, sphere_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.catalog.relevance import Rows
    from diptych.encoder import Encoder, FloatArray

TEMPLATES = ("a photo of {}.", "a picture of {}.", "{}")
BLOCK_ROWS = 4096
_ARTICLES = ("a ", "an ", "the ")
_PENALTY = -1e6  # added to the scores of words that are taken


@dataclass(frozen=True, eq=False)
class NameVocabulary:
    """A vocabulary and its embeddings."""

    words: tuple[str, ...]  # W of them
    rows: FloatArray  # (W, dim) float32, of length one
    scale: float  # logit scale of the model, for the softmax over words

    @classmethod
    def of(cls, encoder: Encoder, words: Sequence[str]) -> NameVocabulary:
        """Encode words, each in a few templates; "a dog" and "dog" are both possible."""
        unique = tuple(dict.fromkeys(words))
        embeddings = embed_texts(encoder, expand(unique, TEMPLATES))
        starts = np.arange(0, len(embeddings), len(TEMPLATES))
        return cls(unique, sphere_mean(embeddings, starts), encoder.logit_scale)

    def probabilities(self, rows: Rows, members: NDArray[np.intp], clusters: int) -> FloatArray:
        """Mean probability of each word over the pictures of each cluster, (clusters, W); rows sum to one.

        `rows` are embeddings (N, dim) in any floating-point precision, `members` the cluster of each.
        """
        total = np.zeros((clusters, len(self.words)), np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            cosines = rows[start : start + BLOCK_ROWS].astype(np.float32) @ self.rows.T
            probabilities = softmax(self.scale * cosines)  # (n, W)
            mine = members[start : start + BLOCK_ROWS]
            for k in np.unique(mine):
                total[k] += probabilities[mine == k].sum(0)
        mean: FloatArray = total / np.maximum(total.sum(1, keepdims=True), 1e-12)
        return mean


def read_words(path: Path | None = None) -> list[str]:
    """Read words from a file of labels (`diptych.zeroshot.label_files`); by default the built-in list.

    Raises
    ------
    TextError
        The file cannot be read, or holds no words.
    """
    if path is not None:
        return list(read_labels_file(path))
    text = (files("diptych.catalog") / "data" / "words.txt").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def name_clusters(
    words: Sequence[str],
    probabilities: FloatArray,
    sizes: NDArray[np.intp],
    *,
    several: int = 3,
) -> list[tuple[str, ...]]:
    """The most characteristic words of each cluster, best first, without articles.

    The first words are all different.

    Parameters
    ----------
    words : sequence of W str
    probabilities : (K, W) float32
        As `NameVocabulary.probabilities` returns them.
    sizes : (K,) integers
        Number of pictures of each cluster.
    several : int
        Words per cluster.

    Examples
    --------
    >>> probabilities = np.float32([[0.6, 0.3, 0.1], [0.6, 0.1, 0.3]])
    >>> name_clusters(["a dog", "snow", "the sea"], probabilities, np.array([10, 10]), several=1)
    [('snow',), ('sea',)]
    """
    usual = np.average(probabilities, axis=0, weights=np.maximum(sizes, 1e-9))
    # The logarithm is negative for words that are rarer here than elsewhere: they come last.
    scores = probabilities * np.log(np.maximum(probabilities, 1e-12) / np.maximum(usual, 1e-12))  # (K, W)
    named = [bare(word) for word in words]
    best = _distinct(scores)
    names = []
    for row, first in zip(scores, best, strict=True):
        chosen = [named[first]]
        for column in np.argsort(-row, kind="stable"):
            if len(chosen) >= several or row[column] <= 0:
                break
            # "dog, dog in the snow" would waste a word.
            if not any(_overlap(named[column], word) for word in chosen):
                chosen.append(named[column])
        names.append(tuple(chosen))
    return names


def bare(word: str) -> str:
    """Remove the article of a word.

    Examples
    --------
    >>> bare("a dog in the snow"), bare("the sea"), bare("Pasta")
    ('dog in the snow', 'sea', 'Pasta')
    """
    for article in _ARTICLES:
        if word.lower().startswith(article) and len(word) > len(article):
            return word[len(article) :]
    return word


def _distinct(scores: FloatArray) -> list[int]:
    """A different column for each row; the row that loses most by its second choice goes first."""
    free = scores.astype(np.float64)
    chosen = [0] * len(free)
    remaining = list(range(len(free)))
    while remaining:
        rows = free[remaining]
        best = rows.max(1)
        loss = best - np.partition(rows, -2, axis=1)[:, -2] if rows.shape[1] > 1 else best
        # E.g. cluster 1 scores "snow" 0.30 and "ski" 0.28, cluster 2 "snow" 0.25 and "tree" 0.05: cluster 2
        # would lose 0.20 and chooses first, cluster 1 then gets "ski".
        at = int(np.lexsort((-best, -loss))[0])
        row = remaining.pop(at)
        chosen[row] = int(free[row].argmax())
        free[:, chosen[row]] += _PENALTY  # chosen again only if there are more clusters than words
    return chosen


def _overlap(a: str, b: str) -> bool:
    """Whether the words of one name contain all words of the other: "dog" and "dog in the snow"."""
    words_a, words_b = set(a.lower().split()), set(b.lower().split())
    return words_a <= words_b or words_b <= words_a
