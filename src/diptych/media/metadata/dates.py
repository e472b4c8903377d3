"""Dates as cameras, scanners and people write them, whole or in part, and how far each field is trusted.

`read_date` reads one text. `SOURCES` is the order of trust: where several fields of a picture and of its
sidecars have a date, the first of them says when it was taken. Finding the fields is left to `exif`,
`details` and `sidecar_fields`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Precision = Literal["time", "day", "month", "year"]

# Most trusted first. Text of `Details.taken_from`, followed by how far a partial date goes.
SOURCES = (
    # When the picture was made.
    "EXIF DateTimeOriginal",
    *("sidecar XMP exif:DateTimeOriginal", "sidecar XMP photoshop:DateCreated"),
    *("XMP exif:DateTimeOriginal", "XMP photoshop:DateCreated"),
    *("IPTC DateCreated", "PNG Creation Time"),
    "Google Takeout photoTakenTime (UTC)",
    # When it became digital, such as by scanning.
    "EXIF DateTimeDigitized",
    *("sidecar XMP exif:DateTimeDigitized", "sidecar XMP xmp:CreateDate", "sidecar XMP dc:date"),
    *("XMP exif:DateTimeDigitized", "XMP xmp:CreateDate", "XMP dc:date"),
    "IPTC DigitalCreationDate",
    # A receiver's clock, in another zone than the camera's.
    *("EXIF GPS date (UTC)", "sidecar XMP exif:GPSTimeStamp (UTC)", "XMP exif:GPSTimeStamp (UTC)"),
    # Edits.
    "EXIF DateTime",
    *("sidecar XMP tiff:DateTime", "sidecar XMP xmp:ModifyDate"),
    *("XMP tiff:DateTime", "XMP xmp:ModifyDate", "PNG tIME"),
)
_TRUST = {source: place for place, source in enumerate(SOURCES)}
_MARKS: dict[Precision, str] = {
    "time": "", "day": " (day only)", "month": " (month only)", "year": " (year only)"
}  # fmt: skip

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = rf"(?P<name>{'|'.join(_MONTHS)})[a-z]*\.?"
_WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,?\s+)?"
_SEPARATOR = r"\s*[:/.\-]\s*"
_SHAPES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # 2013:05:07, 2013-5-7, 2013: 5: 7, 2013:05:, 2013
        rf"(?P<year>\d{{4}})(?!\d)(?:{_SEPARATOR}(?P<month>\d{{1,2}})?(?:{_SEPARATOR}(?P<day>\d{{1,2}})?)?)?"
        r"(?P<rest>.*)",
        # 20130507, and the same with a time behind it, 201305
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})(?P<rest>\d{4}(?:\d{2})?|(?!\d).*)",
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<rest>)",
        # Tue, 07 May 2013; 7-May-2013
        rf"{_WEEKDAY}(?P<day>\d{{1,2}})[\s\-.]+{_MONTH}[\s\-,]+(?P<year>\d{{4}})(?!\d)(?P<rest>.*)",
        # Tue May  7 09:03:01 CEST 2013; May 7, 2013
        rf"{_WEEKDAY}{_MONTH}\s+(?P<day>\d{{1,2}}),?(?P<rest>\s+\d{{1,2}}:\S+)?(?:\s+[A-Z]{{2,5}})?"
        r"\s+(?P<year>\d{4})(?!\d)(?P<late>.*)",
        # 07.05.2013: with strokes day and month cannot be told apart
        r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})(?!\d)(?P<rest>.*)",
    )
)
_TIME = re.compile(
    r"(?:\s*[T_,]\s*|\s+)(\d{1,2})(?:\s*[:.h]\s*(\d{1,2})(?:\s*[:.m]\s*(\d{1,2})(?:[.,](\d+))?)?)?"
    r"(?:s|\s*(?:([ap])\.?m\b\.?)|(?=\D)|$)",
    re.IGNORECASE,
)
_COMPACT_TIME = re.compile(r"[T _\-]?\s*(\d{2})(\d{2})(\d{2})?(?:[.,](\d+))?()(?=\D|$)", re.IGNORECASE)
_LONGEST = 100  # characters of a date
_FIXED = ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))  # where EXIF's numbers stand


@dataclass(frozen=True)
class PartialDate:
    """A date as far as it is known.

    Attributes
    ----------
    start : datetime
        The first moment that it can stand for, by the clock that wrote it, without a zone.
    precision : {"time", "day", "month", "year"}
        What is known; the rest of `start` is its beginning.
    """

    start: datetime
    precision: Precision = "time"


def read_date(text: str) -> PartialDate | None:
    """Read a date, by the clock that wrote it: a zone behind it changes nothing.

    Hour 24 is the hour after midnight at the day's beginning, as phones write that count hours from 1; second
    60 is the last one of its minute. A time that cannot be read leaves the day, a day 0 the month.

    Parameters
    ----------
    text : str
        EXIF's, XMP's or IPTC's form, or one of those that scanners and converters write in their place.

    Returns
    -------
    PartialDate or None
        None for a text that is no date, and for a date that the calendar does not have.

    Examples
    --------
    >>> read_date("2013: 5: 7  9:03: 1").start
    datetime.datetime(2013, 5, 7, 9, 3, 1)
    >>> read_date("2013:05:00 00:00:00").precision
    'month'
    >>> read_date("0000:00:00 00:00:00") is None
    True
    """
    text = text.partition("\0")[0]
    if (fixed := _fixed(text)) is not None:
        return _built(*fixed)
    # Shapes have optional white space on both sides of optional parts: long runs of it would take hours.
    text = " ".join(text.split())[:_LONGEST]
    for shape in _SHAPES:
        match = shape.fullmatch(text)
        if match is None:
            continue
        groups = match.groupdict()
        month = _MONTHS.index(groups["name"].lower()) + 1 if groups.get("name") else groups.get("month")
        rest = groups["rest"] or groups.get("late") or ""
        return _built(groups["year"], month, groups.get("day"), *_time(rest))
    return None


def first_date(dates: Iterable[tuple[str, PartialDate | None]]) -> tuple[datetime | None, str]:
    """The most trusted of these dates, and which field it comes from; (None, "") where there is none.

    Parameters
    ----------
    dates : iterable of (source, date)
        Sources as in `SOURCES`.

    Examples
    --------
    >>> edited, month = read_date("2020-01-01 10:00:00"), read_date("2013-05")
    >>> first_date([("EXIF DateTime", edited), ("XMP photoshop:DateCreated", month)])
    (datetime.datetime(2013, 5, 1, 0, 0), 'XMP photoshop:DateCreated (month only)')
    """
    best = min(
        ((_TRUST[source], source, date) for source, date in dates if date is not None),
        key=lambda one: one[0],
        default=None,
    )
    return (None, "") if best is None else (best[2].start, best[1] + _MARKS[best[2].precision])


def trust(taken_from: str) -> int:
    """The place of a date in the order of trust: the less, the more it is trusted.

    A date that does not say where it comes from, as tables that are imported bring, is trusted most.

    Examples
    --------
    >>> trust("XMP photoshop:DateCreated (month only)") < trust("EXIF DateTime")
    True
    """
    for mark in _MARKS.values():
        if mark:
            taken_from = taken_from.removesuffix(mark)
    return _TRUST.get(taken_from, -1)


def precision_of(taken_from: str) -> Precision:
    """How far the date goes that this field gave.

    Examples
    --------
    >>> precision_of("EXIF DateTimeOriginal (month only)"), precision_of("EXIF DateTimeOriginal")
    ('month', 'time')
    """
    for precision, mark in _MARKS.items():
        if mark and taken_from.endswith(mark):
            return precision
    return "time"


def _fixed(text: str) -> list[str] | None:
    """The numbers of EXIF's own form, "YYYY:MM:DD HH:MM:SS", where blanks stand for what is not known."""
    if (
        len(text) < 19
        or any(text[at] not in ":/-." for at in (4, 7))
        or any(text[at] != ":" for at in (13, 16))
    ):
        return None
    numbers = [text[start:end].replace(" ", "") for start, end in _FIXED]
    if not all(number.isdecimal() or not number for number in numbers):
        return None
    if re.match(r"\s*[ap]\.?m", text[19:], re.IGNORECASE):
        return None  # half a day, which is told from the text as a whole
    fraction = re.match(r"[.,](\d+)", text[19:])
    return [*numbers, fraction[1] if fraction else ""]


def _time(rest: str) -> tuple[str | int | None, ...]:
    """(hour, minute, second, fraction) of what stands behind a date, each None where it is missing."""
    match = _TIME.match(rest) or _COMPACT_TIME.match(rest)
    if match is None:
        return ()
    hour, minute, second, fraction, half = match.groups()
    if half:
        return int(hour) % 12 + 12 * (half in "pP"), minute, second, fraction
    return hour, minute, second, fraction


def _built(
    year: str | int | None,
    month: str | int | None = None,
    day: str | int | None = None,
    hour: str | int | None = None,
    minute: str | int | None = None,
    second: str | int | None = None,
    fraction: str | int | None = None,
) -> PartialDate | None:
    numbers = [int(number or 0) for number in (year, month, day, minute, second)]
    years, months, days, minutes, seconds = numbers
    try:
        if not months:
            return PartialDate(datetime(years, 1, 1), "year")
        if not days:
            return PartialDate(datetime(years, months, 1), "month")
        start = datetime(years, months, days)
    except ValueError:  # year 0, month 13, the 30th of February
        return None
    if not isinstance(hour, int) and not hour:
        return PartialDate(start, "day")
    if int(hour) > 24 or minutes > 59:
        return PartialDate(start, "day")
    seconds = min(seconds, 59)
    microseconds = int(str(fraction or "0")[:6].ljust(6, "0"))
    return PartialDate(
        start.replace(hour=int(hour) % 24, minute=minutes, second=seconds, microsecond=microseconds)
    )
