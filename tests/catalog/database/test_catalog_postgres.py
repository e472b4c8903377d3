"""Catalogues in PostgreSQL: same results as in files, several writers at once, recovery after a kill."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from diptych.catalog import Filter, Searcher, SearchOptions, Store, check, forget_paths
from diptych.catalog.annotations.tags import clear_tags, count_tags
from diptych.catalog.database.postgres import PostgresSpace, name_without_secrets
from diptych.catalog.database.spaces import Space
from diptych.catalog.duplicates.finding import find_duplicates
from diptych.catalog.map.mapping import make_map
from diptych.catalog.store.filters import allowed_rows
from diptych.catalog.tags.tagging import tag_pictures
from diptych.errors import CatalogError
from diptych.zeroshot import ZeroShotClassifier
from tests.catalog.catalogs import colours, content, index, paint, search, set_time
from tests.catalog.indexing.test_catalog_indexing import Rotated
from tests.catalog.indexing.test_catalog_kills import change, ended, fill, start
from tests.toys import ToyEncoder

NewDatabase = Callable[[], str]


def test_the_same_as_in_files(tmp_path: Path, new_database: NewDatabase) -> None:
    database, pictures = new_database(), tmp_path / "pictures"
    colours(pictures)
    shutil.copy(pictures / "red.png", pictures / "copy.png")
    (pictures / "blue.txt").write_text("a blue wall")
    (pictures / "broken.png").write_bytes(b"broken")
    outcome = index(database, pictures)
    assert (outcome.embedded, outcome.copies, outcome.failed) == (6, 1, 1)
    index(tmp_path / "catalog", pictures)
    assert content(database) == content(tmp_path / "catalog")
    for query in ("red", '"yellow" - 0.5:"green"'):
        assert search(database, query) == search(tmp_path / "catalog", query)
    (pictures / "red.png").unlink()
    (pictures / "green.png").rename(pictures / "moved.png")
    paint(pictures / "new.png", "white", shade=7)
    outcome = index(database)
    assert (outcome.embedded, outcome.removed, outcome.moved) == (1, 1, 1)
    index(tmp_path / "catalog")
    assert content(database) == content(tmp_path / "catalog")
    store = Store.open(database)
    assert check(store) == []
    assert forget_paths(store, [pictures]) == 8
    assert len(store) == 0
    store.close()


def test_filters(tmp_path: Path, new_database: NewDatabase) -> None:
    database, pictures = new_database(), tmp_path / "pictures"
    for n, path in enumerate(colours(pictures / "100%_é")):
        path.with_suffix(".txt").write_text(f"Caption {n}")
        set_time(path, n * 86400 + 43200)
    index(database, pictures)
    store = Store.open(database)
    asking = Searcher(store, ToyEncoder())
    for where, expected in (
        (Filter(caption="CAPTION 3"), 1),
        (Filter(name="red.PNG"), 1),
        (Filter(name="100%_"), 6),
        (Filter(name="100x"), 0),
        (Filter(folders=(pictures / "100%_é",)), 6),
        (Filter(after=date(1970, 1, 2), before=date(1970, 1, 3)), 2),
        (Filter(tags=("sea",)), 0),
        (Filter(camera="x", near=(1.0, 1.0, 1.0), min_bytes=1, min_side=3, shape="square"), 0),
    ):
        answer = asking.search("red", SearchOptions(filters=where, cutoff=None, collapse=False))
        assert (answer.searched, len(answer.hits)) == (expected, expected), where
    store.close()


@contextlib.contextmanager
def silent(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    yield lambda count: None


def test_an_index_answers_as_a_scan_does(new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    store = Store.create(new_database())
    golden = np.eye(4, 32, dtype=np.float32)
    space = store.begin_space("toy", "toy", golden)
    assert isinstance(space, PostgresSpace)
    rows = rng.standard_normal((2000, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    with store.database.writing():
        space.put(range(1, 2001), rows)
    queries = rows[:5] + rng.standard_normal((5, 32)).astype(np.float32) * 0.05
    scanned, cosines = space.nearest(queries, 10)
    assert scanned.tolist() == np.argsort(-(queries @ rows.T), axis=1)[:, :10].tolist()
    np.testing.assert_allclose(cosines, -np.sort(-(queries @ rows.T), axis=1)[:, :10], atol=2e-3)
    assert space.improve(queries, silent) is None  # so few rows need no index
    monkeypatch.setattr("diptych.catalog.database.postgres.HNSW_ROWS", 100)
    result = space.improve(queries, silent)
    assert result is not None
    assert "of the nearest 10" in result
    assert space.improve(queries, silent) is None
    indexed, _ = space.nearest(queries, 10)
    overlap = [len(set(a) & set(b)) for a, b in zip(scanned.tolist(), indexed.tolist(), strict=True)]
    assert sum(overlap) >= 48
    few = np.array([3, 500, 1999], np.int64)
    allowed, _ = space.nearest(queries, 10, few)
    assert {tuple(sorted(row)) for row in allowed.tolist()} == {(-1,) * 7 + (3, 500, 1999)}
    with pytest.raises(CatalogError, match="has no row 2000"):
        space.gather(np.array([2000]))
    store.close()


def test_embedding_again(tmp_path: Path, new_database: NewDatabase) -> None:
    database = new_database()
    colours(tmp_path / "pictures")
    index(database, tmp_path / "pictures")
    other = Rotated(identity="toy:rotated")
    index(database, encoder=other, reembed=True)
    assert search(database, "red", encoder=other)[0] == "red.png"
    store = Store.open(database)
    tables = store.database.all("SELECT tablename FROM pg_tables WHERE tablename LIKE 'space!_%' ESCAPE '!'")
    assert len(tables) == 1
    store.close()


def test_a_search_beside_writers(
    tmp_path: Path, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = new_database()
    colours(tmp_path / "pictures")
    index(database, tmp_path / "pictures")
    store = Store.open(database)
    asking = Searcher(store, ToyEncoder())
    options = SearchOptions(filters=Filter(shape="landscape"), cutoff=None, collapse=False)
    before = asking.search("red", options)

    def allowed_while_written(space: Space, where: Filter) -> np.ndarray:
        paint(tmp_path / "pictures" / "later.png", "red", shade=200)
        index(database)
        return allowed_rows(space, where)

    monkeypatch.setattr("diptych.catalog.search.searcher.allowed_rows", allowed_while_written)
    assert asking.search("red", options).hits == before.hits
    monkeypatch.undo()
    assert asking.search("red", options).searched == before.searched + 1
    index(database, encoder=ToyEncoder(identity="toy:other"), reembed=True)
    with pytest.raises(CatalogError, match="search with that model"):
        asking.search("red", options)
    index(database, encoder=ToyEncoder(), reembed=True)
    assert asking.search("red", options).searched == before.searched + 1
    store.close()


def test_writers_at_once_and_one_that_is_killed(tmp_path: Path, new_database: NewDatabase) -> None:
    database, folder = new_database(), tmp_path / "pictures"
    fill(folder, 120, 0)
    killed = start(database, folder, "toy:0", "hang")
    assert killed.stdout is not None
    assert [killed.stdout.readline() for _ in range(2)] == [b"begun\n", b"encoding\n"]
    others = [start(database, folder, "toy:0") for _ in range(2)]
    assert [other.stdout.readline() for other in others if other.stdout] == [b"begun\n"] * 2
    killed.send_signal(signal.SIGKILL)
    assert [ended(item) for item in (killed, *others)] == [-signal.SIGKILL, 0, 0]
    change(folder, 1)
    assert ended(start(database, folder, "toy:0")) == 0
    assert ended(start(tmp_path / "alone", folder, "toy:0")) == 0
    assert content(database) == content(tmp_path / "alone")
    store = Store.open(database)
    assert check(store) == []
    store.close()


def test_no_catalogue_and_no_server(new_database: NewDatabase) -> None:
    with pytest.raises(CatalogError, match="there is no catalogue"):
        Store.open(new_database())
    with pytest.raises(CatalogError, match=r"127\.0\.0\.1:1/none") as raised:
        Store.open("postgresql://someone:secret@127.0.0.1:1/none")
    assert "secret" not in str(raised.value)


def test_a_search_waits_for_no_writer(
    tmp_path: Path, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches do not wait for the creation of an index either, which takes minutes."""
    database = new_database()
    colours(tmp_path / "pictures")
    monkeypatch.setattr("diptych.catalog.database.postgres.HNSW_ROWS", 1)
    assert "HNSW index" in (index(database, tmp_path / "pictures").built or "")
    writer = Store.open(database)
    with writer.database.writing():
        impatient = f"{database}&options=-c%20lock_timeout%3D200"
        assert search(impatient, "red")[0] == "red.png"
        store = Store.open(impatient)
        with pytest.raises(CatalogError, match="lock timeout"), store.database.writing():
            pass
        store.close()
    writer.close()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("postgresql://someone:secret@host:1/pictures", "host:1/pictures"),
        ("postgresql://host/pictures?user=someone&password=secret", "host/pictures"),
        ("postgres://someone:sec%40ret@[::1]:5/p?sslpassword=secret", "::1:5/p"),
        ("postgresql:///pictures?host=/run/pg&password=secret", "/run/pg/pictures"),
        ("postgresql://", "PostgreSQL"),
    ],
)
def test_a_catalogues_name_has_no_password(address: str, name: str) -> None:
    assert name_without_secrets(address) == name


@pytest.mark.parametrize(
    "address", ["postgresql://h/p?password=secret&nonsense=1", "postgresql://h:secret%zz@/p"]
)
def test_an_address_that_is_none_is_not_repeated(address: str) -> None:
    with pytest.raises(CatalogError, match="not the address of a PostgreSQL database") as raised:
        Store.open(address)
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_tags_copies_and_the_map_are_those_of_files(tmp_path: Path, new_database: NewDatabase) -> None:
    pictures = tmp_path / "pictures"
    for shade in range(3):
        for path in colours(pictures / str(shade)):
            paint(path, path.stem, shade=shade)
    shutil.copy(pictures / "0" / "red.png", pictures / "copy.png")
    messages = []
    for place in (new_database(), tmp_path / "catalog"):
        index(place, pictures)
        store = Store.open(place)
        searcher = Searcher(store, ToyEncoder())
        rule = ZeroShotClassifier(ToyEncoder(), templates=None, multi_label=True).fit(["red", "blue"])
        tagged = tag_pictures(searcher, rule, "two")
        groups = find_duplicates(store, tiers=("bytes",)).groups
        drawn = make_map(searcher, ["red", "blue"], filters=Filter(name="pictures/"))
        messages.append(
            (
                tagged.counts,
                count_tags(store.database),
                [[member.file.path for member in group.members] for group in groups],
                (len(drawn.contents), [cluster.words for cluster in drawn.regions]),
            )
        )
        assert clear_tags(store.database, "two") == 6
        store.close()
    assert messages[0] == messages[1]
    assert messages[0][0] == {"red": 3, "blue": 3}
