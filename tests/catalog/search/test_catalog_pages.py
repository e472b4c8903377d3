"""Pages of results: bursts are shown once, non-monotonic relevances, totals, and the rows examined."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diptych.catalog import Searcher, SearchOptions, SearchResult, Store
from diptych.catalog.annotations.records import FileRecord, ImageRecord, ListedFile
from diptych.catalog.relevance import Background
from tests.catalog.spaces_of_rows import Floats, unit
from tests.toys import ToyEncoder

DIM = 32
FIRST, SECOND = np.eye(DIM, dtype=np.float32)[
    :2
]  # direction of the query, and of the everyday background texts


class Towards(ToyEncoder):
    """An encoder that puts every text on the first axis, and "nothing" on the opposite side."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([-FIRST if text == "nothing" else FIRST for text in texts])


def rows_of(towards: Floats, usual: Floats) -> Floats:
    """Rows with these components along the query and the background; the rest is noise."""
    noise = unit(np.random.default_rng(0).normal(size=(len(towards), DIM - 2)))
    rest = np.sqrt(1 - towards**2 - usual**2)[:, None]
    return np.concatenate([towards[:, None], usual[:, None], rest * noise], axis=1).astype(np.float32)


def catalogue(folder: Path, rows: Floats, hashes: Sequence[int]) -> Store:
    store = Store.create(folder)
    golden = np.stack([FIRST] * 4)
    space = store.begin_space("toy:towards", "toy", golden)
    everyday = SECOND + np.random.default_rng(1).normal(size=(40, DIM)) * 0.05 * (np.arange(DIM) > 1)
    with store.database.writing():
        space.keep_background(Background(unit(everyday)))
    store.save_images(
        [
            ImageRecord(
                (FileRecord(ListedFile(b"/%d.png" % n, "", 1, 10**9 * n, 0, 0, 0)),),
                hash=b"%d" % n,
                size=1,
                vector=row,
                hashes=(bits, bits),
            )
            for n, (row, bits) in enumerate(zip(rows, hashes, strict=True))
        ],
        space,
    )
    return store


def different(count: int) -> list[int]:
    """Hashes of pictures that do not look alike."""
    return [int(item) for item in np.random.default_rng(2).integers(0, 2**64, count, np.uint64)]


class Asking:
    """Search one catalogue, and record the size of each nearest-neighbour search."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.searcher = Searcher(store, Towards(identity="toy:towards", dim=DIM))
        self.sizes: list[int] = []
        space = self.searcher.space
        nearest = space.nearest

        def counted(queries: Floats, k: int, allowed: object = None) -> object:
            self.sizes.append(k)
            return nearest(queries, k, allowed)  # type: ignore[arg-type]

        monkeypatch.setattr(space, "nearest", counted)

    def __call__(self, query: str = "what fits", **options: object) -> SearchResult:
        self.sizes.clear()
        return self.searcher.search(query, SearchOptions(**options))  # type: ignore[arg-type]


def names(answer: SearchResult) -> list[str]:
    return [hit.entry.path.stem for hit in answer.hits]


def test_a_burst_does_not_take_the_place_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    towards = np.concatenate([np.full(230, 0.6), np.linspace(0.5, 0.3, 60)])
    rows = rows_of(towards, np.zeros(290))
    rows[:230] = rows[0]
    store = catalogue(tmp_path, rows, [7] * 230 + different(60))
    ask = Asking(store, monkeypatch)
    whole = ask(limit=300)
    assert (len(whole.hits), whole.total, whole.more) == (61, 61, False)
    assert len(whole.hits[0].alike) == 229
    pages = [ask(limit=20, offset=offset) for offset in range(0, 80, 20)]
    assert [len(page.hits) for page in pages] == [20, 20, 20, 1]
    assert [name for page in pages for name in names(page)] == names(whole)
    assert {(page.total, page.more) for page in pages} == {(61, False)}
    store.close()


def test_figures_that_rise_and_fall_end_no_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    towards = np.linspace(0.55, 0.3, 600)
    usual = np.where(np.arange(600) % 2, 0.7, 0.0)  # every other row is close to all everyday texts
    store = catalogue(tmp_path, rows_of(towards, usual), different(600))
    ask = Asking(store, monkeypatch)
    answers = {limit: ask(limit=limit) for limit in (20, 150, 200, 300, 400)}
    assert {limit: (item.total, item.more) for limit, item in answers.items()} == {
        20: (100, True),
        150: (150, True),
        200: (200, True),
        300: (300, False),
        400: (300, False),
    }
    pages = [ask(limit=60, offset=60 * n) for n in range(6)]
    assert [name for page in pages for name in names(page)] == names(answers[400])
    result = answers[400].hits
    assert [hit.cosine for hit in result] == sorted((hit.cosine for hit in result), reverse=True)
    store.close()


def test_no_more_is_looked_at_than_a_page_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    towards = np.linspace(0.55, 0.3, 1000)
    usual = np.where(np.arange(1000) < 12, 0.0, 0.7)
    store = catalogue(tmp_path, rows_of(towards, usual), different(1000))
    ask = Asking(store, monkeypatch)
    few = ask()
    assert (len(few.hits), few.total, few.more, ask.sizes) == (12, 12, False, [200])
    none = ask("nothing")
    assert (none.hits, none.more, ask.sizes) == ((), False, [200])
    assert none.best is not None
    everything = ask(cutoff=None)
    assert (len(everything.hits), everything.total, everything.more, ask.sizes) == (20, 200, True, [200])
    by_date = ask(sort="date")
    assert (names(by_date), ask.sizes) == ([str(n) for n in reversed(range(12))], [2000])
    store.close()
