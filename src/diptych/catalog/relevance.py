"""Does anything here fit? A cosine as a figure from 0 to 1, with a cut-off that needs no labels.

The nearest picture to any query is always there; whether it fits is another question, and a cosine does not
answer it. What is high differs from model to model (0.3 in OpenAI's, 0.1 in SigLIP's, 0.7 in the default
one), and from picture to picture: some are near to every text. Two comparisons take that away.

*Beside other queries.* A few hundred everyday texts (`data/background.txt`) are asked of every picture as
well. With the mean row m of the background, a picture x and a query q,

    z = (q.x - m.x) / spread

says by how many standard deviations the query fits the picture better than an everyday text does; the spread
is that of the background's own cosines over a sample of the collection. Whatever a picture adds to all its
cosines, the gap between pictures and texts for one, cancels, and so does the model's scale.

*Beside other pictures.* The best of many is high by luck: of N independent normal values the largest is about
g(N), the normal quantile of 1 - 1/(N + 1), which is 1.7 for 20, 3.1 for 1,000 and 4.8 for a million. So

    noise = 0.53 g(N)                     what the best picture reaches for a query that nothing fits
    fit   = what the best picture reaches for the background's texts that fit best here, a tenth of them

are the two levels of this model on this collection, and the figure is logistic between them: 0.12 at the
noise, 0.5 half-way, which is the cut-off, and 0.88 at the fit. A model that tells things apart well has its
levels far apart, and its cut-off rises by itself.

0.53, the tenth and the logistic's slope were found on Flickr8k's validation pictures with the default model;
docs/cutoff.md tells what they are worth on others, by `benchmarks/cutoff.py`, beside ways that did worse: a
query's z-score over the collection throws away whether the query belongs there at all. Adjusting cosines by a
bank of other queries is Bogolin et al. 2022 (arXiv 2112.12777); how the largest of many grows, Fisher and
Tippett 1928.

Finding the hits is `nearest.py`'s business, showing them `search.py`'s.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from diptych.embedding.batches import embed_texts
from diptych.encoder import Encoder
from diptych.errors import DataError, InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

    Rows: TypeAlias = NDArray[np.floating[Any]]  # single or half precision

Part: TypeAlias = tuple[Literal["text", "picture"], float]

DEFAULT_CUTOFF = 0.5
"""Hits of a lower figure are not shown: half-way between noise and fit."""

TEXT: tuple[Part, ...] = (("text", 1.0),)
"""A query of one text."""

_NOISE = 0.53  # part of the largest of N normal values that unrelated pictures reach
_FITTING = 0.9  # quantile of the background's best hits that counts as fitting: most texts belong elsewhere
_FITTING_PICTURES = 0.5  # where the collection's own pictures ask: all of them belong there
_STEEP = 4.0  # logistic units from noise to fit
_LEAST_GAP = 0.5  # between the levels, where a model cannot tell anything apart
_LEAST_SPREAD = 1e-3  # half-precision rows round their cosines by about so much
_FEW = 8  # fewer rows to compare with say nothing
_HEADER = struct.Struct("<8sII")
_MAGIC = b"diptybg1"


@cache
def background_texts() -> tuple[str, ...]:
    """The everyday texts, as `data/background.txt` has them.

    Examples
    --------
    >>> len(background_texts()), background_texts()[0]
    (374, 'a portrait of a man with a beard')
    """
    text = (files("diptych.catalog") / "data" / "background.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


@dataclass(frozen=True, eq=False)
class Background:
    """Everyday texts in an encoder's space: made once for an encoder, and kept beside its vectors.

    Attributes
    ----------
    rows : (B, D) float32
        Unit rows.
    """

    rows: FloatArray

    @classmethod
    def of(cls, encoder: Encoder) -> Background:
        """Embed the everyday texts; a few seconds on a large model."""
        return cls(embed_texts(encoder, background_texts()))

    def to_bytes(self) -> bytes:
        """For a file or a database: a header of 16 bytes, then the rows.

        Examples
        --------
        >>> kept = Background(np.eye(2, 3, dtype=np.float32)).to_bytes()
        >>> len(kept), Background.from_bytes(kept).rows.tolist()
        (40, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        """
        return _HEADER.pack(_MAGIC, *self.rows.shape) + self.rows.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Background:
        """Read what `to_bytes` wrote.

        Raises
        ------
        DataError
            Other bytes, or not all of them.
        """
        head, rows = data[: _HEADER.size], data[_HEADER.size :]
        if len(head) == _HEADER.size:
            magic, count, dim = _HEADER.unpack(head)
            if magic == _MAGIC and count * dim * 4 == len(rows):
                return cls(np.frombuffer(rows, "<f4").astype(np.float32).reshape(count, dim))
        raise DataError(f"these {len(data)} bytes are no background: make it again with Background.of")


@dataclass(frozen=True, eq=False)
class Gauge:
    """The measure of one kind of query on one collection; the same for all queries made alike.

    Attributes
    ----------
    mean : (D,) float32
        Mean row of the queries compared with.
    spread : float
        Of their cosines over the collection, around that mean's; infinite where too little is known.
    best : float
        What the best of `sampled` pictures reaches for those of them that fit best, in spreads.
    sampled : int
    """

    mean: FloatArray
    spread: float
    best: float
    sampled: int

    @classmethod
    def of(cls, background: Background, sample: Rows, parts: Sequence[Part] = TEXT) -> Gauge:
        """Look at a collection through queries that have nothing to do with it.

        Parameters
        ----------
        background : Background
            Of the encoder that made the collection.
        sample : (S, D) array
            Rows of the collection drawn at random; 2,000 are plenty.
        parts : sequence of (kind, weight)
            What a query is made of: by default one text. A query is compared with others made in the same
            way, so one of a text and a picture, or of a text less another, is judged by its own scale.
            Pictures are compared with pictures of the collection: "fits" means as much alike as half of its
            pictures have another one, so a collection of near copies asks for more.

        Raises
        ------
        InputError
            No rows, rows of another length than the background's, no parts, or parts that weigh nothing.
        """
        seen = np.asarray(sample, dtype=np.float32)
        if seen.ndim != 2 or not len(seen) or seen.shape[1:] != background.rows.shape[1:]:
            raise InputError(
                f"the sample has shape {seen.shape}: expected at least one row of {background.rows.shape[1]}"
            )
        if not parts or not all(np.isfinite(weight) and weight for _, weight in parts):
            raise InputError(f"the query's parts are {list(parts)}: expected weights other than 0")
        others = seen[:0]
        if any(kind == "picture" for kind, _ in parts):
            others, seen = seen[::2], seen[1::2]  # apart: a picture is no evidence about itself
        asked = _like(parts, background.rows, others)
        if min(len(asked), len(background.rows)) < _FEW or (len(others) and len(others) < _FEW):
            return cls(np.zeros(background.rows.shape[1], np.float32), np.inf, 0.0, 1)
        mean: FloatArray = asked.mean(axis=0)
        apart = seen @ (asked - mean).T  # (S, B)
        # The median is not moved by the pictures that do fit one of the texts; 1.4826 makes it a standard
        # deviation where values are normal.
        spread = max(1.4826 * float(np.median(np.abs(apart))), _LEAST_SPREAD)
        fitting = _FITTING if any(kind == "text" for kind, _ in parts) else _FITTING_PICTURES
        best = float(np.quantile(apart.max(axis=0), fitting)) / spread
        return cls(mean, spread, best, len(seen))

    def noise(self, size: int) -> float:
        """What the best of `size` pictures reaches for a query that nothing fits, in spreads."""
        return _NOISE * largest(size)

    def fit(self, size: int) -> float:
        """The same for a query that something fits: as sampled, and as much more as luck adds."""
        seen = self.best - self.noise(self.sampled)
        return self.noise(size) + max(seen, _LEAST_GAP)

    def relevance(self, cosines: Rows, hits: Rows, *, size: int) -> FloatArray:
        """How surely each hit fits its query.

        Parameters
        ----------
        cosines : (K,) array
            Of the hits to the query.
        hits : (K, D) array
            Their rows; half precision will do.
        size : int
            How many pictures could have been hits.

        Returns
        -------
        (K,) float32
            From 0 to 1, and for one picture higher with a higher cosine. On the data it was found on it is
            the probability that a query whose best hit looks like this is about something in the collection,
            if it is as often as not; of a lower hit it says how it would do as the best.

        Raises
        ------
        InputError
            Other shapes, or a size below 1.

        Examples
        --------
        Two hundred pictures, each near to a text of its own, and a hundred texts that none is near to:

        >>> def unit(rows):
        ...     return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        >>> draw = np.random.default_rng(0)
        >>> texts = unit(draw.normal(size=(300, 64)))
        >>> pictures = unit(draw.normal(size=(200, 64)) + 6 * texts[:200])
        >>> gauge = Gauge.of(Background(texts), pictures)
        >>> def best(text):
        ...     return gauge.relevance(pictures @ text, pictures, size=200).max()
        >>> print(f"there {best(texts[7]):.1f}, not there {best(texts[250]):.1f}")
        there 0.9, not there 0.3
        """
        near, rows = np.asarray(cosines, dtype=np.float32), np.asarray(hits, dtype=np.float32)
        if near.ndim != 1 or rows.shape != (len(near), len(self.mean)) or size < 1:
            raise InputError(
                f"{near.shape} cosines and {rows.shape} rows out of {size}: expected (K,) and "
                f"(K, {len(self.mean)}) out of 1 or more"
            )
        if not np.isfinite(self.spread):
            return np.full(len(near), DEFAULT_CUTOFF, np.float32)  # nothing known: nothing hidden
        noise, fit = self.noise(size), self.fit(size)
        z = (near - rows @ self.mean) / self.spread
        odds = _STEEP * (z - (noise + fit) / 2) / (fit - noise)
        figures = 0.5 + 0.5 * np.tanh(0.5 * np.nan_to_num(odds, nan=-np.inf))  # logistic, without overflow
        return figures.astype(np.float32)


def largest(size: int) -> float:
    """About what the largest of so many independent standard normal values is.

    Examples
    --------
    >>> [round(largest(size), 2) for size in (2, 20, 1000, 1_000_000)]
    [0.43, 1.67, 3.09, 4.75]
    """
    return -NormalDist().inv_cdf(1 / (size + 1))


def _like(parts: Sequence[Part], texts: FloatArray, pictures: FloatArray) -> FloatArray:
    """Unit rows of queries made like this one, of everyday texts and of pictures, (B, D)."""
    if len(parts) == 1 and parts[0][1] > 0:
        return texts if parts[0][0] == "text" else pictures
    if not len(pictures) and any(kind == "picture" for kind, _ in parts):
        return pictures
    draw = np.random.default_rng(0)  # the same figures every time
    total: FloatArray = np.zeros_like(texts)
    for kind, weight in parts:
        rows = texts if kind == "text" else pictures
        total += np.float32(weight) * rows[draw.permutation(len(texts)) % len(rows)]
    total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), np.float32(1e-6))
    return total
