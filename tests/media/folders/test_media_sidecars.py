"""Sidecars: which belong to which picture, and the contents of XMP and of Google Takeout's JSON."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.media.folders.sidecar_names import Sidecars
from diptych.media.metadata.sidecar_fields import SidecarFields, merge_fields, read_sidecar
from diptych.media.metadata.xmp import merge_keywords
from tests.media.metadata_files import XMP

LONG = "PXL_20230101_120000000.PORTRAIT-01.COVER-with-a-name.jpg"  # 56 letters


@pytest.mark.parametrize(
    ("names", "picture", "expected"),
    [
        (["a.jpg.xmp"], "a.jpg", ["a.jpg.xmp"]),
        (["a.xmp"], "a.jpg", ["a.xmp"]),
        (["a.XMP", "a.jpg.Xmp"], "a.jpg", ["a.jpg.Xmp", "a.XMP"]),
        (["A.xmp"], "a.JPG", ["A.xmp"]),
        (["a.xmp"], "b.jpg", []),
        (["a.png.xmp"], "a.jpg", []),
        (["Mo\u0308we.xmp"], "M\u00f6we.jpg", ["Mo\u0308we.xmp"]),
        (["sub/a.xmp"], "a.jpg", []),
        (["sub/a.xmp"], "sub/a.jpg", ["sub/a.xmp"]),
        # Google Takeout.
        (["a.jpg.json"], "a.jpg", ["a.jpg.json"]),
        (["a.jpg.supplemental-metadata.json"], "a.jpg", ["a.jpg.supplemental-metadata.json"]),
        (["a.jpg.supplemental-meta.json"], "a.jpg", ["a.jpg.supplemental-meta.json"]),
        (["a.jpg.su.json"], "a.jpg", ["a.jpg.su.json"]),
        (["a.jpg..json"], "a.jpg", ["a.jpg..json"]),
        (["a.jpg.supplemental-metadata.json"], "a.png", []),
        ([f"{LONG[:46]}.json"], LONG, [f"{LONG[:46]}.json"]),
        ([f"{LONG[:46]}(1).json"], LONG.replace(".jpg", "(1).jpg"), [f"{LONG[:46]}(1).json"]),
        ([f"{LONG[:46]}.json"], LONG.replace(".jpg", "(1).jpg"), []),
        (["IMG.jpg(1).json", "IMG.jpg.json"], "IMG(1).jpg", ["IMG.jpg(1).json"]),
        (["IMG.jpg(1).json", "IMG.jpg.json"], "IMG.jpg", ["IMG.jpg.json"]),
        (["IMG.jpg.supplemental-metadata(2).json"], "IMG(2).jpg", ["IMG.jpg.supplemental-metadata(2).json"]),
        (["IMG(1).jpg.json"], "IMG(1).jpg", ["IMG(1).jpg.json"]),
        (["IMG.jpg.json"], "IMG-edited.jpg", ["IMG.jpg.json"]),
        (["IMG.jpg.json"], "IMG-bearbeitet.jpg", ["IMG.jpg.json"]),
        (["IMG.jpg(1).json"], "IMG-edited(1).jpg", ["IMG.jpg(1).json"]),
        (["IMG-edited.jpg.json", "IMG.jpg.json"], "IMG-edited.jpg", ["IMG-edited.jpg.json"]),
        (["Photos/IMG.jpg.json"], "Photos/IMG.jpg", ["Photos/IMG.jpg.json"]),
        (["a.json", ".xmp", ".json"], "a.jpg", []),
    ],
)
def test_which_sidecars_belong_to_a_picture(names: list[str], picture: str, expected: list[str]) -> None:
    assert Sidecars([*names, picture]).of(picture) == expected


@given(st.lists(st.text(st.sampled_from("ab.()1-jpgxmson/"), max_size=12)), st.text(max_size=60))
def test_any_names_have_sidecars_or_none(names: list[str], picture: str) -> None:
    assert set(Sidecars(names).of(picture)) <= set(names)


def xmp(attributes: str = "", fields: str = "") -> bytes:
    declared = (
        'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
        'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" xmlns:lr="http://ns.adobe.com/lightroom/1.0/"'
    )
    return XMP.replace('rdf:about=""', f'rdf:about="" {declared} {attributes}').format(fields).encode()


def bag(name: str, *words: str) -> str:
    return f"<{name}><rdf:Bag>{''.join(f'<rdf:li>{word}</rdf:li>' for word in words)}</rdf:Bag></{name}>"


def test_what_xmp_says() -> None:
    data = xmp(
        'xmp:Rating="4" photoshop:DateCreated="2013-05-07T09:03:01" exif:GPSLatitude="57,24.5N" '
        'exif:GPSLongitude="12,30.0E"',
        bag("dc:subject", "sea")
        + bag("lr:hierarchicalSubject", "places|sea")
        + "<dc:description>By the sea</dc:description><dc:title>OLYMPUS DIGITAL CAMERA</dc:title>",
    )
    assert read_sidecar("a.jpg.XMP", data) == SidecarFields(
        captions=("By the sea",),
        keywords=("sea", "places", "places|sea"),
        taken=datetime(2013, 5, 7, 9, 3, 1),
        taken_from="sidecar XMP photoshop:DateCreated",
        latitude=pytest.approx(57.408333),
        longitude=12.5,
        rating=4,
    )


def test_what_was_written_here_is_no_person_s() -> None:
    made = merge_keywords(None, ["dog", "snow"])
    assert made is not None
    assert read_sidecar("a.xmp", made) == SidecarFields()
    mixed = merge_keywords(xmp(fields=bag("dc:subject", "grandma", "snow")), ["dog", "snow"])
    assert mixed is not None
    assert read_sidecar("a.xmp", mixed).keywords == ("grandma", "snow")


def takeout(**fields: Any) -> SidecarFields:
    whole = {"title": "IMG.jpg", "photoTakenTime": {"timestamp": "1367917381"}, **fields}
    return read_sidecar("IMG.jpg.json", json.dumps(whole).encode())


def test_what_takeout_says() -> None:
    fields = takeout(
        description="Grandma &amp; the dog",
        people=[{"name": "Anna"}, {"name": "Käthe"}, {}],
        favorited=True,
        geoData={"latitude": 0.0, "longitude": 0.0, "altitude": 0.0},
        geoDataExif={"latitude": 57.4, "longitude": -12.5},
    )
    assert fields == SidecarFields(
        captions=("Grandma & the dog",),
        keywords=("Anna", "Käthe"),
        taken=datetime(2013, 5, 7, 9, 3, 1),
        taken_from="Google Takeout photoTakenTime (UTC)",
        latitude=57.4,
        longitude=-12.5,
        rating=5,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"photoTakenTime": {"timestamp": "0"}},
        {"photoTakenTime": {"timestamp": "9" * 30}},
        {"photoTakenTime": {"timestamp": None}},
        {"photoTakenTime": "2013"},
        {"photoTakenTime": None, "geoData": {"latitude": 0, "longitude": 0}},
        {"photoTakenTime": None, "geoData": {"latitude": "57", "longitude": None}},
        {"photoTakenTime": None, "geoData": {"latitude": 91, "longitude": 1}},
        {
            "photoTakenTime": None,
            "geoData": [],
            "people": {"name": "Anna"},
            "description": 3,
            "favorited": "yes",
        },
    ],
)
def test_what_takeout_leaves_open(fields: dict[str, Any]) -> None:
    assert takeout(**fields) == SidecarFields()


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b'{"caption": "a dog"}', b'{"description": "a dog"}', b"\xff\xfe", b"[" * 100_000],
)
def test_other_json_is_no_sidecar(data: bytes) -> None:
    assert read_sidecar("IMG.jpg.json", data) == SidecarFields()


def test_several_sidecars_of_a_picture() -> None:
    google = takeout(people=[{"name": "Anna"}], geoData={"latitude": 1, "longitude": 2})
    adobe = read_sidecar(
        "IMG.xmp", xmp('xmp:Rating="3" exif:DateTimeOriginal="2012-01-01"', bag("dc:subject", "sea"))
    )
    both = merge_fields([google, adobe])
    assert both.keywords == ("Anna", "sea")
    assert (both.taken, both.latitude, both.rating) == (datetime(2012, 1, 1), 1.0, 3)
    assert merge_fields([]) == SidecarFields()


@given(
    st.builds(
        SidecarFields,
        keywords=st.lists(st.text(min_size=1)).map(tuple),
        taken=st.none() | st.datetimes(),
        taken_from=st.just("XMP dc:date"),
        latitude=st.none() | st.floats(-90, 90),
        longitude=st.none() | st.floats(-180, 180),
        rating=st.none() | st.integers(-1, 5),
    )
)
def test_fields_are_kept_as_text(fields: SidecarFields) -> None:
    assert SidecarFields.from_json(fields.to_json()) == fields


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["photoTakenTime", "geoData", "geoDataExif", "people", "description", "favorited"]),
        json_values
        | st.dictionaries(st.sampled_from(["timestamp", "latitude", "longitude"]), json_values)
        | st.lists(st.dictionaries(st.just("name"), json_values)),
    )
)
def test_any_json_says_something_sound_or_nothing(fields: dict[str, Any]) -> None:
    read = read_sidecar("a.jpg.json", json.dumps(fields).encode())
    assert SidecarFields.from_json(read.to_json()).keywords == read.keywords
    assert read.latitude is None or -90 <= read.latitude <= 90


@given(st.binary() | st.text().map(lambda text: xmp(fields=f"<dc:subject>{text}</dc:subject>")))
def test_any_bytes_say_something_or_nothing(data: bytes) -> None:
    assert isinstance(read_sidecar("a.xmp", data), SidecarFields)
    assert isinstance(read_sidecar("a.json", data), SidecarFields)
