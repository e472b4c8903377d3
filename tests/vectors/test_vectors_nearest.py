"""Nearest neighbours by an IVF index with an exact tail: recall, filters, fallback to a full scan."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.vectors import nearest
from diptych.vectors.ivf import IvfIndex
from diptych.vectors.ivf_build import build_ivf
from diptych.vectors.nearest import NearestNeighbours
from diptych.vectors.segments import Segments
from tests.catalog.spaces_of_rows import by_hand, pictures_and_texts, recall, segments_of, unit

ROWS, TAIL, DIM = 8000, 500, 24
BOUND = 300  # up to this number of rows a scan is used instead of the index


@pytest.fixture(scope="module")
def texts() -> np.ndarray:
    return pictures_and_texts(ROWS, DIM, 300)[1]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory, texts: np.ndarray) -> tuple[Segments, Path]:
    """An index over most of the rows, and newer rows outside of the index."""
    folder = tmp_path_factory.mktemp("space")
    pictures, _ = pictures_and_texts(ROWS + TAIL, DIM, 1)
    segments = segments_of(folder, pictures[:ROWS], segment_rows=3000)
    build_ivf(segments, folder / "ivf", texts[:200])
    segments.append(pictures[ROWS:])
    return segments, folder / "ivf"


@pytest.fixture
def near(space: tuple[Segments, Path]) -> NearestNeighbours:
    near = NearestNeighbours(*space, exact_rows=BOUND)
    assert near.index_error is None
    return near


@pytest.fixture
def scanned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of rows of each scan; every query of the index also scans the newer rows."""
    seen: list[int] = []
    whole = nearest.nearest_exact

    def scan(segments: Segments, *arguments: object, **options: object) -> object:
        allowed = options.get("allowed")
        seen.append(segments.rows if allowed is None else len(allowed))  # type: ignore[arg-type]
        return whole(segments, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(nearest, "nearest_exact", scan)
    return seen


# ------------------------------------------------------------------------------------------- without filters


@pytest.mark.parametrize("k", [1, 10, 200])
def test_the_index_finds_what_texts_are_near_to(
    near: NearestNeighbours, texts: np.ndarray, scanned: list[int], k: int
) -> None:
    rows, cosines = near.search(texts[200:], k)
    true, best = by_hand(near.segments, texts[200:], k)
    assert recall(rows, true) >= 0.98
    assert scanned[0] == TAIL
    assert len(scanned) <= 5  # of 100: a full scan did not answer
    for item, score, want, right in zip(rows, cosines, true, best, strict=True):
        exact = dict(zip(want, right, strict=True))
        assert all(exact.get(row, value) == value for row, value in zip(item, score, strict=True))
        assert (np.diff(score) <= 0).all()


def test_rows_behind_the_index_are_found(near: NearestNeighbours) -> None:
    planted = near.segments.gather(np.arange(ROWS, ROWS + TAIL, 50)).astype(np.float32)
    assert near.search(unit(planted), 1)[0][:, 0].tolist() == list(range(ROWS, ROWS + TAIL, 50))


def test_rows_added_after_opening_are_found(tmp_path: Path, texts: np.ndarray) -> None:
    pictures, _ = pictures_and_texts(2000, DIM, 1)
    segments = segments_of(tmp_path, pictures)
    build_ivf(segments, tmp_path / "ivf", texts[:50])
    near = NearestNeighbours(segments, tmp_path / "ivf", exact_rows=BOUND)
    segments.append(texts[:1])
    assert near.search(texts[:1], 3)[0][0, 0] == 2000


def test_more_than_it_was_judged_for_is_scanned(near: NearestNeighbours, texts: np.ndarray) -> None:
    rows, cosines = near.search(texts[:2], 201)
    true, best = by_hand(near.segments, texts[:2], 201)
    np.testing.assert_array_equal(rows, true)
    np.testing.assert_array_equal(cosines, best)


def test_no_queries_no_answers(near: NearestNeighbours) -> None:
    assert near.search(np.zeros((0, DIM), np.float32), 5)[0].shape == (0, 5)


# ---------------------------------------------------------------------------------------------- with filters


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9])
def test_a_filter_loses_nothing(
    near: NearestNeighbours, texts: np.ndarray, scanned: list[int], share: float
) -> None:
    draw = np.random.default_rng(3)
    result, right = [], []
    for query in texts[200:]:
        allowed = np.flatnonzero(draw.random(near.segments.rows) < share)
        rows, _ = near.search(query[None], 10, allowed=allowed)
        assert np.isin(rows[rows >= 0], allowed).all()
        result.append(rows[0])
        right.append(by_hand(near.segments, query[None], 10, allowed=allowed)[0][0])
    if share * near.segments.rows < BOUND:
        np.testing.assert_array_equal(result, right)
    else:
        assert recall(np.array(result), np.array(right)) >= 0.98
        assert np.median(scanned) < TAIL  # the index answered


Filter = Callable[[np.ndarray, NearestNeighbours], np.ndarray]


def far_rows(query: np.ndarray, near: NearestNeighbours) -> np.ndarray:
    """A filter without the best 5 percent: no remaining row stands out."""
    cosines = near.segments.gather(np.arange(near.segments.rows)).astype(np.float32) @ query
    return cosines < np.quantile(cosines, 0.95)


def far_lists(query: np.ndarray, near: NearestNeighbours) -> np.ndarray:
    """A filter that keeps only rows in the more distant half of the lists."""
    assert near._ivf is not None
    centres = near._ivf.centres @ query
    rows = near.segments.gather(np.arange(near.segments.rows)).astype(np.float32)
    return (centres < np.median(centres))[(rows @ near._ivf.centres.T).argmax(axis=1)]


@pytest.mark.parametrize("how", ["allowed", "dead"])
@pytest.mark.parametrize("which", [far_rows, far_lists])
def test_a_filter_that_takes_away_what_fits_loses_nothing(
    near: NearestNeighbours, texts: np.ndarray, which: Filter, how: str
) -> None:
    result, right = [], []
    for query in texts[200:240]:
        left = which(query, near)
        bound = {"allowed": np.flatnonzero(left)} if how == "allowed" else {"dead": ~left}
        result.append(near.search(query[None], 10, **bound)[0][0])
        right.append(by_hand(near.segments, query[None], 10, **bound)[0][0])
    assert recall(np.array(result), np.array(right)) >= 0.98


def test_a_query_the_index_is_not_sure_of_is_scanned(
    near: NearestNeighbours, texts: np.ndarray, scanned: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IvfIndex, "is_reliable", lambda *_: False)
    rows, cosines = near.search(texts[:1], 10)
    assert scanned == [TAIL, ROWS + TAIL]
    true = by_hand(near.segments, texts[:1], 10)
    np.testing.assert_array_equal((rows, cosines), true)


def test_fewer_than_k_may_answer(near: NearestNeighbours, texts: np.ndarray) -> None:
    dead = np.ones(near.segments.rows, bool)
    dead[[5, 4000, ROWS + 3]] = False
    rows, cosines = near.search(texts[:1], 5, dead=dead)
    assert sorted(rows[0].tolist()) == [-1, -1, 5, 4000, ROWS + 3]
    assert np.isneginf(cosines[0, 3:]).all()


@given(data=st.data())
@settings(max_examples=40)
def test_whatever_may_not_answer_does_not(
    space: tuple[Segments, Path], texts: np.ndarray, data: st.DataObject
) -> None:
    near = NearestNeighbours(*space, exact_rows=BOUND)
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    rows, k = near.segments.rows, data.draw(st.sampled_from([1, 10, 150, 250]))
    dead = draw.random(rows) < data.draw(st.floats(0, 1)) if data.draw(st.booleans()) else None
    allowed = None
    if data.draw(st.booleans()):
        allowed = draw.permutation(np.flatnonzero(draw.random(rows) < data.draw(st.floats(0, 1))))
    queries = texts[draw.integers(0, len(texts), 2)]
    result, cosines = near.search(queries, k, allowed=allowed, dead=dead)
    true, best = by_hand(near.segments, queries, k, allowed=allowed, dead=dead)
    there = result >= 0
    np.testing.assert_array_equal(there, true >= 0)  # as many as there are
    assert dead is None or not dead[result[there]].any()
    assert allowed is None or np.isin(result[there], allowed).all()
    assert all(len(set(item[item >= 0])) == (item >= 0).sum() for item in result)
    assert (cosines[there] <= best[there]).all()
    for query, some, element in zip(queries, result, cosines, strict=True):
        held = near.segments.gather(some[some >= 0]).astype(np.float64)
        assert (element[some >= 0] == (held @ query.astype(np.float64)).astype(np.float32)).all()


# -------------------------------------------------------------------------------- with or without an index


def test_few_rows_need_no_index(space: tuple[Segments, Path], texts: np.ndarray) -> None:
    near = NearestNeighbours(*space)
    assert near.needs_rebuild() is None
    np.testing.assert_array_equal(near.search(texts[:9], 7)[0], by_hand(space[0], texts[:9], 7)[0])


def test_a_damaged_index_is_told_of_and_every_row_looked_at(
    space: tuple[Segments, Path], texts: np.ndarray, tmp_path: Path
) -> None:
    segments, folder = space
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:-1])
    near = NearestNeighbours(segments, tmp_path, exact_rows=BOUND)
    assert "cannot be used" in str(near.index_error)
    assert near.needs_rebuild() == near.index_error
    np.testing.assert_array_equal(near.search(texts[:9], 7)[0], by_hand(segments, texts[:9], 7)[0])
    build_ivf(segments, tmp_path, texts[:50])
    near.reopen()
    assert near.index_error is None
    assert near.needs_rebuild() is None


def test_an_index_that_another_process_builds_is_used(tmp_path: Path, texts: np.ndarray) -> None:
    segments = segments_of(tmp_path, pictures_and_texts(ROWS, DIM, 1)[0])
    near = NearestNeighbours(segments, tmp_path / "ivf", exact_rows=BOUND)
    near.refresh()
    assert near.needs_rebuild() is not None
    build_ivf(segments, tmp_path / "ivf", texts[:200])
    near.refresh()
    assert near.needs_rebuild() is None
    opened = near._ivf
    near.refresh()
    assert near._ivf is opened  # and it is not read again for every query


def test_without_faiss_every_row_is_looked_at(
    space: tuple[Segments, Path], texts: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    near = NearestNeighbours(*space, exact_rows=BOUND)
    assert "diptych[search]" in str(near.index_error)
    np.testing.assert_array_equal(near.search(texts[:9], 7)[0], by_hand(space[0], texts[:9], 7)[0])


def test_when_to_build(space: tuple[Segments, Path], texts: np.ndarray, tmp_path: Path) -> None:
    segments, folder = space
    assert "8,500 pictures have no index yet" in str(
        NearestNeighbours(segments, tmp_path, exact_rows=BOUND).needs_rebuild()
    )
    assert NearestNeighbours(segments, exact_rows=BOUND).needs_rebuild() is None  # no folder for an index
    near = NearestNeighbours(segments, folder, exact_rows=BOUND)
    assert near.needs_rebuild() is None
    assert "pictures in the index were removed" in str(near.needs_rebuild(np.arange(segments.rows) < 2000))
