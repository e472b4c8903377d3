"""Comparison of results: exact tests, no verdicts from noise, and detection of planted changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from diptych.errors import DataError
from diptych.evaluation import Result, compare
from diptych.stats.differences import paired_class_difference
from diptych.stats.intervals import ends
from diptych.stats.rankings import placements, roc_auc
from diptych.stats.significance import class_sign_flip_p


def result(outcomes: Sequence[float | None], dataset: str = "toy", fingerprint: str = "sha256:1") -> Result:
    known = [item for item in outcomes if item is not None]
    return Result(
        dataset=dataset,
        task="zeroshot_classification",
        metrics={"acc1": float(np.mean(known)) if known else 0.0},
        chance={"acc1": 0.1},
        n=len(known),
        identity="sha256:model",
        data_fingerprint=fingerprint,
        outcomes={"acc1": list(outcomes)},
        versions={},
    )


def test_a_planted_change_is_found_and_its_size_is_right() -> None:
    before = [1.0] * 60 + [0.0] * 40
    after = [1.0] * 75 + [0.0] * 25
    actual = compare([result(before)], [result(after)]).rows[0]
    assert actual.change.value == pytest.approx(0.15)
    assert actual.change.low is not None
    assert actual.change.low > 0
    assert (actual.only_first, actual.only_second, actual.verdict) == (0, 15, "better")
    back = compare([result(after)], [result(before)]).rows[0]
    assert (back.change.value, back.verdict) == (pytest.approx(-0.15), "worse")


def test_noise_gives_no_more_verdicts_than_its_level() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        single, other = (rng.random((3, 80)) < 0.5 for _ in range(2))
        rows = compare(
            [result(row.astype(float).tolist(), f"d{i}") for i, row in enumerate(single)],
            [result(row.astype(float).tolist(), f"d{i}") for i, row in enumerate(other)],
        ).rows
        wrong += any(row.verdict != "not told apart" for row in rows)
    assert wrong <= 20  # of 200 at 0.05; 20 or fewer have a probability of 0.999


def test_the_verdict_follows_the_statistic_of_its_p() -> None:
    # 100 small gains against 21 large losses: most signs are gains, but the sum is about zero.
    before = [0.5] * 100 + [1.0] * 21
    after = [0.7] * 100 + [0.0] * 21
    row = compare([result(before)], [result(after)]).rows[0]
    assert (row.only_first, row.only_second) == (21, 100)
    assert row.change.value == pytest.approx(-1 / 121)
    assert row.p > 0.5
    assert row.verdict == "not told apart"
    rng = np.random.default_rng(3)
    for _ in range(60):  # for skewed differences of any kind the verdict has the sign of the change
        single = rng.choice([0.0, 0.2, 0.4, 1.0], 60)
        other = np.clip(single + rng.choice([-1.0, 0.2, 0.4], 60, p=[0.2, 0.4, 0.4]), 0, 1)
        row = compare([result(single.tolist())], [result(other.tolist())]).rows[0]
        low, high = row.change.low, row.change.high
        assert low is not None
        assert high is not None
        assert not (row.verdict == "better" and high < 0)
        assert not (row.verdict == "worse" and low > 0)
        assert row.verdict == "not told apart" or (row.change.value > 0) == (row.verdict == "better")


def test_few_pictures_are_not_enough_to_say() -> None:
    actual = compare([result([0.0] * 10)], [result([1.0] * 10)])
    assert actual.rows[0].verdict == "not enough to say"
    assert "Not enough to say, fewer than 30 cases in common: toy." in actual.report().sections[0].text
    assert actual.report().tables["comparison"].rows[0][-1] == "too few"


def test_mean_average_precision_is_compared_by_intervals_and_the_message_says_so() -> None:
    ranked = Result.from_dict(
        {**result([1, 0]).to_dict(), "metrics": {"mean_average_precision": 0.5}, "outcomes": {}}
    )
    with pytest.raises(DataError, match="ranks all pictures together") as raised:
        compare([ranked], [ranked])
    assert "measure again" not in str(raised.value)


def test_only_pictures_that_both_could_read_count() -> None:
    actual = compare([result([1, None, 0, 1])], [result([1, 1, 1, None])]).rows[0]
    assert actual.change.n == 2
    assert actual.change.value == pytest.approx(0.5)
    with pytest.raises(DataError, match="no picture was readable in both"):
        compare([result([1, None])], [result([None, 0])])


def test_what_cannot_be_compared_is_told() -> None:
    both = [result([1, 0], "a"), result([1, 0], "b", "sha256:2"), result([1, 0], "c")]
    actual = compare(both, [result([1, 1], "a"), result([1, 0], "b", "sha256:3"), result([1], "d")])
    message = dict(actual.left_out)
    assert [row.dataset for row in actual.rows] == ["a"]
    assert "different pictures" in message["b, zeroshot_classification"]
    assert message["c, zeroshot_classification"] == "only in the first"
    assert message["d, zeroshot_classification"] == "only in the second"
    with pytest.raises(DataError, match="different pictures"):
        compare([both[1]], [result([1, 0], "b", "sha256:3")])
    with pytest.raises(DataError, match="measure again"):
        compare([Result.from_dict({**both[0].to_dict(), "outcomes": {}})], [both[0]])


def test_the_report_says_what_differs() -> None:
    better = compare([result([0.0] * 50)], [result([1.0] * 50)], names=("old", "new")).report()
    assert "The second is better beyond noise on toy (acc1)." in better.sections[0].text
    same = compare([result([0.0, 1.0] * 20)], [result([1.0, 0.0] * 20)]).report()
    assert any("Nothing differs beyond noise" in line for line in same.sections[0].text)
    assert same.tables["comparison"].rows[0][-1] == ""


def test_a_fingerprint_of_an_older_version_is_told() -> None:
    old, new = result([1.0] * 40, fingerprint="sha256:1"), result([1.0] * 40, fingerprint="blake2b:1")
    with pytest.raises(DataError, match="a fingerprint of an older version, by file sizes: measure it again"):
        compare([old], [new])


def by_class(hits: Sequence[float], labels: Sequence[int]) -> Result:
    """A result with accuracy and its mean over classes."""
    means = [
        np.mean([hit for hit, own in zip(hits, labels, strict=True) if own == item]) for item in set(labels)
    ]
    values = result(hits).to_dict() | {"labels": list(labels), "classes": len(means)}
    values["metrics"] = {**values["metrics"], "mean_per_class_recall": float(np.mean(means))}
    return Result.from_dict(values)


def test_mean_per_class_recall_is_paired_within_classes() -> None:
    labels = [0] * 100 + [1] * 40
    before, after = [1.0] * 100 + [0.0] * 40, [1.0] * 80 + [0.0] * 20 + [1.0] * 20 + [0.0] * 20
    rows = {row.metric: row for row in compare([by_class(before, labels)], [by_class(after, labels)]).rows}
    assert rows["acc1"].change.value == pytest.approx(0.0)  # 20 lost in one class, 20 won in the other
    row = rows["mean_per_class_recall"]
    assert row.change.value == pytest.approx((-0.2 + 0.5) / 2)
    assert row.change.value == pytest.approx(row.second - row.first)
    assert row.change.effective == pytest.approx(4 / (1 / 100 + 1 / 40))
    assert (rows["acc1"].verdict, row.verdict) == ("not told apart", "better")
    # With classes of equal size it equals the accuracy, so it is reported once.
    even = [0, 1] * 20
    assert len(compare([by_class([1.0] * 40, even)], [by_class([0.0] * 40, even)]).rows) == 1
    old = compare([replace(by_class(before, labels), labels=())], [by_class(after, labels)])
    assert [row.metric for row in old.rows] == ["acc1"]
    assert "class mean: a file has no outcomes or classes" in old.left_out[0][1]


def test_areas_under_the_curve_are_compared_by_their_placements() -> None:
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], [60, 90])
    areas = []
    for shift in (0.2, 2.0):
        scores = rng.normal(size=150) + shift * labels
        areas.append((roc_auc(scores, labels), placements(scores, labels)))
    results = [
        replace(
            by_class([1.0] * 150, labels.tolist()),
            metrics={"roc_auc": area},
            outcomes={"roc_auc": outcome.tolist()},
        )
        for area, outcome in areas
    ]
    (row,) = compare(results[:1], results[1:]).rows
    assert row.change.value == pytest.approx(areas[1][0] - areas[0][0])
    assert (row.change.effective, row.verdict) == (60, "better")
    assert row.p < 1e-4
    (same,) = compare(results[:1], results[:1]).rows
    assert (same.p, same.verdict) == (1.0, "not told apart")


def test_intervals_and_p_of_means_over_classes_agree_with_simulation() -> None:
    rng, sizes = np.random.default_rng(0), (120, 40, 15, 5)
    labels, covered, wrong = np.repeat(np.arange(4), sizes), 0, 0
    rates = np.array([0.8, 0.6, 0.5, 0.4])[labels]
    for _ in range(200):
        single, other = (rng.random(len(labels)) < rates for _ in range(2))
        change = paired_class_difference(single, other, labels)
        covered += ends(change)[0] <= 0 <= ends(change)[1]
        gaps = single.astype(float) - other
        wrong += class_sign_flip_p(gaps, labels) <= 0.05
    assert covered >= 180  # of 200; 0.93 to 0.96 in longer simulations
    assert wrong <= 20


def test_several_results_of_one_data_set_are_matched_in_order() -> None:
    narrowed = replace(result([1.0] * 40), classes=5), replace(result([0.0] * 40), classes=7)
    actual = compare(narrowed, narrowed)
    assert [row.dataset for row in actual.rows] == ["toy", "toy (2)"]
    assert all(row.change.value == 0 for row in actual.rows)
    with pytest.raises(DataError, match="chosen from 5 classes in the first and 7 in the second"):
        compare(narrowed[:1], narrowed[1:])


def test_tasks_of_one_data_set_have_names_of_their_own() -> None:
    both = [result([1.0] * 40), replace(result([0.0] * 40), task="linear_probe")]
    report = compare(both, both).report()
    assert [row[0] for row in report.tables["comparison"].rows] == ["toy, zero-shot", "toy, probe"]
    assert len(report.sections[0].plots["change"].values) == 2
