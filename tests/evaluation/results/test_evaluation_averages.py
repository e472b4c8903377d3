"""Means over collections of data sets: the contents are always stated, incomplete ones never called whole."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from diptych.datasets.registry import KNOWN, short
from diptych.evaluation import Result
from diptych.evaluation.results.averages import PAPER_27, VTAB_PLUS, collection_means, means_section
from diptych.evaluation.results.results_report import results_report


def result(dataset: str, value: float, metric: str = "acc1", **more: object) -> Result:
    kept = {"task": "zeroshot_classification", "n": 100, "identity": "a", "model": "mine"}
    metrics = {metric: value}
    intervals = {metric: (value - 0.03, value + 0.04)}
    return Result(
        dataset=dataset,
        metrics=metrics,
        chance={},
        intervals=intervals,
        data_fingerprint="",
        **{**kept, **more},
    )


def test_the_collections_are_known_data_sets() -> None:
    known = {short(name) for name in KNOWN}
    assert len(set(PAPER_27)) == 27
    assert len(set(VTAB_PLUS)) == 35
    assert set(PAPER_27) | set(VTAB_PLUS) <= known


def test_a_part_is_never_called_the_whole() -> None:
    paper, vtab = collection_means(
        [
            result("cifar10", 0.9),
            result("wds/vtab/mnist", 0.5),
            result("tfflowers", 0.1),
            result("pacs/photo", 0.1),
        ]
    )
    for mean, total in ((paper, 27), (vtab, 35)):
        assert mean.value.value == pytest.approx(0.7)
        assert mean.coverage == f"2 of {total}"
        assert "mean of 2 of " in mean.text
        assert ", not of all: " in mean.text
        assert ". Missing: " in mean.text
        assert set(mean.figures) == {"cifar10", "mnist"}
        assert len(mean.missing) == total - 2
    half = math.hypot(0.03, 0.03) / 2, math.hypot(0.04, 0.04) / 2
    assert (paper.value.low, paper.value.high) == pytest.approx((0.7 - half[0], 0.7 + half[1]))
    assert "2 of 27" in str(means_section([paper]).tables["means"].texts())


def test_all_of_them() -> None:
    metrics = {short(item.name): item.metric for item in KNOWN.values()}
    (paper,) = [
        item
        for item in collection_means([result(name, 0.5, metrics[name]) for name in PAPER_27])
        if item.collection == "the paper's 27"
    ]
    assert (paper.missing, paper.coverage) == ((), "27 of 27")
    assert "mean of all of the paper's 27:" in paper.text


def test_the_papers_metric_counts_and_samples_are_said() -> None:
    pets = replace(
        result("pets", 0.2, "acc1"), metrics={"acc1": 0.2, "mean_per_class_recall": 0.6}, sampled_from=999
    )
    paper, vtab = collection_means([result("cifar10", 0.8), pets])
    assert paper.value.value == pytest.approx(0.7)
    assert paper.value.low is None  # this metric has no interval here
    assert vtab.value.value == pytest.approx(0.5)
    assert paper.sampled == ("pets",)
    assert "Samples: pets." in paper.text
    # Without the paper's metric the data set is missing: no other metric replaces it.
    assert [item.collection for item in collection_means([result("cifar10", 0.8), result("pets", 0.2)])] == [
        "VTAB+'s 35"
    ]


def test_models_and_protocols_are_kept_apart() -> None:
    both = [
        result(name, value, identity=identity, model=identity, task=task)
        for identity, task, value in (("a", "zeroshot_classification", 0.1), ("b", "linear_probe", 0.9))
        for name in ("cifar10", "mnist")
    ]
    actual = {(item.model, item.protocol, round(item.value.value, 6)) for item in collection_means(both)}
    assert actual == {("a", "zero-shot", 0.1), ("b", "probe", 0.9)}
    assert collection_means([result("cifar10", 0.9), result("tfflowers", 0.9)]) == []  # no mean of one result


def test_a_report_of_results_has_them() -> None:
    report = results_report([result("cifar10", 0.9), result("mnist", 0.5)])
    assert [item["collection"] for item in report.values["means"]] == ["the paper's 27", "VTAB+'s 35"]
    assert "means" in report.tables


def test_languages_are_not_averaged_together() -> None:
    both = [result(name, value, language=code)
            for code, value in (("en", 0.8), ("de", 0.4)) for name in ("cifar10", "mnist")]  # fmt: skip
    means = [
        (item.protocol, item.value.value)
        for item in collection_means(both)
        if item.collection == "the paper's 27"
    ]
    assert means == [("zero-shot", pytest.approx(0.8)), ("zero-shot, de", pytest.approx(0.4))]
