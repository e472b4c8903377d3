"""Read EXIF fields: dates, position, camera, texts and rating.

Any tag may be missing, of a wrong type, or invalid, and is then ignored. `blocks` extracts the EXIF block
from a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from PIL import Image

from diptych.media.metadata.dates import PartialDate, read_date
from diptych.media.metadata.places import NO_POSITION, Position, read_position

_MAKE, _MODEL, _SOFTWARE = 0x010F, 0x0110, 0x0131
_DESCRIPTION, _USER_COMMENT = 0x010E, 0x9286
_RATING, _RATING_PERCENT = 0x4746, 0x4749
XP_TITLE, XP_COMMENT, XP_KEYWORDS, XP_SUBJECT = 0x9C9B, 0x9C9C, 0x9C9E, 0x9C9F
_EXIF_BLOCK, _GPS_BLOCK = 0x8769, 0x8825
# Each date with the tag of its fractions of a second. DateTime is in the main block, the others are in the
# EXIF block, or in the main block in TIFF/EP and DNG.
_DATES = (
    ("EXIF DateTimeOriginal", 0x9003, 0x9291),
    ("EXIF DateTimeDigitized", 0x9004, 0x9292),
    ("EXIF DateTime", 0x0132, 0x9290),
)
_GPS_TIME, _GPS_DATE = 7, 29
_COMMENT_MARK = 8  # bytes before a user comment that name its encoding
_LONGEST_TEXT = 2**16  # bytes


def dates_of(exif: Image.Exif) -> Iterator[tuple[str, PartialDate | None]]:
    """Yield (source, date) of every date field; sources as in `diptych.media.metadata.dates.SOURCES`.

    Examples
    --------
    >>> exif = Image.Exif()
    >>> exif[0x0132] = "2024:02:29 23:59"
    >>> [(source, date.start.minute) for source, date in dates_of(exif) if date]
    [('EXIF DateTime', 59)]
    """
    block = _block(exif, _EXIF_BLOCK)
    for source, time, fraction in _DATES:
        for tags in (block, exif):
            date = read_date(_text(tags.get(time)))
            digits = _text(tags.get(fraction) or block.get(fraction)).strip()[:6]
            if date is not None and date.precision == "time" and digits.isdecimal() and digits.isascii():
                date = replace(date, start=date.start.replace(microsecond=int(digits.ljust(6, "0"))))
            yield source, date
    yield "EXIF GPS date (UTC)", _gps_date(_block(exif, _GPS_BLOCK))


def gps_position(exif: Image.Exif) -> Position:
    """Latitude and longitude in degrees, positive to the north and east; both None if unknown."""
    gps = _block(exif, _GPS_BLOCK)
    if 2 not in gps or 4 not in gps:
        return NO_POSITION
    return read_position(gps[2], clean(gps.get(1)), gps[4], clean(gps.get(3)))


def camera_of(maker: str, model: str) -> str:
    """Join maker and model, without repeating the maker; "" if both are unknown.

    Examples
    --------
    >>> camera_of("NIKON CORPORATION", "NIKON D750")
    'NIKON D750'
    """
    has_maker = bool(model) and model.split()[0].casefold() in maker.casefold().split()
    return model if has_maker else f"{maker} {model}".strip()


def maker_and_model(exif: Image.Exif) -> tuple[str, str]:
    """Maker and model of the camera, each "" if unknown."""
    return clean(exif.get(_MAKE)), clean(exif.get(_MODEL))


def software_of(exif: Image.Exif) -> str:
    """The program that wrote the file; "" if unknown."""
    return clean(exif.get(_SOFTWARE))


def description_of(exif: Image.Exif) -> str:
    """The description, from the main block or (misplaced) from the EXIF block."""
    return clean(exif.get(_DESCRIPTION)) or clean(_block(exif, _EXIF_BLOCK).get(_DESCRIPTION))


def user_comment_of(exif: Image.Exif) -> str:
    """The user comment, decoded as its first eight bytes declare."""
    value = _block(exif, _EXIF_BLOCK).get(_USER_COMMENT) or exif.get(_USER_COMMENT)
    if isinstance(value, str):  # wrongly stored as text
        value = value.encode("latin-1", "replace")
    return read_comment(value, big=exif.endian == ">") if isinstance(value, bytes) else ""


def xp_text(exif: Image.Exif, tag: int) -> str:
    """A text written by Windows, in UTF-16 without a byte order mark; keywords are separated by ";"."""
    value = exif.get(tag) or _block(exif, _EXIF_BLOCK).get(tag)
    if isinstance(value, tuple) and all(isinstance(byte, int) and 0 <= byte < 256 for byte in value):
        value = bytes(value)
    if not isinstance(value, bytes):
        return clean(value)
    value = value[:_LONGEST_TEXT]
    return clean(value[: len(value) // 2 * 2].decode("utf-16-le", "replace"))


def rating_of(exif: Image.Exif) -> int | None:
    """Rating of 0 to 5 stars as Windows writes it; some programs write a percentage instead."""
    for tag in (_RATING, _RATING_PERCENT):
        value = exif.get(tag)
        if isinstance(value, int) and 0 <= value <= 100:
            return value if value <= 5 and tag == _RATING else stars_of_percent(value)
    return None


def stars_of_percent(percent: float) -> int:
    """Convert a percentage to stars; Windows writes 1, 25, 50, 75 and 99 % for one to five stars.

    Examples
    --------
    >>> [stars_of_percent(percent) for percent in (0, 1, 25, 50, 75, 99, 100)]
    [0, 1, 2, 3, 4, 5, 5]
    """
    return 0 if percent <= 0 else min(5, 1 + int((percent + 12) // 25))


def read_comment(data: bytes, *, big: bool) -> str:
    r"""Decode a comment that begins with an encoding mark of eight bytes; "" if it is not a text.

    Parameters
    ----------
    big : bool
        Whether the block is big-endian, used for UTF-16 of unknown byte order; many programs ignore it.

    Examples
    --------
    >>> read_comment(b"ASCII\0\0\0a red bicycle", big=True)
    'a red bicycle'
    >>> read_comment(b"UNICODE\0" + "a cat".encode("utf-16-le"), big=True)
    'a cat'
    """
    mark, body = data[:_COMMENT_MARK].rstrip(b"\0 ").upper(), data[_COMMENT_MARK:][:_LONGEST_TEXT]
    if mark == b"UNICODE":
        text = _utf16(body, big=big)
    elif mark == b"JIS":
        text = _first_decoded(body, "iso2022_jp", "euc_jp", "shift_jis")
    elif mark in (b"ASCII", b"") or data.startswith(b"\0"):
        text = _decoded(body.partition(b"\0")[0])
    else:  # some programs omit the mark
        text = _decoded(data[:_LONGEST_TEXT].partition(b"\0")[0])
    text = text.partition("\0")[0]
    # Some makers store binary data here: refuse more than one unprintable character in eight.
    odd = sum((not letter.isprintable() and not letter.isspace()) or letter == "\ufffd" for letter in text)
    return "" if 8 * odd > len(text) else clean(text)


def clean(value: object) -> str:
    r"""Decode and normalise a text: Unicode, on one line, without padding; "" for other types.

    Examples
    --------
    >>> clean("caf\u00c3\u00a9  du\nport\0\0")
    'café du port'
    """
    return " ".join("".join(c if c.isprintable() else " " for c in _text(value)).split())


def default_on_error(read: Callable[[], Any], default: Any) -> Any:
    """Call `read`, or return a default on any error: damaged metadata must not prevent reading an image."""
    try:
        return read()
    except Exception:  # Pillow's readers raise many kinds of errors
        return default


def _block(exif: Image.Exif, tag: int) -> dict[int, Any]:
    tags: dict[int, Any] = default_on_error(lambda: exif.get_ifd(tag), {})
    return tags


def _gps_date(gps: dict[int, Any]) -> PartialDate | None:
    date = read_date(_text(gps.get(_GPS_DATE)))
    if date is None or date.precision != "day":
        return date
    time = gps.get(_GPS_TIME)
    numbers: list[float] = []
    if isinstance(time, tuple):
        numbers = default_on_error(lambda: [float(number) for number in time], [])
    if len(numbers) != 3 or not all(0 <= number < 60 for number in numbers) or numbers[0] >= 24:
        return date
    hour, minute, second = (int(number) for number in numbers)
    return PartialDate(date.start.replace(hour=hour, minute=minute, second=second))


def _text(value: object) -> str:
    """Decode a text up to the first NUL, keeping white space; "" for other types."""
    if isinstance(value, tuple):  # several values instead of one
        value = value[0] if value else ""
    if isinstance(value, bytes):
        text = _decoded(value)
    elif isinstance(value, str):
        text = repair_mojibake(value)
    else:
        return ""
    return text.partition("\0")[0]


def _decoded(value: bytes) -> str:
    return _first_decoded(value, "utf-8", "cp1252")


def _first_decoded(data: bytes, *encodings: str) -> str:
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode(encodings[-1], "replace")


def _utf16(data: bytes, *, big: bool) -> str:
    """Decode UTF-16 by its mark, else by the positions of zero bytes (of Latin letters), else by `big`."""
    data = data[: len(data) // 2 * 2]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    even, odd = data[0::2].count(0), data[1::2].count(0)
    if even != odd:
        big = even > odd
    return data.decode("utf-16-be" if big else "utf-16-le", "replace")


def repair_mojibake(value: str) -> str:
    """Undo reading UTF-8 as Latin-1: Pillow decodes EXIF texts as Latin-1, but programs write UTF-8."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value
