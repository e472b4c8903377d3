"""Arithmetic of the benchmarks: scaling, warm-up and extrapolation. Timings themselves are not tested."""

from __future__ import annotations

import encode_models
import large_batch
import loss
import pytest
import train


def test_the_peer_is_measured_on_as_many_pairs_as_fit() -> None:
    matrix = 4 * 32768**2
    assert loss.pairs_that_fit(32768, 4.0, 4 * matrix + 2e9) == 32768
    assert loss.pairs_that_fit(32768, 4.0, 4 * matrix + 1.9e9) == 16384
    assert loss.pairs_that_fit(262144, 4.0, 4 * matrix + 2e9) == 32768


def test_scaling_touches_time_and_memory_alone() -> None:
    result = {"seconds": 2.0, "cpu": 3.0, "bytes": 5, "loss": 0.5, "rate": 1e9}
    assert loss.scaled(result, 4) == {"seconds": 8.0, "cpu": 12.0, "bytes": 20, "loss": 0.5, "rate": 1e9}


def test_the_round_that_warms_up_does_not_count() -> None:
    course = train.SideRun()
    for seconds in (100.0, 2.0, 4.0, 1.0):
        course.add({"seconds": seconds, "cpu": 16.0, "losses": [3.0], "bytes": 7}, pairs=8)
    assert (course.rate, course.cpu, course.losses, course.memory) == (4.0, 2.0, [3.0] * 4, 7)


def test_memory_is_drawn_out_along_a_line() -> None:
    small, large = (
        large_batch.Step(pairs, memory, 1.0, 0.0, 0.0) for pairs, memory in ((10, 1.5), (20, 2.0))
    )
    assert large_batch.at(40, small, large) == pytest.approx(3.0)


def test_encoding_rates_are_medians_after_the_first_round(capsys: pytest.CaptureFixture[str]) -> None:
    path = "runs/" + "long" * 20
    sides = [
        encode_models.Rates("peer", "torch", "float32", 224, [9.0, 4.0, 2.0, 5.0], [9.0, 1.0]),
        encode_models.Rates(path, "openvino", "bfloat16", 224, [9.0, 1.0, 1.0, 0.5], [9.0, 1e-4]),
    ]
    rows = encode_models.table(sides, pictures=8, texts=10)
    assert [row["pictures_per_second"] for row in rows] == [2.0, 8.0]
    assert [row["pictures_ratio"] for row in rows] == [1.0, 4.0]
    assert [row["texts_per_second"] for row in rows] == pytest.approx([10.0, 1e5])
    encode_models.print_table(rows)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
