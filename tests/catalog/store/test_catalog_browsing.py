"""Browsing pictures without a query: orders, pages, and filters with "not" and "or"."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from PIL import Image

from diptych.catalog import Filter, Searcher, SearchOptions, Store, list_pictures
from diptych.catalog.annotations.tags import add_tags, rate, ratings_of, set_tags
from diptych.catalog.store.filter_names import check_names
from diptych.catalog.store.filters import allowed_rows
from diptych.errors import InputError
from tests.catalog.catalogs import Place, index, paint, set_time
from tests.toys import COLOURS, ToyEncoder, picture

DAY = 86400
NAMES = list(COLOURS)  # red green blue yellow white black


@pytest.fixture(params=["files", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Six pictures, one per day; tags, ratings and a camera on some of them."""
    place: Place = tmp_path / "catalog"
    if request.param == "postgres":
        place = request.getfixturevalue("new_database")()
    home = tmp_path / "pictures"
    for n, name in enumerate(NAMES):
        path = paint(home / ("warm" if name in ("red", "yellow") else "cold") / f"{name}.png", name)
        path.with_suffix(".txt").write_text(f"a {name} wall")
        set_time(path, (n + 1) * DAY + DAY // 2)
    shutil.copy2(home / "warm" / "red.png", home / "cold" / "copy of red.png")
    made = Image.Exif()
    made[0x0132], made[0x010F] = "2013:05:07 10:00:00", "NIKON"
    picture("red", (30, 30)).save(home / "photo.jpg", exif=made)
    index(place, home)
    opened = Store.open(place)
    numbers = numbers_of(opened)
    set_tags(
        opened.database,
        "list",
        {numbers["red"]: {"warm": 0.9, "wall": 0.5}, numbers["yellow"]: {"Warm": 0.9}},
    )
    add_tags(opened.database, [numbers["blue"]], ["sea"])
    rate(opened.database, [numbers["red"]], 5)
    rate(opened.database, [numbers["blue"], numbers["green"]], 3)
    rate(opened.database, [numbers["white"]], -1)
    with opened.database.writing():  # the file contradicts the user
        opened.database.run(
            "INSERT INTO ratings (content, origin, rating) VALUES (?, 'file', 1), (?, 'file', 4)",
            (numbers["red"], numbers["black"]),
        )
    yield opened
    opened.close()


def numbers_of(store: Store) -> dict[str, int]:
    assert store.active is not None
    listing = list_pictures(store.active, limit=100)
    return {entry.path.stem.removeprefix("copy of "): entry.content for entry in listing.entries}


def names(store: Store, where: Filter | None = None, **how: object) -> list[str]:
    assert store.active is not None
    listing = list_pictures(store.active, where, **{"limit": 100, **how})  # type: ignore[arg-type]
    assert listing.searched == len(NAMES) + 1
    return [entry.path.stem.removeprefix("copy of ") for entry in listing.entries]


def test_orders(store: Store) -> None:
    assert names(store) == ["photo", *reversed(NAMES)]
    assert names(store, sort="name") == ["black", "blue", "red", "green", "white", "photo", "yellow"]
    assert names(store, sort="rating") == ["red", "black", "blue", "green", "white", "photo", "yellow"]
    inside = Filter(folders=(Path(str(next_path(store, "yellow").parent)),))
    assert names(store, inside, sort="name") == ["red", "yellow"]  # by the file that passes the filter
    assert list_pictures(store.active, inside, sort="name").entries[0].path.name == "red.png"  # type: ignore[arg-type]
    with pytest.raises(InputError, match="expected date, name or rating"):
        names(store, sort="size")
    with pytest.raises(InputError, match="expected a limit of at least 1"):
        names(store, limit=0)


def next_path(store: Store, stem: str) -> Path:
    assert store.active is not None
    return next(item.path for item in list_pictures(store.active).entries if item.path.stem == stem)


@pytest.mark.parametrize("sort", ["date", "name", "rating"])
def test_pages_are_one_list_cut(store: Store, sort: str) -> None:
    set_same_time(store)
    whole = names(store, sort=sort)
    assert len(set(whole)) == 7
    assert [name for n in range(0, 9, 2) for name in names(store, sort=sort, limit=2, offset=n)] == whole


def set_same_time(store: Store) -> None:
    with store.database.writing():
        store.database.run("UPDATE files SET modified = 5")
        store.database.run("UPDATE contents SET taken = NULL")


def test_a_searcher_lists_what_was_indexed_meanwhile(store: Store, tmp_path: Path) -> None:
    asking = Searcher(store, ToyEncoder())
    assert len(asking.list_pictures(limit=100).entries) == 7
    set_time(paint(tmp_path / "pictures" / "later.png", "red", shade=200), 40 * 365 * DAY)
    index(store.folder or database_of(store), tmp_path / "pictures")
    listing = asking.list_pictures(Filter(name=".png"), limit=2)
    assert ([entry.path.name for entry in listing.entries], listing.total) == (["later.png", "black.png"], 7)


def database_of(store: Store) -> str:
    return store.database._address  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("sort", ["date", "name", "rating"])
def test_a_search_has_the_same_orders(store: Store, sort: str) -> None:
    options = SearchOptions(cutoff=None, collapse=False, sort=sort)  # type: ignore[arg-type]
    answer = Searcher(store, ToyEncoder()).search("red", options)
    result = [hit.entry.path.stem.removeprefix("copy of ") for hit in answer.hits]
    assert result == names(store, sort=sort)


FILTERS: dict[str, tuple[Filter, set[str]]] = {
    "all of these tags": (Filter(tags=("warm", "WALL")), {"red"}),
    "any of these tags": (Filter(any_tags=("sea", "warm")), {"red", "yellow", "blue"}),
    "any of these and one": (Filter(any_tags=("sea", "warm"), tags=("wall",)), {"red"}),
    "not this tag": (Filter(not_tags=("warm", "sea")), {"green", "white", "black", "photo"}),
    "not both": (Filter(tags=("warm",), not_tags=("wall",)), {"yellow"}),
    "no tag": (Filter(untagged=True), {"green", "white", "black", "photo"}),
    "unknown tag": (Filter(not_tags=("nothing",)), {*NAMES, "photo"}),
    "stars": (Filter(rating=3), {"blue", "green"}),
    "by hand before the file": (Filter(rating=5), {"red"}),
    "by the file": (Filter(rating=4), {"black"}),
    "least stars": (Filter(min_rating=4), {"red", "black"}),
    "not rated": (Filter(rating=0), {"yellow", "photo"}),
    "rejected": (Filter(rating=-1), {"white"}),
    "not in": (Filter(not_names=("cold", "photo")), {"red", "yellow"}),
    "not in the caption": (
        Filter(not_captions=("RED", "blue")),
        {"green", "yellow", "white", "black", "photo"},
    ),
    "a type": (Filter(formats=("jpg",)), {"photo"}),
    "one of the types": (Filter(formats=("jpeg", ".PNG")), {*NAMES, "photo"}),
    "not a type": (Filter(not_formats=("png",)), {"photo"}),
    "not a camera": (Filter(not_cameras=("nikon",)), set(NAMES)),
    "another camera": (Filter(not_cameras=("canon",), camera="NIKON"), {"photo"}),
    "a year": (Filter(after=date(2013, 1, 1), before=date(2013, 12, 31)), {"photo"}),
}


@pytest.mark.parametrize("kind", FILTERS)
def test_filters(store: Store, kind: str) -> None:
    where, expected = FILTERS[kind]
    assert set(names(store, where)) == expected
    assert store.active is not None
    assert len(allowed_rows(store.active, where)) == len(expected)


def test_not_in_a_folder(store: Store) -> None:
    cold = next_path(store, "green").parent
    assert set(names(store, Filter(not_folders=(cold,)))) == {"red", "yellow", "photo"}
    entry = list_pictures(store.active, Filter(not_folders=(cold,)), sort="name").entries[1]  # type: ignore[arg-type]
    assert (entry.path.parent.name, entry.path.name) == ("warm", "red.png")  # its copy does not pass
    with pytest.raises(InputError, match="there is no such file or folder"):
        names(store, Filter(not_folders=(cold.with_name("none"),)))


def test_the_rating_of_a_filter_is_the_one_that_is_shown(store: Store) -> None:
    contents = list(numbers_of(store).values())
    shown = ratings_of(store.database, contents)
    for stars in range(-1, 6):
        passing = {numbers_of(store)[name] for name in names(store, Filter(rating=stars))}
        assert passing == {item for item in contents if shown.get(item, 0) == stars}


def test_names_that_nothing_has(store: Store) -> None:
    for where, message in (
        (Filter(tags=("wamr",)), r"there is no such tag: 'wamr'; did you mean '[Ww]arm'\?"),
        (Filter(any_tags=("sea", "sae")), r"there is no such tag: 'sae'; did you mean 'sea'\?"),
        (Filter(not_tags=("mountain",)), r"there is no such tag: 'mountain'; there are "),
        (Filter(camera="nikno"), r"there is no such camera: 'nikno'; did you mean 'NIKON'\?"),
        (Filter(not_cameras=("xyz",)), r"there is no such camera: 'xyz'; there are NIKON"),
        (Filter(formats=("jepg",)), r"there is no picture of type 'jepg'; did you mean 'jpeg'\?"),
    ):
        with pytest.raises(InputError, match=message):
            check_names(store.database, where)
    check_names(store.database, Filter(tags=("WARM",), camera="nik", formats=("JPG",), not_formats=("png",)))
