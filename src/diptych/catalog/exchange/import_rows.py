"""Rows of metadata beside imported vectors: their fields, and the order in which archives are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from diptych.files.patterns import is_remote
from diptych.files.unicode_text import storable
from diptych.media import Details

SAMPLE = 16  # pictures or texts that are embedded again
ROWS = 500  # plain files stored in one transaction

Row = Mapping[str, Any]


def chunks_of(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Positions of the rows that are stored together: all of one archive, which must be read from its start.

    Examples
    --------
    >>> list(chunks_of([{"shard": "0.tgz"}, {"shard": "1.tgz"}, {"shard": "0.tgz"}, {}]))
    [[0, 2], [1], [3]]
    """
    inside: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        inside.setdefault(shard_of(row), []).append(position)
    # A compressed tar has no random access: reading its members in several transactions would decompress it
    # from its start each time.
    for shard, positions in inside.items():
        step = len(positions) if shard else ROWS
        yield from (positions[start : start + step] for start in range(0, len(positions), step))


def shard_of(row: Row) -> str:
    """The local archive that holds the picture of a row; "" if there is none."""
    shard = str(row.get("shard") or "")
    return "" if is_remote(shard) else shard


def sample_of(rows: Sequence[Row]) -> list[int]:
    """Positions of rows spread over a part, from at most four archives, since each must be read."""
    chunks = list(chunks_of(rows))
    # E.g. 1,000 archives: those at 0, 250, 500 and 750 are read, of whose members every n-th is compared.
    archives = [positions for positions in chunks if shard_of(rows[positions[0]])]
    loose = [positions for positions in chunks if not shard_of(rows[positions[0]])]
    chosen = [*archives[:: max(1, len(archives) // 4)][:4], *loose]
    positions = sorted(position for chunk in chosen for position in chunk)
    return positions[:: max(1, len(positions) // (4 * SAMPLE))]


def details_of(row: Row) -> Details:
    """Size, format, date, location and camera, as far as a row has them."""
    try:
        # Local time, as cameras store it.
        taken = datetime.fromisoformat(str(row.get("taken") or "")).replace(tzinfo=None)
    except ValueError:
        taken = None
    latitude, longitude = (
        float(value) if isinstance(value := row.get(name), int | float) and abs(value) <= most else None
        for name, most in (("latitude", 90), ("longitude", 180))
    )
    return Details(
        width=whole_number(row, "width", 2**31 - 1),
        height=whole_number(row, "height", 2**31 - 1),
        format=text_of(row, "format"),
        taken=taken,
        taken_from=text_of(row, "taken_from") if taken else "",
        latitude=latitude,
        longitude=longitude,
        camera=text_of(row, "camera"),
    )


def whole_number(row: Row, name: str, most: int) -> int:
    """A non-negative integer in a row; 0 if it is missing, NaN or too large for the database."""
    try:
        number = int(row.get(name) or 0)
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if 0 <= number <= most else 0


def text_of(row: Row, name: str) -> str:
    """A text in a row; "" if it is missing."""
    return storable(str(row.get(name) or ""))
