"""What a camera wrote into a picture's EXIF: when, where and with what it was taken.

Nothing here trusts the block: any tag may be missing, of another type, or nonsense, and then says nothing.
Finding the block in a file is left to `details`, what people wrote to `words`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any

from PIL import Image

_MAKE, _MODEL = 0x010F, 0x0110
_EXIF_BLOCK, _GPS_BLOCK = 0x8769, 0x8825
# When the shutter opened, when the picture became digital (a scan), when the file was changed; each with the
# tag of its fractions of a second. The last stands in the main block.
_TIMES = ((0x9003, 0x9291), (0x9004, 0x9292))
_CHANGED = (0x0132, 0x9290)
_TIME = re.compile(r"(\d{4})[:/.-](\d{2})[:/.-](\d{2})[ T]+(\d{2}):(\d{2}):(\d{2})")


def taken_at(exif: Image.Exif) -> datetime | None:
    """When the picture was taken, by the camera's clock, which knows no zone; None where nothing says.

    Examples
    --------
    >>> exif = Image.Exif()
    >>> exif[0x0132] = "2024:02:29 23:59:58"
    >>> taken_at(exif)
    datetime.datetime(2024, 2, 29, 23, 59, 58)
    >>> exif[0x0132] = "0000:00:00 00:00:00"
    >>> taken_at(exif) is None
    True
    """
    block = sound(lambda: exif.get_ifd(_EXIF_BLOCK), {})
    for place, (time, fraction) in ((block, _TIMES[0]), (block, _TIMES[1]), (exif, _CHANGED)):
        found = _time(place.get(time), block.get(fraction))
        if found is not None:
            return found
    return None


def place_of(exif: Image.Exif) -> tuple[float | None, float | None]:
    """Latitude and longitude in degrees, north and east above zero; both None where either is unknown."""
    gps = sound(lambda: exif.get_ifd(_GPS_BLOCK), {})
    latitude = _degrees(gps.get(2), gps.get(1), "N", "S", 90)
    longitude = _degrees(gps.get(4), gps.get(3), "E", "W", 180)
    # Phones write zeros before they have a fix; nobody photographs that spot in the Gulf of Guinea.
    if latitude is None or longitude is None or latitude == longitude == 0:
        return None, None
    return latitude, longitude


def camera_of(exif: Image.Exif) -> str:
    """Maker and model as one name, the maker once; "" where neither is said.

    Examples
    --------
    >>> exif = Image.Exif()
    >>> exif[0x010F], exif[0x0110] = "NIKON CORPORATION", "NIKON D750"
    >>> camera_of(exif)
    'NIKON D750'
    """
    maker, model = clean(exif.get(_MAKE)), clean(exif.get(_MODEL))
    known = bool(model) and model.split()[0].casefold() in maker.casefold().split()
    return model if known else f"{maker} {model}".strip()


def clean(value: object) -> str:
    r"""A text as people would write it: in Unicode, on one line, without padding; "" for anything else.

    Examples
    --------
    >>> clean("caf\u00c3\u00a9  du\nport\0\0")
    'café du port'
    """
    if isinstance(value, tuple):  # several numbers or texts where one was meant
        value = value[0] if value else ""
    if isinstance(value, bytes):
        text = _decoded(value)
    elif isinstance(value, str):
        text = _repaired(value)
    else:
        return ""
    text = text.partition("\0")[0]
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def sound(read: Callable[[], Any], otherwise: Any) -> Any:
    """What a foreign reader gives, or a stand-in: damaged metadata is no reason to refuse a picture."""
    try:
        return read()
    except Exception:  # Pillow's readers raise nearly anything
        return otherwise


def _time(value: object, fraction: object) -> datetime | None:
    found = _TIME.match(clean(value))
    if found is None:
        return None
    digits = re.match(r"\d{1,6}", clean(fraction))
    microseconds = int(digits[0].ljust(6, "0")) if digits else 0
    try:
        year, month, day, hour, minute, second = (int(part) for part in found.groups())
        return datetime(year, month, day, hour, minute, second, microseconds)
    except ValueError:  # month 13, second 60, year 0
        return None


def _degrees(parts: object, side: object, above: str, below: str, most: int) -> float | None:
    """Degrees, minutes and seconds as one number."""
    letter = clean(side)[:1].upper()
    if not isinstance(parts, tuple) or letter not in (above, below):
        return None
    numbers = [_number(part) for part in parts[:3]]
    value: float = sum(number / 60.0**power for power, number in enumerate(numbers))
    if not numbers or not math.isfinite(value) or not 0 <= value <= most:
        return None
    return -value if letter == below else value


def _number(value: Any) -> float:
    try:
        return float(value)  # a fraction over zero is nan
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return math.nan


def _decoded(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")


def _repaired(value: str) -> str:
    """Pillow reads EXIF as Latin-1, as the standard nearly has it; most programs write UTF-8."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
