"""Regressions: tags, ratings and vectors that were lost when two operations interacted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from diptych.catalog import Store, index_pictures
from diptych.catalog.annotations.annotations import Annotations
from diptych.catalog.annotations.tags import add_tags, rate, ratings_of
from diptych.catalog.duplicates.undo import undo_list
from diptych.catalog.exchange.backup import back_up, restore
from diptych.catalog.exchange.exporting import export_vectors
from diptych.catalog.exchange.importing import annotations_of, import_vectors
from diptych.catalog.exchange.relocation import relocate
from diptych.catalog.files.forgetting import forget_paths
from diptych.errors import CatalogError
from tests.catalog.catalogs import index, paint
from tests.catalog.photos import photo, save
from tests.toys import ToyEncoder


def painted(home: Path, *names: str) -> list[Path]:
    """Pictures of different colours in an indexed folder."""
    colours = ("red", "blue", "green", "yellow")
    paths = [paint(home / "pictures" / name, colour) for name, colour in zip(names, colours, strict=False)]
    index(home / "catalog", home / "pictures")
    return paths


def rate_all(home: Path, ratings: dict[Path, int]) -> None:
    store = Store.open(home / "catalog")
    for path, rating in ratings.items():
        rate(store.database, contents_at(store, path), rating)
    store.close()


def contents_at(store: Store, path: Path) -> list[int]:
    rows = store.database.all("SELECT content FROM files WHERE path = ?", (os.fsencode(path),))
    return [row[0] for row in rows if row[0] is not None]


def ratings_at(home: Path, *paths: Path) -> list[int | None]:
    store = Store.open(home / "catalog")
    ratings = [
        ratings_of(store.database, numbers := contents_at(store, path)).get(numbers[0]) for path in paths
    ]
    store.close()
    return ratings


def test_a_known_picture_that_takes_a_name_is_no_edit(tmp_path: Path) -> None:
    first = paint(tmp_path / "pictures" / "photo.png", "red")
    edited = paint(tmp_path / "pictures" / "edited.png", "red", shade=3)
    index(tmp_path / "catalog", tmp_path / "pictures")
    rate_all(tmp_path, {first: 5, edited: 2})
    original = first.read_bytes()
    edited.rename(first)
    outcome = index(tmp_path / "catalog")
    assert (outcome.annotations.carried, len(outcome.annotations.set_aside)) == (0, 1)
    assert ratings_at(tmp_path, first) == [2]
    edited.write_bytes(original)
    index(tmp_path / "catalog")
    assert ratings_at(tmp_path, first, edited) == [2, 5]


def test_pictures_that_swap_names_keep_their_own(tmp_path: Path) -> None:
    first = paint(tmp_path / "pictures" / "first.png", "red")
    second = paint(tmp_path / "pictures" / "second.png", "red", shade=5)
    index(tmp_path / "catalog", tmp_path / "pictures")
    rate_all(tmp_path, {first: 5})
    data = first.read_bytes(), second.read_bytes()
    second.write_bytes(data[0])
    first.write_bytes(data[1])
    index(tmp_path / "catalog")
    assert ratings_at(tmp_path, first, second) == [None, 5]


def test_a_half_written_file_passes_nothing_on_to_another_picture(tmp_path: Path) -> None:
    cover = save(tmp_path / "pictures" / "cover.png", photo(0))
    index(tmp_path / "catalog", tmp_path / "pictures")
    rate_all(tmp_path, {cover: 4})
    old = cover.read_bytes()
    cover.write_bytes(b"half")
    index(tmp_path / "catalog")
    save(cover, photo(1))
    index(tmp_path / "catalog")
    assert ratings_at(tmp_path, cover) == [None]
    cover.write_bytes(old)
    index(tmp_path / "catalog")
    assert ratings_at(tmp_path, cover) == [4]


def test_rows_of_another_process_are_seen(tmp_path: Path) -> None:
    """A file becomes a copy of a picture that another process has indexed after this store was opened."""
    picture, _ = painted(tmp_path, "photo.png", "other.png")
    rate_all(tmp_path, {picture: 5})
    store = Store.open(tmp_path / "catalog")
    new = paint(tmp_path / "pictures" / "new.png", "green")
    index(tmp_path / "catalog", new)  # with its own store
    paint(picture, "yellow")
    paint(tmp_path / "pictures" / "another.png", "yellow")
    outcome = index_pictures(store, ToyEncoder(), [tmp_path / "pictures"])
    assert outcome.failed == 0
    store.close()


def test_an_edit_met_while_another_model_fills_a_space_keeps_its_tags(tmp_path: Path) -> None:
    picture, _ = painted(tmp_path, "photo.png", "other.png")
    rate_all(tmp_path, {picture: 5})
    structured = Image.effect_noise((64, 48), 90).convert("RGB")
    structured.save(picture)
    index(tmp_path / "catalog")
    rate_all(tmp_path, {picture: 4})
    structured.transpose(Image.Transpose.ROTATE_90).save(picture)
    outcome = index(tmp_path / "catalog", encoder=ToyEncoder(identity="another"), reembed=True)
    assert outcome.annotations.carried == 1
    assert ratings_at(tmp_path, picture) == [4]


def test_imports_know_pictures_whose_drive_is_away(tmp_path: Path) -> None:
    home = tmp_path / "pictures"
    (picture,) = painted(tmp_path, "photo.png")
    rate_all(tmp_path, {picture: 5})
    store = Store.open(tmp_path / "catalog")
    export_vectors(store, tmp_path / "out.parquet")
    before = store.database.all("SELECT hash, difference_hash FROM contents")
    home.rename(tmp_path / "unplugged")
    done = import_vectors(store, ToyEncoder(), tmp_path / "out.parquet")
    assert (done.added, done.existing) == (0, 1)
    assert store.database.all("SELECT hash, difference_hash FROM contents") == before
    store.close()
    (tmp_path / "unplugged").rename(home)
    assert index(tmp_path / "catalog").embedded == 0


def test_an_export_s_annotations_are_not_its_files_keywords() -> None:
    assert annotations_of({"tags": "Paris, France", "rating": 4, "annotations": ""}) == Annotations()
    assert annotations_of({"tags": "Paris", "annotations": None}) == Annotations()


def test_the_last_picture_of_a_folder_is_gone_once_there_is_another(tmp_path: Path) -> None:
    (picture,) = painted(tmp_path, "photo.png")
    picture.unlink()
    assert index(tmp_path / "catalog").retained == 1
    paint(tmp_path / "pictures" / "new.png", "blue")
    outcome = index(tmp_path / "catalog")
    assert (outcome.retained, outcome.removed) == (0, 1)


def roots(store: Store) -> dict[str, int]:
    rows = store.database.all("SELECT path, archives FROM roots")
    return {os.fsdecode(bytes(path)): archives for path, archives in rows}


def test_moving_a_folder_above_makes_no_new_root(tmp_path: Path) -> None:
    home = tmp_path / "ann"
    paint(home / "Pictures" / "red.png", "red")
    paint(home / "Other" / "secret.png", "blue")
    index(tmp_path / "catalog", home / "Pictures")
    home.rename(tmp_path / "anna")
    store = Store.open(tmp_path / "catalog")
    relocate(store, home, tmp_path / "anna")
    assert list(roots(store)) == [str(tmp_path / "anna" / "Pictures")]
    store.close()
    assert index(tmp_path / "catalog").embedded == 0


def test_a_folder_that_leaves_its_root_takes_the_rules_along(tmp_path: Path) -> None:
    paint(tmp_path / "first" / "sub" / "red.png", "red")
    index(tmp_path / "catalog", tmp_path / "first", archives=False)
    (tmp_path / "first" / "sub").rename(tmp_path / "second")
    store = Store.open(tmp_path / "catalog")
    relocate(store, tmp_path / "first" / "sub", tmp_path / "second")
    assert roots(store) == {str(tmp_path / "first"): 0, str(tmp_path / "second"): 0}
    store.close()


def test_a_folder_moved_to_where_one_was_forgotten_stays(tmp_path: Path) -> None:
    paint(tmp_path / "usb" / "x" / "red.png", "red")
    paint(tmp_path / "pictures" / "old" / "blue.png", "blue")
    index(tmp_path / "catalog", tmp_path / "usb", tmp_path / "pictures")
    store = Store.open(tmp_path / "catalog")
    forget_paths(store, [tmp_path / "pictures" / "old"])
    (tmp_path / "pictures" / "old" / "blue.png").unlink()
    (tmp_path / "usb" / "x" / "red.png").rename(tmp_path / "pictures" / "old" / "red.png")
    relocate(store, tmp_path / "usb" / "x", tmp_path / "pictures" / "old")
    store.close()
    outcome = index(tmp_path / "catalog")
    assert (outcome.removed, outcome.embedded) == (0, 0)


def test_undo_lists_at_work_are_not_rewritten(tmp_path: Path) -> None:
    (picture,) = painted(tmp_path, "photo.png")
    picture.parent.rename(tmp_path / "moved")
    store = Store.open(tmp_path / "catalog")
    with undo_list(tmp_path / "catalog" / "undo"), pytest.raises(CatalogError, match="--trash is running"):
        relocate(store, picture.parent, tmp_path / "moved")
    assert contents_at(store, picture)  # nothing was changed
    assert relocate(store, picture.parent, tmp_path / "moved").files == 1
    store.close()


def test_a_catalogue_in_use_is_not_replaced(tmp_path: Path) -> None:
    painted(tmp_path, "photo.png")
    store = Store.open(tmp_path / "catalog")
    back_up(store, tmp_path / "copy")
    with pytest.raises(CatalogError, match="another process uses"):
        restore(tmp_path / "copy", tmp_path / "catalog", replace=True)
    add_tags(store.database, [1], ["mine"])
    store.close()
    copy = Store.open(tmp_path / "copy")  # a backup that is used as a catalogue
    add_tags(copy.database, [1], ["late"])
    restore(tmp_path / "copy", tmp_path / "catalog", replace=True)
    copy.close()
    store = Store.open(tmp_path / "catalog")
    assert store.database.all("SELECT tag FROM tags") == [("late",)]
    store.close()
