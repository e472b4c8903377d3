"""Search: matches, filters, order and pages of results."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diptych.catalog import Filter, Searcher, SearchOptions, Store, Term
from diptych.catalog.database.file_space import FileSpace
from diptych.catalog.database.spaces import Space
from diptych.catalog.indexing.replacing import replace_active
from diptych.catalog.search.searcher import first_alike
from diptych.catalog.store.entries import Hashes
from diptych.catalog.store.filters import allowed_rows
from diptych.errors import CatalogError, ImageError, InputError
from diptych.matching.hashes import hamming
from tests.catalog.catalogs import colours, index, paint, set_time
from tests.toys import COLOURS, ToyEncoder

ALL = SearchOptions(cutoff=None, collapse=False)
NOON = 12 * 3600


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    colours(tmp_path / "pictures" / "plain")
    for n, name in enumerate(COLOURS):
        path = paint(
            tmp_path / "pictures" / "large" / f"{name}-{n}.png", name, shade=n + 1, size=(40 + n, 50)
        )
        (path.with_suffix(".txt")).write_text(f"A caption of {name} 100%")
        set_time(path, n * 86400 + NOON)
    index(tmp_path / "catalog", tmp_path / "pictures")
    return tmp_path / "catalog"


@pytest.fixture
def asking(catalog: Path) -> Iterator[Searcher]:
    store = Store.open(catalog)
    yield Searcher(store, ToyEncoder())
    store.close()


def names(asking: Searcher, query: str, options: SearchOptions = ALL) -> list[str]:
    return [hit.entry.path.name for hit in asking.search(query, options).hits]


def test_the_best_comes_first_and_every_picture_once(asking: Searcher) -> None:
    result = names(asking, "red")
    assert set(result[:2]) == {"red.png", "red-0.png"}
    assert len(result) == len(set(result)) == 12


def test_cosines_are_those_of_the_encoder(asking: Searcher) -> None:
    encoder = ToyEncoder()
    query = encoder.encode_texts(["red"])[0]
    for hit in asking.search("red", ALL).hits:
        row = encoder.encode_images([Image.open(hit.entry.path)])[0]
        assert hit.cosine == pytest.approx(float(row @ query), abs=1e-3)


def test_pages_are_one_list_cut(asking: Searcher) -> None:
    whole = names(asking, "red")
    pages = [
        names(asking, "red", SearchOptions(cutoff=None, collapse=False, limit=5, offset=n))
        for n in (0, 5, 10)
    ]
    assert [name for page in pages for name in page] == whole
    answer = asking.search("red", SearchOptions(cutoff=None, collapse=False, limit=5, offset=50))
    assert answer.hits == ()
    assert answer.total == 12


def test_nothing_fits_a_text_about_something_else(asking: Searcher) -> None:
    answer = asking.search("the sound of rain", SearchOptions(cutoff=0.9))
    assert (answer.hits, answer.total) == ((), 0)
    assert answer.best is not None
    assert answer.best.relevance < 0.9
    assert asking.search("red", SearchOptions(cutoff=0.9)).hits


def test_stored_pictures_and_pictures_from_outside(asking: Searcher, tmp_path: Path) -> None:
    red = next(hit for hit in asking.search("red", ALL).hits if hit.entry.path.name == "red.png")
    assert asking.search(f"#{red.entry.content}", ALL).hits[0].cosine == pytest.approx(1, abs=1e-3)
    outside = paint(tmp_path / "outside.png", "blue", shade=99)
    assert names(asking, str(outside))[0].startswith("blue")
    with pytest.raises(CatalogError, match="no picture #999"):
        asking.search("#999")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"broken")
    with pytest.raises(ImageError):
        asking.search(str(broken))


def test_plus_and_minus(asking: Searcher) -> None:
    assert names(asking, '"red" + "green"')[0].startswith("yellow")
    result = names(asking, '"yellow" - 0.5:"green"')
    assert result.index("red.png") < result.index("green.png")
    assert result.index("red.png") < names(asking, '"yellow"').index("red.png")
    weighted = [Term("text", "red", 1.0), Term("text", "blue", 0.01)]
    assert [hit.entry.path.stem[:3] for hit in asking.search(weighted, ALL).hits[:2]] == ["red", "red"]


def test_opposites_cancel(asking: Searcher) -> None:
    with pytest.raises(InputError, match="cancel each other out"):
        asking.search('"red" - "red"')


FILTERS = {
    "folder": (lambda home: Filter(folders=(home / "plain",)), {f"{name}.png" for name in COLOURS}),
    "after": (lambda home: Filter(before=date(1970, 1, 2)), {"red-0.png", "green-1.png"}),
    "between": (
        lambda home: Filter(after=date(1970, 1, 2), before=date(1970, 1, 3)),
        {"green-1.png", "blue-2.png"},
    ),
    "caption": (lambda home: Filter(caption="OF BLUE 100%"), {"blue-2.png"}),
    "caption_without_a_wildcard": (lambda home: Filter(caption="of_blue"), set()),
    "name": (lambda home: Filter(name="large/Y"), {"yellow-3.png"}),
    "side": (lambda home: Filter(min_side=44), {"white-4.png", "black-5.png"}),
    "landscape": (lambda home: Filter(shape="landscape"), {f"{name}.png" for name in COLOURS}),
    "both": (lambda home: Filter(shape="portrait", caption="red"), {"red-0.png"}),
    "camera": (lambda home: Filter(camera="nikon"), set()),
    "place": (lambda home: Filter(near=(48.0, 11.0, 5.0)), set()),
    "bytes": (lambda home: Filter(min_bytes=10**6), set()),
}


@pytest.mark.parametrize("kind", FILTERS)
def test_filters(asking: Searcher, tmp_path: Path, kind: str) -> None:
    make, expected = FILTERS[kind]
    options = SearchOptions(filters=make(tmp_path / "pictures"), cutoff=None, collapse=False)
    answer = asking.search("red", options)
    assert {hit.entry.path.name for hit in answer.hits} == expected
    assert answer.searched == len(expected)


def test_a_filter_that_cannot_be(asking: Searcher) -> None:
    with pytest.raises(InputError, match="landscape, portrait or square"):
        asking.search("red", SearchOptions(filters=Filter(shape="round")))
    with pytest.raises(InputError, match="latitude"):
        asking.search("red", SearchOptions(filters=Filter(near=(91.0, 0.0, 1.0))))


def test_the_newest_first_among_those_that_fit(asking: Searcher) -> None:
    where = Filter(caption="caption")
    result = names(asking, "red", SearchOptions(filters=where, cutoff=None, collapse=False, sort="date"))
    assert result == [f"{name}-{n}.png" for n, name in reversed(list(enumerate(COLOURS)))]


def test_pictures_that_look_the_same_are_shown_once(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    large = Image.fromarray(drawn).resize((180, 180), Image.Resampling.BICUBIC)
    (tmp_path / "pictures").mkdir()
    large.save(tmp_path / "pictures" / "large.png")
    large.save(tmp_path / "pictures" / "again.jpg", quality=80)
    large.resize((90, 90)).save(tmp_path / "pictures" / "small.png")
    paint(tmp_path / "pictures" / "other.png", "red")
    index(tmp_path / "catalog", tmp_path / "pictures")
    store = Store.open(tmp_path / "catalog")
    asking = Searcher(store, ToyEncoder())
    answer = asking.search("red", SearchOptions(cutoff=None))
    assert sorted(len(hit.alike) for hit in answer.hits) == [0, 2]
    assert answer.total == 2
    assert len(asking.search("red", ALL).hits) == 4
    store.close()


def test_looking_the_same_is_found_in_one_comparison_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 2**64, 40, np.uint64)[draw.integers(0, 40, 200)]
    bits ^= np.uint64(1) << draw.integers(0, 64, 200, np.uint64)
    rows = draw.normal(size=(200, 3)).astype(np.float32)
    rows = rows[draw.integers(0, 5, 200)] / np.linalg.norm(rows[:1])
    hashes = Hashes(bits, bits, draw.random(200) < 0.9)
    expected: list[int] = []
    for i in range(200):
        alike = [
            j
            for j in range(i)
            if expected[j] == j and hashes.valid[i] and hashes.valid[j]
            and hamming(bits[i], bits[j]) <= 8 and rows[i] @ rows[j] >= 0.9
        ]  # fmt: skip
        expected.append(alike[0] if alike else i)
    calls: list[int] = []

    def counted(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        calls.append(1)
        return hamming(a, b)

    monkeypatch.setattr("diptych.catalog.search.searcher.hamming", counted)
    assert first_alike(hashes, rows).tolist() == expected
    assert 40 < len(set(expected)) < 190
    assert len(calls) == hashes.valid.sum()


def test_copies_are_named(tmp_path: Path) -> None:
    red = paint(tmp_path / "pictures" / "red.png", "red")
    shutil.copy(red, red.with_name("zwei.png"))
    index(tmp_path / "catalog", tmp_path / "pictures")
    store = Store.open(tmp_path / "catalog")
    entry = Searcher(store, ToyEncoder()).search("red", ALL).hits[0].entry
    assert (entry.path.name, [path.name for path, _ in entry.copies]) == ("red.png", ["zwei.png"])
    store.close()


def test_an_empty_catalogue_and_another_model(catalog: Path, tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="there is no catalogue"):
        Store.open(tmp_path / "nothing")
    store = Store.create(tmp_path / "empty")
    with pytest.raises(CatalogError, match="holds no pictures yet"):
        Searcher(store, ToyEncoder())
    store.close()
    store = Store.open(catalog)
    with pytest.raises(CatalogError, match="search with that model"):
        Searcher(store, ToyEncoder(identity="toy:other"))
    store.close()


def test_an_encoder_whose_texts_have_changed_is_refused(catalog: Path) -> None:
    class Turned(ToyEncoder):
        def encode_texts(self, texts: object) -> np.ndarray:
            return -super().encode_texts(texts)  # type: ignore[arg-type]

    store = Store.open(catalog)
    with pytest.raises(CatalogError, match="no longer makes the vectors of texts"):
        Searcher(store, Turned()).search("red")
    store.close()


def test_a_search_sees_what_was_indexed_meanwhile(asking: Searcher, tmp_path: Path) -> None:
    paint(tmp_path / "pictures" / "later.png", "red", shade=200)
    index(tmp_path / "catalog", tmp_path / "pictures")
    assert "later.png" in names(
        asking, "red", SearchOptions(filters=Filter(name="png"), cutoff=None, collapse=False)
    )
    (tmp_path / "pictures" / "plain" / "red.png").unlink()
    index(tmp_path / "catalog", tmp_path / "pictures")
    result = names(asking, "red")
    assert "later.png" in result
    assert "red.png" not in result
    later = next(hit for hit in asking.search("red", ALL).hits if hit.entry.path.name == "later.png")
    assert asking.search(f"#{later.entry.content}", ALL).hits[0].entry == later.entry


def write_anew(catalog: Path) -> None:
    """Another process writes the vectors into a new space, as happens when many rows are dead."""
    store = Store.open(catalog)
    before = store.active
    assert before is not None
    result = before.info
    after = store.begin_space(result.identity, result.model, result.golden, state="filling")
    assert store.active is not None
    owners = store.active.contents_of(store.active.live_rows().tolist())
    with store.database.writing():
        after.put(list(owners.values()), store.active.gather(np.array(list(owners), np.int64)))
    assert replace_active(store)
    store.close()


def test_a_search_goes_on_when_the_vectors_were_written_anew(asking: Searcher, catalog: Path) -> None:
    result = names(asking, "red")
    (catalog.parent / "pictures" / "plain" / "red.png").unlink()
    index(catalog)
    write_anew(catalog)
    result.remove("red.png")
    assert names(asking, "red") == result
    assert names(asking, '"red" + "red"') == result


def test_a_space_that_is_replaced_while_it_is_opened(
    asking: Searcher, catalog: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result, reopen, times = names(asking, "red"), Store.reopen, []

    def replaced_again(store: Store) -> None:
        if store is asking.store and not times:
            times.append(1)
            write_anew(catalog)  # the folder that it is about to open is gone
        reopen(store)

    monkeypatch.setattr(Store, "reopen", replaced_again)
    write_anew(catalog)
    assert names(asking, "red") == result
    assert times


def test_another_models_vectors_in_place_of_these(asking: Searcher, catalog: Path) -> None:
    index(catalog, encoder=ToyEncoder(identity="toy:other"), reembed=True)
    with pytest.raises(CatalogError, match="search with that model"):
        asking.search("red")


@pytest.mark.parametrize("writer", ["index", "write_anew"])
def test_one_search_is_of_one_moment(
    asking: Searcher, catalog: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    options = SearchOptions(filters=Filter(name="png"), cutoff=None, collapse=False)
    result = names(asking, "red", options)

    def allowed_while_written(space: Space, where: Filter) -> np.ndarray:
        if writer == "index":
            paint(catalog.parent / "pictures" / "later.png", "red", shade=200)
            index(catalog)
        else:
            write_anew(catalog)
        return allowed_rows(space, where)

    monkeypatch.setattr("diptych.catalog.search.searcher.allowed_rows", allowed_while_written)
    assert names(asking, "red", options) == result
    monkeypatch.undo()
    assert len(names(asking, "red", options)) == len(result) + (writer == "index")


def test_dead_rows_are_read_again_only_when_something_was_written(asking: Searcher, catalog: Path) -> None:
    names(asking, "red")
    assert isinstance(asking.space, FileSpace)
    dead = asking.space.dead
    names(asking, "red")
    assert asking.space.dead is dead
    (catalog.parent / "pictures" / "plain" / "red.png").unlink()
    index(catalog)
    names(asking, "red")
    assert asking.space.dead.sum() == 1
