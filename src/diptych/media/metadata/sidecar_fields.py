"""Read the fields of sidecars: XMP of other programs, and the JSON of Google Takeout.

Keywords that this package itself wrote into a sidecar are omitted. Sidecars are matched to images by
`sidecar_names`.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from diptych.media.metadata.boilerplate import strip_boilerplate
from diptych.media.metadata.dates import first_date, source_rank
from diptych.media.metadata.exif import clean
from diptych.media.metadata.places import NO_POSITION, Position, read_position
from diptych.media.metadata.words import (
    paths_and_people,
    plain_keywords,
    unique,
    xmp_descriptions,
    xmp_percent,
    xmp_rating,
    xmp_titles,
)
from diptych.media.metadata.xmp import LARGEST, tidy_keyword
from diptych.media.metadata.xmp_fields import XmpFields, xmp_dates, xmp_position

TAKEOUT_DATE = "Google Takeout photoTakenTime (UTC)"
FAVOURITE = 5  # stars for a favourite, the only rating of Google Photos
_MARKS_OF_TAKEOUT = ("photoTakenTime", "geoData", "googlePhotosOrigin")


@dataclass(frozen=True)
class SidecarFields:
    """Fields of one sidecar, or of all sidecars of a file.

    Attributes
    ----------
    captions, keywords : tuple of str
        As in `diptych.media.Details`.
    taken, taken_from
        As in `diptych.media.Details`.
    latitude, longitude : float, optional
        In degrees; both or neither.
    rating : int, optional
        1 to 5 stars, 0 for "not rated", -1 for "rejected".
    """

    captions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    taken: datetime | None = None
    taken_from: str = ""
    latitude: float | None = None
    longitude: float | None = None
    rating: int | None = None

    def to_json(self) -> str:
        """One line of JSON with all fields except captions; "" if they are empty.

        Examples
        --------
        >>> SidecarFields(keywords=("sea",), rating=4).to_json()
        '{"keywords": ["sea"], "rating": 4}'
        """
        fields = {name: value for name, value in vars(self).items() if name != "captions"}
        fields["taken"] = self.taken and self.taken.isoformat(sep=" ")
        stored = {name: value for name, value in fields.items() if value not in (None, "", ())}
        return json.dumps(stored, ensure_ascii=False) if stored else ""

    @classmethod
    def from_json(cls, text: str) -> SidecarFields:
        """Inverse of `to_json`.

        Examples
        --------
        >>> SidecarFields.from_json('{"keywords": ["sea"], "taken": "2013-05-07 09:03:01"}').taken
        datetime.datetime(2013, 5, 7, 9, 3, 1)
        """
        fields = json.loads(text) if text else {}
        names = ("taken_from", "latitude", "longitude", "rating")
        return cls(
            keywords=tuple(fields.get("keywords", ())),
            taken=datetime.fromisoformat(fields["taken"]) if fields.get("taken") else None,
            **{name: fields[name] for name in names if name in fields},
        )


def read_sidecar(name: str, data: bytes) -> SidecarFields:
    """Read a sidecar; damaged files and other JSON files give empty fields.

    Parameters
    ----------
    name : str
        Its suffix distinguishes XMP (.xmp) from Takeout's JSON (.json).

    Examples
    --------
    >>> read_sidecar("IMG.jpg.json", b'{"photoTakenTime": {"timestamp": "1367917381"}}').taken
    datetime.datetime(2013, 5, 7, 9, 3, 1)
    """
    if name.lower().endswith(".json"):
        return _read_takeout(data)
    return _read_xmp(data)


def merge_fields(several: Iterable[SidecarFields]) -> SidecarFields:
    """Merge fields: all captions and keywords, most reliable date, first position, highest rating."""
    parts = list(several)
    dated = min(
        (part for part in parts if part.taken), key=lambda part: source_rank(part.taken_from), default=None
    )
    located = next((part for part in parts if part.latitude is not None), None)
    return SidecarFields(
        captions=unique(text for part in parts for text in part.captions),
        keywords=unique(word for part in parts for word in part.keywords),
        taken=dated.taken if dated else None,
        taken_from=dated.taken_from if dated else "",
        latitude=located.latitude if located else None,
        longitude=located.longitude if located else None,
        rating=max((part.rating for part in parts if part.rating is not None), default=None),
    )


def _read_xmp(data: bytes) -> SidecarFields:
    xmp = XmpFields([data], largest=LARGEST)
    if not xmp:
        return SidecarFields()
    ours = {tidy_keyword(word) for word in xmp.texts("diptych:keywords")}
    plain = [word for word in plain_keywords(xmp) if tidy_keyword(word) not in ours]
    taken, taken_from = first_date(xmp_dates(xmp, "sidecar XMP "))
    latitude, longitude = xmp_position(xmp)
    rating = xmp_rating(xmp)
    return SidecarFields(
        captions=unique(
            strip_boilerplate(clean(text)) for text in (*xmp_descriptions(xmp), *xmp_titles(xmp))
        ),
        keywords=unique([*plain, *paths_and_people(xmp)]),
        taken=taken,
        taken_from=taken_from,
        latitude=latitude,
        longitude=longitude,
        rating=xmp_percent(xmp) if rating is None else rating,
    )


def _read_takeout(data: bytes) -> SidecarFields:
    fields = _parse_object(data)
    if not any(mark in fields for mark in _MARKS_OF_TAKEOUT):
        return SidecarFields()
    taken = _timestamp(fields.get("photoTakenTime"))
    latitude, longitude = next(
        (
            position
            for name in ("geoData", "geoDataExif")
            if (position := _position(fields.get(name))) != NO_POSITION
        ),
        NO_POSITION,
    )
    people = fields.get("people")
    people = people if isinstance(people, list) else []
    names = [person.get("name") for person in people if isinstance(person, dict)]
    return SidecarFields(
        captions=unique([_text(fields.get("description"))]),
        keywords=unique(_text(name) for name in names),
        taken=taken,
        taken_from=TAKEOUT_DATE if taken else "",
        latitude=latitude,
        longitude=longitude,
        rating=FAVOURITE if fields.get("favorited") is True else None,
    )


def _parse_object(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _timestamp(field: Any) -> datetime | None:
    """Convert seconds since 1970 to a datetime in UTC; Google writes zero for unknown times."""
    try:
        seconds = int(field["timestamp"])
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None) if seconds else None
    except (TypeError, KeyError, ValueError, OverflowError, OSError):
        return None


def _position(field: Any) -> Position:
    if not isinstance(field, dict):
        return NO_POSITION
    numbers = [field.get(name) for name in ("latitude", "longitude")]
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        return NO_POSITION
    return read_position(numbers[0], "", numbers[1], "")


def _text(value: Any) -> str:
    """Unescape HTML entities, which Google writes in descriptions."""
    return clean(html.unescape(value)) if isinstance(value, str) else ""
