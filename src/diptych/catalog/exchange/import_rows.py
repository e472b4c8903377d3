"""Rows of metadata beside somebody's vectors: what they say, and in what order their archives are read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from diptych.files.patterns import is_remote
from diptych.files.unicode_text import storable
from diptych.media import Details

SAMPLE = 16  # pictures or texts that are embedded again
ROWS = 500  # in one transaction, of pictures that are files

Row = Mapping[str, Any]


def chunks_of(rows: Sequence[Row]) -> Iterator[list[int]]:
    """Places of the rows that are kept at once: all of one archive, which is read from its start each time.

    Examples
    --------
    >>> list(chunks_of([{"shard": "0.tgz"}, {"shard": "1.tgz"}, {"shard": "0.tgz"}, {}]))
    [[0, 2], [1], [3]]
    """
    inside: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        inside.setdefault(shard_of(row), []).append(place)
    for shard, places in inside.items():
        step = len(places) if shard else ROWS
        yield from (places[start : start + step] for start in range(0, len(places), step))


def shard_of(row: Row) -> str:
    """The archive on disk that holds a row's picture; "" where it is in none."""
    shard = str(row.get("shard") or "")
    return "" if is_remote(shard) else shard


def sample_of(rows: Sequence[Row]) -> list[int]:
    """Places of rows all over a part, of a few archives alone: each that is looked into is read."""
    chunks = list(chunks_of(rows))
    archives = [places for places in chunks if shard_of(rows[places[0]])]
    loose = [places for places in chunks if not shard_of(rows[places[0]])]
    chosen = [*archives[:: max(1, len(archives) // 4)][:4], *loose]
    places = sorted(place for chunk in chosen for place in chunk)
    return places[:: max(1, len(places) // (4 * SAMPLE))]


def details_of(row: Row) -> Details:
    """Size, format, date, place and camera, as far as a row says them."""
    try:
        taken = datetime.fromisoformat(str(row.get("taken") or "")).replace(tzinfo=None)  # as cameras say it
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
    """A count in a row, 0 where there is none that a database keeps: tables write NaN for what is missing."""
    try:
        number = int(row.get(name) or 0)
    except (TypeError, ValueError, OverflowError):
        return 0
    return number if 0 <= number <= most else 0


def text_of(row: Row, name: str) -> str:
    """A text in a row, "" where there is none."""
    return storable(str(row.get(name) or ""))
