"""Thumbnails of a map: the zoom level at which each appears, and sprite sheets that hold them.

A sheet is one file with many small squares, so that a page loads some dozen files instead of a hundred
thousand. Squares are sorted by zoom level, then by location, so that squares that are visible together are on
the same sheets.
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

WIDEST = 1 / 20  # least distance of two thumbnails on level 0, relative to the side of the map
LEVELS = 24  # each zooms in by the square root of two
COLUMNS = 16  # of a sheet; also the number of rows
QUALITY = 68  # of WebP
_EMPTY = (128, 128, 128)
_THREADS = 4


@dataclass(frozen=True)
class ThumbnailSheet:
    """A sprite sheet as a WebP file; unreadable pictures are grey squares, in `failed` with the reason."""

    data: bytes
    failed: tuple[tuple[CatalogEntry, str], ...]


def side_for(pictures: int) -> int:
    """Side of a square, pixels; smaller for large collections, to limit the sheets to some 100 MB."""
    return 128 if pictures <= 3000 else 96 if pictures <= 30_000 else 48


def levels_of(positions: FloatArray, *, seed: int = 0) -> NDArray[np.uint8]:
    """The level at which each thumbnail appears, (N,); distances on level L: WIDEST / 2 ** (L / 2) or more.

    Positions, (N, 2), are from 0 to 1; thumbnails are tried in an order that `seed` draws.

    Notes
    -----
    The distance is the larger one of both axes, since thumbnails are squares. What fits on no level gets
    `LEVELS`. Shown thumbnails are hashed by grid cells with the side of that distance, so a conflict can only
    be in the 3 x 3 cells around, each of which holds at most one.

    Examples
    --------
    >>> levels_of(np.array([[0, 0], [1, 1], [0.3, 0], [0, 0]], np.float32)).tolist()
    [0, 0, 0, 24]
    """
    levels = np.full(len(positions), LEVELS, np.uint8)
    waiting = np.random.default_rng(seed).permutation(len(positions)).tolist()
    points = [(float(x), float(y)) for x, y in positions]
    shown: list[int] = []
    for level in range(LEVELS):
        distance = WIDEST / 2 ** (level / 2)
        cells: dict[tuple[int, int], tuple[float, float]] = {}
        # Squares of earlier levels stay visible and block others; with the smaller distance, they get new
        # cells.
        for number in shown:
            x, y = points[number]
            cells[int(x / distance), int(y / distance)] = (x, y)
        rejected = []
        for number in waiting:
            x, y = points[number]
            if _is_free(cells, x, y, distance):
                cells[int(x / distance), int(y / distance)] = (x, y)
                levels[number] = level
                shown.append(number)
            else:
                rejected.append(number)
        waiting = rejected
    return levels


def _is_free(cells: dict[tuple[int, int], tuple[float, float]], x: float, y: float, distance: float) -> bool:
    column, row = int(x / distance), int(y / distance)
    # Its own cell first, where a conflict is most likely.
    for i in (column, column - 1, column + 1):
        for j in (row, row - 1, row + 1):
            other = cells.get((i, j))
            if other is not None and abs(other[0] - x) < distance and abs(other[1] - y) < distance:
                return False
    return True


def sheet_order(positions: FloatArray, levels: NDArray[np.uint8]) -> NDArray[np.intp]:
    """The order of squares: by level, then along a curve that keeps neighbours close (Morton 1966)."""
    cells = np.clip(positions * 1023, 0, 1023).astype(np.uint32)
    # The bits of both coordinates alternate. E.g. x = 0b11 and y = 0b01 give 0b0111: points with equal
    # leading bits, which lie in one quarter of the map, are adjacent.
    curve = _spread(cells[:, 0]) | (_spread(cells[:, 1]) << np.uint32(1))
    return np.lexsort((curve, levels))


def _spread(numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Insert a zero bit between all of ten bits, e.g. 0b1011 -> 0b1000101."""
    for shift, mask in ((8, 0x00FF00FF), (4, 0x0F0F0F0F), (2, 0x33333333), (1, 0x55555555)):
        numbers = (numbers | (numbers << np.uint32(shift))) & np.uint32(mask)
    return numbers


def fingerprint(entries: Sequence[CatalogEntry], side: int) -> str:
    """A name for the sheets of these pictures in this order."""
    description = "\n".join(f"{entry.content} {entry.size}" for entry in entries)
    return hashlib.blake2b(f"{side} {COLUMNS} {QUALITY}\n{description}".encode(), digest_size=6).hexdigest()


def sheets(
    entries: Sequence[CatalogEntry],
    side: int,
    *,
    skip: Callable[[int], bool] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[int, ThumbnailSheet]]:
    """Yield the sheets of these pictures with their numbers; squares have `side` pixels.

    `skip` tells whether a sheet exists already; `progress` is called with the number of further pictures.
    """
    each = COLUMNS * COLUMNS
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="thumbnail") as pool:
        for number in range(-(-len(entries) // each)):
            part = entries[number * each : (number + 1) * each]
            # The file names contain a hash of all pictures (`fingerprint`), so a sheet that exists is up to
            # date, e.g. one that a killed run has written.
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
    """The central square of a picture, or why it cannot be read."""
    try:
        return ImageOps.fit(load_entry(entry, target=side), (side, side), Image.Resampling.BICUBIC)
    except (ImageError, MissingExtraError) as error:
        return str(error)
