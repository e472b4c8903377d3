"""Locations in EXIF and XMP: coordinates and place names."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL.TiffImagePlugin import IFDRational

from diptych.media import read_details
from diptych.media.metadata.places import read_position
from tests.media.metadata_files import XMP, encoded, exif_of

LATITUDE, LONGITUDE = 57 + 24.5 / 60, -12.5


def described(fields: str) -> tuple[float | None, float | None]:
    packet = XMP.replace('rdf:about=""', f'rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" {fields}')
    details = read_details(encoded(xmp=packet.format("").encode()))
    return details.latitude, details.longitude


@pytest.mark.parametrize(
    "fields",
    [
        'exif:GPSLatitude="57,24.5N" exif:GPSLongitude="12,30.0W"',
        'exif:GPSLatitude="57,24,30N" exif:GPSLongitude="12,30,0W"',
        'exif:GPSLatitude="57.40833333" exif:GPSLongitude="-12.5"',
        'exif:GPSLatitude="57,40833333" exif:GPSLongitude="-12,5"',
        'exif:GPSLatitude="57.40833333" exif:GPSLatitudeRef="N" '
        'exif:GPSLongitude="12.5" exif:GPSLongitudeRef="W"',
        'exif:GPSLatitude="N57.40833333" exif:GPSLongitude="w12.5"',
        """exif:GPSLatitude="57 deg 24' 30&quot; N" exif:GPSLongitude="12 deg 30' W" """,
    ],
)
def test_places_in_xmp(fields: str) -> None:
    if "-12,5" in fields:  # degrees and minutes, the most likely reading
        assert described(fields) == pytest.approx((LATITUDE, -12 - 5 / 60))
    else:
        assert described(fields) == pytest.approx((LATITUDE, LONGITUDE))


@pytest.mark.parametrize(
    "fields",
    [
        'exif:GPSLatitude="57,24.5N"',
        'exif:GPSLatitude="NaN" exif:GPSLongitude="12,30.0W"',
        'exif:GPSLatitude="" exif:GPSLongitude="12,30.0W"',
        'exif:GPSLatitude="91,0N" exif:GPSLongitude="12,30.0W"',
        'exif:GPSLatitude="0,0N" exif:GPSLongitude="0,0E"',
        'exif:GPSLatitude="0/0" exif:GPSLongitude="12,30.0W"',
    ],
)
def test_no_place_in_xmp(fields: str) -> None:
    assert described(fields) == (None, None)


def tagged(gps: dict[int, object]) -> tuple[float | None, float | None]:
    details = read_details(encoded(exif=exif_of({}, None, gps)))
    return details.latitude, details.longitude


def degrees(*parts: float) -> tuple[IFDRational, ...]:
    return tuple(IFDRational(round(part * 1000), 1000) for part in parts)


def test_places_without_their_sides_and_with_too_few_numbers() -> None:
    assert tagged({2: degrees(57, 24, 30), 4: degrees(12, 30, 0)}) == pytest.approx((LATITUDE, 12.5))
    assert tagged({1: "N", 2: degrees(57, 24.5), 3: "W", 4: degrees(12.5)}) == pytest.approx(
        (LATITUDE, -12.5)
    )
    assert tagged({1: " \0", 2: degrees(57, 24.5, 0), 3: "", 4: degrees(12.5)}) == pytest.approx(
        (LATITUDE, 12.5)
    )


def test_unknown_seconds_leave_degrees_and_minutes() -> None:
    unknown = (IFDRational(57, 1), IFDRational(24, 1), IFDRational(0, 0))
    assert tagged({1: "N", 2: unknown, 3: "E", 4: degrees(12, 30, 0)}) == pytest.approx((57.4, 12.5))


def test_places_as_texts_in_exif() -> None:
    assert read_position("57.40833333", "N", "12.5", "W") == pytest.approx((LATITUDE, LONGITUDE))
    assert read_position(b"57,24.5N\0", "", b"12/1,30/1W", "") == pytest.approx((LATITUDE, LONGITUDE))
    assert read_position((57.0, 24.5), "S", (-12.5,), "") == pytest.approx((-LATITUDE, LONGITUDE))
    assert read_position((math.nan, 1.0), "N", (12.5,), "E") == (None, None)


def test_exif_is_asked_before_xmp() -> None:
    packet = XMP.replace(
        'rdf:about=""',
        'rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
        'exif:GPSLatitude="1,0N" exif:GPSLongitude="2,0E"',
    )
    data = encoded(
        exif=exif_of({}, None, {1: "N", 2: degrees(57), 3: "E", 4: degrees(12)}),
        xmp=packet.format("").encode(),
    )
    assert read_details(data).latitude == pytest.approx(57)


value = (
    st.text()
    | st.floats()
    | st.none()
    | st.binary()
    | st.tuples(st.floats(), st.floats() | st.text(), st.floats())
)


@given(value, st.text() | st.none(), value, st.text() | st.none())
def test_any_values_are_a_place_on_earth_or_none(a: object, b: object, c: object, d: object) -> None:
    latitude, longitude = read_position(a, b, c, d)
    assert (latitude is None) == (longitude is None)
    if latitude is not None and longitude is not None:
        assert -90 <= latitude <= 90
        assert -180 <= longitude <= 180
