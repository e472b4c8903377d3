"""Visual words: what a picture has in common with its parts, whatever their place, size and surroundings.

Spots that stand out from their surroundings at their own scale (extrema of differences of Gaussians, D. Lowe,
2004) are described by the low frequencies around them and named by the nearest of a fixed set of words
(J. Sivic and A. Zisserman, "Video Google", 2003). A cut, framed or pasted picture keeps most of its spots, so
the pictures that share rare words are the ones to compare. No model and nothing learned: the vocabulary is
drawn from a seed. Words propose; whether it is so is for `verdicts` to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

    VisualWords = NDArray[np.uint16]

SIDE = 192  # pixels of the longer side that is looked at
SPOTS = 96  # of a picture, the strongest
PROBES = 3  # nearest words of a spot that are asked for; the first is what it is known by
VOCABULARY = 16_384
CONTRAST = 1.0  # least difference of Gaussians, of 255
_SCALES = 1.3 * 2 ** (np.arange(10) / 3)  # standard deviations, pixels
_REACH = 6.0  # of the square around a spot, in its scale: half its side
_GRID = 8  # samples of that square a side
# Frequencies that describe it, and how they spread, measured on 290,000 spots of photographs.
_FREQUENCIES = [(row, column) for row in range(5) for column in range(5) if 0 < row + column <= 6]
_SPREAD = np.array(
    (
        *(0.42, 0.30, 0.20, 0.22, 0.44, 0.22, 0.19, 0.14, 0.09, 0.30, 0.19),
        *(0.20, 0.10, 0.12, 0.21, 0.14, 0.10, 0.10, 0.22, 0.08, 0.12),
    ),
    np.float32,
)
_SHARE = 300  # a word that more than one picture in so many has says nothing
_ALWAYS = 64  # pictures that may have a word however small the collection


def extract_visual_words(image: Image.Image) -> VisualWords:
    """The words of a picture, (n, `PROBES`), the nearest of each spot first; n is at most `SPOTS`.

    Parameters
    ----------
    image : PIL.Image.Image
        Upright, grey or RGB.

    Examples
    --------
    >>> spots = np.random.default_rng(0).integers(0, 256, (18, 24, 3), np.uint8)
    >>> noise = Image.fromarray(spots).resize((120, 90))
    >>> words, part = extract_visual_words(noise), extract_visual_words(noise.crop((20, 10, 110, 80)))
    >>> len(np.intersect1d(words[:, 0], part[:, 0])) >= 10
    True
    """
    scale = SIDE / max(image.size)
    size = max(round(image.width * scale), 16), max(round(image.height * scale), 16)
    small = image.convert("L").resize(size, Image.Resampling.BICUBIC)
    levels = _blurred(np.asarray(small, np.float32))
    spots = _spots(levels)
    if not len(spots):
        return np.zeros((0, PROBES), np.uint16)
    near = _described(levels, spots) @ _vocabulary().T  # (n, VOCABULARY)
    words = np.empty((len(spots), PROBES), np.uint16)
    for probe in range(PROBES):  # three times the largest is faster than sorting
        nearest = near.argmax(axis=1)
        words[:, probe] = nearest
        near[np.arange(len(spots)), nearest] = -2
    return words


class VisualWordIndex:
    """Which pictures have which words.

    Parameters
    ----------
    contents : sequence of int
    words : mapping
        Content -> its words, (n, `PROBES`); pictures that are missing have none.

    Examples
    --------
    >>> one, two = (np.array(words, np.uint16) for words in ([[1, 5, 6]], [[2, 5, 6]]))
    >>> VisualWordIndex([10, 20, 30], {10: one, 20: two}).nearest(one, 5)
    [10]
    """

    def __init__(self, contents: Sequence[int], words: Mapping[int, VisualWords]) -> None:
        self.contents = np.asarray(contents, np.int64)
        known = [np.unique(words[one][:, 0]) if one in words else _NO_WORDS for one in contents]
        each = np.concatenate([_NO_WORDS, *known])
        order = np.argsort(each, kind="stable")
        self._owners = np.repeat(np.arange(len(known), dtype=np.int32), [len(one) for one in known])[order]
        self._starts = np.searchsorted(each[order], np.arange(VOCABULARY + 1))
        lengths = np.diff(self._starts)
        self._weights = np.log(max(len(known), 2) / np.maximum(lengths, 1)) ** 2 + 1e-3
        self._weights[lengths > max(len(known) / _SHARE, _ALWAYS)] = 0

    def nearest(self, words: VisualWords, most: int) -> list[int]:
        """Contents that share the rarest words with a picture, best first."""
        asked = np.unique(words)
        asked = asked[self._weights[asked] > 0]
        parts = [self._owners[self._starts[word] : self._starts[word + 1]] for word in asked.tolist()]
        if not parts:
            return []
        weights = np.repeat(self._weights[asked], [len(part) for part in parts])
        votes = np.bincount(np.concatenate(parts), weights, minlength=len(self.contents))
        best = np.argpartition(-votes, min(most, len(votes) - 1))[:most]
        best = best[votes[best] > 0]
        return [int(one) for one in self.contents[best[np.argsort(-votes[best], kind="stable")]]]


_NO_WORDS = np.zeros(0, np.uint16)


@cache
def _vocabulary() -> FloatArray:
    """Directions drawn from a seed, (VOCABULARY, F)."""
    drawn = np.random.default_rng(7).standard_normal((VOCABULARY, len(_FREQUENCIES)), np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


@cache
def _gaussians() -> FloatArray:
    """Transfer functions of the scales, (S, SIDE, SIDE / 2 + 1)."""
    y, x = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]
    return np.stack([np.exp(-2 * (np.pi * s) ** 2 * (y**2 + x**2)) for s in _SCALES]).astype(np.float32)


def _blurred(grey: FloatArray) -> FloatArray:
    """A picture at every scale, (S, h, w)."""
    height, width = grey.shape
    spectrum = np.fft.rfft2(grey - grey.mean(), (SIDE, SIDE))
    return np.asarray(np.fft.irfft2(spectrum * _gaussians(), (SIDE, SIDE))[:, :height, :width], np.float32)


def _spots(levels: FloatArray) -> NDArray[np.int64]:
    """(scale, y, x) of the strongest spots whose square is wholly inside, (n, 3)."""
    _, height, width = levels.shape
    differences = levels[1:] - levels[:-1]  # (S - 1, h, w)
    found, strengths = [], []
    for signed in (differences, -differences):
        middle = signed[1:-1, 1:-1, 1:-1]
        places = np.argwhere((middle >= _highest(signed)) & (middle > CONTRAST)) + 1
        found.append(places)
        strengths.append(signed[tuple(places.T)])
    spots = np.concatenate(found)
    reach = (_SCALES[spots[:, 0]] * _REACH)[:, None]
    inside = ((spots[:, 1:] >= reach - 1) & (spots[:, 1:] <= [height, width] - reach)).all(1)
    strongest = np.argsort(-np.concatenate(strengths)[inside], kind="stable")[:SPOTS]
    return np.asarray(spots[inside][strongest], np.int64)


def _highest(values: FloatArray) -> FloatArray:
    """The highest of each 3 x 3 x 3 values, at its middle."""
    for axis in range(3):
        ahead = [slice(None)] * 3
        parts = []
        for start, stop in ((0, -2), (1, -1), (2, None)):
            ahead[axis] = slice(start, stop)
            parts.append(values[tuple(ahead)])
        values = np.maximum(np.maximum(parts[0], parts[1]), parts[2])
    return values


def _described(levels: FloatArray, spots: NDArray[np.int64]) -> FloatArray:
    """Low frequencies of the squares around spots, whitened, of norm 1, (n, F)."""
    _, height, width = levels.shape
    steps = (np.arange(_GRID) - (_GRID - 1) / 2) / (_GRID / 2) * 0.9 * _REACH
    offsets = steps[None] * _SCALES[spots[:, 0], None]  # (n, GRID)
    y = np.clip(np.rint(spots[:, 1, None] + offsets), 0, height - 1).astype(np.int64)
    x = np.clip(np.rint(spots[:, 2, None] + offsets), 0, width - 1).astype(np.int64)
    squares = levels[spots[:, 0, None, None], y[:, :, None], x[:, None, :]]  # (n, GRID, GRID)
    cosines = np.cos(np.pi * np.arange(5)[:, None] * (np.arange(_GRID) + 0.5) / _GRID)  # (5, GRID)
    transformed = np.einsum("ky,nyx,lx->nkl", cosines, squares, cosines, optimize=True)
    rows = np.stack(
        [transformed[:, row, column] * np.sqrt(row + column) for row, column in _FREQUENCIES], axis=1
    )
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6) / _SPREAD
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), np.float32)
