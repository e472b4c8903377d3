"""Visual words: local features that a picture shares with its parts, at any location, size and background.

Keypoints are extrema of differences of Gaussians (D. Lowe, 2004). Each is described by the low frequencies
around it and quantised to the nearest word of a fixed vocabulary (J. Sivic and A. Zisserman, "Video Google",
2003). A cropped, framed or pasted picture keeps most of its keypoints, so pictures that share rare words are
candidates for a comparison, which `verdicts` decides. Nothing is learned: the vocabulary is drawn from a
seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from diptych.matching.pixels import fitting_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

    VisualWords = NDArray[np.uint16]

SIDE = 192  # longer side of the picture in which keypoints are detected, pixels
KEYPOINTS = 96  # the strongest of a picture
PROBES = 3  # nearest words of a keypoint in a query; indexed pictures are listed under the first one only
VOCABULARY = 16_384
CONTRAST = 1.0  # least difference of Gaussians, of 255
_SCALES = 1.3 * 2 ** (np.arange(10) / 3)  # standard deviations of the Gaussians, pixels
_REACH = 6.0  # half the side of the square around a keypoint, in units of its scale
_GRID = 8  # samples per side of that square
# Frequencies of the descriptor, and their standard deviations, measured on 290,000 keypoints of photographs.
_FREQUENCIES = [(row, column) for row in range(5) for column in range(5) if 0 < row + column <= 6]
_SPREAD = np.array(
    (
        *(0.42, 0.30, 0.20, 0.22, 0.44, 0.22, 0.19, 0.14, 0.09, 0.30, 0.19),
        *(0.20, 0.10, 0.12, 0.21, 0.14, 0.10, 0.10, 0.22, 0.08, 0.12),
    ),
    np.float32,
)
_COMMON = 300  # a word in more than one of so many pictures is ignored, like a stop word
_ALWAYS_RARE = 64  # a word in at most so many pictures is never ignored


def extract_visual_words(image: Image.Image) -> VisualWords:
    """The words of the keypoints of an upright picture, (n, `PROBES`), the nearest first.

    n is at most `KEYPOINTS`.

    Examples
    --------
    >>> spots = np.random.default_rng(0).integers(0, 256, (18, 24, 3), np.uint8)
    >>> noise = Image.fromarray(spots).resize((120, 90))
    >>> words, part = extract_visual_words(noise), extract_visual_words(noise.crop((20, 10, 110, 80)))
    >>> len(np.intersect1d(words[:, 0], part[:, 0])) >= 10
    True
    """
    small = image.convert("L").resize(fitting_size(image.size, SIDE, least=16), Image.Resampling.BICUBIC)
    levels = _blurred(np.asarray(small, np.float32))
    keypoints = _detect(levels)
    if not len(keypoints):
        return np.zeros((0, PROBES), np.uint16)
    cosines = _describe(levels, keypoints) @ _vocabulary().T  # (n, VOCABULARY)
    words = np.empty((len(keypoints), PROBES), np.uint16)
    for probe in range(PROBES):  # three maxima are faster than sorting
        nearest = cosines.argmax(axis=1)
        words[:, probe] = nearest
        cosines[np.arange(len(keypoints)), nearest] = -2
    return words


class VisualWordIndex:
    """Inverted index from visual words to pictures.

    The pictures of word w are `owners[starts[w] : starts[w + 1]]`. E.g. pictures 0 and 1 with words {5, 9}
    and {5}: the words [5, 9, 5] sorted are [5, 5, 9] with owners [0, 1, 0], so word 5 owns the slice 0..1 and
    word 9 the slice 2..2. A word is weighted by its squared inverse document frequency. `words` maps contents
    to their words, (n, `PROBES`); pictures that are missing have none.

    Examples
    --------
    >>> a, b = (np.array(words, np.uint16) for words in ([[1, 5, 6]], [[2, 5, 6]]))
    >>> VisualWordIndex([10, 20, 30], {10: a, 20: b}).nearest(a, 5)
    [10]
    """

    def __init__(self, contents: Sequence[int], words: Mapping[int, VisualWords]) -> None:
        self.contents = np.asarray(contents, np.int64)
        by_picture = [
            np.unique(words[content][:, 0]) if content in words else _NO_WORDS for content in contents
        ]
        pictures = len(by_picture)
        all_words = np.concatenate([_NO_WORDS, *by_picture])
        order = np.argsort(all_words, kind="stable")
        owners = np.repeat(np.arange(pictures, dtype=np.int32), [len(own_words) for own_words in by_picture])
        self._owners = owners[order]
        self._starts = np.searchsorted(all_words[order], np.arange(VOCABULARY + 1))
        lengths = np.diff(self._starts)
        self._weights = np.log(max(pictures, 2) / np.maximum(lengths, 1)) ** 2 + 1e-3
        self._weights[lengths > max(pictures / _COMMON, _ALWAYS_RARE)] = 0

    def nearest(self, words: VisualWords, most: int) -> list[int]:
        """Contents that share the rarest words with a picture, best first."""
        query_words = np.unique(words)
        query_words = query_words[self._weights[query_words] > 0]
        postings = [
            self._owners[self._starts[word] : self._starts[word + 1]] for word in query_words.tolist()
        ]
        if not postings:
            return []
        weights = np.repeat(self._weights[query_words], [len(posting) for posting in postings])
        votes = np.bincount(np.concatenate(postings), weights, minlength=len(self.contents))
        best = np.argpartition(-votes, min(most, len(votes) - 1))[:most]
        best = best[votes[best] > 0]
        return [int(content) for content in self.contents[best[np.argsort(-votes[best], kind="stable")]]]


_NO_WORDS = np.zeros(0, np.uint16)


@cache
def _vocabulary() -> FloatArray:
    """Random unit vectors, (VOCABULARY, F)."""
    drawn = np.random.default_rng(7).standard_normal((VOCABULARY, len(_FREQUENCIES)), np.float32)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)


@cache
def _gaussians() -> FloatArray:
    """Transfer functions of the Gaussians, (S, SIDE, SIDE / 2 + 1)."""
    y, x = np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None]
    return np.stack([np.exp(-2 * (np.pi * s) ** 2 * (y**2 + x**2)) for s in _SCALES]).astype(np.float32)


def _blurred(grey: FloatArray) -> FloatArray:
    """The picture blurred at every scale, (S, h, w); blurring multiplies the spectrum."""
    height, width = grey.shape
    spectrum = np.fft.rfft2(grey - grey.mean(), (SIDE, SIDE))
    return np.asarray(np.fft.irfft2(spectrum * _gaussians(), (SIDE, SIDE))[:, :height, :width], np.float32)


def _detect(levels: FloatArray) -> NDArray[np.int64]:
    """(scale, y, x) of the strongest keypoints whose square lies wholly inside the picture, (n, 3)."""
    _, height, width = levels.shape
    differences = levels[1:] - levels[:-1]  # (S - 1, h, w)
    extrema, strengths = [], []
    for signed in (differences, -differences):  # maxima, then minima
        middle = signed[1:-1, 1:-1, 1:-1]  # without the margins that lack a neighbour, hence the + 1 below
        peaks = np.argwhere((middle >= _local_maximum(signed)) & (middle > CONTRAST)) + 1
        extrema.append(peaks)
        strengths.append(signed[tuple(peaks.T)])
    keypoints = np.concatenate(extrema)
    reach = (_SCALES[keypoints[:, 0]] * _REACH)[:, None]
    inside = ((keypoints[:, 1:] >= reach - 1) & (keypoints[:, 1:] <= [height, width] - reach)).all(1)
    strongest = np.argsort(-np.concatenate(strengths)[inside], kind="stable")[:KEYPOINTS]
    return np.asarray(keypoints[inside][strongest], np.int64)


def _local_maximum(values: FloatArray) -> FloatArray:
    """Maximum over every 3 x 3 x 3 window, (a - 2, b - 2, c - 2); separable, so one axis after another."""
    for axis in range(3):
        ahead = [slice(None)] * 3
        parts = []
        for start, stop in ((0, -2), (1, -1), (2, None)):
            ahead[axis] = slice(start, stop)
            parts.append(values[tuple(ahead)])
        values = np.maximum(np.maximum(parts[0], parts[1]), parts[2])
    return values


def _describe(levels: FloatArray, keypoints: NDArray[np.int64]) -> FloatArray:
    """Descriptors: low frequencies (DCT) of the squares around keypoints, whitened, of norm 1, (n, F)."""
    _, height, width = levels.shape
    steps = (np.arange(_GRID) - (_GRID - 1) / 2) / (_GRID / 2) * 0.9 * _REACH
    offsets = steps[None] * _SCALES[keypoints[:, 0], None]  # (n, GRID)
    y = np.clip(np.rint(keypoints[:, 1, None] + offsets), 0, height - 1).astype(np.int64)
    x = np.clip(np.rint(keypoints[:, 2, None] + offsets), 0, width - 1).astype(np.int64)
    squares = levels[keypoints[:, 0, None, None], y[:, :, None], x[:, None, :]]  # (n, GRID, GRID)
    cosines = np.cos(np.pi * np.arange(5)[:, None] * (np.arange(_GRID) + 0.5) / _GRID)  # (5, GRID)
    transformed = np.einsum("ky,nyx,lx->nkl", cosines, squares, cosines, optimize=True)
    descriptors = np.stack(
        [transformed[:, row, column] * np.sqrt(row + column) for row, column in _FREQUENCIES], axis=1
    )
    descriptors = descriptors / np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-6) / _SPREAD
    norms = np.linalg.norm(descriptors, axis=1, keepdims=True)
    return np.asarray(descriptors / np.maximum(norms, 1e-6), np.float32)
