"""Linear probes: compared with scikit-learn, class matching, errors, and the report."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from diptych.datasets import ImageDataset
from diptych.errors import DataError, InputError, MissingExtraError
from diptych.evaluation import FeatureStore, Result, evaluate_linear_probe, evaluate_zero_shot
from diptych.evaluation.probes import logistic
from diptych.evaluation.probes.probe_report import probe_report
from diptych.evaluation.probes.regularisation_search import GRID
from diptych.evaluation.probes.splits import split_validation
from diptych.evaluation.protocols.settings import Setup
from tests.probe_toys import FeatureToy, noisy
from tests.toys import ToyEncoder

THREE = {"red": 30, "green": 30, "blue": 20}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("probe")


@pytest.fixture(scope="module")
def train(folder: Path) -> ImageDataset:
    return noisy(folder, "train", THREE, seed=1)


@pytest.fixture(scope="module")
def test_part(folder: Path) -> ImageDataset:
    return noisy(folder, "test", {"red": 12, "green": 9, "blue": 15}, seed=2)


@pytest.fixture(scope="module")
def result(train: ImageDataset, test_part: ImageDataset) -> Result:
    return evaluate_linear_probe(FeatureToy(), train, test_part)


def rows_of(dataset: ImageDataset) -> np.ndarray:
    return Setup.of().embed(FeatureToy(), dataset, features=True).embeddings


def by_hand(rows: np.ndarray, labels: np.ndarray, c: float) -> LogisticRegression:
    """The reference fit with scikit-learn, with the tolerance on the gradient of the sum."""
    model = LogisticRegression(C=c, max_iter=1000, tol=1e-4 / len(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(rows.astype(np.float64), labels)


# ---------------------------------------------------------------------------------------------- fits


@pytest.mark.parametrize("c", [1e-4, 0.1, 1.0, 30.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_fit_is_scikit_learns(train: ImageDataset, test_part: ImageDataset, c: float, classes: int) -> None:
    kept = train.labels < classes
    rows, labels = rows_of(train)[kept], train.labels[kept]
    ours, theirs = logistic.fit(rows, labels, c), by_hand(rows, labels, c)
    query = rows_of(test_part)
    mine, yours = ours.scores(query, classes), theirs.decision_function(query)
    if classes == 2:
        yours = np.stack([np.zeros(len(query)), yours], axis=1)
    distance = (mine - mine.mean(1, keepdims=True)) - (yours - yours.mean(1, keepdims=True))
    assert abs(distance).max() < 2e-3 * max(1, abs(yours).max())
    assert (mine.argmax(1) == theirs.predict(query)).all()


def test_at_the_minimum_it_is_scikit_learns(train: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "TOLERANCE", 1e-7)
    rows = rows_of(train).astype(np.float64)
    theirs = LogisticRegression(C=1.0, max_iter=1000, tol=1e-10).fit(rows - rows.mean(0), train.labels)
    ours = logistic.fit(rows_of(train), train.labels, 1.0)
    assert ours.weights == pytest.approx(theirs.coef_, abs=1e-5)
    assert ours.intercepts + ours.weights @ rows.mean(0) == pytest.approx(theirs.intercept_, abs=1e-5)


def test_a_class_that_was_not_taught_is_never_named() -> None:
    rows, labels = np.array([[0.0], [1.0], [3.0], [4.0]]), np.array([1, 1, 3, 3])
    table = logistic.fit(rows, labels, 1.0).scores(rows, 5)
    assert np.isneginf(table[:, [0, 2, 4]]).all()
    assert table.argmax(1).tolist() == [1, 1, 3, 3]


def test_a_fit_that_does_not_converge_is_told(train: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logistic, "MAX_ITERATIONS", 3)
    result = logistic.fit(rows_of(train), train.labels, 1.0)
    assert (result.iterations, result.converged) == (3, False)


def test_what_cannot_be_fitted() -> None:
    rows, labels = np.ones((4, 2)), np.array([0, 0, 1, 1])
    with pytest.raises(DataError, match="two classes"):
        logistic.fit(rows, np.zeros(4, int), 1.0)
    with pytest.raises(DataError, match="not finite"):
        logistic.fit(np.full((4, 2), np.nan), labels, 1.0)
    for c in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(InputError, match="C is"):
            logistic.fit(rows, labels, c)


def test_the_search_is_scikit_learns_at_every_strength(train: ImageDataset) -> None:
    rows, labels = rows_of(train), train.labels
    teach, choose = split_validation(labels, 0.2, 0)
    result = logistic.search(rows[teach], labels[teach], rows[choose], labels[choose])
    assert len(result.tried) <= 15
    assert {item.c for item in result.tried} <= set(GRID)
    centred = rows - rows[teach].mean(0)
    for item in result.tried:
        if item.c <= logistic.WARM:
            theirs = by_hand(centred[teach], labels[teach], item.c).score(centred[choose], labels[choose])
            assert item.accuracy == pytest.approx(theirs, abs=1.01 / len(choose)), item
    best = max(item.accuracy for item in result.tried)
    assert result.c == max(item.c for item in result.tried if item.accuracy == best)


def test_without_scipy_it_is_told_what_to_install(
    train: ImageDataset, test_part: ImageDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.optimize", None)
    with pytest.raises(MissingExtraError, match=r"diptych\[evaluation\]"):
        evaluate_linear_probe(FeatureToy(), train, test_part)


# ------------------------------------------------------------------------------------------ protocol


def test_the_protocol_is_scikit_learn_by_hand(
    result: Result, train: ImageDataset, test_part: ImageDataset
) -> None:
    rows, query = rows_of(train), rows_of(test_part)
    model = by_hand(rows, train.labels, result.details["c"])
    hits = model.predict(query) == test_part.labels
    assert result.metrics["acc1"] == pytest.approx(hits.mean())
    assert result.outcomes["acc1"] == hits.astype(float).tolist()
    recalls = [hits[test_part.labels == label].mean() for label in range(3)]
    assert result.metrics["mean_per_class_recall"] == pytest.approx(np.mean(recalls))
    assert 0.5 < hits.mean() < 1, "a toy that is always or never right tests nothing"
    assert result.chance == {"acc1": pytest.approx(1 / 3), "mean_per_class_recall": pytest.approx(1 / 3)}
    assert (result.task, result.n, result.classes) == ("linear_probe", 36, 3)
    assert (result.details["pictures"], result.details["width"]) == (80, 9)
    assert result.details["lambda"] == pytest.approx(1 / result.details["c"])
    assert Result.from_dict(result.to_dict()).to_dict() == result.to_dict()


def test_a_validation_part_chooses_and_then_teaches(
    folder: Path, train: ImageDataset, test_part: ImageDataset
) -> None:
    chooser = noisy(folder, "chooser", {"red": 5, "green": 6, "blue": 7}, seed=3)
    result = evaluate_linear_probe(FeatureToy(), train, test_part, validation=chooser)
    assert result.details["pictures"] == 80 + 18
    assert result.details["validation"]["data"] == "chooser"
    both = np.concatenate([rows_of(train), rows_of(chooser)])
    model = by_hand(both, np.concatenate([train.labels, chooser.labels]), result.details["c"])
    assert result.metrics["acc1"] == pytest.approx(model.score(rows_of(test_part), test_part.labels))
    searched = logistic.search(rows_of(train), train.labels, rows_of(chooser), chooser.labels)
    assert result.details["c"] == searched.c


def test_seeds_strengths_and_stores(train: ImageDataset, test_part: ImageDataset, tmp_path: Path) -> None:
    encoder, store = FeatureToy(), FeatureStore(tmp_path)
    single = evaluate_linear_probe(encoder, train, test_part, c=0.5, store=store)
    query = len(encoder.calls)
    again = evaluate_linear_probe(encoder, train, test_part, c=0.5, store=store)
    assert len(encoder.calls) == query
    assert single.to_dict() == again.to_dict()
    assert (single.details["c"], single.details["search"], single.details["validation"]) == (0.5, [], None)
    drawn = [
        evaluate_linear_probe(encoder, train, test_part, seed=seed, store=store).details for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0]["search"] != drawn[2]["search"]


def test_an_encoder_without_features_is_refused_and_embeddings_are_the_way_out(
    train: ImageDataset, test_part: ImageDataset
) -> None:
    with pytest.raises(InputError, match=r"features='embeddings'"):
        evaluate_linear_probe(ToyEncoder(), train, test_part)
    result = evaluate_linear_probe(ToyEncoder(), train, test_part, features="embeddings")
    assert result.details["width"] == 4
    assert result.metrics["acc1"] > 0.5
    with pytest.raises(InputError, match="'tower' or 'embeddings'"):
        evaluate_linear_probe(ToyEncoder(), train, test_part, features="pixels")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- classes


def test_classes_match_by_name_not_by_place(train: ImageDataset, test_part: ImageDataset) -> None:
    turned = dataclasses.replace(
        test_part, class_names=test_part.class_names[::-1], labels=2 - test_part.labels
    )
    straight = evaluate_linear_probe(FeatureToy(), train, test_part, c=1.0)
    assert evaluate_linear_probe(FeatureToy(), train, turned, c=1.0).outcomes == straight.outcomes


def test_classes_that_were_not_taught_are_refused(folder: Path, train: ImageDataset) -> None:
    other = noisy(folder, "other", {"red": 2, "white": 2, "black": 2}, seed=4)
    with pytest.raises(DataError) as raised:
        evaluate_linear_probe(FeatureToy(), train, other)
    assert "other has 2 classes that train lacks ('black', 'white')" in str(raised.value)
    assert "of which other lacks 'blue', 'green'" in str(raised.value)
    repeated = dataclasses.replace(train, class_names=("red", "red", "blue"))
    with pytest.raises(DataError, match="several classes called 'red'"):
        evaluate_linear_probe(FeatureToy(), repeated, other)


def test_rows_that_are_not_finite_are_refused(train: ImageDataset, test_part: ImageDataset) -> None:
    class Broken(FeatureToy):
        def image_features(self, images):
            return super().image_features(images) * np.float32(np.nan)

    with pytest.raises(DataError, match="tower rows of train are not finite"):
        evaluate_linear_probe(Broken(), train, test_part)


def test_a_class_absent_in_test_stays_an_answer(folder: Path, train: ImageDataset) -> None:
    few = noisy(folder, "few", {"red": 8, "blue": 8}, seed=5)
    result = evaluate_linear_probe(FeatureToy(), train, few)
    assert (result.classes, set(result.per_class)) == (3, {"red", "blue"})
    assert result.chance["acc1"] == pytest.approx(1 / 3)
    assert "1 of 3 classes have no test picture" in " ".join(probe_report(result).sections[0].text)


def test_a_class_without_a_readable_picture_is_told(train: ImageDataset, test_part: ImageDataset) -> None:
    gone = train.subset(["red", "green"])
    three = dataclasses.replace(
        gone, class_names=train.class_names, labels=np.array([1, 2])[gone.labels].astype(np.int64)
    )
    with pytest.warns(UserWarning, match="1 of 3 classes have no picture to learn from \\('blue'\\)"):
        result = evaluate_linear_probe(FeatureToy(), three, test_part)
    assert result.per_class["blue"] == 0
    assert result.details["untaught"] == ["blue"]
    assert "count as missed" in " ".join(probe_report(result).sections[0].text)


def test_one_picture_a_class(folder: Path, test_part: ImageDataset) -> None:
    single = noisy(folder, "single", {"red": 1, "green": 1, "blue": 1}, seed=6, noise=5)
    with pytest.raises(DataError, match="one picture, so none is left to choose"):
        evaluate_linear_probe(FeatureToy(), single, test_part)
    assert evaluate_linear_probe(FeatureToy(), single, test_part, c=1.0).metrics["acc1"] > 0.5
    other = noisy(folder, "other", {"red": 12, "green": 12, "blue": 12}, seed=7)
    chosen = evaluate_linear_probe(FeatureToy(), single, test_part, validation=other)
    assert chosen.details["pictures"] == 3 + 36


def test_broken_pictures_of_either_part_are_named(train: ImageDataset, folder: Path) -> None:
    from tests.toys import picture_bytes, tar_bytes

    files = {f"x/{colour}/{i}.png": picture_bytes(colour) for colour in THREE for i in range(3)}
    path = folder / "broken.tar"
    path.write_bytes(tar_bytes({**files, "x/red/9.png": b"broken"}))
    from diptych.datasets import load_labelled

    broken = load_labelled(path)
    with pytest.warns(UserWarning, match=r"10 pictures of TEST \(broken\) are in TRAIN \(broken\) too"):
        result = evaluate_linear_probe(FeatureToy(), broken, broken, c=1.0, allow_overlap=True)
    assert [item.key for item in result.failures] == ["x/red/9.png", "broken/x/red/9.png"]
    assert (result.n, result.details["pictures"], result.outcomes["acc1"].count(None)) == (9, 9, 1)
    assert "2 pictures were left out; the first: x/red/9.png" in " ".join(
        probe_report(result).sections[0].text
    )


# ------------------------------------------------------------------------------------------- report


def test_the_report_says_it_plainly(result: Result, test_part: ImageDataset, tmp_path: Path) -> None:
    level = evaluate_zero_shot(FeatureToy(), test_part)
    report = probe_report(result, level, {"Command": "x"})
    text = " ".join(line for section in report.sections for line in section.text)
    assert f"names {result.metrics['acc1']:.1%} of 36 test pictures right: better than chance, 0.333." in text
    assert "zero-shot" in text
    assert f"C = 1 / lambda = {result.details['c']:.3g}, was chosen on 20% of each class" in text
    assert set(report.tables) == {"figures", "strengths", "weakest", "confusions"}
    assert len(report.tables["strengths"].rows) == len(result.details["search"])
    names = {path.name for path in report.save(tmp_path)}
    assert {"index.html", "report.json", "strengths.svg", "strengths.png", "figures.csv"} <= names


def test_a_poor_result_is_stated(result: Result) -> None:
    poor = dataclasses.replace(
        result,
        metrics={"acc1": 0.3, "mean_per_class_recall": 0.3},
        intervals={"acc1": (0.2, 0.4)},
        details={**result.details, "converged": False, "c": 1e-6, "search": result.details["search"]},
    )
    text = " ".join(probe_report(poor, dataclasses.replace(poor, intervals={})).sections[0].text)
    assert "test pictures right: about the same as chance, 0.333." in text
    assert "did not converge" in text
    assert "end of the grid" in text
    unclear = dataclasses.replace(poor, intervals={"acc1": (0.16, 0.5)})
    assert "not shown to differ from chance, 0.333" in " ".join(probe_report(unclear).sections[0].text)
    better = dataclasses.replace(poor, metrics={"acc1": 0.9, "mean_per_class_recall": 0.9})
    better = dataclasses.replace(better, outcomes={"acc1": [1.0] * 36})
    poor = dataclasses.replace(poor, outcomes={"acc1": [1.0] * 11 + [0.0] * 25})
    assert "worse than zero-shot, 0.900" in " ".join(probe_report(poor, better).sections[0].text)


def test_zero_shot_is_compared_picture_by_picture(result: Result) -> None:
    right = [1.0] * 24 + [0.0] * 12
    learnt = dataclasses.replace(
        result, metrics={**result.metrics, "acc1": 24 / 36}, outcomes={"acc1": right}
    )
    level = dataclasses.replace(
        learnt, metrics={**result.metrics, "acc1": 16 / 36}, outcomes={"acc1": [0.0] * 8 + right[8:]}
    )
    text = " ".join(probe_report(learnt, level).sections[0].text)
    assert "is better than zero-shot, 0.444." in text  # 8 won, none lost; it lies in the interval
    other = dataclasses.replace(level, outcomes={"acc1": [1.0] * 3 + [0.0] * 20 + [1.0] * 13})
    assert "is not shown to differ from zero-shot, 0.444." in " ".join(
        probe_report(learnt, other).sections[0].text
    )


@pytest.mark.shared
def test_colours_of_real_flowers_tell_more_than_chance(shared) -> None:
    from diptych.datasets import load_labelled

    train = load_labelled(shared / "data/tfflowers-train-1000.tar").sample(300)
    query = load_labelled(shared / "data/tfflowers-test-a.tar").sample(200)
    result = evaluate_linear_probe(FeatureToy(), train, query)
    assert (result.n, result.classes, result.failures) == (200, 5, ())
    assert result.intervals["acc1"][0] > 0.2
    assert all(item["converged"] for item in result.details["search"] if item["c"] <= 1)


@pytest.mark.parametrize("classes", [2, 3])
def test_fewer_pictures_than_features_give_the_weights_that_scikit_learn_gives(classes: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(18) % classes
    rows = rng.normal(5, 1, (18, 70)) + rng.normal(0, 1, (classes, 70))[labels]
    result = logistic.fit(rows, labels, 0.3)
    by_hand = LogisticRegression(C=0.3, max_iter=1000, tol=1e-10).fit(rows, labels)
    assert np.allclose(result.weights, by_hand.coef_, atol=1e-5)
    assert np.allclose(result.intercepts, by_hand.intercept_, atol=1e-4)
    truth = np.arange(40) % classes
    query = rng.normal(5, 1, (40, 70)) + rng.normal(0, 0.5, (classes, 70))[truth]
    for item in logistic.search(rows, labels, query, truth).tried:
        if item.c <= 10:  # two fits of separable rows need not reach the same weights
            hand = LogisticRegression(C=item.c, max_iter=1000, tol=1e-10).fit(rows, labels)
            assert abs(item.accuracy - hand.score(query, truth)) <= 1 / 40
