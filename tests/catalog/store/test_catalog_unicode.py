"""Unicode normal forms of names, tags and captions, and case of sidecar names, in SQLite and PostgreSQL."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest

from diptych.catalog import Filter, Store
from diptych.catalog.files.listing import file_at
from diptych.catalog.indexing.watch import folders_to_list
from diptych.catalog.store.filters import allowed_rows
from diptych.files.text_files import TextEncodingWarning
from tests.catalog.catalogs import Place, index, paint

FORMS = ["NFC", "NFD"]


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return tmp_path / "catalog"
    new_database: Callable[[], str] = request.getfixturevalue("new_database")
    return new_database()


def hits(place: Place, wanted: Filter) -> int:
    store = Store.open(place)
    try:
        assert store.active is not None
        return len(allowed_rows(store.active, wanted))
    finally:
        store.close()


@pytest.mark.parametrize("stored", FORMS)
@pytest.mark.parametrize("asked", FORMS)
def test_filters_find_either_normal_form_in_any_case(
    place: Place, tmp_path: Path, stored: str, asked: str
) -> None:
    def old(text: str) -> str:
        return unicodedata.normalize(stored, text)

    def new(text: str) -> str:
        return unicodedata.normalize(asked, text)

    picture = paint(tmp_path / "p" / old("Möbel") / old("Müller.png"), "red")
    paint(tmp_path / "p" / "other" / "Muller.png", "blue")
    picture.with_suffix(".txt").write_text(old("In der Küche"))
    index(place, tmp_path / "p")
    store = Store.open(place)
    with store.database.writing():
        (number,) = store.database.all("SELECT content FROM files WHERE path = ?", (os.fsencode(picture),))[0]
        store.database.run(
            "INSERT INTO tags (content, tag, origin, score) VALUES (?, ?, 'hand', 1)", (number, old("Küche"))
        )
    store.close()
    for wanted in (
        Filter(name=new("Müller")),
        Filter(name=new("MÜLLER")),
        Filter(caption=new("Küche")),
        Filter(caption=new("der KÜCHE")),
        Filter(tags=(new("küche"),)),
        Filter(folders=(tmp_path / "p" / new("Möbel"),)),
        Filter(folders=(tmp_path / "p" / new("Möbel") / new("Müller.png"),)),
    ):
        assert hits(place, wanted) == 1, wanted
    assert hits(place, Filter(name="muller")) == 1  # without the accent, and another file


def test_a_folder_of_a_drive_that_is_away(place: Place, tmp_path: Path) -> None:
    """The spelling of its name is known from the catalogue only."""
    folder = tmp_path / unicodedata.normalize("NFD", "Möbel")
    paint(folder / "a.png", "red")
    index(place, folder)
    folder.rename(tmp_path / "away")
    assert hits(place, Filter(folders=(tmp_path / "Möbel",))) == 1


def test_helpers_in_capitals(tmp_path: Path) -> None:
    for number, end in enumerate((".TXT", ".Json", ".txt")):
        picture = paint(tmp_path / "p" / f"DSC000{number}.PNG", "red", shade=number)
        text = f"a daisy number {number}"
        picture.with_suffix(end).write_text(f'{{"caption": "{text}"}}' if end == ".Json" else text)
    index(tmp_path / "catalog", tmp_path / "p")
    for number in range(3):
        assert hits(tmp_path / "catalog", Filter(caption=f"A daisy number {number}")) == 1
        result = file_at(tmp_path / "p" / f"DSC000{number}.PNG")
        assert result is not None
        assert result.sidecar
    # A changed caption is read again, by `index` and by `watch`.
    (tmp_path / "p" / "DSC0000.TXT").write_text("a tulip")
    os.utime(tmp_path / "p" / "DSC0000.TXT", (10**9, 10**9))
    index(tmp_path / "catalog", tmp_path / "p")
    assert hits(tmp_path / "catalog", Filter(caption="tulip")) == 1


def test_a_watched_file_hears_of_its_caption_in_capitals(tmp_path: Path) -> None:
    from diptych.catalog.store.folder_rules import FolderRules

    picture = paint(tmp_path / "a.PNG", "red")
    for name in ("a.TXT", "a.json", "a.Txt"):
        (tmp_path / name).write_text("x")
        assert folders_to_list([str(tmp_path / name)], {picture: FolderRules(picture)}) == [picture]
        (tmp_path / name).unlink()
    assert folders_to_list([str(tmp_path / "b.txt")], {picture: FolderRules(picture)}) == []


def test_screenshots_keep_their_captions(tmp_path: Path) -> None:
    names = [f"Screenshot 2024-01-05 at 10.33.{n:02}" for n in range(4)]
    for number, name in enumerate(names):
        paint(tmp_path / "p" / f"{name}.png", "red", shade=number)
        (tmp_path / "p" / f"{name}.txt").write_text(f"window {number}")
    index(tmp_path / "catalog", tmp_path / "p")
    for number in range(4):
        assert hits(tmp_path / "catalog", Filter(caption=f"window {number}", name=names[number])) == 1


def test_captions_in_the_encoding_they_have(tmp_path: Path) -> None:
    for number, encoding in enumerate(("cp1252", "utf-16", "utf-8")):
        picture = paint(tmp_path / "p" / f"{encoding}.png", "red", shade=number)
        picture.with_suffix(".txt").write_bytes(f"un café {number}".encode(encoding))
    with pytest.warns(TextEncodingWarning, match=r"cp1252\.txt"):
        index(tmp_path / "catalog", tmp_path / "p")
    assert hits(tmp_path / "catalog", Filter(caption="un café")) == 3
