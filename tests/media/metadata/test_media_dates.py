"""Dates as cameras, scanners and converters write them, complete or partial, and their priority."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.media import read_details
from diptych.media.metadata.dates import SOURCES, first_date, precision_of, read_date, source_rank
from tests.media.metadata_files import XMP, encoded, exif_of, iptc_of, png_with, with_iptc

DAY = datetime(2013, 5, 7)
MORNING = datetime(2013, 5, 7, 9, 3, 1)


@pytest.mark.parametrize(
    ("text", "start", "precision"),
    [
        # Blanks instead of zeros, other separators, time zones, fractions.
        ("2013: 5: 7  9:03: 1", MORNING, "time"),
        ("2013:5:7 9:3:1", MORNING, "time"),
        ("2013-05-07 09:03:01", MORNING, "time"),
        ("2013/05/07 09:03:01", MORNING, "time"),
        ("2013.05.07 09.03.01", MORNING, "time"),
        ("20130507 090301", MORNING, "time"),
        ("20130507090301", MORNING, "time"),
        ("20130507T090301+0200", MORNING, "time"),
        ("2013-05-07T09:03:01Z", MORNING, "time"),
        ("2013:05:07 09:03:01+02:00", MORNING, "time"),
        ("2013-05-07T09:03:01.25-05:00", MORNING.replace(microsecond=250_000), "time"),
        ("2013:05:07 09:03:01.007", MORNING.replace(microsecond=7000), "time"),
        ("2013:05:07 09:03:01 AM", MORNING, "time"),
        ("2013:05:07 09:03:01 PM", MORNING.replace(hour=21), "time"),
        ("2013:05:07 12:03:01 am", MORNING.replace(hour=0), "time"),
        ("2013:05:07 09:03", MORNING.replace(second=0), "time"),
        ("2013-05-07T09:03+02:00", MORNING.replace(second=0), "time"),
        (
            "\u0662\u0660\u0661\u0663:\u0660\u0665:\u0660\u0667 \u0660\u0669:\u0660\u0663:\u0660\u0661",
            MORNING,
            "time",
        ),
        # Seconds and hours that no clock shows.
        ("2013:05:07 09:03:60", MORNING.replace(second=59), "time"),
        ("2013:05:07 24:00:00", DAY, "time"),
        ("2013:05:07 24:15:30", DAY.replace(minute=15, second=30), "time"),
        # Invalid times: the day remains.
        ("2013:05:07", DAY, "day"),
        ("20130507", DAY, "day"),
        ("2013:05:07   :  :  ", DAY, "day"),
        ("2013:05:07 99:99:99", DAY, "day"),
        ("2013:05:07 25:00:00", DAY, "day"),
        ("2013-05-07+02:00", DAY, "day"),
        ("2013:05:07 noon", DAY, "day"),
        # Partial dates.
        ("2013:05:00 00:00:00", datetime(2013, 5, 1), "month"),
        ("2013:05:   09:03:01", datetime(2013, 5, 1), "month"),
        ("2013:05:", datetime(2013, 5, 1), "month"),
        ("2013-05", datetime(2013, 5, 1), "month"),
        ("201305", datetime(2013, 5, 1), "month"),
        ("20130500", datetime(2013, 5, 1), "month"),
        ("2013:00:00 00:00:00", datetime(2013, 1, 1), "year"),
        ("2013:  :     :  :  ", datetime(2013, 1, 1), "year"),
        ("20130000", datetime(2013, 1, 1), "year"),
        ("2013", datetime(2013, 1, 1), "year"),
        # Names of months, and the only unambiguous order of a date with slashes.
        ("Tue, 07 May 2013 09:03:01 +0200", MORNING, "time"),
        ("7 May 2013", DAY, "day"),
        ("Tue May  7 09:03:01 2013", MORNING, "time"),
        ("Tue May  7 09:03:01 CEST 2013", MORNING, "time"),
        ("May 7, 2013", DAY, "day"),
        ("07.05.2013 09:03:01", MORNING, "time"),
        ("2013:05:07 09:03:01\0garbage", MORNING, "time"),
    ],
)
def test_dates_as_they_are_written(text: str, start: datetime, precision: str) -> None:
    date = read_date(text)
    assert date is not None
    assert (date.start, date.precision) == (start, precision)


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "yesterday", "0000:00:00 00:00:00", "    :  :     :  :  ", "0000-00-00", "00000000",
        "2021:13:01", "2021:02:30 10:00:00", "1367917381", "20130599", "07/05/2013", "99999999999999", "-1",
    ],
)  # fmt: skip
def test_texts_that_are_no_date(text: str) -> None:
    assert read_date(text) is None


@given(st.text() | st.from_regex(r"\A[\d :./T-]{4,24}\Z"))
def test_any_text_is_a_date_or_none(text: str) -> None:
    date = read_date(text)
    assert date is None or 1 <= date.start.year <= 9999


@given(st.datetimes(min_value=datetime(1, 1, 1)))
def test_every_moment_is_read_back(moment: datetime) -> None:
    for text in (f"{moment:%Y}".zfill(4) + f"{moment:-%m-%dT%H:%M:%S.%f}", moment.isoformat()):
        date = read_date(text)
        assert date is not None
        assert date.start == moment
    spelt = moment.replace(microsecond=0).isoformat().replace("-", ":").replace("T", " ")
    date = read_date(spelt)
    assert date is not None
    assert date.start == moment.replace(microsecond=0)


def test_precision_is_part_of_where_a_date_comes_from() -> None:
    for text, precision in (("2013", "year"), ("2013-05", "month"), ("2013-05-07", "day")):
        _, taken_from = first_date([("XMP dc:date", read_date(text))])
        assert taken_from == f"XMP dc:date ({precision} only)"
        assert precision_of(taken_from) == precision
        assert source_rank(taken_from) == source_rank("XMP dc:date")
    assert precision_of("EXIF GPS date (UTC)") == "time"


def test_the_order_of_trust() -> None:
    order = [
        "EXIF DateTimeOriginal", "sidecar XMP exif:DateTimeOriginal", "XMP exif:DateTimeOriginal",
        "XMP photoshop:DateCreated", "IPTC DateCreated", "Google Takeout photoTakenTime (UTC)",
        "EXIF DateTimeDigitized", "XMP xmp:CreateDate", "EXIF GPS date (UTC)", "EXIF DateTime",
        "XMP xmp:ModifyDate", "PNG tIME",
    ]  # fmt: skip
    assert [source_rank(source) for source in order] == sorted({source_rank(source) for source in order})
    assert source_rank("") < source_rank(SOURCES[0])  # an import's own date


# All fields of a JPEG and a PNG, highest priority first: each is used when those before it are missing.
EXIF_BLOCK, MAIN = {0x9003: "2001:01:01 01:01:01"}, {0x0132: "2010:10:10 10:10:10"}


def packet(*fields: str) -> bytes:
    declared = (
        'rdf:about="" xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
        'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" '
    )
    return XMP.replace('rdf:about=""', declared + " ".join(fields)).format("").encode()


def test_each_field_is_used_when_those_before_it_say_nothing() -> None:
    block = {0x9003: "2001:01:01 01:01:01", 0x9004: "2005:05:05 05:05:05"}
    gps = {29: "2008:08:08", 7: (8.0, 8.0, 8.0)}
    fields = [
        'exif:DateTimeOriginal="2002-02-02T02:02:02"', 'photoshop:DateCreated="2003-03-03T03:03:03"',
        'xmp:CreateDate="2006-06-06T06:06:06"', 'xmp:ModifyDate="2011-11-11T11:11:11"',
    ]  # fmt: skip
    press = iptc_of((55, b"20040404"), (60, b"040404+0200"))
    seen = []
    for _ in range(9):
        data = encoded(exif=exif_of(MAIN if block is not None else {}, block, gps), xmp=packet(*fields))
        details = read_details(with_iptc(data, press))
        assert details.taken is not None
        seen.append((details.taken.year, details.taken_from))
        year = details.taken.year
        if year in (2001, 2005):
            block = {tag: text for tag, text in block.items() if not text.startswith(str(year))}
        elif year == 2004:
            press = b""
        elif year == 2008:
            gps = {}
        elif year == 2010:
            break
        fields = [field for field in fields if f'"{year}' not in field]
    assert seen == [
        (2001, "EXIF DateTimeOriginal"),
        (2002, "XMP exif:DateTimeOriginal"),
        (2003, "XMP photoshop:DateCreated"),
        (2004, "IPTC DateCreated"),
        (2005, "EXIF DateTimeDigitized"),
        (2006, "XMP xmp:CreateDate"),
        (2008, "EXIF GPS date (UTC)"),
        (2010, "EXIF DateTime"),
    ]
    assert read_details(encoded(xmp=packet(*fields))).taken_from == "XMP xmp:ModifyDate"


def test_dates_of_a_png() -> None:
    created = (b"tEXt", b"Creation Time\0Tue, 07 May 2013 09:03:01 +0200")
    edited = (b"tIME", b"\x07\xe0\x01\x02\x03\x04\x05")
    assert read_details(png_with(created, edited)).taken == MORNING
    assert read_details(png_with(created, edited)).taken_from == "PNG Creation Time"
    details = read_details(png_with(edited))
    assert (details.taken, details.taken_from) == (datetime(2016, 1, 2, 3, 4, 5), "PNG tIME")


def test_a_date_in_the_main_block_and_parts_of_a_second() -> None:
    details = read_details(encoded(exif=exif_of({0x9003: "2013:05:07 09:03:01"})))
    assert (details.taken, details.taken_from) == (MORNING, "EXIF DateTimeOriginal")
    block = {0x9003: "2013:05:07 09:03:01", 0x9291: "5 "}
    assert read_details(encoded(exif=exif_of({}, block))).taken == MORNING.replace(microsecond=500_000)


@pytest.mark.parametrize("time", [(24.0, 0.0, 0.0), (8.0, 8.0), (8.0, 99.0, 0.0), None])
def test_a_receiver_without_a_time_leaves_its_day(time: object) -> None:
    gps = {29: "2008:08:08"} | ({} if time is None else {7: time})
    details = read_details(encoded(exif=exif_of({}, None, gps)))
    assert (details.taken, details.taken_from) == (datetime(2008, 8, 8), "EXIF GPS date (UTC) (day only)")


@pytest.mark.parametrize(
    "text", ["2013" + " " * 10**6 + "x", "2013:" + " " * 10**6 + "\t" * 10**6, "2013\n:\n5"]
)
def test_a_million_blanks_in_a_date_come_to_an_end(text: str) -> None:
    date = read_date(text)
    assert date is not None
    assert date.start.year == 2013
