"""Thumbnails of a map: which appear first as one comes nearer, and the sheets they are kept on.

A sheet is one picture of many small squares, so that a page loads some dozen files and not a hundred
thousand. Squares are in the order in which they appear, then by place: what is seen together lies together.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from diptych.catalog.store.entries import CatalogEntry, load_entry
from diptych.errors import ImageError, MissingExtraError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

WIDEST = 1 / 20  # between two thumbnails of level 0, of the map's side
LEVELS = 24  # each as much nearer as the square root of two
COLUMNS = 16  # of a sheet, and rows
QUALITY = 68  # of WebP
_EMPTY = (128, 128, 128)
_THREADS = 4


@dataclass(frozen=True)
class ThumbnailSheet:
    """Squares in rows, as a WebP file.

    Attributes
    ----------
    data : bytes
    failed : tuple of (CatalogEntry, str)
        Pictures that could not be read, and why: their squares are grey.
    """

    data: bytes
    failed: tuple[tuple[CatalogEntry, str], ...]


def side_for(pictures: int) -> int:
    """Pixels of a square, so that the sheets of a large collection stay within some hundred megabytes."""
    return 128 if pictures <= 3000 else 96 if pictures <= 30_000 else 48


def levels_of(places: FloatArray, *, seed: int = 0) -> NDArray[np.uint8]:
    """The level at which each thumbnail appears, (N,): on L no two are nearer than WIDEST / 2 ** (L / 2).

    Parameters
    ----------
    places : (N, 2) float32
        From 0 to 1.
    seed : int
        Of the order in which they are tried.

    Notes
    -----
    Nearer is by the larger of the two axes, as squares need it. What fits on no level has the last one.

    Examples
    --------
    >>> levels_of(np.array([[0, 0], [1, 1], [0.3, 0], [0, 0]], np.float32)).tolist()
    [0, 0, 0, 24]
    """
    levels = np.full(len(places), LEVELS, np.uint8)
    waiting = np.random.default_rng(seed).permutation(len(places)).tolist()
    spots = [(float(x), float(y)) for x, y in places]
    shown: list[int] = []
    for level in range(LEVELS):
        apart = WIDEST / 2 ** (level / 2)
        cells: dict[tuple[int, int], tuple[float, float]] = {}
        for one in shown:
            x, y = spots[one]
            cells[int(x / apart), int(y / apart)] = (x, y)
        left = []
        for one in waiting:
            x, y = spots[one]
            if _free(cells, x, y, apart):
                cells[int(x / apart), int(y / apart)] = (x, y)
                levels[one] = level
                shown.append(one)
            else:
                left.append(one)
        waiting = left
    return levels


def _free(cells: dict[tuple[int, int], tuple[float, float]], x: float, y: float, apart: float) -> bool:
    column, row = int(x / apart), int(y / apart)
    for i in (column, column - 1, column + 1):
        for j in (row, row - 1, row + 1):
            other = cells.get((i, j))
            if other is not None and abs(other[0] - x) < apart and abs(other[1] - y) < apart:
                return False
    return True


def sheet_order(places: FloatArray, levels: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The order of squares: by level, then by place along a curve that stays near (Morton 1966)."""
    cells = np.clip(places * 1023, 0, 1023).astype(np.uint32)
    curve = _spread(cells[:, 0]) | (_spread(cells[:, 1]) << np.uint32(1))
    return np.lexsort((curve, levels))


def _spread(numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Ten bits, with a zero between each two."""
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        numbers = (numbers | (numbers << np.uint32(shift))) & np.uint32(mask)
    return numbers


def fingerprint(entries: Sequence[CatalogEntry], side: int) -> str:
    """Names the sheets of these pictures in this order."""
    told = "\n".join(f"{entry.content} {entry.size}" for entry in entries)
    return hashlib.blake2b(f"{side} {COLUMNS} {QUALITY}\n{told}".encode(), digest_size=6).hexdigest()


def sheets(
    entries: Sequence[CatalogEntry],
    side: int,
    *,
    skip: Callable[[int], bool] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, ThumbnailSheet]]:
    """Sheets of these pictures, one after another, with their numbers.

    Parameters
    ----------
    entries : sequence of CatalogEntry
    side : int
        Pixels of a square.
    skip : callable, optional
        Asked for each number whether that sheet is there already.
    progress : callable, optional
        Told how many pictures are done.
    """
    each = COLUMNS * COLUMNS
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="thumbnail") as pool:
        for number in range(-(-len(entries) // each)):
            part = entries[number * each : (number + 1) * each]
            if skip is None or not skip(number):
                yield number, _sheet(part, list(pool.map(lambda entry: _square(entry, side), part)), side)
            if progress:
                progress(len(part))


def _sheet(
    entries: Sequence[CatalogEntry], squares: Sequence[Image.Image | str], side: int
) -> ThumbnailSheet:
    rows = -(-len(entries) // COLUMNS)
    canvas = Image.new("RGB", (COLUMNS * side, rows * side), _EMPTY)
    failed = []
    for at, (entry, square) in enumerate(zip(entries, squares, strict=True)):
        if isinstance(square, str):
            failed.append((entry, square))
        else:
            canvas.paste(square, (at % COLUMNS * side, at // COLUMNS * side))
    buffer = io.BytesIO()
    canvas.save(buffer, "WEBP", quality=QUALITY, method=4)
    return ThumbnailSheet(buffer.getvalue(), tuple(failed))


def _square(entry: CatalogEntry, side: int) -> Image.Image | str:
    """The middle of a picture, or why there is none."""
    try:
        return ImageOps.fit(load_entry(entry, target=side), (side, side), Image.Resampling.BICUBIC)
    except (ImageError, MissingExtraError) as error:
        return str(error)
