"""Metadata compared with exiftool's, on files with every field in every location of every format.

exiftool writes the fields and reads them again; its values are ordered here by the documented priority.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from diptych.media import read_details
from diptych.media.details import Details
from tests.media.metadata_files import encoded, psd_with

PILLOW = {
    "jpg": "JPEG",
    "png": "PNG",
    "tif": "TIFF",
    "webp": "WEBP",
    "gif": "GIF",
    "jp2": "JPEG2000",
    "avif": "AVIF",
}
KINDS = (*PILLOW, "psd")
# Group names of exiftool -G1, in order of priority.
DATES = (
    *(
        "ExifIFD:DateTimeOriginal",
        "XMP-exif:DateTimeOriginal",
        "XMP-photoshop:DateCreated",
        "IPTC:DateCreated",
    ),
    *("PNG:CreationTime", "ExifIFD:CreateDate", "XMP-exif:DateTimeDigitized", "XMP-xmp:CreateDate"),
    *("XMP-dc:Date", "IPTC:DigitalCreationDate", "GPS:GPSDateStamp", "XMP-exif:GPSDateTime"),
    *("IFD0:ModifyDate", "XMP-tiff:DateTime", "XMP-xmp:ModifyDate", "PNG:ModifyDate"),
)
CAPTIONS = (
    *("IFD0:ImageDescription", "XMP-dc:Description", "IPTC:Caption-Abstract", "ExifIFD:UserComment"),
    *("IFD0:XPComment", "XMP-tiff:ImageDescription", "XMP-iptcCore:AltTextAccessibility"),
    *("XMP-exif:UserComment", "PNG:Description", "PNG:Comment", "File:Comment", "GIF:Comment"),
    *(
        "XMP-dc:Title",
        "XMP-photoshop:Headline",
        "IFD0:XPTitle",
        "IPTC:ObjectName",
        "IPTC:Headline",
        "PNG:Title",
    ),
    "IFD0:XPSubject",
)
KEYWORDS = ("XMP-dc:Subject", "IPTC:Keywords", "IFD0:XPKeywords")
PATHS = (
    ("XMP-lr:HierarchicalSubject", "|"),
    ("XMP-digiKam:TagsList", "/"),
    ("XMP-microsoft:LastKeywordXMP", "/"),
)
CAMERAS = (("IFD0:Make", "XMP-tiff:Make"), ("IFD0:Model", "XMP-tiff:Model"))
PLACES = ("GPS", "XMP-exif")
STARS = {0: 0, 1: 1, 25: 2, 50: 3, 75: 4, 99: 5}


def fields(kind: str) -> list[tuple[str, ...]]:
    """The fields written into one file each: single fields of every kind, then combinations."""
    dates = [
        f"{name}=20{n:02}:0{1 + n % 9}:1{n % 9} 1{n % 9}:2{n % 9}:3{n % 9}" for n, name in enumerate(DATES)
    ]
    captions = [f"{name}=Löwe {n} schläft" for n, name in enumerate(CAPTIONS)]
    keywords = [f"{name}=Größe {n}" for n, name in enumerate(KEYWORDS)]
    paths = [f"{name}=Orte{mark}See{n}{mark}20{n}4" for n, (name, mark) in enumerate(PATHS)]
    cameras = [f"{name}=Acme{n}{part}" for part, names in enumerate(CAMERAS) for n, name in enumerate(names)]
    places = [
        ("GPS:GPSLatitude=57.4083", "GPS:GPSLatitudeRef=S", "GPS:GPSLongitude=12.5", "GPS:GPSLongitudeRef=W"),
        ("XMP-exif:GPSLatitude=-0.25", "XMP-exif:GPSLongitude=179.99"),
    ]
    stars = ["XMP-xmp:Rating=4", "XMP-xmp:Rating=-1", "IFD0:Rating=3", "IFD0:RatingPercent=75"]
    stars += ["XMP-microsoft:RatingPercent=50"]
    single = [*dates, *captions, *keywords, *paths, *cameras, *stars]
    # Each date together with all of lower priority: the first has to win.
    later = [tuple(dates[n:]) for n in range(len(dates))] if kind in ("jpg", "png") else []
    everything = (*dates, *captions, *keywords, *paths, *cameras, *stars[:1], *places[0], *places[1])
    many = ("XMP-dc:Subject=eins", "XMP-dc:Subject+=zwei", "IPTC:Keywords=zwei", "IPTC:Keywords+=drei")
    return [*((item,) for item in single), *places, *later, many, everything]


@pytest.fixture(scope="module")
def read_by_exiftool(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, dict[str, Any]]:
    """Read all written files with exiftool in two runs: its start takes longer than its work."""
    exiftool = shutil.which("exiftool")
    if exiftool is None:
        if os.environ.get("CI") and "exiftool" not in os.environ.get("DIPTYCH_MISSING_TOOLS", ""):
            pytest.fail("no exiftool: apt-get install libimage-exiftool-perl")
        pytest.skip("no exiftool: install Debian's libimage-exiftool-perl, as .ci/run does")
    folder = tmp_path_factory.mktemp("exiftool")
    arguments, paths = [], []
    for kind in KINDS:
        blank = psd_with(b"") if kind == "psd" else encoded(PILLOW[kind])
        for number, written in enumerate(fields(kind)):
            path = folder / f"{number:03}.{kind}"
            path.write_bytes(blank)
            paths.append(str(path))
            arguments += ["-q", "-q", "-m", "-n", "-codedcharacterset=utf8", "-overwrite_original"]
            arguments += [f"-{field}" for field in written] + [str(path), "-execute"]
    for lines in (arguments, ["-j", "-G1", "-n", *paths]):
        (folder / "arguments").write_text("\n".join(lines), encoding="utf-8")
        done = subprocess.run([exiftool, "-@", str(folder / "arguments")], capture_output=True, check=False)
    return {Path(item["SourceFile"]): item for item in json.loads(done.stdout)}


def test_dates(read_by_exiftool: dict[Path, dict[str, Any]]) -> None:
    def wanted(read: dict[str, Any]) -> str:
        text = next((str(read[name]) for name in DATES if name in read), "")
        return text.replace("-", ":").replace("T", " ")[:19]

    def got(details: Details) -> str:
        if details.taken is None:
            return ""
        return f"{details.taken:%Y:%m:%d}" + (
            "" if "day only" in details.taken_from else f"{details.taken: %H:%M:%S}"
        )

    compare(read_by_exiftool, wanted, got, least=len(DATES) * 6)


def test_captions(read_by_exiftool: dict[Path, dict[str, Any]]) -> None:
    def wanted(read: dict[str, Any]) -> set[str]:
        return {str(read[name]) for name in CAPTIONS if name in read}

    compare(read_by_exiftool, wanted, lambda details: set(details.captions), least=len(CAPTIONS) * 4)


def test_keywords(read_by_exiftool: dict[Path, dict[str, Any]]) -> None:
    def wanted(read: dict[str, Any]) -> set[str]:
        plain = {word for name in KEYWORDS for word in listed(read.get(name))}
        paths = [word.split(mark) for name, mark in PATHS for word in listed(read.get(name))]
        return plain.union(*paths, {"|".join(path) for path in paths})

    compare(read_by_exiftool, wanted, lambda details: set(details.keywords), least=len(KEYWORDS) * 6)


def test_cameras(read_by_exiftool: dict[Path, dict[str, Any]]) -> None:
    def wanted(read: dict[str, Any]) -> str:
        names = [next((read[name] for name in part if name in read), "") for part in CAMERAS]
        return " ".join(filter(None, names))

    compare(read_by_exiftool, wanted, lambda details: details.camera, least=4 * 6)


def test_places(read_by_exiftool: dict[Path, dict[str, Any]]) -> None:
    def wanted(read: dict[str, Any]) -> tuple[float, float] | None:
        signs = {"S": -1, "W": -1}
        for group in PLACES:
            if f"{group}:GPSLatitude" in read:
                north, east = (signs.get(read.get(f"{group}:GPS{axis}Ref", ""), 1) for axis in AXES)
                return (
                    round(north * float(read[f"{group}:GPSLatitude"]), 5),
                    round(east * float(read[f"{group}:GPSLongitude"]), 5),
                )
        return None

    def got(details: Details) -> tuple[float, float] | None:
        if details.latitude is None or details.longitude is None:
            return None
        return round(details.latitude, 5), round(details.longitude, 5)

    compare(read_by_exiftool, wanted, got, least=2 * 6)


def test_stars(read_by_exiftool: dict[Path, dict[str, Any]]) -> None:
    def wanted(read: dict[str, Any]) -> int | None:
        for name in ("XMP-xmp:Rating", "IFD0:Rating"):
            if name in read:
                return int(read[name])
        for name in ("IFD0:RatingPercent", "XMP-microsoft:RatingPercent"):
            if name in read:
                return STARS[int(read[name])]
        return None

    compare(read_by_exiftool, wanted, lambda details: details.rating, least=5 * 6)


AXES = ("Latitude", "Longitude")


def listed(value: Any) -> list[str]:
    return [] if value is None else [str(item) for item in value] if isinstance(value, list) else [str(value)]


def compare(files: dict[Path, dict[str, Any]], wanted: Any, got: Any, *, least: int) -> None:
    """Compare on all files, and require that enough of them have a value."""
    expected = {path.name: wanted(read) for path, read in files.items()}
    assert sum(1 for value in expected.values() if value not in (None, "", set())) >= least
    differing = {
        path.name: (expected[path.name], value)
        for path in files
        if (value := got(read_details(path))) != expected[path.name]
    }
    assert differing == {}
