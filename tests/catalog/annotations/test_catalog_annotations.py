"""Annotations: text format, merging rules, and a number of SQL statements that is linear in the changes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.catalog import Store
from diptych.catalog.annotations.annotations import (
    Annotations,
    annotate,
    missing_from,
    read_annotations,
    remove_annotations,
)
from diptych.catalog.annotations.tags import add_tags
from diptych.catalog.database.database import Sqlite
from diptych.catalog.exchange.importing import annotations_of
from diptych.catalog.exchange.relocation import relocate
from tests.catalog.catalogs import index, paint

words = st.text(st.characters(categories=("L", "N", "P")), min_size=1)
origins = words.filter(lambda text: text not in ("file", "sidecar"))
made = st.builds(
    Annotations,
    tags=st.lists(
        st.tuples(origins, words, st.floats(0, 1)), unique_by=lambda entry: entry[:2], max_size=5
    ).map(lambda entries: tuple(sorted(entries))),
    ratings=st.lists(
        st.tuples(origins, st.integers(-1, 5)), unique_by=lambda entry: entry[0], max_size=3
    ).map(lambda entries: tuple(sorted(entries))),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(made)
def test_text_and_back(annotations: Annotations) -> None:
    assert Annotations.from_json(annotations.to_json()) == annotations
    assert annotations_of({"annotations": annotations.to_json()}) == annotations


@given(st.text() | values.map(json.dumps) | st.fixed_dictionaries({"tags": values}).map(json.dumps))
def test_any_text_is_read(text: str) -> None:
    """Invalid text from another program is ignored without an error and never becomes a tag."""
    annotations = Annotations.from_json(text)
    assert all(origin not in ("file", "sidecar") and 0 <= score <= 1 for origin, _, score in annotations.tags)


@given(values)
def test_any_column_of_tags_is_read(value: Any) -> None:
    assert all(
        tag.strip() == tag and tag for _, tag, _ in annotations_of({"tags": value, "rating": value}).tags
    )


def test_what_was_there_stays_and_only_what_was_given_is_withdrawn(tmp_path: Path) -> None:
    paint(tmp_path / "pictures" / "red.png", "red")
    index(tmp_path / "catalog", tmp_path / "pictures")
    store = Store.open(tmp_path / "catalog")
    database = store.database
    own = Annotations((("hand", "dog", 1.0),), (("hand", 2),))
    other = Annotations((("hand", "cat", 1.0), ("list", "dog", 0.9)), (("hand", 5),))
    with database.writing():
        annotate(database, 1, own)
        given_now = missing_from(database, 1, other)
        assert given_now == Annotations(other.tags)
        annotate(database, 1, other)
        assert read_annotations(database, [1]) == {
            1: Annotations((*other.tags[:1], *own.tags, other.tags[1]), own.ratings)
        }
        remove_annotations(database, 1, given_now)
        assert read_annotations(database, [1]) == {1: own}
    store.close()


def statements(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> int:
    """Count the SQL statements of a function call; each row of a batch counts."""
    count = 0
    real_all, real_run, real_many = Sqlite.all, Sqlite.run, Sqlite.many

    def counted_all(self: Sqlite, sql: str, values: Any = ()) -> Any:
        nonlocal count
        count += 1
        rows = real_all(self, sql, values)
        count += len(rows)
        return rows

    def counted_run(self: Sqlite, sql: str, values: Any = ()) -> int:
        nonlocal count
        count += 1
        return real_run(self, sql, values)

    def counted_many(self: Sqlite, sql: str, rows: Any) -> None:
        nonlocal count
        rows = list(rows)
        count += len(rows)
        real_many(self, sql, rows)

    with monkeypatch.context() as patched:
        patched.setattr(Sqlite, "all", counted_all)
        patched.setattr(Sqlite, "run", counted_run)
        patched.setattr(Sqlite, "many", counted_many)
        work()
    return count


def change(home: Path, pictures: list[Path], operation: str) -> None:
    """A change to the files before the counted work."""
    away = home / "away"
    away.mkdir()
    if operation in ("left", "returned"):
        for path in pictures:
            path.rename(away / path.name)
    if operation == "returned":
        index(home / "catalog")
        for path in pictures:
            (away / path.name).rename(path)
    if operation == "edited":
        for shade, path in enumerate(pictures):
            paint(path, "red", shade=1000 + shade)
    if operation == "relocated":
        (home / "pictures").rename(home / "moved")


@pytest.mark.parametrize("operation", ["left", "returned", "edited", "relocated", "tagged"])
def test_work_grows_with_what_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """Twice as many pictures take at most about twice as many statements."""
    counts = []
    for number in (20, 40):
        home = tmp_path / str(number)
        pictures = [paint(home / "pictures" / f"{shade}.png", "red", shade=shade) for shade in range(number)]
        paint(home / "pictures" / "blue.png", "blue")
        index(home / "catalog", home / "pictures")
        store = Store.open(home / "catalog")
        everything = [row[0] for row in store.database.all("SELECT id FROM contents")]
        if operation != "tagged":
            add_tags(store.database, everything, ["mine"])
        store.close()
        change(home, pictures, operation)

        def work(home: Path = home, everything: list[int] = everything) -> None:
            if operation in ("relocated", "tagged"):
                store = Store.open(home / "catalog")
                if operation == "relocated":
                    relocate(store, home / "pictures", home / "moved")
                else:
                    add_tags(store.database, everything, ["mine"])
                store.close()
            else:
                index(home / "catalog")

        counts.append(statements(monkeypatch, work))
        store = Store.open(home / "catalog")
        tagged = store.database.all("SELECT COUNT(*) FROM tags")[0][0]
        waiting = store.database.all("SELECT COUNT(*) FROM set_aside")[0][0]
        store.close()
        assert (tagged, waiting) == ((1, number) if operation == "left" else (number + 1, 0))
    assert counts[0] < counts[1] <= 2.1 * counts[0]


def test_undo_lists_and_sets_aside_follow_a_folder(tmp_path: Path) -> None:
    home = tmp_path / "pictures"
    paint(home / "red.png", "red")
    gone = paint(home / "blue.png", "blue")
    index(tmp_path / "catalog", home)
    store = Store.open(tmp_path / "catalog")
    add_tags(store.database, [1, 2], ["mine"])
    undo = tmp_path / "catalog" / "undo" / "20240101-000000.jsonl"
    undo.parent.mkdir()
    line = {"from": str(home / "x.png"), "to": str(home / ".diptych-trash" / "x.png"), "kept": "elsewhere"}
    undo.write_text('{"diptych": "undo", "version": 1}\n' + json.dumps(line) + '\n{"from": "cut')
    store.close()
    gone.unlink()
    index(tmp_path / "catalog")
    home.rename(tmp_path / "moved")
    store = Store.open(tmp_path / "catalog")
    done = relocate(store, home, tmp_path / "moved")
    assert (done.files, done.undo_lists) == (1, 1)
    paths = [os.fsdecode(bytes(row[0])) for row in store.database.all("SELECT path FROM set_aside")]
    assert paths == [str(tmp_path / "moved" / "blue.png")]
    store.close()
    moved = json.loads(undo.read_text().splitlines()[1])
    assert moved == {
        "from": str(tmp_path / "moved" / "x.png"),
        "to": str(tmp_path / "moved" / ".diptych-trash" / "x.png"),
        "kept": "elsewhere",
    }
    assert undo.read_text().endswith('{"from": "cut')
