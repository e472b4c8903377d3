"""Words for clusters: the ones that fit a cluster better than they fit the rest of the collection.

The word that fits a cluster best would not do: in an album of dogs that is "a dog" everywhere, and some words
lie near every picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diptych.errors import TextError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import Encoder, FloatArray

TEMPLATE = "a photo of {}."
_ARTICLES = ("a ", "an ", "the ")
_LAST = -1e6  # a score behind all others


@dataclass(frozen=True, eq=False)
class Words:
    """A vocabulary and its rows.

    Attributes
    ----------
    words : tuple of str, W of them
    rows : (W, dim) float32
    """

    words: tuple[str, ...]
    rows: FloatArray

    @classmethod
    def of(cls, encoder: Encoder, words: Sequence[str]) -> Words:
        """Encode words, each in a sentence; "a dog" and "dog" are both fine."""
        once = tuple(dict.fromkeys(words))
        texts = [word if word.endswith((".", "?", "!")) else TEMPLATE.format(word) for word in once]
        return cls(once, encoder.encode_texts(texts))


def read_words(path: Path | None = None) -> list[str]:
    """Words from a file, one a line, `#` before remarks; the package's own without a file.

    Raises
    ------
    TextError
        The file cannot be read, or holds no words.
    """
    try:
        source = files("diptych.catalog") / "data" / "words.txt" if path is None else path
        text = source.read_text(encoding="utf-8-sig" if path else "utf-8")
    except (OSError, UnicodeError) as error:
        raise TextError(f"the words in {path} cannot be read: {error}") from error
    lines = [line.strip() for line in text.splitlines()]
    words = [line for line in lines if line and not line.startswith("#")]
    if not words:
        raise TextError(f"{path} has no words: expected one a line")
    return words


def name_clusters(
    words: Words,
    means: FloatArray,
    middle: FloatArray,
    spread: FloatArray,
    *,
    taken: Sequence[set[str]] | None = None,
    several: int = 3,
) -> list[tuple[str, ...]]:
    """The most telling words of each cluster, the best first; the first ones are all different.

    Parameters
    ----------
    words : Words
    means : (K, dim) float32
        Of each cluster's rows.
    middle : (dim,) float32
        The mean of all rows.
    spread : (W,) float32
        How far the cosines of each word differ among the pictures (standard deviation): a word that hardly
        tells one picture from another would otherwise never win, and one that does always.
    taken : sequence of sets, optional
        For each cluster, first words that it may not have.
    several : int
        Words of a cluster.

    Returns
    -------
    list of tuple of str
        Articles taken off.
    """
    scores = ((means - middle) @ words.rows.T) / np.maximum(spread, 1e-6)  # (K, W)
    named = [bare(word) for word in words.words]
    best = _distinct(scores, named, taken or [set()] * len(means))
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


def _distinct(scores: FloatArray, named: Sequence[str], taken: Sequence[set[str]]) -> list[int]:
    """A column for each row, no word twice: who has most to lose by the second choice goes first."""
    free = scores.astype(np.float64)
    for row, words in zip(free, taken, strict=True):
        row[[column for column, word in enumerate(named) if word in words]] = _LAST
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


def spread_of(words: Words, rows: FloatArray) -> NDArray[np.float32]:
    """How far each word's cosines differ among rows (N, dim): their standard deviation, (W,)."""
    return (rows @ words.rows.T).std(axis=0)
