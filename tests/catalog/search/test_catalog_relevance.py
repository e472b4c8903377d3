"""Relevance cut-off: its properties on synthetic collections, and its accuracy on real pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diptych.catalog.relevance import (
    DEFAULT_CUTOFF,
    TEXT,
    Background,
    RelevanceScale,
    background_texts,
    largest,
)
from diptych.errors import DataError, InputError
from tests.toys import ToyEncoder, picture

Floats = NDArray[np.float32]
PICTURE = (("picture", 1.0),)
LESS = (("text", 1.0), ("text", -0.5))


def unit(rows: NDArray[Any]) -> Floats:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def world(strength: float = 6.0, dim: int = 64) -> tuple[Floats, Floats]:
    """300 texts, pictures for the first 200 of them, and a gap between the two modalities."""
    draw = np.random.default_rng(1)
    texts = unit(draw.normal(size=(300, dim)))
    pictures = unit(draw.normal(size=(200, dim)) + strength * texts[:200])
    gap = 0.3 * unit(draw.normal(size=dim))
    return unit(texts + gap), unit(pictures - gap)


def best(gauge: RelevanceScale, queries: Floats, pictures: Floats, size: int = 200) -> Floats:
    return np.array([gauge.relevance(pictures @ row, pictures, size=size).max() for row in queries])


# ----------------------------------------------------------------------------------- present or absent


@pytest.mark.parametrize("strength", [6.0, 10.0, 20.0])
def test_what_is_there_is_over_the_cutoff_and_what_is_not_is_under_it(strength: float) -> None:
    texts, pictures = world(strength)
    gauge = RelevanceScale.of(Background(texts), pictures)
    assert (best(gauge, texts[:200], pictures) >= DEFAULT_CUTOFF).mean() > 0.9
    assert (best(gauge, texts[200:], pictures) >= DEFAULT_CUTOFF).mean() < 0.1


def test_a_stronger_model_raises_its_own_cutoff() -> None:
    gauges = [
        RelevanceScale.of(Background(texts), pictures) for texts, pictures in map(world, (4.0, 8.0, 16.0))
    ]
    fits = [gauge.match(200) for gauge in gauges]
    assert fits == sorted(fits)
    assert fits[-1] > 1.3 * fits[0]


def test_a_collection_in_which_everything_fits_is_shown() -> None:
    texts, _ = world()
    pictures = unit(np.random.default_rng(2).normal(size=(150, 64)) / 4 + 2 * texts[:1])
    gauge = RelevanceScale.of(Background(texts), pictures)
    assert (gauge.relevance(pictures @ texts[0], pictures, size=150) >= DEFAULT_CUTOFF).mean() > 0.9
    assert (gauge.relevance(pictures @ texts[7], pictures, size=150) >= DEFAULT_CUTOFF).mean() < 0.1


def test_a_collection_of_one_picture() -> None:
    texts, pictures = world(10.0)
    gauge = RelevanceScale.of(Background(texts), pictures[:1])
    assert best(gauge, texts[:1], pictures[:1], size=1) > 0.9
    assert np.median(best(gauge, texts[1:], pictures[:1], size=1)) < DEFAULT_CUTOFF


def test_a_text_less_another_is_judged_by_its_own_scale() -> None:
    texts, pictures = world(10.0)
    gauge = RelevanceScale.of(Background(texts), pictures, LESS)
    queries = unit(texts - 0.5 * np.roll(texts, 1, axis=0))
    assert (best(gauge, queries[1:200], pictures) >= DEFAULT_CUTOFF).mean() > 0.9
    assert (best(gauge, queries[201:], pictures) >= DEFAULT_CUTOFF).mean() < 0.1


def test_what_is_taken_away_is_another_text_than_what_is_looked_for() -> None:
    texts, pictures = world()
    alone, less = (RelevanceScale.of(Background(texts), pictures, parts) for parts in (TEXT, LESS))
    assert np.linalg.norm(less.mean) < 0.9 * np.linalg.norm(alone.mean)


def test_a_picture_is_judged_beside_pictures() -> None:
    texts, _ = world()
    draw = np.random.default_rng(3)
    themes = unit(draw.normal(size=(40, 64)))
    pictures = unit(np.repeat(themes, 5, axis=0) * 8 + draw.normal(size=(200, 64)) + 1)  # with a common part
    pictures = pictures[draw.permutation(200)]
    gauge = RelevanceScale.of(Background(texts), pictures, PICTURE)
    more = unit(themes * 8 + draw.normal(size=(40, 64)) + 1)
    others = unit(draw.normal(size=(40, 64)) * 2 + 1)
    assert (best(gauge, more, pictures) >= DEFAULT_CUTOFF).mean() > 0.8
    assert (best(gauge, others, pictures) >= DEFAULT_CUTOFF).mean() < 0.2


def test_too_few_pictures_to_compare_with_hide_nothing() -> None:
    texts, pictures = world()
    gauge = RelevanceScale.of(Background(texts), pictures[:14], PICTURE)
    assert gauge.relevance(pictures[:3] @ pictures[0], pictures[:3], size=14).tolist() == [DEFAULT_CUTOFF] * 3


def test_the_toy_encoder_knows_its_colours() -> None:
    encoder = ToyEncoder()
    rows = encoder.encode_images([picture(colour) for colour in ("red", "blue", "red", "green")])
    gauge = RelevanceScale.of(Background.of(encoder), rows)
    query = encoder.encode_texts(["red"])[0]
    shown = gauge.relevance(rows @ query, rows, size=4) >= DEFAULT_CUTOFF
    assert shown.tolist() == [True, False, True, False]


# ------------------------------------------------------------------------------------------- invariants


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=20), st.integers(1, 10**9))
def test_a_higher_cosine_is_never_less_relevant(cosines: list[float], size: int) -> None:
    texts, pictures = world()
    gauge = RelevanceScale.of(Background(texts), pictures[:50])
    rows = np.repeat(pictures[:1], len(cosines), axis=0)
    figures = gauge.relevance(np.sort(np.float32(cosines)), rows, size=size)
    assert (np.diff(figures) >= 0).all()
    assert ((figures >= 0) & (figures <= 1)).all()


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([0.0, 1e-8, 1e-3, 1.0]),
    st.sampled_from([TEXT, PICTURE, LESS, (("picture", 1.0), ("text", -1.0)), (("text", -1.0),)]),
    st.integers(0, 5),
)
@settings(max_examples=60)
def test_figures_are_numbers_from_0_to_1_whatever_the_rows(
    texts: int, pictures: int, apart: float, parts: tuple[Any, ...], seed: int
) -> None:
    """Constant rows, duplicates, nearly equal rows, a single row, rows of zeros."""
    draw = np.random.default_rng(seed)
    single = draw.normal(size=8) * (seed > 0)
    background = Background((single + apart * draw.normal(size=(texts, 8))).astype(np.float32))
    rows = (single + apart * draw.normal(size=(pictures, 8))).astype(np.float16)
    figures = RelevanceScale.of(background, rows, parts).relevance(rows @ rows[0], rows, size=pictures)
    assert figures.dtype == np.float32
    assert figures.shape == (pictures,)
    assert ((figures >= 0) & (figures <= 1)).all()


def test_a_cosine_that_is_no_number_fits_nothing() -> None:
    texts, pictures = world()
    gauge = RelevanceScale.of(Background(texts), pictures)
    assert gauge.relevance(np.full(2, np.nan, np.float32), pictures[:2], size=200).tolist() == [0.0, 0.0]


@given(st.floats(0.1, 10), st.floats(-5, 5), st.integers(0, 5))
@settings(max_examples=30)
def test_a_models_scale_and_what_a_picture_adds_to_every_text_cancel(
    scale: float, shift: float, seed: int
) -> None:
    texts, pictures = world()
    extra = shift * np.random.default_rng(seed).normal(size=(len(pictures), 1))  # one offset for each picture
    other_texts = np.hstack([texts, np.ones((len(texts), 1))]).astype(np.float32)
    other = np.hstack([scale * pictures, extra]).astype(np.float32)
    gauges = RelevanceScale.of(Background(texts), pictures), RelevanceScale.of(Background(other_texts), other)
    there, that = (
        gauge.relevance(rows @ query, rows, size=200)
        for gauge, rows, query in zip(gauges, (pictures, other), (texts[5], other_texts[5]), strict=True)
    )
    np.testing.assert_allclose(there, that, atol=2e-3)


def test_more_pictures_ask_for_more() -> None:
    texts, pictures = world()
    gauge = RelevanceScale.of(Background(texts), pictures)
    figures = [best(gauge, texts[:1], pictures, size=size)[0] for size in (20, 200, 10_000, 1_000_000)]
    assert figures == sorted(figures, reverse=True)
    assert figures[0] > figures[-1] + 0.1


def test_the_largest_of_many_is_as_large_as_drawn() -> None:
    drawn = np.random.default_rng(0).normal(size=(4000, 100)).max(axis=1)
    assert np.median(drawn) == pytest.approx(largest(100), abs=0.15)


def test_a_sample_foretells_the_whole_collection() -> None:
    draw = np.random.default_rng(5)
    texts = unit(draw.normal(size=(300, 64)))
    pictures = unit(draw.normal(size=(20_000, 64)))  # no text fits any picture
    whole = RelevanceScale.of(Background(texts), pictures)
    part = RelevanceScale.of(Background(texts), pictures[:500])
    assert part.match(20_000) == pytest.approx(whole.match(20_000), abs=0.35)


# ---------------------------------------------------------------------------------- stored and refused


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 100))
def test_a_background_comes_back_as_it_was(count: int, dim: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    again = Background.from_bytes(Background(rows).to_bytes()).rows
    assert again.shape == rows.shape
    assert again.tobytes() == rows.tobytes()


@given(st.binary(max_size=80))
def test_other_bytes_are_refused(data: bytes) -> None:
    kept = Background(np.ones((2, 3), np.float32)).to_bytes()
    for wrong in (data, kept + data[:1] + b"!", kept[: len(data) % len(kept)], data[:8] + kept[9:]):
        with pytest.raises(DataError, match=r"Background\.of"):
            Background.from_bytes(wrong)


@pytest.mark.parametrize(
    ("sample", "parts", "told"),
    [
        (np.zeros((0, 64)), TEXT, "at least one row of 64"),
        (np.zeros((3, 9)), TEXT, "at least one row of 64"),
        (np.zeros(64), TEXT, "at least one row of 64"),
        (np.ones((3, 64)), (), "weights other than 0"),
        (np.ones((3, 64)), (("text", 0.0),), "weights other than 0"),
        (np.ones((3, 64)), (("text", np.nan),), "weights other than 0"),
    ],
)
def test_what_cannot_be_gauged_is_said(sample: NDArray[Any], parts: tuple[Any, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        RelevanceScale.of(Background(world()[0]), sample, parts)


@pytest.mark.parametrize(
    ("cosines", "rows", "size"), [((2,), (3, 64), 5), ((3,), (3, 9), 5), ((3,), (3, 64), 0)]
)
def test_hits_that_do_not_belong_together_are_refused(
    cosines: tuple[int], rows: tuple[int, int], size: int
) -> None:
    texts, pictures = world()
    with pytest.raises(InputError, match=r"expected \(K,\) and \(K, 64\)"):
        RelevanceScale.of(Background(texts), pictures).relevance(np.zeros(cosines), np.zeros(rows), size=size)


def test_the_background_is_many_short_different_texts() -> None:
    texts = background_texts()
    assert len(set(texts)) == len(texts) > 300
    assert all(1 <= len(text.split()) <= 10 and text == text.strip() for text in texts)


# ------------------------------------------------------------------------------------------ real pictures


def test_real_queries_about_what_is_there_are_told_from_others(shared: Any) -> None:
    import cutoff  # the benchmark's reading of its queries

    import diptych
    from diptych.datasets import load_captioned
    from diptych.stats.rankings import roc_auc

    encoder = diptych.load()
    dataset = load_captioned(shared / "data/flickr8k-val.tar").sample(150)
    pictures = cutoff.catalog_embeddings(encoder, dataset)
    gauge = RelevanceScale.of(Background.of(encoder), pictures)
    here = encoder.encode_texts([min(texts, key=len) for texts in dataset.captions])
    absent = encoder.encode_texts(
        [
            query.text
            for query in cutoff.read_queries(cutoff.QUERIES)
            if not query.present and not query.mentioned(dataset.captions)
        ]
    )
    figures = [best(gauge, rows, pictures, size=150) for rows in (here, absent)]
    assert roc_auc(np.concatenate(figures), [1] * len(here) + [0] * len(absent)) > 0.8
    assert (figures[0] >= DEFAULT_CUTOFF).mean() > 0.8
    assert (figures[1] >= DEFAULT_CUTOFF).mean() < 0.5
