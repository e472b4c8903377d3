"""Sidecars in a catalogue: read with their pictures, merged over copies, and followed when they change."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from diptych.catalog import CatalogEntry, Store
from diptych.catalog.annotations.tags import set_tags
from diptych.catalog.duplicates.trash import CompanionFiles
from diptych.catalog.store.entries import read_entries
from diptych.catalog.store.filters import Filter, allowed_rows
from diptych.catalog.tags.sidecars import write_sidecars
from diptych.media.metadata.xmp import keywords_in
from tests.catalog.catalogs import index, paint

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:exif="http://ns.adobe.com/exif/1.0/" xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" {attributes}>
<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject></rdf:Description></rdf:RDF></x:xmpmeta>"""
MORNING = datetime(2013, 5, 7, 9, 3, 1)


def xmp(*words: str, **attributes: object) -> bytes:
    fields = " ".join(f'{name.replace("_", ":")}="{value}"' for name, value in attributes.items())
    return XMP.format(attributes=fields, items="".join(f"<rdf:li>{word}</rdf:li>" for word in words)).encode()


def takeout(**fields: Any) -> bytes:
    return json.dumps({"title": "a", "photoTakenTime": {"timestamp": "1367917381"}, **fields}).encode()


def entries(place: str | Path) -> dict[str, CatalogEntry]:
    """All pictures by the name of their first file."""
    store = Store.open(place)
    try:
        numbers = [row[0] for row in store.database.all("SELECT id FROM contents ORDER BY id")]
        return {entry.member or entry.path.name: entry for entry in read_entries(store.database, numbers)}
    finally:
        store.close()


def passing(place: str | Path, **wanted: Any) -> int:
    store = Store.open(place)
    try:
        assert store.active is not None
        return len(allowed_rows(store.active, Filter(**wanted)))
    finally:
        store.close()


def photograph(path: Path, shade: int = 0, main: dict[int, Any] | None = None, **block: str) -> Path:
    """A JPEG with these EXIF tags."""
    exif = Image.Exif()
    exif.update(main or {})
    exif.get_ifd(0x8769).update({int(tag[1:], 16): text for tag, text in block.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), (shade, 100, 50)).save(path, "JPEG", exif=exif)
    return path


def test_what_sidecars_say(tmp_path: Path) -> None:
    home = tmp_path / "pictures"
    for number, name in enumerate(["adobe.png", "takeout.png", "both.png"]):
        paint(home / name, "red", shade=number)
    (home / "adobe.XMP").write_bytes(
        xmp(
            "sea",
            photoshop_DateCreated="2013-05-07T09:03:01",
            exif_GPSLatitude="57,24.5N",
            exif_GPSLongitude="12,30E",
        )
    )
    (home / "takeout.png.supplemental-metadata.json").write_bytes(
        takeout(
            people=[{"name": "Anna"}], description="At the lake", geoData={"latitude": 1.5, "longitude": -2}
        )
    )
    (home / "both.png.xmp").write_bytes(xmp("sea", "places|shore", xmp_Rating=3))
    (home / "both.png.json").write_bytes(takeout(people=[{"name": "Anna"}], favorited=False))
    index(tmp_path / "catalog", home)
    result = entries(tmp_path / "catalog")
    adobe, google, both = result["adobe.png"], result["takeout.png"], result["both.png"]
    assert (adobe.tags, adobe.taken, adobe.latitude) == (("sea",), MORNING, pytest.approx(57.408333))
    assert adobe.taken_from == "sidecar XMP photoshop:DateCreated"
    assert (google.tags, google.caption, google.longitude) == (("Anna",), "At the lake", -2)
    assert (google.taken, google.taken_from) == (MORNING, "Google Takeout photoTakenTime (UTC)")
    assert (both.tags, both.rating) == (("Anna", "places", "places|shore", "sea", "shore"), 3)
    assert passing(tmp_path / "catalog", tags=("sea",)) == 2
    assert [
        passing(tmp_path / "catalog", tags=(tag,)) for tag in ("shore", "Places/Shore", "places|shore")
    ] == [1] * 3
    assert passing(tmp_path / "catalog", caption="lake") == 1
    assert passing(tmp_path / "catalog", near=(1.5, -2.0, 5.0)) == 1
    assert passing(tmp_path / "catalog", after=date(2013, 5, 1), before=date(2013, 5, 31)) == 3


def test_a_sidecar_that_changes_is_read_and_nothing_is_embedded(tmp_path: Path) -> None:
    home, catalog = tmp_path / "pictures", tmp_path / "catalog"
    picture = photograph(home / "a.jpg", main={0x0132: "2020:01:01 10:00:00"})
    index(catalog, home)
    before = entries(catalog)["a.jpg"]
    assert (before.taken, before.taken_from, before.tags) == (datetime(2020, 1, 1, 10), "EXIF DateTime", ())
    steps: list[tuple[bytes | None, tuple[str, ...], int | None, datetime]] = [
        (xmp("sea", xmp_Rating=4, xmp_CreateDate="2013-05-07T09:03:01"), ("sea",), 4, MORNING),
        (xmp("lake"), ("lake",), None, datetime(2020, 1, 1, 10)),
        (xmp("sea", exif_DateTimeOriginal="2013-05-07T09:03:01"), ("sea",), None, MORNING),
        (None, (), None, datetime(2020, 1, 1, 10)),
    ]
    for number, (data, tags, rating, taken) in enumerate(steps):
        sidecar = picture.with_name("a.jpg.xmp")
        if data is None:
            sidecar.unlink()
        else:
            sidecar.write_bytes(data)
            os.utime(sidecar, (number + 1, number + 1))
        assert index(catalog, home).embedded == 0
        entry = entries(catalog)["a.jpg"]
        assert (entry.tags, entry.rating, entry.taken) == (tags, rating, taken)
        assert not index(catalog, home).changed
    assert entries(catalog)["a.jpg"] == before


def test_copies_have_what_the_sidecars_of_all_of_them_say(tmp_path: Path) -> None:
    home, catalog = tmp_path / "pictures", tmp_path / "catalog"
    first = photograph(home / "a.jpg")
    second = Path(shutil.copy(first, home / "b.jpg"))
    (home / "a.jpg.xmp").write_bytes(xmp("sea", "sand", xmp_Rating=2))
    (home / "b.xmp").write_bytes(xmp("sea", "lake", xmp_Rating=5, xmp_CreateDate="2013-05-07T09:03:01"))
    index(catalog, home)
    entry = entries(catalog)["a.jpg"]
    assert (set(entry.tags), entry.rating, entry.taken) == ({"sea", "sand", "lake"}, 5, MORNING)
    for path in (second, home / "b.xmp"):
        path.unlink()
    index(catalog, home)
    entry = entries(catalog)["a.jpg"]
    assert (set(entry.tags), entry.rating) == ({"sea", "sand"}, 2)
    assert entry.taken_from == "file time"
    # Moved together with its sidecar, and then without it.
    paint(home / "sub" / "other.png", "red")
    index(catalog, home)
    for name in ("a.jpg", "a.jpg.xmp"):
        (home / name).rename(home / "sub" / name)
    assert index(catalog, home).embedded == 0
    assert set(entries(catalog)["a.jpg"].tags) == {"sea", "sand"}
    (home / "sub" / "a.jpg").rename(home / "c.jpg")
    assert index(catalog, home).embedded == 0
    assert entries(catalog)["c.jpg"].tags == ()


def test_whose_word_counts(tmp_path: Path) -> None:
    """Priority: EXIF's original date, then the sidecar's date, then the date of an edit."""
    home, catalog = tmp_path / "pictures", tmp_path / "catalog"
    photograph(home / "original.jpg", 1, x9003="2012:12:12 12:12:12")
    photograph(home / "edited.jpg", 2, main={0x0132: "2020:01:01 10:00:00"})
    for name in ("original", "edited"):
        (home / f"{name}.jpg.json").write_bytes(takeout())
    index(catalog, home)
    result = entries(catalog)
    assert result["original.jpg"].taken_from == "EXIF DateTimeOriginal"
    assert result["edited.jpg"].taken_from == "Google Takeout photoTakenTime (UTC)"


def test_one_sidecar_of_a_raw_and_its_jpeg(tmp_path: Path) -> None:
    home, catalog = tmp_path / "pictures", tmp_path / "catalog"
    paint(home / "a.png", "red")
    photograph(home / "a.jpg")
    (home / "a.xmp").write_bytes(xmp("sea"))
    index(catalog, home)
    assert [entry.tags for entry in entries(catalog).values()] == [("sea",), ("sea",)]


def test_keywords_that_were_written_here_do_not_come_back(tmp_path: Path) -> None:
    home, catalog = tmp_path / "pictures", tmp_path / "catalog"
    paint(home / "a.png", "red")
    (home / "a.png.xmp").write_bytes(xmp("grandma"))
    paint(home / "b.png", "green")
    index(catalog, home)
    store = Store.open(catalog)
    numbers = [row[0] for row in store.database.all("SELECT id FROM contents ORDER BY id")]
    set_tags(store.database, "things", {number: {"dog": 0.9} for number in numbers})
    assert write_sidecars(store).written == 2
    store.close()
    # A sidecar written by Diptych does not count as a change.
    assert not index(catalog, home).changed
    assert keywords_in((home / "a.png.xmp").read_bytes()) == (("grandma", "dog"), ("dog",))
    os.utime(home / "a.png.xmp", (1, 1))
    index(catalog, home)
    store = Store.open(catalog)
    given = store.database.all("SELECT tag, origin FROM tags ORDER BY origin, tag, content")
    assert given == [("grandma", "sidecar"), ("dog", "things"), ("dog", "things")]
    assert write_sidecars(store, undo=True).removed == 1
    store.close()
    assert keywords_in((home / "a.png.xmp").read_bytes()) == (("grandma",), ())
    assert not (home / "b.png.xmp").exists()
    assert not index(catalog, home).changed


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_sidecars_inside_archives(tmp_path: Path, kind: str) -> None:
    catalog, archive = tmp_path / "catalog", tmp_path / "pictures" / f"takeout.{kind}"
    picture = paint(tmp_path / "IMG.png", "red").read_bytes()
    second = paint(tmp_path / "IMG.png", "red", shade=1).read_bytes()
    members = {
        "Takeout/IMG.png": picture,
        "Takeout/IMG.png.supplemental-metada.json": takeout(people=[{"name": "Anna"}], description="First"),
        "Takeout/IMG(1).png": second,
        "Takeout/IMG.png.supplemental-metada(1).json": takeout(people=[{"name": "Käthe"}], favorited=True),
        "Takeout/IMG(1).png.xmp": xmp("sea"),
    }
    archive.parent.mkdir()
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            for name, data in members.items():
                file.writestr(name, data)
    else:
        with tarfile.open(archive, "w:gz" if kind == "tar.gz" else "w") as file:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
    index(catalog, archive.parent)
    result = entries(catalog)
    assert (result["Takeout/IMG.png"].tags, result["Takeout/IMG.png"].caption) == (("Anna",), "First")
    assert (result["Takeout/IMG(1).png"].tags, result["Takeout/IMG(1).png"].rating) == (("Käthe", "sea"), 5)
    assert not index(catalog, archive.parent).changed


def test_sidecars_follow_their_picture_to_the_trash(tmp_path: Path) -> None:
    name = "a picture with a name that is long, but not too long.png"
    picture, second = paint(tmp_path / name, "red"), paint(tmp_path / "b(1).png", "red")
    beside = [tmp_path / f"{name[:46]}.json", tmp_path / "b.png.supplemental-metadata(1).json"]
    for path in beside:
        path.write_bytes(takeout())
    assert [CompanionFiles().of(picture), CompanionFiles().of(second)] == [beside[:1], beside[1:]]


def test_sidecars_in_postgres(tmp_path: Path, new_database: Callable[[], str]) -> None:
    address, home = new_database(), tmp_path / "pictures"
    photograph(home / "a.jpg", main={0x4746: 3})
    (home / "a.xmp").write_bytes(xmp("sea", xmp_Rating=4, xmp_CreateDate="2013-05"))
    index(address, home)
    entry = entries(address)["a.jpg"]
    assert (entry.tags, entry.rating, entry.day) == (("sea",), 4, "2013-05")
    assert passing(address, after=date(2013, 5, 20), before=date(2013, 5, 25)) == 1
    (home / "a.xmp").unlink()
    index(address, home)
    entry = entries(address)["a.jpg"]
    assert (entry.tags, entry.rating, entry.taken_from) == ((), 3, "file time")


# --------------------------------------------------------------------------- metadata in the picture itself


def test_dates_in_part_count_as_far_as_they_go(tmp_path: Path) -> None:
    home, catalog = tmp_path / "pictures", tmp_path / "catalog"
    for number, text in enumerate(
        ["2013:05:07 09:03:01", "2013:05:07", "2013:05:00 00:00:00", "2013:00:00 00:00:00"]
    ):
        photograph(home / f"{number}.jpg", number, x9003=text)
    index(catalog, home)
    assert [entries(catalog)[f"{n}.jpg"].day for n in range(4)] == [
        "2013-05-07",
        "2013-05-07",
        "2013-05",
        "2013",
    ]
    for after, before, count in (
        ("2013-05-01", "2013-05-31", 4),
        ("2013-05-07", "2013-05-07", 4),
        ("2013-05-10", "2013-05-20", 2),
        ("2013-06-01", "2013-06-30", 1),
        ("2013-01-01", "2013-04-30", 1),
        ("2012-01-01", "2012-12-31", 0),
        ("2014-01-01", "2014-12-31", 0),
    ):
        span = {"after": date.fromisoformat(after), "before": date.fromisoformat(before)}
        assert passing(catalog, **span) == count, (after, before)


def test_every_caption_can_be_searched_and_the_first_is_shown(tmp_path: Path) -> None:
    home, catalog = tmp_path / "pictures", tmp_path / "catalog"
    main = {
        0x010E: "A red bicycle",
        0x9C9B: "Our title".encode("utf-16-le"),
        0x9C9E: "sea".encode("utf-16-le"),
    }
    photograph(home / "a.jpg", main=main)
    (home / "a.txt").write_text("leaning on a wall")
    index(catalog, home)
    assert entries(catalog)["a.jpg"].caption == "leaning on a wall"
    assert [passing(catalog, caption=part) for part in ("BICYCLE", "our title", "wall", "car")] == [
        1,
        1,
        1,
        0,
    ]
    assert passing(catalog, tags=("sea",)) == 1


def test_a_known_picture_read_again_is_described_again(tmp_path: Path) -> None:
    """A catalogue of an earlier version stores less of its pictures' metadata."""
    home, catalog = tmp_path / "pictures", tmp_path / "catalog"
    path = photograph(
        home / "a.jpg", main={0x4746: 3, 0x9C9E: "sea".encode("utf-16-le")}, x9003="2013:05:07 09:03:01"
    )
    index(catalog, home)
    whole = entries(catalog)["a.jpg"]
    assert (whole.rating, whole.tags, whole.taken) == (3, ("sea",), MORNING)
    store = Store.open(catalog)
    with store.database.writing():
        store.database.run("UPDATE contents SET taken = NULL, taken_from = NULL")
        store.database.run("DELETE FROM tags")
        store.database.run("DELETE FROM ratings")
    store.close()
    os.utime(path, (1, 1))
    assert index(catalog, home).embedded == 0
    assert entries(catalog)["a.jpg"] == whole
