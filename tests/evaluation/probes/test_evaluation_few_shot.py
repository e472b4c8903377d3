"""Few-shot curves: compared with manual fits, classes with too few pictures, and the report."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from diptych.datasets import ImageDataset
from diptych.errors import DataError, InputError
from diptych.evaluation import Result, evaluate_few_shot, evaluate_linear_probe, evaluate_zero_shot
from diptych.evaluation.probes import logistic
from diptych.evaluation.probes.data_efficiency import equal_shots
from diptych.evaluation.probes.few_shot_report import FewShotRun, few_shot_report, own_metric
from diptych.evaluation.probes.splits import draw_shots
from diptych.evaluation.protocols.settings import Setup
from tests.probe_toys import FeatureToy, noisy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("few-shot")


@pytest.fixture(scope="module")
def train(folder: Path) -> ImageDataset:
    return noisy(folder, "train", {"red": 12, "green": 12, "blue": 12}, seed=1)


@pytest.fixture(scope="module")
def test_part(folder: Path) -> ImageDataset:
    return noisy(folder, "test", {"red": 20, "green": 20, "blue": 20}, seed=2)


@pytest.fixture(scope="module")
def curve(train: ImageDataset, test_part: ImageDataset) -> Result:
    return evaluate_few_shot(FeatureToy(), train, test_part, shots=(4, 1, 4, 8, 16), seeds=2)


def rows_of(dataset: ImageDataset) -> np.ndarray:
    return Setup.of().embed(FeatureToy(), dataset, features=True).embeddings


def texts(report_of: FewShotRun) -> str:
    return " ".join(few_shot_report([report_of]).sections[0].text)


def test_the_curve_is_that_of_fits_by_hand(
    curve: Result, train: ImageDataset, test_part: ImageDataset
) -> None:
    rows, query = rows_of(train), rows_of(test_part)
    for k in (1, 4, 8):
        hits = []
        for seed in range(2):
            draw = draw_shots(train.labels, k, seed)
            few, labels = rows[draw.shots], train.labels[draw.shots]
            searched = logistic.search(few, labels, rows[draw.validation], train.labels[draw.validation])
            named = logistic.fit(few, labels, searched.c).scores(query, 3).argmax(1)
            hits.append((named == test_part.labels).astype(float))
        assert curve.metrics[f"acc1@{k}"] == pytest.approx(np.mean(hits))
        assert curve.outcomes[f"acc1@{k}"] == pytest.approx(np.mean(hits, axis=0).tolist())
        point = next(item for item in curve.details["points"] if item["shots"] == k)
        assert [item["acc1"] for item in point["draws"]] == pytest.approx([item.mean() for item in hits])
        assert (point["least"], point["most"]) == (min(map(np.mean, hits)), max(map(np.mean, hits)))
        assert (point["pictures"], point["validation_pictures"]) == (3 * k, 3 * min(k, 4))
        low, high = curve.intervals[f"acc1@{k}"]
        assert low < curve.metrics[f"acc1@{k}"] < high
    assert curve.task == "few_shot"
    assert set(curve.chance.values()) == {1 / 3}
    assert len({item for point in curve.details["points"] for item in (point["least"], point["most"])}) > 2


def test_a_number_that_no_class_has_is_left_out_and_told(curve: Result) -> None:
    assert [item["shots"] for item in curve.details["points"]] == [1, 4, 8]
    assert curve.details["too_many_shots"] == [16]
    assert "Left out because no class has as many pictures: 16 shots." in texts(FewShotRun(curve))


def test_the_same_seeds_give_the_same_curve(train: ImageDataset, test_part: ImageDataset) -> None:
    def measure(seeds: int) -> Result:
        return evaluate_few_shot(FeatureToy(), train, test_part, shots=(2,), seeds=seeds)

    assert measure(2).to_dict() == measure(2).to_dict()
    assert measure(1).details["points"][0]["draws"] == measure(2).details["points"][0]["draws"][:1]


def test_where_pictures_run_out(folder: Path, test_part: ImageDataset) -> None:
    scarce = noisy(folder, "scarce", {"red": 4, "green": 4, "blue": 2}, seed=3)
    result = evaluate_few_shot(FeatureToy(), scarce, test_part, shots=(1, 3, 4), seeds=1)
    single, three, four = result.details["points"]
    assert [draw["draws"][0]["chosen"] for draw in (single, three, four)] == [
        "validation",
        "validation",
        "fewer shots",
    ]
    assert (single["unchecked_classes"], single["short_classes"]) == (0, 0)
    assert (three["pictures"], three["short_classes"], three["unchecked_classes"]) == (8, 1, 3)
    assert four["draws"][0]["c"] == three["draws"][0]["c"]
    text = texts(FewShotRun(result))
    assert "3 shots: 1 class with fewer pictures" in text
    assert "4 shots: no picture was left for validation, so C is that of fewer shots." in text


def test_one_picture_a_class(folder: Path, test_part: ImageDataset) -> None:
    single = noisy(folder, "single", {"red": 1, "green": 1, "blue": 1}, seed=4, noise=5)
    result = evaluate_few_shot(FeatureToy(), single, test_part, shots=(1, 2), seeds=1)
    draw = result.details["points"][0]["draws"][0]
    assert (draw["chosen"], draw["c"], draw["validation_acc1"]) == ("none", 1.0, None)
    assert "C is 1, which may not be the best value" in texts(FewShotRun(result))
    assert result.details["too_many_shots"] == [2]
    with pytest.raises(DataError, match="at most 1 readable picture of a class: too few for 2 shots"):
        evaluate_few_shot(FeatureToy(), single, test_part, shots=(2, 4))


def test_a_validation_part_of_its_own(folder: Path, test_part: ImageDataset) -> None:
    single = noisy(folder, "one", {"red": 1, "green": 1, "blue": 1}, seed=5, noise=5)
    chooser = noisy(folder, "chooser", {"red": 3, "green": 3, "blue": 3}, seed=6)
    result = evaluate_few_shot(FeatureToy(), single, test_part, validation=chooser, shots=(1,), seeds=2)
    assert {item["chosen"] for item in result.details["points"][0]["draws"]} == {"validation"}
    assert result.details["validation"] == "chooser"
    assert result.details["points"][0]["validation_pictures"] == 3


@pytest.mark.parametrize(("shots", "seeds"), [((), 1), ((0, 1), 1), ((1,), 0)])
def test_what_is_no_curve(
    train: ImageDataset, test_part: ImageDataset, shots: tuple[int, ...], seeds: int
) -> None:
    with pytest.raises(InputError, match="expected"):
        evaluate_few_shot(FeatureToy(), train, test_part, shots=shots, seeds=seeds)


# ------------------------------------------------------------------------------------------- report


def leveled(curve: Result, level: float) -> Result:
    """A zero-shot result with this accuracy."""
    return dataclasses.replace(
        curve,
        metrics={"acc1": level},
        chance={"acc1": 1 / 3},
        intervals={"acc1": (level - 0.05, level + 0.05)},
        outcomes={},
    )


def made_up(curve: Result, accuracies: dict[int, float]) -> Result:
    """A curve with these accuracies, one draw per point."""
    points = [
        {**curve.details["points"][0], "shots": k, "acc1": value, "least": value, "most": value}
        | {"draws": [{**curve.details["points"][0]["draws"][0], "acc1": value}]}
        for k, value in accuracies.items()
    ]
    return dataclasses.replace(
        curve,
        metrics={f"acc1@{k}": value for k, value in accuracies.items()},
        chance={f"acc1@{k}": 1 / 3 for k in accuracies},
        intervals={f"acc1@{k}": (value - 0.1, value + 0.1) for k, value in accuracies.items()},
        details={**curve.details, "points": points, "seeds": 1, "too_many_shots": []},
    )


def test_what_zero_shot_is_worth(curve: Result) -> None:
    line = made_up(curve, {1: 0.4, 2: 0.5, 4: 0.6})
    assert str(FewShotRun(line, leveled(line, 0.55)).equal()) == "2.8"
    assert "needs about 2.8 labelled pictures of each class to have as much." in texts(
        FewShotRun(line, leveled(line, 0.55))
    )
    assert "has more with 1 labelled picture of each class already." in texts(
        FewShotRun(line, leveled(line, 0.3))
    )
    assert "not shown to be better than chance" in texts(FewShotRun(line, leveled(line, 0.3)))
    assert "has less, even with 4 labelled pictures of each class." in texts(
        FewShotRun(line, leveled(line, 0.7))
    )
    full = dataclasses.replace(
        leveled(line, 0.8), details={"pictures_per_class": 64.0, "pictures": 192, "c": 1.0}
    )
    above = FewShotRun(line, leveled(line, 0.7), full)
    assert str(above.equal_with_full()) == "16.0"
    assert "It needs about 16.0, judged by what it has with" in texts(above)
    assert FewShotRun(line).equal() is None


def test_a_report_of_one_data_set(
    curve: Result, train: ImageDataset, test_part: ImageDataset, tmp_path: Path
) -> None:
    level = evaluate_zero_shot(FeatureToy(), test_part)
    full = evaluate_linear_probe(FeatureToy(), train, test_part)
    report = few_shot_report([FewShotRun(curve, level, full)], {"Command": "x"})
    assert [row[0] for row in report.tables["few-shot"].rows] == ["zero-shot", "1", "4", "8", "all"]
    plot = report.sections[0].plots["few-shot"]
    assert set(plot.levels) == {"zero-shot", "all 36 pictures", "chance"}  # type: ignore[attr-defined]
    result = json.loads(report.to_json())
    equal = equal_shots([1, 4, 8], [curve.metrics[f"acc1@{k}"] for k in (1, 4, 8)], level.metrics["acc1"])
    assert result["data_efficiency"][0]["zero_shot_equals"]["told"] == str(equal)
    assert [item["task"] for item in result["results"]] == [
        "few_shot",
        "zeroshot_classification",
        "linear_probe",
    ]
    assert {"few-shot.svg", "few-shot.csv", "index.html"} <= {path.name for path in report.save(tmp_path)}


def test_several_data_sets_have_a_mean(curve: Result) -> None:
    first, second = made_up(curve, {1: 0.4, 2: 0.5, 4: 0.6}), made_up(curve, {1: 0.6, 4: 0.8, 8: 0.9})
    second = dataclasses.replace(second, dataset="second")
    runs = [FewShotRun(first, leveled(first, 0.45)), FewShotRun(second, leveled(second, 0.75))]
    report = few_shot_report(runs)
    assert report.sections[0].title == "2 data sets"
    rows = report.tables["mean"].rows
    assert [row[0] for row in rows] == ["zero-shot", "1", "4"]
    assert [row[1] for row in rows] == pytest.approx([0.6, 0.5, 0.7])
    # Between (1, 0.5) and (4, 0.7) the level 0.6 is half way on the logarithmic scale: 4 ** 0.5.
    assert "equals 2.0 labelled pictures" in report.sections[0].text[0]
    worth = [row[2] for row in report.tables["data-efficiency"].rows]
    assert worth == ["1.4", "2.8"]
    assert set(report.tables) == {"mean", "data-efficiency", "few-shot-1", "few-shot-2"}
    same = few_shot_report([runs[0], runs[0]])
    assert len(same.sections[0].plots["mean"].curves) == 3  # type: ignore[attr-defined]  # the mean and both


def test_data_efficiency_goes_by_the_data_sets_own_metric(folder: Path) -> None:
    train = noisy(folder, "pets-train", {"red": 20, "green": 20}, seed=11, noise=120)
    test = noisy(folder, "pets-test", {"red": 30, "green": 6}, seed=12, noise=120)  # classes of unequal size
    curve = evaluate_few_shot(FeatureToy(), train, test, shots=[1, 2], seeds=2)
    level = evaluate_zero_shot(FeatureToy(), test)
    run = FewShotRun(curve, level, metric=own_metric(test.name))
    assert run.metric == "mean_per_class_recall"
    line = [curve.metrics[f"mean_per_class_recall@{k}"] for k in (1, 2)]
    assert run.equal() == equal_shots([1, 2], line, level.metrics["mean_per_class_recall"])
    assert FewShotRun(curve, level).equal() == equal_shots(
        [1, 2], [curve.metrics[f"acc1@{k}"] for k in (1, 2)], level.metrics["acc1"]
    )
    report = few_shot_report([run])
    assert f"has {level.metrics['mean_per_class_recall']:.1%}. A linear probe" in report.sections[0].text[0]
    assert "mean per class" in next(iter(report.sections[0].tables.values())).caption.lower()
