"""Indexed paths (roots): one spelling each, rules of the nearest root, removal, and moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.catalog import Filter, Store, forget_paths, known_roots
from diptych.catalog.store.filters import allowed_rows
from diptych.catalog.store.paths import stored_rules
from diptych.errors import InputError
from tests.catalog.catalogs import colours, content, index, paint, search


def roots(catalog: Path) -> dict[Path, tuple[str, ...]]:
    store = Store.open(catalog)
    try:
        return {root: rules.exclude for root, rules in stored_rules(store.database).items()}
    finally:
        store.close()


def forget(catalog: Path, *paths: Path, keep: tuple[Path, ...] = ()) -> int:
    store = Store.open(catalog)
    try:
        return forget_paths(store, paths, keep=keep)
    finally:
        store.close()


def names(catalog: Path) -> set[Path]:
    return {Path(str(path, "utf-8")) for path, _ in content(catalog)}


# --------------------------------------------------------------------------------------- nested roots


@pytest.fixture
def album(tmp_path: Path) -> Path:
    for shade, name in enumerate(("x.png", "thumbs/t.png", "sub/y.png", "sub/thumbs/u.png", "sub/raw/r.png")):
        paint(tmp_path / "album" / name, "red", shade=shade)
    return tmp_path / "album"


def test_a_subfolder_is_no_path_of_its_own(tmp_path: Path, album: Path) -> None:
    index(tmp_path / "catalog", album, exclude=["thumbs"])
    paint(album / "sub" / "z.png", "red", shade=9)
    outcome = index(tmp_path / "catalog", album / "sub")
    assert (outcome.embedded, outcome.notes) == (1, [])
    assert roots(tmp_path / "catalog") == {album: ("thumbs",)}


def test_the_nearest_path_decides_whatever_is_listed(tmp_path: Path, album: Path) -> None:
    index(tmp_path / "catalog", album, exclude=["thumbs"])
    outcome = index(tmp_path / "catalog", album / "sub", exclude=["raw"])
    assert outcome.notes == [
        f"{album / 'sub'}, inside {album}, is remembered as a folder of its own from now on"
    ]
    held = names(tmp_path / "catalog")
    assert held == {album / name for name in ("x.png", "sub/y.png", "sub/thumbs/u.png")}
    for paths in ((), (album,), (album / "sub",), (album / "sub", album), (album, album / "sub")):
        assert not index(tmp_path / "catalog", *paths).changed
        assert names(tmp_path / "catalog") == held


def test_patterns_for_a_path_hold_for_those_below_it(tmp_path: Path, album: Path) -> None:
    index(tmp_path / "catalog", album / "sub", exclude=["raw"])
    index(tmp_path / "catalog", album, exclude=["thumbs"])
    assert roots(tmp_path / "catalog") == {album: ("thumbs",), album / "sub": ("raw", "thumbs")}
    assert names(tmp_path / "catalog") == {album / "x.png", album / "sub" / "y.png"}
    index(tmp_path / "catalog", album, exclude=[""])
    assert roots(tmp_path / "catalog") == {album: (), album / "sub": ()}


def test_what_a_walk_does_not_come_to_is_remembered_when_it_is_named(tmp_path: Path, album: Path) -> None:
    index(tmp_path / "catalog", album, exclude=["thumbs"])
    paint(album / ".hidden" / "h.png", "red", shade=20)
    for folder in ("thumbs", ".hidden"):
        assert index(tmp_path / "catalog", album / folder).embedded == 1
    assert set(roots(tmp_path / "catalog")) == {album, album / "thumbs", album / ".hidden"}
    assert not index(tmp_path / "catalog").changed
    assert not index(tmp_path / "catalog", album).changed


# ------------------------------------------------------------------------------------------------ links


@pytest.fixture
def link(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    colours(tmp_path / "data" / "pictures")
    (tmp_path / "Pictures").symlink_to(tmp_path / "data" / "pictures")
    return tmp_path / "Pictures"


def test_a_link_and_what_it_points_at_are_one_path(tmp_path: Path, link: Path) -> None:
    index(tmp_path / "catalog", link)
    real = tmp_path / "data" / "pictures"
    outcome = index(tmp_path / "catalog", real)
    assert (outcome.changed, outcome.same) == (False, 6)
    assert outcome.notes == [f"{real} is indexed as {link}, which is another name of the same folder"]
    paint(real / "sub" / "new.png", "red", shade=9)
    assert index(tmp_path / "catalog", real / "sub").embedded == 1
    assert names(tmp_path / "catalog") == {link / path.relative_to(real) for path in real.rglob("*.png")}
    assert list(roots(tmp_path / "catalog")) == [link]
    assert forget(tmp_path / "catalog", real / "sub") == 1


def test_a_search_in_either_name(tmp_path: Path, link: Path) -> None:
    index(tmp_path / "catalog", link)
    paint(link / "sub" / "new.png", "red", shade=9)
    index(tmp_path / "catalog")
    real = tmp_path / "data" / "pictures"
    store = Store.open(tmp_path / "catalog")
    assert store.active is not None
    for home in (link, real):
        assert len(allowed_rows(store.active, Filter(folders=(home,)))) == 7
        assert len(allowed_rows(store.active, Filter(folders=(home / "sub",)))) == 1
    store.close()
    (tmp_path / "way").symlink_to(tmp_path / "data")
    index(tmp_path / "other", real)
    store = Store.open(tmp_path / "other")
    assert store.active is not None
    for home in (link, real, tmp_path / "way" / "pictures"):
        assert len(allowed_rows(store.active, Filter(folders=(home,)))) == 7
    store.close()


def test_a_folder_above_what_a_link_points_at(tmp_path: Path, link: Path) -> None:
    index(tmp_path / "catalog", link)
    colours(tmp_path / "data" / "more")
    outcome = index(tmp_path / "catalog", tmp_path / "data")
    assert (outcome.embedded, outcome.copies, outcome.same) == (0, 6, 6)
    assert len(names(tmp_path / "catalog")) == 12
    for paths in ((), (tmp_path / "data",), (link,)):
        assert not index(tmp_path / "catalog", *paths).changed


def test_a_link_to_a_folder_that_is_indexed(tmp_path: Path, link: Path) -> None:
    index(tmp_path / "catalog", tmp_path / "data")
    assert not index(tmp_path / "catalog", link).changed
    assert list(roots(tmp_path / "catalog")) == [tmp_path / "data"]


def test_both_names_that_an_earlier_version_kept_become_one(tmp_path: Path, link: Path) -> None:
    index(tmp_path / "catalog", link)
    real = tmp_path / "data" / "pictures"
    store = Store.open(tmp_path / "catalog")
    store.database.run("INSERT INTO roots (path) VALUES (?)", (str(real).encode(),))
    columns = "member, content, bytes, modified, device, inode, changed, sidecar"
    store.database.run(
        f"INSERT INTO files (path, {columns}) "
        f"SELECT CAST(? || substr(path, ?) AS BLOB), {columns} FROM files",
        (str(real), len(str(link)) + 1),
    )
    store.close()
    assert len(names(tmp_path / "catalog")) == 12
    outcome = index(tmp_path / "catalog")
    assert (outcome.removed, outcome.retained, outcome.embedded) == (6, 0, 0)
    assert outcome.notes == [f"{real} and {link} are two names of the same folder: it is kept as {link}"] or (
        outcome.notes == [f"{link} and {real} are two names of the same folder: it is kept as {real}"]
    )
    assert len(names(tmp_path / "catalog")) == 6
    assert not index(tmp_path / "catalog").changed


# --------------------------------------------------------------------------------------- removed roots


def test_what_was_taken_out_stays_out_until_it_is_named(tmp_path: Path, album: Path) -> None:
    index(tmp_path / "catalog", album)
    assert forget(tmp_path / "catalog", album / "sub", album / "x.png") == 4
    assert not index(tmp_path / "catalog").changed
    outcome = index(tmp_path / "catalog", album)
    assert not outcome.changed
    assert [note.split(" was removed")[0] for note in outcome.notes] == [
        str(album / "sub"),
        str(album / "x.png"),
    ]
    assert (
        index(tmp_path / "catalog", album / "sub" / "raw").embedded == 1
    )  # a path inside it may be named, too
    assert not index(tmp_path / "catalog").changed
    assert index(tmp_path / "catalog", album / "sub").embedded == 2
    assert index(tmp_path / "catalog", album / "x.png").embedded == 1
    assert not index(tmp_path / "catalog").changed
    assert len(names(tmp_path / "catalog")) == 5


def test_nothing_of_that_name(tmp_path: Path, album: Path) -> None:
    index(tmp_path / "catalog", album)
    with pytest.raises(InputError, match=r"albun: the catalogue has nothing there; did you mean .*/album\?"):
        forget(tmp_path / "catalog", album / "x.png", tmp_path / "albun")
    with pytest.raises(InputError, match=r"did you mean .*/album/thumbs\?"):
        forget(tmp_path / "catalog", album / "thunbs")
    assert len(names(tmp_path / "catalog")) == 5
    assert forget(tmp_path / "catalog", album) == 5
    assert forget(tmp_path / "catalog", album) == 0  # known to be removed


def test_what_is_on_disk_may_be_left_out_before_it_is_indexed(tmp_path: Path, album: Path) -> None:
    index(tmp_path / "catalog", album / "x.png", album / "thumbs")
    with pytest.raises(InputError):
        forget(tmp_path / "catalog", album / "sub")
    index(tmp_path / "catalog", album)
    paint(album / "private" / "p.png", "red", shade=30)
    assert forget(tmp_path / "catalog", album / "private") == 0
    assert not index(tmp_path / "catalog").changed


def test_a_new_place_of_the_same_pictures(tmp_path: Path, album: Path) -> None:
    index(tmp_path / "catalog", album)
    store = Store.open(tmp_path / "catalog")
    store.database.run(
        "INSERT INTO tags (content, tag, score, origin) SELECT id, 'mine', 1, 'hand' FROM contents"
    )
    store.close()
    new = album.rename(tmp_path / "new")
    outcome = index(tmp_path / "catalog", new)
    assert (outcome.embedded, outcome.copies) == (0, 5)
    assert forget(tmp_path / "catalog", album, keep=(new,)) == 5
    assert names(tmp_path / "catalog") == set(new.rglob("*.png"))
    store = Store.open(tmp_path / "catalog")
    assert store.database.all("SELECT COUNT(*) FROM tags") == [(5,)]
    assert known_roots(store) == [new]
    store.close()


def test_a_new_place_inside_the_old_one(tmp_path: Path, album: Path) -> None:
    index(tmp_path / "catalog", album)
    index(tmp_path / "catalog", album / "sub")
    with pytest.raises(InputError, match="both to be indexed and to be forgotten"):
        forget(tmp_path / "catalog", album, keep=(album,))
    assert forget(tmp_path / "catalog", album, keep=(album / "sub",)) == 2
    assert names(tmp_path / "catalog") == set((album / "sub").rglob("*.png"))
    assert not index(tmp_path / "catalog").changed
    assert len(search(tmp_path / "catalog", "red")) == 3
