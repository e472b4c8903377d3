"""Nearest neighbours against brute force, with ties, and the protocol end to end."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.evaluation import evaluate_knn, knn
from diptych.evaluation.knn import votes
from diptych.evaluation.probe_report import probe_report
from probe_toys import FeatureToy, noisy
from toys import ToyEncoder


def brute(rows: np.ndarray, labels: np.ndarray, query: np.ndarray, classes: int, k: int) -> np.ndarray:
    """Mean votes over all orders of the rows, each order taking the first k of a stable sort."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = np.round(unit @ (query / np.linalg.norm(query)), 5)
    found = np.zeros(classes)
    orders = list(itertools.permutations(range(len(rows))))
    for order in orders:
        nearest = sorted(order, key=lambda row: -cosines[row])[:k]
        found += np.bincount(labels[nearest], minlength=classes)
    return found / (len(orders) * min(k, len(rows)))


DIRECTIONS = np.array([[1, 0], [1, 1], [0, 1], [-1, 0], [2, 2], [3, 0]], np.float32)


@given(
    picks=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    labels=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    asked=st.integers(0, 5),
    k=st.integers(1, 7),
)
def test_votes_are_the_mean_over_all_orders(picks: list[int], labels: list[int], asked: int, k: int) -> None:
    rows, truth = DIRECTIONS[picks], np.array(labels[: len(picks)])
    found = votes(rows, truth, DIRECTIONS[[asked]], 3, k)
    assert found[0] == pytest.approx(brute(rows, truth, DIRECTIONS[asked], 3, k))


def test_without_ties_it_is_a_sort() -> None:
    rng = np.random.default_rng(0)
    rows, asked = rng.normal(size=(200, 8)).astype(np.float32), rng.normal(size=(50, 8)).astype(np.float32)
    labels = rng.integers(0, 5, 200)
    cosines = (asked / np.linalg.norm(asked, axis=1, keepdims=True)) @ (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
    ).T
    nearest = labels[np.argsort(-cosines, axis=1)[:, :20]]
    counts = np.stack([np.bincount(row, minlength=5) for row in nearest])
    assert votes(rows, labels, asked, 5) == pytest.approx(counts / 20)


def test_blocks_and_the_order_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(-1, 2, (60, 3)).astype(np.float32)  # many equal, some all zero
    labels, asked = rng.integers(0, 4, 60), rng.integers(-1, 2, (20, 3)).astype(np.float32)
    whole, order = votes(rows, labels, asked, 4, 7), rng.permutation(60)
    assert votes(rows[order], labels[order], asked, 4, 7) == pytest.approx(whole)
    monkeypatch.setattr(knn, "_SCORES", 60)
    assert votes(rows, labels, asked, 4, 7) == pytest.approx(whole)


def test_weights_as_in_dino() -> None:
    rows = np.array([[1, 0], [0.6, 0.8], [0.6, -0.8]], np.float32)
    found = votes(rows, np.array([0, 1, 1]), np.array([[1, 0]], np.float32), 2, 3, temperature=0.4)
    near, far = np.exp(1 / 0.4), np.exp(0.6 / 0.4)
    assert found[0] == pytest.approx([near / (near + 2 * far), 2 * far / (near + 2 * far)], rel=1e-5)
    cold = votes(rows, np.array([0, 1, 1]), np.array([[1, 0]], np.float32), 2, 3, temperature=1e-3)
    assert cold[0] == pytest.approx([1, 0])


@pytest.mark.parametrize(("k", "temperature"), [(0, None), (-1, None), (1, 0.0), (1, -1.0), (1, np.nan)])
def test_what_is_no_vote(k: int, temperature: float | None) -> None:
    with pytest.raises(InputError, match="expected"):
        votes(DIRECTIONS, np.zeros(6, int), DIRECTIONS, 1, k, temperature)


def test_the_protocol_by_hand(tmp_path: Path) -> None:
    train = noisy(tmp_path, "train", {"red": 9, "green": 7, "blue": 8}, seed=1)
    test = noisy(tmp_path, "test", {"red": 12, "blue": 9}, seed=2)
    found = evaluate_knn(ToyEncoder(), train, test, k=5)
    rows, asked = (ToyEncoder().encode_images([_open(data) for _, data in part]) for part in (train, test))
    nearest = train.labels[np.argsort(-(asked @ rows.T), axis=1)[:, :5]]
    counts = np.stack([np.bincount(row, minlength=3) for row in nearest])
    truth = np.array([train.class_names.index(test.class_names[label]) for label in test.labels])
    best = counts == counts.max(1, keepdims=True)
    hits = best[np.arange(len(truth)), truth] / best.sum(1)  # classes with equally many votes share
    assert found.metrics["acc1"] == pytest.approx(hits.mean())
    assert found.outcomes["acc1"] == pytest.approx(hits.tolist())
    assert (found.task, found.n, found.classes, found.details["k"]) == ("knn", 21, 3, 5)
    assert 0.5 < hits.mean() < 1
    assert evaluate_knn(ToyEncoder(), train, test, k=100).details["k"] == 24
    assert evaluate_knn(FeatureToy(), train, test, features="tower").details["features"] == "tower"
    text = probe_report(found).sections[0].text[0]
    assert text.startswith("The 5 nearest of 24 pictures of train, 3 classes, by the cosine of embeddings")


def _open(data):
    import io

    from PIL import Image

    return Image.open(io.BytesIO(data))
