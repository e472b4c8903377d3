"""A long-lived `Searcher`: it follows changes of the catalogue and is used by several threads at once."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from numpy.typing import NDArray

from diptych.catalog import Filter, Searcher, SearchOptions, Store, index_pictures
from diptych.catalog.annotations.tags import set_tags
from diptych.catalog.database.connections import ThreadConnections
from diptych.catalog.database.database import Sqlite
from diptych.errors import CatalogError
from tests.catalog.catalogs import Place, colours, index, paint
from tests.catalog.indexing.test_catalog_kills import ended, fill, start
from tests.catalog.search.test_catalog_search import write_anew
from tests.toys import COLOURS, ToyEncoder
from tests.waiting import HANG

IDENTITY = "toy:0"  # the identity that `indexer` uses
ALL = SearchOptions(cutoff=None, collapse=False, limit=500)
THREADS = 4


def encoder() -> ToyEncoder:
    return ToyEncoder(identity=IDENTITY)


class Scattered(ToyEncoder):
    """An encoder with random vectors, so that relevances lie between 0 and 1."""

    def _rows(self, colours: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
        rows = np.stack(
            [np.random.default_rng(crc32(np.asarray(item).tobytes())).normal(size=16) for item in colours]
        )
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._rows([np.frombuffer(text.encode(), np.uint8).astype(np.float64) for text in texts])


@pytest.fixture(params=["files", "postgres"])
def new_catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Place]:
    """A function that returns the location of a new catalogue."""
    if request.param == "files":
        return lambda: tmp_path / "catalog"
    new_database: Callable[[], str] = request.getfixturevalue("new_database")
    return new_database


@pytest.fixture
def catalog(new_catalog: Callable[[], Place], tmp_path: Path) -> Place:
    """A catalogue with one picture of each colour."""
    place = new_catalog()
    colours(tmp_path / "pictures")
    index(place, tmp_path / "pictures", encoder=encoder())
    return place


@pytest.fixture
def asking(catalog: Place) -> Iterator[Searcher]:
    store = Store.open(catalog)
    yield Searcher(store, encoder())
    store.close()


def hits(asking: Searcher, query: str = "red", options: SearchOptions = ALL) -> dict[str, float]:
    """Names and relevances of the hits."""
    return {hit.entry.path.name: hit.relevance for hit in asking.search(query, options).hits}


def fresh(catalog: Place, query: str = "red") -> dict[str, float]:
    """The hits of a newly created searcher."""
    store = Store.open(catalog)
    try:
        return hits(Searcher(store, encoder()), query)
    finally:
        store.close()


@pytest.mark.parametrize("query", ["red", '"yellow" - 0.5:"green"'])
def test_relevances_are_those_of_a_searcher_made_anew(
    new_catalog: Callable[[], Place], tmp_path: Path, query: str
) -> None:
    place, encoder = new_catalog(), Scattered(identity="toy:scattered", dim=16)
    for n in range(20):
        paint(tmp_path / "pictures" / f"{n}.png", "red", shade=n)
    index(place, tmp_path / "pictures", encoder=encoder)
    store = Store.open(place)
    asking = Searcher(store, encoder)
    before = hits(asking, query)
    for n in range(20, 120):
        paint(tmp_path / "pictures" / f"{n}.png", "red", shade=n)
    index(place, encoder=encoder)
    after = hits(asking, query)
    assert after == hits(Searcher(store, encoder), query)
    assert max(abs(after[name] - fit) for name, fit in before.items()) > 0.01
    for n in range(5, 90):
        (tmp_path / "pictures" / f"{n}.png").unlink()
    index(place, encoder=encoder)
    assert hits(asking, query) == hits(Searcher(store, encoder), query) != {}
    store.close()


def test_a_sample_is_drawn_again_only_when_something_was_written(
    asking: Searcher, catalog: Place, tmp_path: Path
) -> None:
    hits(asking)
    sample = asking.sample
    hits(asking)
    assert asking.sample is sample
    paint(tmp_path / "pictures" / "later.png", "red", shade=9)
    index(catalog, encoder=encoder())
    hits(asking)
    assert len(asking.sample) == len(sample) + 1


def test_tags_and_vectors_written_anew(asking: Searcher, catalog: Place) -> None:
    tagged = SearchOptions(filters=Filter(tags=("sea",)), cutoff=None)
    assert hits(asking, "red", tagged) == {}
    store = Store.open(catalog)
    set_tags(store.database, "people", {asking.search("red", ALL).hits[0].entry.content: {"sea": 1.0}})
    store.close()
    assert set(hits(asking, "red", tagged)) == {"red.png"}
    write_anew(catalog)  # type: ignore[arg-type] # an address will do
    assert set(hits(asking, "red", tagged)) == {"red.png"}
    index(catalog, encoder=ToyEncoder(identity="toy:other"), reembed=True)
    with pytest.raises(CatalogError, match="search with that model"):
        hits(asking)
    index(catalog, encoder=encoder(), reembed=True)
    assert set(hits(asking, "red", tagged)) == {"red.png"}


class Asking:
    """Threads that search with one searcher until they are stopped, and the errors that they met."""

    def __init__(self, asking: Searcher) -> None:
        self.asking, self.errors, self.answers = asking, list[BaseException](), 0
        self.ending = threading.Event()
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(THREADS)]

    def _ask(self, number: int) -> None:
        queries = ["red", "blue", '"red" + "blue"', f"#{1 + number}"]
        try:
            while not self.ending.is_set():
                answer = self.asking.search(queries[number % len(queries)], ALL)
                cosines = [hit.cosine for hit in answer.hits]
                assert len(answer.hits) == answer.searched >= len(COLOURS)  # a consistent state
                assert cosines == sorted(cosines, reverse=True)
                assert self.asking.search("red", SearchOptions(filters=Filter(name="red.png"))).searched == 1
                self.answers += 1
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self) -> Asking:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        for thread in self.threads:
            thread.join(timeout=HANG)
        assert self.errors == []
        assert self.answers >= THREADS


@pytest.mark.parametrize("same_store", [True, False])
def test_threads_search_while_another_indexes(
    asking: Searcher, catalog: Place, tmp_path: Path, same_store: bool
) -> None:
    with Asking(asking) as threads:
        for n in range(6):
            for k in range(5):
                paint(tmp_path / "pictures" / f"{n}-{k}.png", "green", shade=5 * n + k + 1)
            (tmp_path / "pictures" / f"{n - 1}-0.png").unlink(missing_ok=True)
            if same_store:
                index_pictures(asking.store, encoder(), [tmp_path / "pictures"])
            else:
                index(catalog, encoder=encoder())
            if n == 3 and not same_store:
                write_anew(catalog)  # type: ignore[arg-type] # an address will do
        seen = threads.answers
        while threads.answers < seen + THREADS and not threads.errors:
            threads.ending.wait(0.01)
    assert hits(asking) == pytest.approx(fresh(catalog), abs=1e-5)
    assert len(hits(asking)) == len(COLOURS) + 25


def test_threads_search_while_another_process_indexes(
    asking: Searcher, catalog: Place, tmp_path: Path
) -> None:
    fill(tmp_path / "pictures" / "more", 60, 0)
    with Asking(asking):
        assert ended(start(catalog, tmp_path / "pictures" / "more", IDENTITY)) == 0
    assert hits(asking) == pytest.approx(fresh(catalog), abs=1e-5)


def test_a_store_opened_in_one_thread_is_used_in_others(asking: Searcher, catalog: Place) -> None:
    expected, seen = hits(asking), []
    for _ in range(3):
        thread = threading.Thread(target=lambda: seen.append(hits(asking)))
        thread.start()
        thread.join(timeout=HANG)
    assert seen == [expected] * 3
    asking.store.close()
    with pytest.raises(CatalogError, match="was closed: open the catalogue again"):
        hits(asking)


def test_a_connection_ends_with_its_thread() -> None:
    class Connection:
        def __init__(self) -> None:
            opened.append(self)
            self.is_open = True

        def close(self) -> None:
            self.is_open = False

    opened: list[Connection] = []
    connections = ThreadConnections(Connection, name="x", is_open=lambda one: one.is_open)
    ours = connections.of_this_thread()
    for _ in range(3):
        thread = threading.Thread(target=connections.of_this_thread)
        thread.start()
        thread.join(timeout=HANG)
    assert [one.is_open for one in opened] == [True, False, False, False]
    ours.close()  # as a restarted server would do
    assert connections.of_this_thread() is opened[-1] is not ours
    connections.close()
    assert not any(one.is_open for one in opened)


def test_what_is_wrong_in_sql_is_no_damage_of_the_file(tmp_path: Path) -> None:
    database = Sqlite(tmp_path / "a.sqlite", create=True)
    database.run("CREATE TABLE numbers (n INTEGER UNIQUE)")
    database.run("INSERT INTO numbers VALUES (1)")
    with pytest.raises(sqlite3.ProgrammingError):
        database.all("SELECT ?", ())
    with pytest.raises(CatalogError, match=r"UNIQUE constraint failed") as raised:
        database.run("INSERT INTO numbers VALUES (1)")
    assert "damaged" not in str(raised.value)
    database.close()
    (tmp_path / "b.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(CatalogError, match="is damaged"):
        Sqlite(tmp_path / "b.sqlite")
