"""Comparing results: exact tests against enumeration, no verdict out of noise, and planted changes found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from diptych.errors import DataError
from diptych.evaluation import Result, compare


def result(outcomes: Sequence[float | None], dataset: str = "toy", fingerprint: str = "sha256:1") -> Result:
    known = [one for one in outcomes if one is not None]
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
    found = compare([result(before)], [result(after)]).rows[0]
    assert found.change.value == pytest.approx(0.15)
    assert found.change.low is not None
    assert found.change.low > 0
    assert (found.only_first, found.only_second, found.verdict) == (0, 15, "better")
    back = compare([result(after)], [result(before)]).rows[0]
    assert (back.change.value, back.verdict) == (pytest.approx(-0.15), "worse")


def test_noise_gives_no_more_verdicts_than_its_level() -> None:
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(200):
        one, other = (rng.random((3, 80)) < 0.5 for _ in range(2))
        rows = compare(
            [result(row.astype(float).tolist(), f"d{i}") for i, row in enumerate(one)],
            [result(row.astype(float).tolist(), f"d{i}") for i, row in enumerate(other)],
        ).rows
        wrong += any(row.verdict != "not told apart" for row in rows)
    assert wrong <= 20  # of 200 at 0.05; 20 or fewer has a probability of 0.999


def test_the_verdict_follows_the_statistic_of_its_p() -> None:
    # 100 small gains against 21 large losses: nearly every sign is a gain, and in sum it is nothing.
    before = [0.5] * 100 + [1.0] * 21
    after = [0.7] * 100 + [0.0] * 21
    row = compare([result(before)], [result(after)]).rows[0]
    assert (row.only_first, row.only_second) == (21, 100)
    assert row.change.value == pytest.approx(-1 / 121)
    assert row.p > 0.5
    assert row.verdict == "not told apart"
    rng = np.random.default_rng(3)
    for _ in range(60):  # skewed differences of any kind: the sign of a verdict is that of the change
        one = rng.choice([0.0, 0.2, 0.4, 1.0], 60)
        other = np.clip(one + rng.choice([-1.0, 0.2, 0.4], 60, p=[0.2, 0.4, 0.4]), 0, 1)
        row = compare([result(one.tolist())], [result(other.tolist())]).rows[0]
        low, high = row.change.low, row.change.high
        assert low is not None
        assert high is not None
        assert not (row.verdict == "better" and high < 0)
        assert not (row.verdict == "worse" and low > 0)
        assert row.verdict == "not told apart" or (row.change.value > 0) == (row.verdict == "better")


def test_few_pictures_are_not_enough_to_say() -> None:
    found = compare([result([0.0] * 10)], [result([1.0] * 10)])
    assert found.rows[0].verdict == "not enough to say"
    assert "Not enough to say, fewer than 30 pictures in common: toy." in found.report().sections[0].text
    assert found.report().tables["comparison"].rows[0][-1] == "too few"


def test_mean_average_precision_is_compared_by_intervals_and_the_message_says_so() -> None:
    ranked = Result.from_dict(
        {**result([1, 0]).to_dict(), "metrics": {"mean_average_precision": 0.5}, "outcomes": {}}
    )
    with pytest.raises(DataError, match="ranks all pictures together") as raised:
        compare([ranked], [ranked])
    assert "measure again" not in str(raised.value)


def test_only_pictures_that_both_could_read_count() -> None:
    found = compare([result([1, None, 0, 1])], [result([1, 1, 1, None])]).rows[0]
    assert found.change.n == 2
    assert found.change.value == pytest.approx(0.5)
    with pytest.raises(DataError, match="no picture in common"):
        compare([result([1, None])], [result([None, 0])])


def test_what_cannot_be_compared_is_told() -> None:
    both = [result([1, 0], "a"), result([1, 0], "b", "sha256:2"), result([1, 0], "c")]
    found = compare(both, [result([1, 1], "a"), result([1, 0], "b", "sha256:3"), result([1], "d")])
    told = dict(found.left_out)
    assert [row.dataset for row in found.rows] == ["a"]
    assert "different pictures" in told["b, zeroshot_classification"]
    assert told["c, zeroshot_classification"] == "only in the first"
    assert told["d, zeroshot_classification"] == "only in the second"
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
