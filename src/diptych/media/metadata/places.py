"""Parse GPS coordinates of EXIF and XMP: degrees, minutes and seconds or decimal degrees, numbers or text."""

from __future__ import annotations

import math
import re
from typing import Any, Literal

Axis = Literal["latitude", "longitude"]
Position = tuple[float | None, float | None]  # latitude and longitude in degrees
NO_POSITION: Position = (None, None)
_LETTERS = {"latitude": ("N", "S"), "longitude": ("E", "W")}
_MOST = {"latitude": 90.0, "longitude": 180.0}
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:/\d+)?")


def read_position(latitude: object, north: object, longitude: object, east: object) -> Position:
    """Parse latitude and longitude to degrees, positive to the north and east; both None if unknown.

    Zero for both means unknown: phones write zeros before they have a GPS fix, and Google Takeout if an image
    has no position.

    Parameters
    ----------
    latitude, longitude : tuple of numbers, number or str
        Degrees, minutes and seconds (the last ones optional), or a text such as "57,24.5N" or "57.4083".
    north, east : str
        "N" or "S", "E" or "W"; "" if the direction is given by the sign or in the text.

    Examples
    --------
    >>> read_position("57,24.5N", "", (12.0, 30.0, 0.0), "W")
    (57.40833333333333, -12.5)
    >>> read_position(0.0, "N", 0.0, "E")
    (None, None)
    """
    position = _degrees(latitude, north, "latitude"), _degrees(longitude, east, "longitude")
    return NO_POSITION if None in position or position == (0, 0) else position


def _degrees(value: object, side: object, axis: Axis) -> float | None:
    above, below = _LETTERS[axis]
    letter = side.strip("\0 ")[:1].upper() if isinstance(side, str) else ""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    if isinstance(value, str):
        text = value.strip("\0 ").upper()
        ends = (text[-1:], text[:1])
        letter = next((character for character in ends if character and character in (above, below)), letter)
        numbers, negative = _numbers(text), text.startswith("-")
    else:
        parts = value if isinstance(value, tuple | list) else (value,)
        numbers = [_number(part) for part in parts[:3]]
        negative = bool(numbers) and numbers[0] < 0
    if letter and letter not in (above, below):
        return None
    if len(numbers) == 3 and not math.isfinite(numbers[2]):
        numbers[2] = 0.0  # seconds stored as 0/0: unknown, precise to a minute
    if not numbers or not all(math.isfinite(number) for number in numbers):
        return None
    degrees = sum(abs(number) / 60.0**power for power, number in enumerate(numbers))
    if degrees > _MOST[axis]:
        return None
    return -degrees if negative or letter == below else degrees


def _numbers(text: str) -> list[float]:
    numbers = [_number(part) for part in _NUMBER.findall(text)][:3]
    if len(numbers) == 2 and numbers[1] >= 60 and "," in text:  # a decimal comma: 57,4083
        return [_number(_NUMBER.findall(text.replace(",", "."))[0])]
    return numbers


def _number(value: Any) -> float:
    try:
        if isinstance(value, str):
            above, _, below = value.partition("/")
            return float(above) / float(below or 1)
        return float(value)  # a fraction over zero is nan
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return math.nan
