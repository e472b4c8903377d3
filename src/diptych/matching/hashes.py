"""Perceptual hashes: 64 bits that hardly change when a picture is compressed again or resized.

Two pictures whose hashes differ in few bits are candidates for a comparison. Equal hashes prove nothing,
since flat and dark pictures share theirs; callers confirm candidates by embeddings or pixels. Hashes of the
cells of regular grids find collages and framed pictures: a cell that shows a picture of the catalogue has
nearly the hash of that picture. Parts at other locations are proposed by visual words and vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

if TYPE_CHECKING:
    from diptych.encoder import FloatArray

Hashes = NDArray[np.uint64]
Box = tuple[int, int, int, int]

_SIDE = 32  # side of the square that is transformed, pixels
_BITS = 8  # rows and columns of the hash
_BAND = 16  # bits of each of the four bands that hashes are looked up by
_BANDS = 64 // _BAND
_CANDIDATES = 2**22  # pairs compared at once, about 100 MB
# Rows 1 to 8 of the discrete cosine transform (DCT-II) of 32 values. Row 0 is the mean brightness, which
# varies between copies.
_FREQUENCIES = np.arange(1, _BITS + 1)
_COSINES = np.cos(np.pi * _FREQUENCIES[:, None] * (np.arange(_SIDE) + 0.5) / _SIDE)  # (8, 32)
# The cells of a picture are its halves, quarters and ninths, each with and without a border of one colour,
# and the whole without its frame.
GRIDS = ((1, 1), (2, 1), (1, 2), (2, 2), (3, 3))  # columns and rows
CELL_IMAGE_SIDE = 256  # longer side that is cut into cells, pixels
MIN_CELL_SIDE = 16  # shorter side of a cell, pixels
BORDER_TOLERANCE = 32.0  # largest difference of a border pixel from the colour of the border, of 255
BORDER_OUTLIERS = 0.1  # fraction of the pixels of a border line that may differ more, by JPEG artefacts
MIN_CONTRAST = 10.0  # standard deviation of the brightness, of 255; below it a hash is meaningless


def difference_hash(image: Image.Image) -> int:
    """Difference hash: whether the brightness increases from left to right, at 8 x 8 locations.

    The picture is upright RGB, as `load_image` returns it; 500 pixels per side are enough. 64 bits in
    row-major order, the most significant first.

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
    """Perceptual hash: which of the 64 lowest frequencies exceed their median.

    The picture is upright RGB. 64 bits in row-major order (rows are vertical frequencies), the most
    significant first.

    Notes
    -----
    C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions" (2010), section 3.2.1. The
    smoothing is done by the resampling of Pillow. A flat picture gives 0.

    Examples
    --------
    >>> picture = Image.effect_mandelbrot((96, 64), (-2, -1, 1, 0.9), 90).convert("RGB")
    >>> smaller = picture.resize((48, 32), Image.Resampling.BICUBIC)
    >>> int(hamming(perceptual_hash(picture), perceptual_hash(smaller))) <= 4
    True
    """
    coefficients = _COSINES @ _grey(image, _SIDE, _SIDE) @ _COSINES.T  # (8, 8)
    coefficients = coefficients.round(6)  # rounding errors around 0 must not become random bits
    return _packed(coefficients > np.median(coefficients))


def hamming(a: ArrayLike, b: ArrayLike) -> NDArray[np.uint8]:
    """Hamming distance of hashes (uint64, shapes that broadcast together), 0 to 64 bits.

    Examples
    --------
    >>> hamming([0b1011, 0], 0b0001)
    array([2, 1], dtype=uint8)
    """
    differing = np.asarray(a, np.uint64) ^ np.asarray(b, np.uint64)
    return np.asarray(np.bitwise_count(differing), np.uint8)


def near_pairs(hashes: ArrayLike, distance: int) -> NDArray[np.int64]:
    """All pairs of hashes within a Hamming distance, (P, 2): positions i < j, sorted.

    Parameters
    ----------
    hashes : array_like of uint64, shape (N,)
        Equal hashes give all their pairs: where there are many, collapse them with ``np.unique`` first.
    distance : int
        In bits. A million hashes take about a second up to 3, ten seconds up to 7, minutes beyond.

    Raises
    ------
    ValueError
        Hashes of another shape, or a distance outside of 0 to 64.

    Notes
    -----
    Multi-index hashing (M. Norouzi, A. Punjani, D. Fleet, CVPR 2012). Split 64 bits into four bands. Hashes
    that differ in at most 4r + a bits (a < 4) differ in at most r bits in one of the first a + 1 bands, or in
    at most r - 1 in one of the others: otherwise they would differ in at least (a + 1)(r + 1) + (3 - a) r =
    4r + a + 1. Only such pairs are compared. E.g. distance 10 = 4 * 2 + 2: look up bands 0, 1, 2 with up to 2
    differing bits (1 + 16 + 120 = 137 patterns each) and band 3 with up to 1 bit (17 patterns).

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
    pairs_found = [np.empty((0, 2), np.int64)]
    for band in range(_BANDS):
        reach = radius if band <= spare else radius - 1
        if reach >= 0:
            pairs_found.extend(_near_in_band(values, band, reach, distance))
    pairs = np.sort(np.concatenate(pairs_found), axis=1)
    return np.unique(pairs, axis=0)


def cell_hashes(image: Image.Image) -> NDArray[np.uint64]:
    """Perceptual hashes of the cells with enough contrast, (n,); of the whole upright picture only if framed.

    Examples
    --------
    >>> picture = Image.effect_noise((12, 12), 90).resize((96, 96)).convert("RGB")
    >>> wall = Image.new("RGB", (192, 192), "white")
    >>> wall.paste(picture, (96, 0))
    >>> int(hamming(cell_hashes(wall), perceptual_hash(picture)).min()) <= 4
    True
    """
    image = image.copy()
    image.thumbnail((CELL_IMAGE_SIDE, CELL_IMAGE_SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    pixels = np.asarray(image, np.float32)  # (h, w, 3)
    boxes: dict[Box, None] = {}
    for columns, rows in GRIDS:
        for number in range(columns * rows):
            left, upper, right, lower = cell = _cell(image.size, columns, rows, number)
            cut = trimmed(pixels[upper:lower, left:right])
            if cut is not None:
                boxes[cell] = None  # with its border too: a plain sky looks like a border
                boxes[left + cut[0], upper + cut[1], left + cut[2], upper + cut[3]] = None
    boxes.pop((0, 0, *image.size), None)  # the hash of the whole picture is stored already
    return np.array([perceptual_hash(image.crop(box)) for box in boxes], np.uint64)


def trimmed(pixels: FloatArray) -> Box | None:
    """The box of pixels, (h, w, 3), inside borders of one colour; None if too small or too flat."""
    height, width = pixels.shape[:2]
    if min(height, width) < MIN_CELL_SIDE:
        return None
    upper, lower = _border(pixels), height - _border(pixels[::-1])
    across = pixels.swapaxes(0, 1)
    left, right = _border(across), width - _border(across[::-1])
    if (
        min(lower - upper, right - left) < MIN_CELL_SIDE
        or pixels[upper:lower, left:right].std() < MIN_CONTRAST
    ):
        return None
    return left, upper, right, lower


def _border(lines: FloatArray) -> int:
    """The number of lines at the beginning that have the same single colour."""
    colour = np.median(lines[0], axis=0)
    for number, line in enumerate(lines):  # usually stops at the first
        if (np.abs(line - colour).max(-1) > BORDER_TOLERANCE).mean() > BORDER_OUTLIERS:
            return number
    return len(lines)


def _cell(size: tuple[int, int], columns: int, rows: int, number: int) -> Box:
    (width, height), (row, column) = size, divmod(number, columns)
    return (
        round(width * column / columns),
        round(height * row / rows),
        round(width * (column + 1) / columns),
        round(height * (row + 1) / rows),
    )


def _grey(image: Image.Image, width: int, height: int) -> NDArray[np.float64]:
    """Downsample to grey, (height, width); converted after resizing, when few pixels are left."""
    small = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(small.convert("L"), np.float64)  # (height, width)


def _packed(bits: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _near_in_band(values: Hashes, band: int, reach: int, distance: int) -> Iterator[NDArray[np.int64]]:
    """Yield near pairs among hashes that differ in at most `reach` bits of one band.

    Hashes are sorted by their band, so those with equal bands are adjacent. For each pattern of up to `reach`
    set bits, a hash with band b is compared with the run of hashes with band b ^ pattern. E.g. band 0b0110
    and pattern 0b0011: the run of band 0b0101.
    """
    keys = (values >> np.uint64(_BAND * band)).astype(np.uint16)
    order = np.argsort(keys, kind="stable")
    values, keys = values[order], keys[order]
    ends = np.cumsum(np.bincount(keys, minlength=2**_BAND))  # the run of key b is starts[b] .. ends[b] - 1
    starts = np.concatenate(([0], ends[:-1]))
    patterns = np.arange(2**_BAND, dtype=np.uint16)
    for pattern in patterns[np.bitwise_count(patterns) <= reach]:
        if pattern == 0:
            left = np.arange(len(values))
            first, last = left + 1, ends[keys]  # the rest of its own run: each pair once
        else:
            partners = keys ^ pattern
            left = np.flatnonzero(keys < partners)  # each pair of runs once
            first, last = starts[partners[left]], ends[partners[left]]
        for a, b in _compare_runs(values, left, first, last, distance):
            yield np.stack([order[a], order[b]], axis=1)


def _compare_runs(
    values: Hashes, left: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64], distance: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the near pairs between `left[i]` and the run `first[i]` .. `last[i] - 1`, many runs at once.

    The runs are expanded into one array of positions. E.g. runs 5..6 and 2..4: lengths [2, 3], ends [2, 5],
    and `np.arange(5) + np.repeat([5 - 0, 2 - 2], [2, 3])` = [5, 6, 2, 3, 4].
    """
    filled = last > first
    left, first = left[filled], first[filled]
    upto = np.cumsum(last[filled] - first)  # number of candidates up to and including each run
    done = 0
    while done < len(left):
        before = upto[done - 1] if done else 0
        # As many runs as fit into the memory limit, at least one.
        stop = max(int(np.searchsorted(upto, before + _CANDIDATES, side="right")), done + 1)
        ends = upto[done:stop] - before
        lengths = np.diff(ends, prepend=0)
        positions = np.arange(ends[-1]) + np.repeat(first[done:stop] - (ends - lengths), lengths)
        differing = np.repeat(values[left[done:stop]], lengths) ^ values[positions]
        near = np.flatnonzero(np.bitwise_count(differing) <= distance)
        if len(near):
            yield left[done:stop][np.searchsorted(ends, near, side="right")], positions[near]
        done = stop
