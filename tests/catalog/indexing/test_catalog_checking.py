"""Integrity check of a catalogue: a sound one passes, and every kind of damage is reported."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from diptych.catalog import Store, check, index_pictures
from tests.toys import COLOURS, ToyEncoder, picture


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Six colours, one of them twice, and a file that is not a picture."""
    album = tmp_path / "album"
    album.mkdir()
    for colour in COLOURS:
        picture(colour).save(album / f"{colour}.png")
    (album / "red again.png").write_bytes((album / "red.png").read_bytes())
    (album / "broken.png").write_bytes(b"not a picture")
    (album / "empty.png").touch()
    opened = Store.create(tmp_path / "catalogue")
    index_pictures(opened, ToyEncoder(), [album])
    yield opened
    opened.close()


def test_a_catalogue_with_copies_failures_and_dead_rows_is_fine(store: Store, tmp_path: Path) -> None:
    assert check(store) == []
    (tmp_path / "album" / "blue.png").unlink()
    index_pictures(store, ToyEncoder())
    assert store.active is not None
    assert store.active.dead.sum() == 1
    assert check(store) == []


def test_progress_counts_every_row(store: Store) -> None:
    messages: list[tuple[str, int | None, int]] = []

    @contextlib.contextmanager
    def stage(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        done: list[int] = []
        yield done.append
        messages.append((what, total, sum(done)))

    assert check(store, stage) == []
    assert messages == [("reading the database", None, 0), ("reading vectors", 6, 6)]


def test_a_space_that_is_being_filled_is_fine(store: Store) -> None:
    store.begin_space("toy:other", "other", ToyEncoder().encode_texts(["red"] * 4), state="filling")
    assert check(store) == []


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("DELETE FROM files WHERE CAST(path AS TEXT) LIKE '%blue.png'", "pictures without a file: 1 (#"),
        ("DELETE FROM contents WHERE id = 1", "files of a missing picture: "),
        ("DELETE FROM contents WHERE id = 1", "vectors of a missing picture: "),
        ("UPDATE files SET error = NULL", "files without a picture and without a reason"),
        ("DELETE FROM vectors WHERE row = 0", "pictures without a vector and without a reason: 1 ("),
        ("DELETE FROM vectors WHERE row = 0", "rows that are not dead and belong to no picture: 1 (#0)"),
        ("UPDATE vectors SET row = 77 WHERE row = 0", "vectors in rows that do not exist: 1 (#77)"),
        ("UPDATE vectors SET space = 9", "vectors of a missing space: 6 (#1, #2, #4, #5, #6, ...)"),
        ("INSERT INTO tags VALUES (99, 'cat', 1, 'words')", "tags of a missing picture: 1 (#99)"),
        ("INSERT INTO dead VALUES (1, 0, x'01')", "rows that are dead and belong to a picture: 1 (#0)"),
    ],
)
def test_what_does_not_hold_together_is_told(store: Store, sql: str, told: str) -> None:
    with store.database.writing():
        store.database.run(sql)
    assert any(told in line for line in check(store)), check(store)


@pytest.mark.parametrize("row", [b"\0" * 8, b"\xff" * 8])
def test_rows_that_were_lost_are_told(store: Store, row: bytes) -> None:
    assert store.active is not None
    file = next(store.active.folder.glob("*.f16"))
    with file.open("rb+") as opened:
        opened.seek(8 * 2)
        opened.write(row)
        os.fsync(opened.fileno())
    assert check(store) == ["space 1: rows that are not unit vectors: 1 (#2)"]


def test_it_looks_at_one_moment_and_locks_nobody_out(store: Store, tmp_path: Path) -> None:
    other = Store.open(store.folder)
    picture((9, 9, 9)).save(tmp_path / "album" / "late.png")
    messages = []
    quiet = store.database.all

    def all_and_write(sql: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        result = quiet(sql, values)
        if sql.startswith("PRAGMA quick_check"):
            messages.append(index_pictures(other, ToyEncoder()).embedded)
        return result

    store.database.all = all_and_write  # type: ignore[method-assign]
    assert check(store) == []
    assert messages == [1]
    other.close()
