"""Parse complete and partial dates of cameras, scanners and people, and rank their sources by reliability.

`read_date` parses a text. `SOURCES` is the order of reliability: if several fields of an image and its
sidecars have a date, the first one tells when the image was taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

Precision = Literal["time", "day", "month", "year"]

# Most reliable first. These are the values of `Details.taken_from`, which appends the precision of partial
# dates.
SOURCES = (
    # When the image was taken.
    "EXIF DateTimeOriginal",
    *("sidecar XMP exif:DateTimeOriginal", "sidecar XMP photoshop:DateCreated"),
    *("XMP exif:DateTimeOriginal", "XMP photoshop:DateCreated"),
    *("IPTC DateCreated", "PNG Creation Time"),
    "Google Takeout photoTakenTime (UTC)",
    # When it was digitised, for example scanned.
    "EXIF DateTimeDigitized",
    *("sidecar XMP exif:DateTimeDigitized", "sidecar XMP xmp:CreateDate", "sidecar XMP dc:date"),
    *("XMP exif:DateTimeDigitized", "XMP xmp:CreateDate", "XMP dc:date"),
    "IPTC DigitalCreationDate",
    # The clock of the GPS receiver, in UTC instead of the camera's time zone.
    *("EXIF GPS date (UTC)", "sidecar XMP exif:GPSTimeStamp (UTC)", "XMP exif:GPSTimeStamp (UTC)"),
    # When it was edited.
    "EXIF DateTime",
    *("sidecar XMP tiff:DateTime", "sidecar XMP xmp:ModifyDate"),
    *("XMP tiff:DateTime", "XMP xmp:ModifyDate", "PNG tIME"),
)
_RANKS = {source: rank for rank, source in enumerate(SOURCES)}
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
        # 20130507, the same followed by a time, 201305
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})(?P<rest>\d{4}(?:\d{2})?|(?!\d).*)",
        r"(?P<year>\d{4})(?P<month>\d{2})(?P<rest>)",
        # Tue, 07 May 2013; 7-May-2013
        rf"{_WEEKDAY}(?P<day>\d{{1,2}})[\s\-.]+{_MONTH}[\s\-,]+(?P<year>\d{{4}})(?!\d)(?P<rest>.*)",
        # Tue May  7 09:03:01 CEST 2013; May 7, 2013
        rf"{_WEEKDAY}{_MONTH}\s+(?P<day>\d{{1,2}}),?(?P<rest>\s+\d{{1,2}}:\S+)?(?:\s+[A-Z]{{2,5}})?"
        r"\s+(?P<year>\d{4})(?!\d)(?P<late>.*)",
        # 07.05.2013; with slashes the order of day and month would be ambiguous
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
_FIXED = ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))  # positions of the numbers in EXIF's format


@dataclass(frozen=True)
class PartialDate:
    """A date that may be known only in part.

    Attributes
    ----------
    start : datetime
        The earliest time that the date can mean, in local time without a time zone.
    precision : {"time", "day", "month", "year"}
        The smallest unit that is known.
    """

    start: datetime
    precision: Precision = "time"


def read_date(text: str) -> PartialDate | None:
    """Parse a date in local time; a time zone is ignored.

    Hour 24 is treated as hour 0 of the same day, since some phones count hours from 1; second 60 becomes 59.
    With an invalid time the precision is "day", with day 0 it is "month".

    Parameters
    ----------
    text : str
        In the format of EXIF, XMP or IPTC, or in a common format of scanners and converters.

    Returns
    -------
    PartialDate or None
        None if the text is not a valid date.

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
    if (fixed := _exif_numbers(text)) is not None:
        return _make_date(*fixed)
    # The patterns have optional white space around optional parts: long runs of it would take very long.
    text = " ".join(text.split())[:_LONGEST]
    for shape in _SHAPES:
        match = shape.fullmatch(text)
        if match is None:
            continue
        groups = match.groupdict()
        month = _MONTHS.index(groups["name"].lower()) + 1 if groups.get("name") else groups.get("month")
        rest = groups["rest"] or groups.get("late") or ""
        return _make_date(groups["year"], month, groups.get("day"), *_time(rest))
    return None


def first_date(dates: Iterable[tuple[str, PartialDate | None]]) -> tuple[datetime | None, str]:
    """The most reliable of several dates, with its source and precision; (None, "") if there is none.

    Parameters
    ----------
    dates : iterable of (source, date)
        Sources are elements of `SOURCES`.

    Examples
    --------
    >>> edited, month = read_date("2020-01-01 10:00:00"), read_date("2013-05")
    >>> first_date([("EXIF DateTime", edited), ("XMP photoshop:DateCreated", month)])
    (datetime.datetime(2013, 5, 1, 0, 0), 'XMP photoshop:DateCreated (month only)')
    """
    best = min(
        ((_RANKS[source], source, date) for source, date in dates if date is not None),
        key=lambda candidate: candidate[0],
        default=None,
    )
    return (None, "") if best is None else (best[2].start, best[1] + _MARKS[best[2].precision])


def source_rank(taken_from: str) -> int:
    """Rank of a date's source; a lower rank is more reliable.

    A date without a source, such as one from an imported table, is the most reliable.

    Examples
    --------
    >>> source_rank("XMP photoshop:DateCreated (month only)") < source_rank("EXIF DateTime")
    True
    """
    for mark in _MARKS.values():
        if mark:
            taken_from = taken_from.removesuffix(mark)
    return _RANKS.get(taken_from, -1)


def precision_of(taken_from: str) -> Precision:
    """Precision of a date, from its `taken_from`.

    Examples
    --------
    >>> precision_of("EXIF DateTimeOriginal (month only)"), precision_of("EXIF DateTimeOriginal")
    ('month', 'time')
    """
    for precision, mark in _MARKS.items():
        if mark and taken_from.endswith(mark):
            return precision
    return "time"


def _exif_numbers(text: str) -> list[str] | None:
    """Numbers of a date in EXIF's format "YYYY:MM:DD HH:MM:SS" (blanks mean unknown); None otherwise."""
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
        return None  # a.m. or p.m.: parsed by the general patterns
    fraction = re.match(r"[.,](\d+)", text[19:])
    return [*numbers, fraction[1] if fraction else ""]


def _time(rest: str) -> tuple[str | int | None, ...]:
    """Parse the time after a date: (hour, minute, second, fraction), each None if missing; () if invalid."""
    match = _TIME.match(rest) or _COMPACT_TIME.match(rest)
    if match is None:
        return ()
    hour, minute, second, fraction, half = match.groups()
    if half:
        return int(hour) % 12 + 12 * (half in "pP"), minute, second, fraction
    return hour, minute, second, fraction


def _make_date(
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
    except ValueError:  # year 0, month 13, 30 February
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
