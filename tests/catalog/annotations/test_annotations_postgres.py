"""Tags and ratings in a shared PostgreSQL catalogue survive file operations."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from diptych.catalog import Store
from diptych.catalog.annotations.annotations import HAND
from diptych.catalog.annotations.tags import add_tags, rate, remove_tags, set_tags
from diptych.catalog.exchange.backup import back_up
from diptych.catalog.exchange.exporting import export_vectors
from diptych.catalog.exchange.importing import import_vectors
from diptych.catalog.exchange.relocation import relocate
from diptych.errors import CatalogError
from tests.catalog.catalogs import index, paint
from tests.toys import ToyEncoder


def annotations(store: Store, path: Path) -> tuple[list[tuple[str, str, float]], list[tuple[str, int]]]:
    """Tags and rating of the picture in a file."""
    number = store.database.all("SELECT content FROM files WHERE path = ?", (os.fsencode(path),))[0][0]
    tags = store.database.all(
        "SELECT origin, tag, score FROM tags WHERE content = ? ORDER BY origin, tag", (number,)
    )
    return tags, store.database.all("SELECT origin, rating FROM ratings WHERE content = ?", (number,))


def test_left_returned_edited_moved_exported(new_database: Callable[[], str], tmp_path: Path) -> None:
    address = new_database()
    home = tmp_path / "pictures"
    red = paint(home / "red.png", "red", shade=3)
    paint(home / "blue.png", "blue")
    index(address, home)
    store = Store.open(address)
    contents = [row[0] for row in store.database.all("SELECT id FROM contents ORDER BY id")]
    set_tags(store.database, "colours", {content: {"flat": 0.75} for content in contents})
    assert add_tags(store.database, contents, ["mine", "ours"]) == 2
    assert add_tags(store.database, contents, ["mine"]) == 0
    assert remove_tags(store.database, contents, ["ours"]) == 2
    assert (rate(store.database, contents, 4), rate(store.database, contents, 4)) == (2, 0)
    expected = [("colours", "flat", 0.75), (HAND, "mine", 1.0)], [(HAND, 4)]
    assert annotations(store, red) == expected

    red.rename(tmp_path / "away.png")  # removed, then returned
    outcome = index(address)
    assert [path for path, _ in outcome.annotations.set_aside] == [os.fsencode(red)]
    (tmp_path / "away.png").rename(home / "again.png")
    assert index(address).annotations.brought_back == 1
    assert annotations(store, home / "again.png") == expected

    with Image.open(home / "again.png") as image:  # edited in place
        image.point(lambda value: min(255, value + 9)).save(home / "again.png")
    assert index(address).annotations.carried == 1
    assert annotations(store, home / "again.png") == expected

    home.rename(tmp_path / "moved")
    assert relocate(store, home, tmp_path / "moved").files == 2
    assert index(address).embedded == 0
    assert annotations(store, tmp_path / "moved" / "again.png") == expected

    export_vectors(store, tmp_path / "vectors")
    other = Store.create(new_database())
    import_vectors(other, ToyEncoder(), tmp_path / "vectors")
    assert annotations(other, tmp_path / "moved" / "again.png") == expected
    other.close()
    with pytest.raises(CatalogError, match="pg_dump"):
        back_up(store, tmp_path / "backup")
    store.close()
