"""Companions of a file moved to the trash: hard links, sidecar files, tags and ratings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from diptych.catalog import Store
from diptych.catalog.annotations.records import ListedFile
from diptych.catalog.annotations.tags import add_tags, rate, ratings_of
from diptych.catalog.duplicates import trash
from diptych.catalog.duplicates.finding import find_duplicates
from diptych.catalog.duplicates.keeping import parse_rules
from diptych.catalog.duplicates.trash import CompanionFiles, TrashReport, move_to_trash
from diptych.catalog.duplicates.undo import put_back, take_back
from diptych.catalog.files import listing
from diptych.files.moving import move_file
from tests.catalog.catalogs import index
from tests.catalog.photos import photo, save

MOVABLE = ("bytes", "picture")


def move(home: Path, keep: str = "resolution,annotated,exif,format,largest,oldest") -> TrashReport:
    store = Store.open(home / "catalog")
    try:
        groups = find_duplicates(store, tiers=MOVABLE, rules=parse_rules(keep)).groups
        return move_to_trash(store, groups, tiers=MOVABLE)
    finally:
        store.close()


def undo(home: Path, moved: TrashReport) -> None:
    assert moved.undo is not None
    restored = put_back(moved.undo)
    assert restored.problems == []
    store = Store.open(home / "catalog")
    take_back(store, restored)
    store.close()


def tags_of(home: Path, path: Path) -> tuple[set[str], int | None]:
    """Tags and rating of the picture in a file."""
    store = Store.open(home / "catalog")
    try:
        number = store.database.all("SELECT content FROM files WHERE path = ?", (os.fsencode(path),))[0][0]
        tags = store.database.all("SELECT tag FROM tags WHERE content = ?", (number,))
        return {row[0] for row in tags}, ratings_of(store.database, [number]).get(number)
    finally:
        store.close()


def annotate(home: Path, path: Path, tags: list[str], rating: int | None = None) -> None:
    store = Store.open(home / "catalog")
    number = store.database.all("SELECT content FROM files WHERE path = ?", (os.fsencode(path),))[0][0]
    add_tags(store.database, [number], tags)
    if rating is not None:
        rate(store.database, [number], rating)
    store.close()


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return save(tmp_path / "pictures" / "original.png", photo(0))


def copied(path: Path, name: str) -> Path:
    """Copy a file byte for byte into the same folder."""
    target = path.with_name(name)
    shutil.copy(path, target)
    return target


def test_what_a_link_leads_to_is_kept(tmp_path: Path, original: Path) -> None:
    """Without the link to the other file the shorter path would be kept."""
    longer = copied(original, "original (a copy with a long name).png")
    link = tmp_path / "pictures" / "album" / "link.png"
    link.parent.mkdir()
    link.symlink_to(longer)
    index(tmp_path / "catalog", tmp_path / "pictures")
    moved = move(tmp_path)
    assert [source for source, _ in moved.files] == [original]
    assert link.read_bytes() == longer.read_bytes()


def test_a_file_with_a_link_stays_where_another_rule_would_move_it(tmp_path: Path, original: Path) -> None:
    other = copied(original, "other.png")
    links = []
    for number, target in enumerate((original, other)):
        links.append(tmp_path / "pictures" / f"link{number}.png")
        links[-1].symlink_to(target.name)
    index(tmp_path / "catalog", tmp_path / "pictures")
    moved = move(tmp_path)
    assert moved.files == []
    assert len(moved.refused) == 1
    assert "is a link to it and would break" in moved.refused[0][1]
    assert all(link.exists() for link in links)


def test_hard_links_are_moved_together_and_counted_once(tmp_path: Path, original: Path) -> None:
    copy = copied(original, "copy with a longer name.png")
    second = copy.with_name("copy, by another long name.png")
    os.link(copy, second)
    size = copy.stat().st_size
    index(tmp_path / "catalog", tmp_path / "pictures")
    moved = move(tmp_path)
    assert {source for source, _ in moved.files} == {copy, second}
    assert moved.size == size
    store = Store.open(tmp_path / "catalog")
    assert len(store.database.all("SELECT path FROM files")) == 1
    store.close()
    undo(tmp_path, moved)
    assert copy.samefile(second)


def test_a_name_outside_of_the_catalogue_frees_nothing(tmp_path: Path, original: Path) -> None:
    copy = copied(original, "copy with a longer name.png")
    os.link(copy, tmp_path / "elsewhere.png")
    index(tmp_path / "catalog", tmp_path / "pictures")
    moved = move(tmp_path)
    assert ([source for source, _ in moved.files], moved.size) == ([copy], 0)


def test_files_beside_a_picture_go_and_come_back_with_it(tmp_path: Path, original: Path) -> None:
    copy = copied(original, "copy with a longer name.png")
    beside = [
        *(copy.with_suffix(".txt"), copy.with_name(f"{copy.name}.xmp"), copy.with_suffix(".JSON")),
        copy.with_name(f"{copy.name}.supplemental-metadata.json"),  # of Google Takeout
    ]
    for path in beside:
        path.write_text(f"of {path.name}")
    for path in (original.with_suffix(".txt"), original.with_name("unrelated.txt")):
        path.write_text("stays")
    index(tmp_path / "catalog", tmp_path / "pictures")
    moved = move(tmp_path)
    assert [source for source, _ in moved.files] == [copy]
    assert sorted(source for source, _ in moved.companions) == sorted(beside)
    assert all(target.read_text() == f"of {source.name}" for source, target in moved.companions)
    assert sorted(path.name for path in copy.parent.glob("[!.]*.*")) == [
        *("original.png", "original.txt", "unrelated.txt")
    ]
    undo(tmp_path, moved)
    assert all(path.read_text() == f"of {path.name}" for path in beside)


def test_a_sidecar_of_two_pictures_stays_with_the_one_that_stays(tmp_path: Path, original: Path) -> None:
    copy = copied(original, "shared.png")
    save(copy.with_suffix(".jpg"), photo(1))
    copy.with_suffix(".xmp").write_text("of both")
    assert CompanionFiles().of(copy) == []
    index(tmp_path / "catalog", tmp_path / "pictures")
    moved = move(tmp_path)
    assert moved.companions == []
    assert copy.with_suffix(".xmp").exists()


def test_the_kept_picture_gets_tags_and_rating_until_undone(tmp_path: Path, original: Path) -> None:
    small = save(tmp_path / "pictures" / "small.jpg", photo(0).resize((120, 90)))
    index(tmp_path / "catalog", tmp_path / "pictures")
    annotate(tmp_path, small, ["grandma", "beach"], 4)
    annotate(tmp_path, original, ["beach"])
    moved = move(tmp_path)
    assert [source for source, _ in moved.files] == [small]
    assert moved.annotated == 1
    assert tags_of(tmp_path, original) == ({"beach", "grandma"}, 4)
    annotate(tmp_path, original, ["dog"])  # in the trash by now
    undo(tmp_path, moved)
    assert tags_of(tmp_path, original) == ({"beach", "dog"}, None)
    index(tmp_path / "catalog", tmp_path / "pictures")
    assert tags_of(tmp_path, small) == ({"beach", "grandma"}, 4)


XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmp:Rating="4"><dc:subject><rdf:Bag><rdf:li>beach</rdf:li></rdf:Bag></dc:subject></rdf:Description>'
    "</rdf:RDF></x:xmpmeta>"
)


def test_of_equal_files_the_one_with_a_sidecar_is_kept(tmp_path: Path, original: Path) -> None:
    longer = copied(original, "a longer name, but with a sidecar.png")
    longer.with_name(f"{longer.name}.xmp").write_text(XMP)
    index(tmp_path / "catalog", tmp_path / "pictures")
    assert [source for source, _ in move(tmp_path).files] == [original]
    assert tags_of(tmp_path, longer) == ({"beach"}, 4)


@pytest.mark.parametrize("same_bytes", [True, False])
def test_what_a_moved_sidecar_says_stays_with_the_kept_picture(
    tmp_path: Path, original: Path, same_bytes: bool
) -> None:
    other = original.parent / "other" / "other.png"
    other.parent.mkdir()
    kept = original.parent / "kept" / "kept.png"
    kept.parent.mkdir()
    original.rename(kept)
    original = kept
    if same_bytes:
        shutil.copy(original, other)
    else:
        save(other, photo(0).resize((120, 90)))
    other.with_name("other.png.xmp").write_text(XMP)
    index(tmp_path / "catalog", tmp_path / "pictures")
    moved = move(tmp_path, f"folder:{original.parent}" if same_bytes else "resolution")
    assert [source for source, _ in moved.files] == [other]
    assert tags_of(tmp_path, original) == ({"beach"}, 4)
    undo(tmp_path, moved)
    index(tmp_path / "catalog", tmp_path / "pictures")
    assert tags_of(tmp_path, other) == ({"beach"}, 4)
    store = Store.open(tmp_path / "catalog")
    assert store.database.all("SELECT tag FROM tags WHERE origin = 'hand'") == []
    store.close()


def test_a_sidecar_of_two_goes_with_the_last_of_them(tmp_path: Path, original: Path) -> None:
    for suffix in (".png", ".jpg"):
        shutil.copy(original, original.with_name(f"a longer name of a copy{suffix}"))
    shared = original.with_name("a longer name of a copy.xmp")
    shared.write_text("<x/>")
    index(tmp_path / "catalog", tmp_path / "pictures")
    moved = move(tmp_path, "smallest,oldest")
    gone = {source for source, _ in moved.files}
    assert len(gone) == 2
    assert shared.exists() == (gone != {shared.with_suffix(".png"), shared.with_suffix(".jpg")})


def test_a_folder_is_listed_once_however_many_of_its_pictures_go(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[Path] = []

    def counted(folder: Path, real: Callable[[Path], list[str]] = os.listdir) -> list[str]:
        listed.append(folder)
        return real(folder)

    for number in range(4):
        copied(original, f"a copy with a longer name {number}.png")
    index(tmp_path / "catalog", tmp_path / "pictures")
    monkeypatch.setattr(trash.os, "listdir", counted)
    assert len(move(tmp_path).files) == 4
    assert listed == [original.parent]


def test_of_equal_files_the_one_with_a_caption_is_kept(tmp_path: Path, original: Path) -> None:
    longer = copied(original, "a longer name, but with a caption.png")
    longer.with_suffix(".txt").write_text("grandma")
    index(tmp_path / "catalog", tmp_path / "pictures")
    moved = move(tmp_path)
    assert [source for source, _ in moved.files] == [original]


def test_one_file_on_two_mounts_is_not_moved(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network share mounted twice: everything but the device number is the same."""
    copy = copied(original, "the other mount, with a longer name.png")
    index(tmp_path / "catalog", tmp_path / "pictures")
    real = listing.file_at
    single = real(original)
    assert single is not None

    def mounted_twice(path: Path, **options: bool) -> ListedFile | None:
        there = real(path, **options)
        if there is None or path != copy:
            return there
        return replace(single, path=there.path, device=single.device + 1)

    store = Store.open(tmp_path / "catalog")
    store.database.run("UPDATE files SET modified = ?", (single.modified,))
    store.close()
    monkeypatch.setattr(trash, "file_at", mounted_twice)
    moved = move(tmp_path)
    assert moved.files == []
    assert "the same file on another mount of the same drive" in moved.refused[0][1]


def test_the_only_file_behind_two_paths_comes_back(
    tmp_path: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A share mounted twice with different inode numbers: only moving the file reveals it."""
    copy = copied(original, "the other mount.png")
    index(tmp_path / "catalog", tmp_path / "pictures")

    def both(source: Path, target: Path, real: Callable[[Path, Path], None] = move_file) -> None:
        real(source, target)
        twin = {copy: original, original: copy}
        if source in twin:
            twin[source].unlink()
        elif target in twin:
            shutil.copy(target, twin[target])

    monkeypatch.setattr(trash, "move_file", both)
    moved = move(tmp_path)
    assert moved.files == []
    assert "is one drive indexed by two paths?" in moved.refused[0][1]
    assert original.exists()
    assert copy.exists()
