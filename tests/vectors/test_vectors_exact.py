"""Exact nearest-neighbour search: equal to brute force with and without the native kernel; reranking."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.vectors import exact
from diptych.vectors.exact import nearest_exact, rerank
from tests.catalog.spaces_of_rows import by_hand, pictures_and_texts, segments_of, unit


@pytest.fixture(params=["numkong", "numpy"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if request.param == "numpy":
        monkeypatch.setitem(sys.modules, "numkong", None)  # importing it fails
    else:
        importlib.import_module("numkong")  # the native kernel must be there: otherwise the test is void
    exact._products.cache_clear()
    yield
    exact._products.cache_clear()


def same(got: tuple[np.ndarray, np.ndarray], want: tuple[np.ndarray, np.ndarray]) -> None:
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])


@given(data=st.data())
@settings(max_examples=30)
def test_it_is_the_search_by_hand(
    kernel: None, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    draw = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1), label="seed"))
    rows, dim = data.draw(st.integers(0, 120), label="rows"), data.draw(st.integers(1, 9), label="dim")
    few = data.draw(st.integers(1, 40), label="different rows")  # fewer distinct rows give more ties
    vectors = unit(draw.normal(size=(few, dim)))[draw.integers(0, few, rows)]
    for value in (np.nan, np.inf):
        vectors[draw.random(rows) < 0.03] = value
    segments = segments_of(
        tmp_path_factory.mktemp("rows"),
        vectors,
        segment_rows=data.draw(st.integers(8, 50), label="segment rows"),
    )
    queries = unit(draw.normal(size=(data.draw(st.integers(0, 4), label="queries"), dim)))
    dead = draw.random(rows) < 0.3 if data.draw(st.booleans(), label="some dead") else None
    allowed = None
    if data.draw(st.booleans(), label="some allowed"):
        share = data.draw(st.floats(0, 1), label="share")
        allowed = draw.permutation(np.flatnonzero(draw.random(rows) < share))
    k = data.draw(st.integers(1, 150), label="k")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "_SCAN_BLOCK", data.draw(st.integers(9, 40)))
        patch.setattr(exact, "_GATHER_BLOCK", data.draw(st.integers(9, 40)))
        patch.setattr(exact, "_QUERY_BLOCK", data.draw(st.integers(1, 3)))
        got = nearest_exact(segments, queries, k, allowed=allowed, dead=dead)
    same(got, by_hand(segments, queries, k, allowed=allowed, dead=dead))


def test_more_rows_and_queries_than_one_piece_holds(kernel: None, tmp_path: Path) -> None:
    pictures, texts = pictures_and_texts(20_000, 32, 70)
    segments = segments_of(tmp_path, pictures, segment_rows=18_000)
    same(nearest_exact(segments, texts, 25), by_hand(segments, texts, 25))
    scattered = np.arange(0, 20_000, 3)
    same(
        nearest_exact(segments, texts[:3], 25, allowed=scattered),
        by_hand(segments, texts[:3], 25, allowed=scattered),
    )


def test_the_query_is_not_rounded_to_half_precision(kernel: None, tmp_path: Path) -> None:
    """The rows are closer together than half-precision rounding of the query could distinguish."""
    draw = np.random.default_rng(1)
    query = unit(draw.normal(size=(1, 64)))
    across = draw.normal(size=(3000, 64))
    rows = unit(0.3 * query + unit(across - (across @ query.T) * query))
    segments = segments_of(tmp_path, rows)
    stored = segments.gather(np.arange(3000)).astype(np.float64)
    rounded = stored @ query[0].astype(np.float16).astype(np.float64)
    true = by_hand(segments, query, 5)
    assert set(np.argsort(-rounded)[:5]) != set(true[0][0])  # otherwise the test is void
    same(nearest_exact(segments, query, 5), true)


def test_of_equal_rows_the_first_come(kernel: None, tmp_path: Path) -> None:
    segments = segments_of(tmp_path, np.tile(unit(np.ones((1, 48))), (500, 1)), segment_rows=37)
    rows, _ = nearest_exact(segments, unit(np.ones((1, 48)) + np.arange(48)), 7)
    assert rows.tolist() == [[0, 1, 2, 3, 4, 5, 6]]


def test_rows_that_were_added_are_found(tmp_path: Path) -> None:
    segments = segments_of(tmp_path, unit(np.eye(4)[:2]), segment_rows=3)
    nearest_exact(segments, unit(np.eye(4)[2:3]), 1)
    segments.append(unit(np.eye(4)[2:]))
    assert nearest_exact(segments, unit(np.eye(4)[2:3]), 1)[0].tolist() == [[2]]


def test_reranking_is_the_same_search(kernel: None, tmp_path: Path) -> None:
    pictures, texts = pictures_and_texts(5000, 32, 3)
    segments = segments_of(tmp_path, pictures, segment_rows=999)
    candidates = np.arange(7, 5000, 11)
    want = by_hand(segments, texts[:1], 20, allowed=candidates)
    same(rerank(segments, texts[0], candidates, 20), (want[0][0], want[1][0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"queries": np.ones((1, 3), np.float32)}, r"\(1, 3\): expected \(any number, 4\)"),
        ({"queries": np.ones(4, np.float32)}, "queries have shape"),
        ({"queries": np.full((1, 4), np.nan, np.float32)}, "NaN"),
        ({"queries": np.full((1, 4), 1e30, np.float32)}, "NaN"),
        ({"k": 0}, "k is 0: expected at least 1"),
        ({"allowed": np.array([0, 9])}, "rows 0 to 9: expected 0 to 3"),
        ({"allowed": np.array([-1])}, "rows -1 to -1"),
        ({"dead": np.zeros(3, bool)}, r"dead has shape \(3,\): expected \(4,\)"),
    ],
)
def test_what_cannot_be_searched_for_is_refused(
    tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    segments = segments_of(tmp_path, np.eye(4, dtype=np.float32))
    query: dict[str, object] = {"queries": np.eye(4, dtype=np.float32)[:1], "k": 2, **arguments}
    with pytest.raises(InputError, match=message):
        nearest_exact(segments, **query)  # type: ignore[arg-type]
