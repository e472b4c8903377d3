"""Maps: known clusters recovered, names fit, neighbours lie close, reproducible by seed, thumbnail sheets."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from diptych.audits.labels.label_words import labels_containing
from diptych.catalog import Filter, Searcher, Store, read_entries
from diptych.catalog.map.clusters import Projection, join, k_means
from diptych.catalog.map.layout import FEW, Graph, _repel, graph_of, lay_out, neighbours
from diptych.catalog.map.mapping import how_many, make_map
from diptych.catalog.map.naming import NameVocabulary, name_clusters, read_words
from diptych.catalog.map.thumbnails import (
    LEVELS,
    WIDEST,
    fingerprint,
    levels_of,
    sheet_order,
    sheets,
    side_for,
)
from diptych.errors import CatalogError, InputError, TextError
from tests.catalog.catalogs import index, paint
from tests.toys import COLOURS, ToyEncoder

Floats = NDArray[np.float32]


def planted(groups: int, each: int, dim: int = 24, noise: float = 0.08) -> tuple[Floats, NDArray[np.intp]]:
    """Unit rows around distant centres, and the cluster of each row."""
    draw = np.random.default_rng(1)
    centres = np.linalg.qr(draw.normal(size=(dim, dim)))[0][:groups]
    whose = draw.permutation(np.repeat(np.arange(groups), each))
    rows = centres[whose] + noise * draw.normal(size=(len(whose), dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), whose


def agree(found: NDArray[np.intp], true: NDArray[np.intp]) -> bool:
    """Whether two clusterings are equal up to their numbering."""
    pairs = set(zip(found.tolist(), true.tolist(), strict=True))
    return len(pairs) == len(set(found.tolist())) == len(set(true.tolist()))


def test_planted_clusters_are_found_again() -> None:
    rows, whose = planted(9, 40)
    members, centres = k_means(rows, 9, seed=3)
    assert agree(members, whose)
    assert np.allclose(np.linalg.norm(centres, axis=1), 1, atol=1e-5)
    again, _ = k_means(rows, 9, seed=3)
    assert (again == members).all()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 3))
@settings(max_examples=40)
def test_every_cluster_has_a_member(rows: int, clusters: int, seed: int) -> None:
    table = np.random.default_rng(seed).normal(size=(rows, 4)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    if clusters > rows:
        with pytest.raises(InputError, match="expected 1 to"):
            k_means(table, clusters)
        return
    members, _ = k_means(table, clusters, seed=seed)
    assert set(members.tolist()) == set(range(clusters))


def test_equal_rows_are_no_trouble() -> None:
    members, _ = k_means(np.tile(np.float32([[1, 0]]), (6, 1)), 3)
    assert members.shape == (6,)


def test_a_projection_keeps_what_differs() -> None:
    rows, whose = planted(5, 30)
    shifted = rows + np.float32(3)  # the common part of all rows carries no information
    short = Projection.of(shifted.astype(np.float16), 8).short(shifted)
    assert short.shape == (150, 8)
    same = whose[:, None] == whose[None]
    cosines = short @ short.T
    assert cosines[same].mean() > 0.8
    assert cosines[~same].mean() < 0


def test_places_are_joined_by_size_and_distance() -> None:
    places = np.float32([[0, 0], [0.1, 0], [1, 1], [1, 1.1], [3, 0]])
    assert join(places, np.ones(5, np.intp), 3).tolist() == [0, 0, 1, 1, 2]
    assert join(places, np.ones(5, np.intp), 5).tolist() == [0, 1, 2, 3, 4]


def test_neighbours_are_the_nearest() -> None:
    rows = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    np.fill_diagonal(cosines, -2)
    true = np.argsort(-cosines, axis=1)[:, :5]
    assert (neighbours(rows, 5) == true).all()


def test_neighbours_by_lists_miss_few() -> None:
    rows, _ = planted(40, 110, dim=48, noise=0.15)
    result = neighbours(rows, 10, seed=0)
    some = np.arange(0, len(rows), 37)
    cosines = rows[some] @ rows.T
    cosines[np.arange(len(some)), some] = -2
    true = np.argsort(-cosines, axis=1)[:, :10]
    kept = [len(set(a) & set(b)) for a, b in zip(result[some].tolist(), true.tolist(), strict=True)]
    assert np.mean(kept) > 9
    assert not (result == np.arange(len(rows))[:, None]).any()


def test_the_graph_is_the_same_both_ways() -> None:
    graph: Graph = graph_of(np.array([[1], [2], [0]], np.int32))
    table = np.zeros((3, 3))
    table[graph.near, graph.far] = graph.pull
    assert (table == table.T).all()
    assert table.sum() == pytest.approx(1)
    assert graph.starts.tolist() == [0, 2, 4]


def pushes(count: int) -> tuple[Floats, Floats]:
    """Forces from `_repel` for random positions, and the exact sum over all pairs."""
    places = (np.random.default_rng(0).normal(size=(2, count)) * 12).astype(np.float32)
    apart = places[:, :, None] - places[:, None]
    near = 1 / (1 + (apart**2).sum(0))
    return _repel(places), 4 * (near**2 * apart).sum(2) / (near.sum() - count)


def test_the_grid_pushes_as_all_pairs_do() -> None:
    result, exact = pushes(FEW + 150)
    assert np.corrcoef(result.ravel(), exact.ravel())[0, 1] > 0.98
    assert np.abs(result - exact).mean() < 0.15 * np.abs(exact).mean()


def test_few_rows_push_each_other_exactly() -> None:
    result, exact = pushes(FEW)
    assert np.allclose(result, exact, rtol=1e-4, atol=1e-7)


def test_like_lies_beside_like() -> None:
    rows, whose = planted(6, 60)
    short = Projection.of(rows, 10).short(rows)
    places, near = lay_out(short, seed=0)
    assert near.shape == (360, 15)
    away = ((places[:, None] - places[None]) ** 2).sum(-1)
    np.fill_diagonal(away, np.inf)
    beside = np.argsort(away, axis=1)[:, :5]
    assert (whose[beside] == whose[:, None]).mean() > 0.99
    assert 0.05 < np.median(np.sqrt(away.min(1))) < 5, "neighbours lie side by side, not on one spot"
    assert (lay_out(short, seed=0)[0] == places).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 17])
def test_few_rows_have_places_too(count: int) -> None:
    rows = np.random.default_rng(0).normal(size=(count, 3)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    places, _ = lay_out(rows)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()


def test_equal_rows_have_places_too() -> None:
    places, _ = lay_out(np.tile(np.float32([[0.6, 0.8]]), (40, 1)))
    assert np.isfinite(places).all()


# ------------------------------------------------------------------------------------ names of clusters


def test_names_are_telling_and_come_once() -> None:
    # "a thing" fits everything best; each cluster also has a word of its own.
    shares = np.float32([[0.6, 0.3, 0.05, 0.05], [0.6, 0.05, 0.3, 0.05], [0.6, 0.05, 0.05, 0.3]])
    names = name_clusters(["a thing", "a dog", "the sea", "an owl"], shares, np.array([5, 50, 500]))
    assert [name[0] for name in names] == ["dog", "sea", "owl"]


def test_more_clusters_than_words_share_them() -> None:
    shares = np.tile(np.float32([[0.5, 0.5]]), (3, 1))
    names = [name[0] for name in name_clusters(["a", "b"], shares, np.array([1, 1, 1]))]
    assert set(names) == {"a", "b"}


def test_shares_are_those_of_a_classifier() -> None:
    encoder = ToyEncoder()
    words = NameVocabulary.of(encoder, ["red", "blue", "red"])
    assert words.words == ("red", "blue")
    rows = encoder.encode_texts(["red", "red", "blue"])
    shares = words.probabilities(rows.astype(np.float16), np.array([0, 0, 1]), 2)
    assert np.allclose(shares.sum(1), 1, atol=1e-5)
    assert shares[0, 0] > 0.9 < shares[1, 1]


# Calling people animals or criminals is the best-known harm of automatic labels.
LEFT_OUT = [
    "ape", "baboon", "bomb", "buzzard", "chimp", "chimpanzee", "clown", "cockroach", "cow", "donkey",
    "goat", "gorilla", "gun", "hog", "hyena", "leech", "lemur", "monkey", "mosquito", "mule", "orangutan",
    "parasite", "pig", "primate", "rat", "revolver", "rifle", "skunk", "sloth", "slug", "snake", "swine",
    "tick", "toad", "vulture", "walrus", "weasel", "whale", "worm",
]  # fmt: skip


def test_the_words_that_come_along() -> None:
    words = read_words()
    assert len(words) == len(set(words)) > 900
    # "cows in a meadow" is a scene; "a cow" would be the name of whoever is taken for one.
    assert not {f"{article} {name}" for name in LEFT_OUT for article in ("a", "an")} & set(words)
    assert labels_containing(words, ("origin", "crime", "non_human", "derogatory")) == ()


def test_words_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("# birds\n\na wren\na tit\n", encoding="utf-8")
    assert read_words(tmp_path / "words.txt") == ["a wren", "a tit"]
    (tmp_path / "empty.txt").write_text("# nothing\n", encoding="utf-8")
    for name in ("empty.txt", "missing.txt"):
        with pytest.raises(TextError, match=name):
            read_words(tmp_path / name)


# ------------------------------------------------------------------------------------------------- maps


@pytest.fixture
def searcher(tmp_path: Path) -> Iterator[Searcher]:
    """Twenty-four pictures of each of six colours, more than a row has neighbours."""
    for colour in COLOURS:
        for shade in range(24):
            paint(tmp_path / "pictures" / colour / f"{shade}.png", colour, shade=shade * 10, size=(8, 6))
    index(tmp_path / "catalog", tmp_path / "pictures")
    store = Store.open(tmp_path / "catalog")
    yield Searcher(store, ToyEncoder())
    store.close()


def test_a_map_of_colours(searcher: Searcher) -> None:
    drawn = make_map(searcher, [*COLOURS, "red blue"], regions=6)
    entries = {
        entry.content: entry for entry in read_entries(searcher.store.database, drawn.contents.tolist())
    }
    true = [entries[int(content)].path.parent.name for content in drawn.contents]
    named = [drawn.regions[drawn.region[k]].words[0] for k in drawn.members]
    assert set(named) == set(COLOURS)
    assert named == true
    assert drawn.total == len(drawn.positions) == 144
    assert 0 <= drawn.positions.min() <= drawn.positions.max() <= 1
    assert sum(item.size for item in drawn.regions) == sum(item.size for item in drawn.clusters) == 144
    again = make_map(searcher, [*COLOURS, "red blue"], regions=6)
    assert (again.positions == drawn.positions).all()
    assert again.regions == drawn.regions


def test_a_map_of_some(searcher: Searcher) -> None:
    assert make_map(searcher, ["red"], filters=Filter(name="/red/"), regions=2).total == 24
    drawn = make_map(searcher, ["red"], most=12, seed=5)
    assert (len(drawn.contents), drawn.total) == (12, 144)
    with pytest.raises(CatalogError, match="cannot make a map"):
        make_map(searcher, ["red"], filters=Filter(name="red/0.png"))
    with pytest.raises(InputError, match="regions of 144 pictures: expected 1 to 72"):
        make_map(searcher, ["red"], regions=73)


@given(st.integers(4, 200_000))
def test_numbers_of_clusters_are_possible(pictures: int) -> None:
    fine, coarse = how_many(pictures)
    assert 1 <= coarse <= fine <= pictures


# ------------------------------------------------------------------------------------------- thumbnails


@given(st.integers(0, 200), st.integers(0, 5))
@settings(max_examples=25)
def test_no_two_thumbnails_of_a_level_overlap(count: int, seed: int) -> None:
    places = np.random.default_rng(seed).random((count, 2)).astype(np.float32) * np.float32(0.3)
    levels = levels_of(places, seed=seed)
    for level in range(LEVELS):
        shown = places[levels <= level].astype(np.float64)
        apart = np.abs(shown[:, None] - shown[None]).max(-1) + 9 * np.eye(len(shown))
        assert not len(shown) or apart.min() >= WIDEST / 2 ** (level / 2) * 0.9999
    order = sheet_order(places, levels)
    assert sorted(order.tolist()) == list(range(count))
    assert (np.diff(levels[order].astype(int)) >= 0).all()


def test_sheets_hold_the_pictures_in_order(searcher: Searcher, tmp_path: Path) -> None:
    database = searcher.store.database
    numbers = [row[0] for row in database.all("SELECT id FROM contents ORDER BY id")]
    (tmp_path / "pictures" / "red" / "3.png").unlink()
    entries = read_entries(database, numbers)
    done: list[int] = []
    made = dict(sheets(entries, 16, progress=done.append))
    assert (list(made), done) == ([0], [144])
    assert [entry.path.name for entry, _ in made[0].failed] == ["3.png"]
    sheet = Image.open(io.BytesIO(made[0].data)).convert("RGB")
    assert sheet.size == (256, 144)
    for at, entry in enumerate(entries):
        middle = sheet.getpixel((at % 16 * 16 + 8, at // 16 * 16 + 8))
        missing = entry.path.parent.name == "red" and entry.path.name == "3.png"
        wanted = (128, 128, 128) if missing else COLOURS[entry.path.parent.name]
        assert np.abs(np.subtract(middle, wanted)).max() < 40, entry.path
    assert dict(sheets(entries, 16, skip=lambda number: True)) == {}
    assert fingerprint(entries, 16) != fingerprint(entries[::-1], 16)
    assert side_for(1000) > side_for(10_000) > side_for(100_000)
