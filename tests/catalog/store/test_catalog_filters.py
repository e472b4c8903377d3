"""Search filters in SQLite and in PostgreSQL: which pictures pass and which do not."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diptych.catalog import Filter, Store
from diptych.catalog.annotations.tags import set_tags
from diptych.catalog.database.postgres import _UTF8_IN_HEX
from diptych.catalog.store.filters import allowed_rows
from diptych.errors import InputError
from tests.catalog.catalogs import index, paint, set_time
from tests.toys import picture, picture_bytes, tar_bytes


@pytest.fixture(params=["files", "postgres"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """The location for a new catalogue."""
    if request.param == "files":
        return tmp_path / "catalog"
    new_database: Callable[[], str] = request.getfixturevalue("new_database")
    return new_database()


Passing = Callable[..., list[str]]


@pytest.fixture
def passing(catalog: str | Path, tmp_path: Path) -> Iterator[Passing]:
    """Index the folder `pictures`, and return a function that lists the files that pass a filter."""
    stores: list[Store] = []

    def names(**wanted: object) -> list[str]:
        if not stores:
            index(catalog, tmp_path / "pictures")
            stores.append(Store.open(catalog))
        (store,) = stores
        assert store.active is not None
        rows = allowed_rows(store.active, Filter(**wanted)).tolist()  # type: ignore[arg-type]
        contents = list(store.active.contents_of(rows).values())
        results = []
        for content in contents:
            results += store.database.all("SELECT path FROM files WHERE content = ?", (content,))
        return sorted(Path(os.fsdecode(bytes(path))).name for (path,) in results)

    yield names
    for store in stores:
        store.close()


def test_capitals_of_every_alphabet(passing: Passing, tmp_path: Path) -> None:
    home = tmp_path / "pictures"
    for n, name in enumerate(("Übung", "ПЕЙЗАЖ", "plain", "Ünder_é!%")):
        paint(home / f"{name}.png", "red", shade=n).with_suffix(".txt").write_text(
            f"{name} den Wolken", "utf-8"
        )
    for text in ("Übung", "übung", "ÜBUNG"):
        assert passing(caption=text) == ["Übung.png"]
        assert passing(name=text) == ["Übung.png"]
    assert passing(caption="пейзаж") == passing(name="пейЗАЖ.P") == ["ПЕЙЗАЖ.png"]
    assert passing(caption="wolken") == passing() == passing(name="PICTURES/")
    assert passing(name="É!%") == passing(caption="R_É") == ["Ünder_é!%.png"]
    assert passing(name="rXé") == []


def test_capitals_of_tags_and_cameras(passing: Passing, catalog: str | Path, tmp_path: Path) -> None:
    tagged, made = paint(tmp_path / "pictures" / "a.png", "red"), Image.Exif()
    made[0x010F], made[0x0110] = "Объектив".encode(), "Zürich 1".encode()
    picture("blue").save(tmp_path / "pictures" / "b.jpg", exif=made)
    paint(tmp_path / "pictures" / "c.png", "green")
    assert passing() == ["a.png", "b.jpg", "c.png"]
    store = Store.open(catalog)
    result = store.database.all("SELECT content FROM files WHERE path = ?", (os.fsencode(tagged),))
    set_tags(store.database, "people", {result[0][0]: {"Été": 1.0, "sea": 1.0}})
    store.close()
    assert passing(tags=("été",)) == passing(tags=("ÉTÉ", "Sea")) == ["a.png"]
    assert passing(tags=("sea", "mountain")) == passing(tags=("ét",)) == []
    assert passing(camera="ОБЪЕКТИВ") == passing(camera="zÜrich") == ["b.jpg"]
    assert passing(camera="nikon") == []


def test_places(passing: Passing, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for name, latitude, longitude in (("munich", 48, 11), ("augsburg", 48, 10), ("sydney", -33, 151)):
        exif = Image.Exif()
        gps = exif.get_ifd(0x8825)
        gps[1], gps[2] = "NS"[latitude < 0], (float(abs(latitude)), 20.0, 0.0)
        gps[3], gps[4] = "E", (float(longitude), 30.0, 0.0)
        picture("red", (9, latitude % 90)).save(tmp_path / "pictures" / f"{name}.jpg", exif=exif)
    paint(tmp_path / "pictures" / "nowhere.png", "red")
    assert len(passing()) == 4
    assert passing(near=(48.33, 11.5, 5.0)) == ["munich.jpg"]
    assert passing(near=(48.33, 11.5, 100.0)) == ["augsburg.jpg", "munich.jpg"]
    assert passing(near=(-33.33, 151.5, 5.0)) == ["sydney.jpg"]
    assert passing(near=(48.33, 12.9, 100.0)) == []  # 103 km away, but inside the bounding box


def test_bytes_and_sides(passing: Passing, tmp_path: Path) -> None:
    for name, side in (("small", 8), ("large", 80)):
        paint(tmp_path / "pictures" / f"{name}.png", "red", size=(side, side + 1))
    size = (tmp_path / "pictures" / "small.png").stat().st_size
    assert passing(max_bytes=size) == passing(shape="portrait", max_bytes=size) == ["small.png"]
    assert passing(min_bytes=size + 1) == passing(min_side=9) == passing(min_side=80) == ["large.png"]
    assert passing(min_bytes=size) == ["large.png", "small.png"]
    assert passing(max_bytes=size - 1) == passing(min_side=81) == passing(shape="landscape") == []


def test_dates_at_the_edges_of_time(passing: Passing, tmp_path: Path) -> None:
    paint(tmp_path / "pictures" / "now.png", "red")
    exif = Image.Exif()
    exif[0x0132] = "9999:12:31 23:59:59"
    picture("blue").save(tmp_path / "pictures" / "never.jpg", exif=exif)
    for first in (date.min, date(1600, 1, 1), date(1980, 1, 1)):
        assert passing(after=first) == ["never.jpg", "now.png"]
        assert passing(before=first) == []
    assert passing(before=date.max) == ["never.jpg", "now.png"]
    assert passing(after=date.max) == ["never.jpg"]
    assert passing(after=date(2300, 1, 1)) == ["never.jpg"]
    assert passing(before=date(9999, 12, 30)) == passing(before=date(2300, 1, 1)) == ["now.png"]


def test_a_picture_of_which_no_time_is_known_passes_no_date(passing: Passing, tmp_path: Path) -> None:
    set_time(paint(tmp_path / "pictures" / "old.png", "red"), 86400)
    set_time(paint(tmp_path / "pictures" / "unknown.png", "blue"), 0)
    assert passing() == ["old.png", "unknown.png"]
    assert passing(before=date(1980, 1, 1)) == passing(after=date(1960, 1, 1)) == ["old.png"]


def test_folders_files_and_archives(passing: Passing, tmp_path: Path) -> None:
    home, empty = tmp_path / "pictures", tmp_path / "empty"
    paint(home / "a" / "one.png", "red")
    paint(home / "a b" / "two.png", "blue")
    (home / "three.tar").write_bytes(tar_bytes({"in/three.png": picture_bytes("green")}))
    empty.mkdir()
    assert passing(folders=(home,)) == ["one.png", "three.tar", "two.png"]
    assert passing(folders=(home / "a",)) == passing(folders=(home / "a" / "one.png",)) == ["one.png"]
    assert passing(folders=(home / "three.tar",)) == ["three.tar"]
    assert passing(folders=(home / "three.tar", home / "a b")) == ["three.tar", "two.png"]
    assert passing(folders=(empty,)) == []


def test_a_folder_that_is_nowhere(passing: Passing, tmp_path: Path) -> None:
    paint(tmp_path / "pictures" / "a" / "one.png", "red")
    assert passing() == ["one.png"]
    for folders in ((tmp_path / "picture",), (tmp_path / "pictures", tmp_path / "picture")):
        with pytest.raises(InputError, match=r"picture: there is no such file or folder, neither on disk"):
            passing(folders=folders)
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")  # a drive that is away now
    assert passing(folders=(tmp_path / "pictures" / "a",)) == ["one.png"]


def test_names_that_are_no_utf8(passing: Passing, catalog: str | Path, tmp_path: Path) -> None:
    paint(tmp_path / "pictures" / "plain.png", "red")
    odd = os.fsdecode(b"caf\xe9.png")
    paint(tmp_path / "pictures" / odd, "red", shade=1)
    assert passing(name="PNG") == sorted(["plain.png", odd])
    assert passing(name="CAF") == [odd]
    assert passing(name="caf\\") == [odd]
    assert passing(name=odd) == ([odd] if isinstance(catalog, Path) else [])  # an octal escape in PostgreSQL


@settings(max_examples=300)
@given(st.binary(max_size=12) | st.text(max_size=6).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_what_is_utf8_for_postgresql_is_for_python(data: bytes) -> None:
    try:
        whole = "\0" not in data.decode()
    except UnicodeDecodeError:
        whole = False
    assert bool(re.match(_UTF8_IN_HEX, data.hex())) == whole
