"""Perceptual hashes: 64 bits that stay nearly the same when a picture is encoded anew or resized.

Two pictures whose hashes differ in few bits are worth comparing; a hash proves nothing by itself, since flat
and dark pictures share theirs. Confirming is left to whoever has the encoder and the pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Hashes = NDArray[np.uint64]

_SIDE = 32  # pixels of the square whose frequencies are taken
_BITS = 8  # rows and columns of the hash
_BAND = 16  # bits of one of the four parts that hashes are looked up by
_BANDS = 64 // _BAND
_CANDIDATES = 2**22  # compared at once, about 100 MB
# Rows 1 to 8 of the discrete cosine transform (II) of 32 values; row 0, the mean, says only how bright it is.
_FREQUENCIES = np.arange(1, _BITS + 1)
_COSINES = np.cos(np.pi * _FREQUENCIES[:, None] * (np.arange(_SIDE) + 0.5) / _SIDE)  # (8, 32)


def difference_hash(image: Image.Image) -> int:
    """Whether it gets brighter from left to right, at 8 x 8 places.

    Parameters
    ----------
    image : PIL.Image.Image
        Upright RGB, as `load_image` gives it; half a thousand pixels a side are plenty.

    Returns
    -------
    int
        64 bits, row by row, the top left one highest.

    Notes
    -----
    N. Krawetz, "Kind of Like That" (2013). A flat picture gives 0.

    Examples
    --------
    >>> ramp = Image.linear_gradient("L").rotate(90)
    >>> hex(difference_hash(ramp))
    '0xffffffffffffffff'
    """
    grey = _grey(image, _BITS + 1, _BITS)  # (8, 9)
    return _packed(grey[:, 1:] > grey[:, :-1])


def perceptual_hash(image: Image.Image) -> int:
    """Which of the 64 lowest frequencies are stronger than the median one.

    Parameters
    ----------
    image : PIL.Image.Image
        Upright RGB, as `load_image` gives it.

    Returns
    -------
    int
        64 bits, from the lowest vertical frequency on, row by row, the first highest.

    Notes
    -----
    C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1. The
    smoothing before is Pillow's, which averages over all pixels. A flat picture gives 0.

    Examples
    --------
    >>> picture = Image.effect_mandelbrot((96, 64), (-2, -1, 1, 0.9), 90).convert("RGB")
    >>> smaller = picture.resize((48, 32), Image.Resampling.BICUBIC)
    >>> int(hamming(perceptual_hash(picture), perceptual_hash(smaller))) <= 4
    True
    """
    strengths = _COSINES @ _grey(image, _SIDE, _SIDE) @ _COSINES.T  # (8, 8)
    strengths = strengths.round(6)  # what is nothing must not become bits by rounding
    return _packed(strengths > np.median(strengths))


def hamming(a: ArrayLike, b: ArrayLike) -> NDArray[np.uint8]:
    """In how many bits hashes differ, 0 to 64.

    Parameters
    ----------
    a, b : array_like of uint64
        Of shapes that broadcast.

    Returns
    -------
    ndarray of uint8

    Examples
    --------
    >>> hamming([0b1011, 0], 0b0001)
    array([2, 1], dtype=uint8)
    """
    differing = np.asarray(a, np.uint64) ^ np.asarray(b, np.uint64)
    return np.asarray(np.bitwise_count(differing), np.uint8)


def near_pairs(hashes: ArrayLike, distance: int) -> NDArray[np.int64]:
    """All pairs of hashes that differ in at most so many bits, without comparing each with each.

    Parameters
    ----------
    hashes : array_like of uint64, shape (N,)
        Equal ones give all their pairs: collapse them with ``np.unique`` first where there are many.
    distance : int
        In bits. A million hashes take about a second up to 3, ten seconds up to 7, minutes beyond.

    Returns
    -------
    ndarray of int64, shape (P, 2)
        Positions i < j, sorted, each pair once.

    Raises
    ------
    ValueError
        Hashes that are no flat array, or a distance that is none.

    Notes
    -----
    Multi-index hashing (M. Norouzi, A. Punjani, D. Fleet, CVPR 2012): hashes that differ in 4r + a bits
    differ in at most r in one of the first a + 1 of their four parts, or in at most r - 1 in one of the
    others; only those that do are compared.

    Examples
    --------
    >>> near_pairs([0b1111, 0, 0b0111, 2**63], 1)
    array([[0, 2],
           [1, 3]])
    """
    values = np.asarray(hashes, np.uint64)
    if values.ndim != 1 or not 0 <= distance <= 64:
        raise ValueError(
            f"expected hashes of shape (N,) and a distance from 0 to 64, got {values.shape} and {distance}"
        )
    radius, spare = divmod(distance, _BANDS)
    found = [np.empty((0, 2), np.int64)]
    for band in range(_BANDS):
        reach = radius if band <= spare else radius - 1
        if reach >= 0:
            found.extend(_near_in_band(values, band, reach, distance))
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0)


def _grey(image: Image.Image, width: int, height: int) -> NDArray[np.float64]:
    """A small grey copy; colours go last, when there are few pixels left."""
    small = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(small.convert("L"), np.float64)  # (height, width)


def _packed(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _near_in_band(values: Hashes, band: int, reach: int, distance: int) -> Iterator[NDArray[np.int64]]:
    """Near pairs among those whose part differs in at most `reach` bits, by every pattern of such bits."""
    part = (values >> np.uint64(_BAND * band)).astype(np.uint16)
    order = np.argsort(part, kind="stable")
    values, part = values[order], part[order]  # hashes of one part now stand together
    ends = np.cumsum(np.bincount(part, minlength=2**_BAND))
    starts = np.concatenate(([0], ends[:-1]))
    patterns = np.arange(2**_BAND, dtype=np.uint16)
    for pattern in patterns[np.bitwise_count(patterns) <= reach]:
        if pattern == 0:
            left = np.arange(len(values))
            first, last = left + 1, ends[part]
        else:
            other = part ^ pattern
            left = np.flatnonzero(part < other)  # each two parts once
            first, last = starts[other[left]], ends[other[left]]
        for one, two in _compare(values, left, first, last, distance):
            yield np.stack([order[one], order[two]], axis=1)


def _compare(
    values: Hashes, left: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64], distance: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Of each left one and the run from `first` to `last`, the near pairs; many runs at once."""
    filled = last > first
    left, first = left[filled], first[filled]
    upto = np.cumsum(last[filled] - first)  # candidates up to and with each run
    done = 0
    while done < len(left):
        before = upto[done - 1] if done else 0
        stop = max(int(np.searchsorted(upto, before + _CANDIDATES, side="right")), done + 1)
        ends = upto[done:stop] - before
        lengths = np.diff(ends, prepend=0)
        places = np.arange(ends[-1]) + np.repeat(first[done:stop] - (ends - lengths), lengths)
        differing = np.repeat(values[left[done:stop]], lengths) ^ values[places]
        near = np.flatnonzero(np.bitwise_count(differing) <= distance)
        if len(near):
            yield left[done:stop][np.searchsorted(ends, near, side="right")], places[near]
        done = stop
