"""Nearest-neighbour classification: compared with brute force, ties, and the whole protocol."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from diptych.errors import DataError, InputError
from diptych.evaluation import Result, evaluate_knn, evaluate_linear_probe
from diptych.evaluation.probes import knn, logistic
from diptych.evaluation.probes.knn import votes
from diptych.evaluation.probes.probe_report import probe_report
from diptych.evaluation.protocols.settings import Setup
from tests.probe_toys import FeatureToy, noisy
from tests.toys import COLOURS, ToyEncoder


def brute(rows: np.ndarray, labels: np.ndarray, query: np.ndarray, classes: int, k: int) -> np.ndarray:
    """Mean votes over all orders of the rows; each order takes the first k of a stable sort."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = np.round(unit @ (query / np.linalg.norm(query)), 5)
    result = np.zeros(classes)
    orders = list(itertools.permutations(range(len(rows))))
    for order in orders:
        nearest = sorted(order, key=lambda row: -cosines[row])[:k]
        result += np.bincount(labels[nearest], minlength=classes)
    return result / (len(orders) * min(k, len(rows)))


DIRECTIONS = np.array([[1, 0], [1, 1], [0, 1], [-1, 0], [2, 2], [3, 0]], np.float32)


@given(
    picks=st.lists(st.integers(0, 5), min_size=1, max_size=5),
    labels=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    asked=st.integers(0, 5),
    k=st.integers(1, 7),
)
def test_votes_are_the_mean_over_all_orders(picks: list[int], labels: list[int], asked: int, k: int) -> None:
    rows, truth = DIRECTIONS[picks], np.array(labels[: len(picks)])
    result = votes(rows, truth, DIRECTIONS[[asked]], 3, k)
    assert result[0] == pytest.approx(brute(rows, truth, DIRECTIONS[asked], 3, k))


def test_without_ties_it_is_a_sort() -> None:
    rng = np.random.default_rng(0)
    rows, query = rng.normal(size=(200, 8)).astype(np.float32), rng.normal(size=(50, 8)).astype(np.float32)
    labels = rng.integers(0, 5, 200)
    cosines = (query / np.linalg.norm(query, axis=1, keepdims=True)) @ (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
    ).T
    nearest = labels[np.argsort(-cosines, axis=1)[:, :20]]
    counts = np.stack([np.bincount(row, minlength=5) for row in nearest])
    assert votes(rows, labels, query, 5) == pytest.approx(counts / 20)


def test_blocks_and_the_order_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    rows = rng.integers(-1, 2, (60, 3)).astype(np.float32)  # many equal rows, some of them zero
    labels, query = rng.integers(0, 4, 60), rng.integers(-1, 2, (20, 3)).astype(np.float32)
    whole, order = votes(rows, labels, query, 4, 7), rng.permutation(60)
    assert votes(rows[order], labels[order], query, 4, 7) == pytest.approx(whole)
    monkeypatch.setattr(knn, "_SCORES", 60)
    assert votes(rows, labels, query, 4, 7) == pytest.approx(whole)


def test_weights_as_in_dino() -> None:
    rows = np.array([[1, 0], [0.6, 0.8], [0.6, -0.8]], np.float32)
    result = votes(rows, np.array([0, 1, 1]), np.array([[1, 0]], np.float32), 2, 3, temperature=0.4)
    near, far = np.exp(1 / 0.4), np.exp(0.6 / 0.4)
    assert result[0] == pytest.approx([near / (near + 2 * far), 2 * far / (near + 2 * far)], rel=1e-5)
    cold = votes(rows, np.array([0, 1, 1]), np.array([[1, 0]], np.float32), 2, 3, temperature=1e-3)
    assert cold[0] == pytest.approx([1, 0])


@pytest.mark.parametrize(("k", "temperature"), [(0, None), (-1, None), (1, 0.0), (1, -1.0), (1, np.nan)])
def test_what_is_no_vote(k: int, temperature: float | None) -> None:
    with pytest.raises(InputError, match="expected"):
        votes(DIRECTIONS, np.zeros(6, int), DIRECTIONS, 1, k, temperature)


def test_the_protocol_by_hand(tmp_path: Path) -> None:
    train = noisy(tmp_path, "train", {"red": 9, "green": 7, "blue": 8}, seed=1)
    test = noisy(tmp_path, "test", {"red": 12, "blue": 9}, seed=2)
    result = evaluate_knn(ToyEncoder(), train, test, k=5)
    rows, query = (ToyEncoder().encode_images([_open(data) for _, data in part]) for part in (train, test))
    nearest = train.labels[np.argsort(-(query @ rows.T), axis=1)[:, :5]]
    counts = np.stack([np.bincount(row, minlength=3) for row in nearest])
    truth = np.array([train.class_names.index(test.class_names[label]) for label in test.labels])
    best = counts == counts.max(1, keepdims=True)
    hits = best[np.arange(len(truth)), truth] / best.sum(1)  # classes with equal numbers of votes share
    assert result.metrics["acc1"] == pytest.approx(hits.mean())
    assert result.outcomes["acc1"] == pytest.approx(hits.tolist())
    assert (result.task, result.n, result.classes, result.details["k"]) == ("knn", 21, 3, 5)
    assert 0.5 < hits.mean() < 1
    assert evaluate_knn(FeatureToy(), train, test, features="tower").details["features"] == "tower"
    text = probe_report(result).sections[0].text[0]
    assert text.startswith("The 5 nearest of 24 pictures of train, 3 classes, by the cosine of embeddings")


@pytest.mark.parametrize(("k", "temperature"), [(24, None), (100, None), (100, 0.07)])
def test_more_neighbours_than_training_pictures_are_said(
    tmp_path: Path, k: int, temperature: float | None
) -> None:
    train = noisy(tmp_path, "train", {"red": 9, "green": 7, "blue": 8}, seed=1)
    test = noisy(tmp_path, "test", {"red": 12, "blue": 9}, seed=2)
    result = evaluate_knn(ToyEncoder(), train, test, k=k, temperature=temperature)
    assert (result.details["k"], result.details["wanted_k"]) == (24, k)
    text = " ".join(probe_report(result).sections[0].text)
    assert ("100 neighbours were requested, but there are only 24 training pictures" in text) == (k > 24)
    assert ("every picture gets the same answer" in text) == (k > 24 and temperature is None)
    if temperature is None:  # every answer is the most frequent class of the training pictures
        assert result.per_class == {"red": 1.0, "blue": 0.0}


@pytest.mark.parametrize(("colours", "metric"), [(2, "roc_auc"), (6, "mean_acc1_acc5")])
@pytest.mark.parametrize("protocol", [evaluate_knn, evaluate_linear_probe])
def test_the_papers_metric_of_hateful_memes_and_of_kinetics(
    tmp_path: Path, colours: int, metric: str, protocol: Callable[..., Result]
) -> None:
    counts = dict.fromkeys(list(COLOURS)[:colours], 12)
    train, test = (
        noisy(tmp_path, part, counts, seed=seed, noise=200) for seed, part in enumerate(("train", "test"))
    )
    result = protocol(FeatureToy(), train, test, also=[metric])
    assert metric not in protocol(FeatureToy(), train, test).metrics
    low, high = result.intervals[metric]
    assert 0.5 < result.metrics[metric] < 1
    assert low < result.metrics[metric] < high
    if metric == "mean_acc1_acc5":
        assert result.metrics[metric] == pytest.approx((result.metrics["acc1"] + result.metrics["acc5"]) / 2)
        assert result.chance[metric] == pytest.approx((1 / 6 + 5 / 6) / 2)
    else:
        assert result.chance[metric] == 0.5
        if protocol is evaluate_linear_probe:
            rows, query = (
                Setup.of().embed(FeatureToy(), item, features=True).embeddings for item in (train, test)
            )
            scores = logistic.fit(rows, train.labels, result.details["c"]).scores(query, 2)
            area = roc_auc_score(test.labels, scores[:, 1] - scores[:, 0])
            assert result.metrics[metric] == pytest.approx(area)
    assert len(result.outcomes[metric]) == len(test)
    other = "roc_auc" if metric == "mean_acc1_acc5" else "mean_acc1_acc5"
    with pytest.raises(DataError, match=r"has|needs"):
        protocol(FeatureToy(), train, test, also=[other])
    with pytest.raises(InputError, match="metric 'f1': expected 'roc_auc' or 'mean_acc1_acc5'"):
        protocol(FeatureToy(), train, test, also=["f1"])


def _open(data):
    import io

    from PIL import Image

    return Image.open(io.BytesIO(data))
