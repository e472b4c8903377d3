"""Words for clusters: the ones that fit a cluster better than they fit the rest of the collection.

The word that fits a cluster best would not do: in an album of dogs that is "a dog" everywhere, and some words
lie near every picture. Each picture shares itself out among all words, as a zero-shot classifier does; a
cluster is called by the word that has the largest share of it beyond its usual one, p log(p / usual), which
is what that word adds to the divergence of the two distributions (Kullback and Leibler 1951).
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
_LAST = -1e6  # a score behind all others


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """A vocabulary and its rows.

    Attributes
    ----------
    words : tuple of str, W of them
    rows : (W, dim) float32
        Of length one.
    scale : float
        The model's own, by which cosines become shares.
    """

    words: tuple[str, ...]
    rows: FloatArray
    scale: float

    @classmethod
    def of(cls, encoder: Encoder, words: Sequence[str]) -> Vocabulary:
        """Encode words, each in a few sentences; "a dog" and "dog" are both fine."""
        once = tuple(dict.fromkeys(words))
        made = embed_texts(encoder, expand(once, TEMPLATES))
        return cls(once, sphere_mean(made, np.arange(0, len(made), len(TEMPLATES))), encoder.logit_scale)

    def shares(self, rows: Rows, members: NDArray[np.intp], clusters: int) -> FloatArray:
        """How much each word has of each cluster's pictures, (clusters, W); a row sums to one.

        Parameters
        ----------
        rows : (N, dim) array
            Half precision will do.
        members : (N,) integers
            The cluster of each.
        clusters : int
        """
        total = np.zeros((clusters, len(self.words)), np.float32)
        for start in range(0, len(rows), BLOCK_ROWS):
            cosines = rows[start : start + BLOCK_ROWS].astype(np.float32) @ self.rows.T
            shared = softmax(self.scale * cosines)  # (n, W)
            mine = members[start : start + BLOCK_ROWS]
            for k in np.unique(mine):
                total[k] += shared[mine == k].sum(0)
        found: FloatArray = total / np.maximum(total.sum(1, keepdims=True), 1e-12)
        return found


def read_words(path: Path | None = None) -> list[str]:
    """Words from a file of labels (`diptych.zeroshot.label_files`); the package's own without a file.

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
    shares: FloatArray,
    sizes: NDArray[np.intp],
    *,
    several: int = 3,
) -> list[tuple[str, ...]]:
    """The most telling words of each cluster, the best first; the first ones are all different.

    Parameters
    ----------
    words : sequence of W str
    shares : (K, W) float32
        As `Vocabulary.shares` gives them.
    sizes : (K,) integers
        Pictures of each cluster.
    several : int
        Words of a cluster.

    Returns
    -------
    list of tuple of str
        Articles taken off.

    Examples
    --------
    >>> shares = np.float32([[0.6, 0.3, 0.1], [0.6, 0.1, 0.3]])
    >>> name_clusters(["a dog", "snow", "the sea"], shares, np.array([10, 10]), several=1)
    [('snow',), ('sea',)]
    """
    usual = np.average(shares, axis=0, weights=np.maximum(sizes, 1e-9))
    scores = shares * np.log(np.maximum(shares, 1e-12) / np.maximum(usual, 1e-12))  # (K, W)
    named = [bare(word) for word in words]
    best = _distinct(scores)
    answers = []
    for row, first in zip(scores, best, strict=True):
        chosen = [named[first]]
        for column in np.argsort(-row, kind="stable"):
            if len(chosen) >= several or row[column] <= 0:
                break
            if not any(_alike(named[column], one) for one in chosen):
                chosen.append(named[column])
        answers.append(tuple(chosen))
    return answers


def bare(word: str) -> str:
    """A word as a label has it.

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
    """A column for each row, no word twice: who has most to lose by the second choice goes first."""
    free = scores.astype(np.float64)
    chosen = [0] * len(free)
    left = list(range(len(free)))
    while left:
        rows = free[left]
        best = rows.max(1)
        loss = best - np.partition(rows, -2, axis=1)[:, -2] if rows.shape[1] > 1 else best
        at = int(np.lexsort((-best, -loss))[0])
        row = left.pop(at)
        chosen[row] = int(free[row].argmax())
        free[:, chosen[row]] += _LAST  # far behind: only more clusters than words bring it back
    return chosen


def _alike(one: str, other: str) -> bool:
    """Whether one says part of the other: "dog" and "dog in the snow"."""
    a, b = set(one.lower().split()), set(other.lower().split())
    return a <= b or b <= a
