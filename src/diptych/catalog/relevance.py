"""Relevance of search hits: cosines calibrated to a figure from 0 to 1, with a cut-off that needs no labels.

Every query has a nearest picture; a cosine alone does not say whether it matches. A high cosine is 0.3 in
OpenAI's models, 0.1 in SigLIP's and 0.7 in the default one, and some pictures are near to every text. Two
comparisons remove both effects.

*With other queries.* Some hundred everyday texts (`data/background.txt`) are compared with every picture as
well. With m the mean embedding of the background texts, a picture x and a query q,

    z = (q.x - m.x) / spread

says by how many standard deviations the query matches the picture better than an everyday text does; the
spread is that of the cosines of the background texts over a sample of the collection. Whatever a picture adds
to all its cosines cancels (the gap between pictures and texts, for example), and so does the scale of the
model.

*With other pictures.* The best of many is high by chance: the largest of N independent normal values is about
g(N), the normal quantile of 1 - 1/(N + 1), which is 1.7 for 20, 3.1 for 1,000 and 4.8 for a million. So

    noise = 0.53 g(N)    z of the best picture for a query that matches nothing
    match = z of the best picture for the tenth of the background texts that match best here

are two levels of this model on this collection, and the relevance is logistic between them: 0.12 at the noise
level, 0.5 half-way, which is the cut-off, and 0.88 at the match level. A more discriminative model has its
levels farther apart, which raises its cut-off.

E.g. noise 1.6 and match 3.6: z = 2.6 is half-way and gives 0.5; z = 3.1 gives 1 / (1 + exp(-4 * 0.5 / 2)) =
0.73.

0.53, the tenth and the slope of the logistic were fitted on the validation pictures of Flickr8k with the
default model. `benchmarks/cutoff.py` measures them on other collections (docs/cutoff.md), beside alternatives
that did worse: the z-score of a query over the collection discards whether the query belongs there at all.
Adjusting cosines by a bank of other queries: Bogolin et al. 2022 (arXiv 2112.12777). Growth of the largest of
many values: Fisher and Tippett 1928.
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

    Rows: TypeAlias = NDArray[np.floating[Any]]  # embeddings in single or half precision

QueryPart: TypeAlias = tuple[Literal["text", "picture"], float]

DEFAULT_CUTOFF = 0.5
"""Hits of a lower relevance are not shown: half-way between the levels of noise and match."""

TEXT: tuple[QueryPart, ...] = (("text", 1.0),)
"""A query of one text."""

_NOISE = 0.53  # of g(N), the level that unrelated pictures reach; below 1, since pictures are correlated
# Quantile of the best hits of background texts that counts as a match: most match nothing here.
_MATCHING = 0.9
_MATCHING_PICTURES = 0.5  # for queries by picture, compared with the collection's own, which all belong there
_SLOPE = 4.0  # logistic units between the two levels
_LEAST_GAP = 0.5  # between the levels, for models that cannot tell anything apart
_LEAST_SPREAD = 1e-3  # about the rounding error of cosines of half-precision rows
_FEW = 8  # fewer embeddings than this give no statistics
_HEADER = struct.Struct("<8sII")
_MAGIC = b"diptybg1"


@cache
def background_texts() -> tuple[str, ...]:
    """The everyday texts of `data/background.txt`.

    Examples
    --------
    >>> len(background_texts()), background_texts()[0]
    (374, 'a portrait of a man with a beard')
    """
    text = (files("diptych.catalog") / "data" / "background.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


@dataclass(frozen=True, eq=False)
class Background:
    """Embeddings of the everyday texts, (B, D) float32 of length one, stored beside the vectors."""

    rows: FloatArray

    @classmethod
    def of(cls, encoder: Encoder) -> Background:
        """Encode the everyday texts; a few seconds on a large model."""
        return cls(embed_texts(encoder, background_texts()))

    def to_bytes(self) -> bytes:
        """Serialise: a header of 16 bytes, then the rows as little-endian float32.

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
            The bytes are of another kind, or incomplete.
        """
        head, rows = data[: _HEADER.size], data[_HEADER.size :]
        if len(head) == _HEADER.size:
            magic, count, dim = _HEADER.unpack(head)
            if magic == _MAGIC and count * dim * 4 == len(rows):
                return cls(np.frombuffer(rows, "<f4").astype(np.float32).reshape(count, dim))
        raise DataError(f"these {len(data)} bytes are not a background: compute it again with Background.of")


@dataclass(frozen=True, eq=False)
class RelevanceScale:
    """Maps cosines to relevances, for one kind of query on one collection.

    Attributes
    ----------
    mean : (D,) float32
        Mean embedding of the queries compared with.
    spread : float
        Standard deviation of their cosines over the collection, around the cosine of the mean; infinite if
        the data are too few.
    best : float
        z of the best of `sampled` pictures, for those of these queries that match best.
    sampled : int
    """

    mean: FloatArray
    spread: float
    best: float
    sampled: int

    @classmethod
    def of(cls, background: Background, sample: Rows, parts: Sequence[QueryPart] = TEXT) -> RelevanceScale:
        """Estimate the scale from a collection and from queries that are unrelated to it.

        Parameters
        ----------
        background : Background
            Of the encoder that embedded the collection.
        sample : (S, D) array
            Embeddings drawn from the collection at random; 2,000 are enough.
        parts : sequence of (kind, weight)
            The summands of a query: by default one text. A query is compared with others of the same
            composition, so a text plus a picture, or a text minus another, has a scale of its own. Pictures
            are replaced by pictures of the collection: a match is then as similar as the nearest other
            picture is to half of the pictures, so a collection of near-duplicates demands more.

        Raises
        ------
        InputError
            No rows, rows of another dimension than the background's, no parts, or a part of weight zero.
        """
        pictures = np.asarray(sample, dtype=np.float32)
        if pictures.ndim != 2 or not len(pictures) or pictures.shape[1:] != background.rows.shape[1:]:
            raise InputError(
                f"the sample has shape {pictures.shape}: expected at least one row of "
                f"{background.rows.shape[1]}"
            )
        if not parts or not all(np.isfinite(weight) and weight for _, weight in parts):
            raise InputError(f"the query's parts are {list(parts)}: expected weights other than 0")
        query_pictures = pictures[:0]
        if any(kind == "picture" for kind, _ in parts):
            # Disjoint halves: a picture must not match itself.
            query_pictures, pictures = pictures[::2], pictures[1::2]
        queries = _same_composition(parts, background.rows, query_pictures)
        if min(len(queries), len(background.rows)) < _FEW or (
            len(query_pictures) and len(query_pictures) < _FEW
        ):
            return cls(np.zeros(background.rows.shape[1], np.float32), np.inf, 0.0, 1)
        mean: FloatArray = queries.mean(axis=0)
        differences = pictures @ (queries - mean).T  # (S, B)
        # The median absolute deviation is robust to the few pictures that do match a text. Times 1.4826 it
        # equals the standard deviation of normal values.
        spread = max(1.4826 * float(np.median(np.abs(differences))), _LEAST_SPREAD)
        quantile = _MATCHING if any(kind == "text" for kind, _ in parts) else _MATCHING_PICTURES
        best = float(np.quantile(differences.max(axis=0), quantile)) / spread
        return cls(mean, spread, best, len(pictures))

    def noise(self, size: int) -> float:
        """Z of the best of `size` pictures for a query that matches nothing."""
        return _NOISE * largest(size)

    def match(self, size: int) -> float:
        """Z of the best of `size` pictures for a query that matches something.

        The gap above the noise is that of the sample; the noise itself grows with the number of pictures.
        """
        gap = self.best - self.noise(self.sampled)
        return self.noise(size) + max(gap, _LEAST_GAP)

    def relevance(self, cosines: Rows, hits: Rows, *, size: int) -> FloatArray:
        """The relevance of hits to their query.

        Parameters
        ----------
        cosines : (K,) array
            Of the hits to the query.
        hits : (K, D) array
            Their embeddings, in any floating-point precision.
        size : int
            Number of pictures that were searched.

        Returns
        -------
        (K,) float32
            From 0 to 1, increasing with the cosine of a given picture. On the data it was fitted on, the
            figure of the best hit is the probability that the query is about something in the collection, at
            even prior odds; a lower hit is rated as if it were the best.

        Raises
        ------
        InputError
            Other shapes, or a size below 1.

        Examples
        --------
        200 pictures, each near to a text of its own, and 100 further texts that match no picture:

        >>> def unit(rows):
        ...     return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        >>> draw = np.random.default_rng(0)
        >>> texts = unit(draw.normal(size=(300, 64)))
        >>> pictures = unit(draw.normal(size=(200, 64)) + 6 * texts[:200])
        >>> gauge = RelevanceScale.of(Background(texts), pictures)
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
            return np.full(len(near), DEFAULT_CUTOFF, np.float32)  # too little data: hide nothing
        noise, match = self.noise(size), self.match(size)
        z = (near - rows @ self.mean) / self.spread
        odds = _SLOPE * (z - (noise + match) / 2) / (match - noise)
        # The logistic function, written so that it cannot overflow. NaN, of a damaged row, becomes 0.
        relevances = 0.5 + 0.5 * np.tanh(0.5 * np.nan_to_num(odds, nan=-np.inf))
        return relevances.astype(np.float32)


def largest(size: int) -> float:
    """The approximate expectation of the largest of `size` independent standard normal values.

    Examples
    --------
    >>> [round(largest(size), 2) for size in (2, 20, 1000, 1_000_000)]
    [0.43, 1.67, 3.09, 4.75]
    """
    return -NormalDist().inv_cdf(1 / (size + 1))


def _same_composition(parts: Sequence[QueryPart], texts: FloatArray, pictures: FloatArray) -> FloatArray:
    """Unit embeddings of queries with the same composition, from everyday texts and pictures, (B, D)."""
    if len(parts) == 1 and parts[0][1] > 0:
        return texts if parts[0][0] == "text" else pictures
    if not len(pictures) and any(kind == "picture" for kind, _ in parts):
        return pictures
    draw = np.random.default_rng(0)  # fixed: equal input gives equal figures
    total: FloatArray = np.zeros_like(texts)
    for kind, weight in parts:
        rows = texts if kind == "text" else pictures
        total += np.float32(weight) * rows[draw.permutation(len(texts)) % len(rows)]
    total /= np.maximum(np.linalg.norm(total, axis=1, keepdims=True), np.float32(1e-6))
    return total
