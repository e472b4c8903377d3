"""`diptych evaluate mean`: means of the metrics in result files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import typer.testing

from diptych.evaluation import Result

Run = Callable[..., typer.testing.Result]


def save(path: Path, dataset: str, value: float) -> Path:
    Result(
        dataset=dataset,
        task="zeroshot_classification",
        metrics={"acc1": value},
        chance={"acc1": 0.1},
        intervals={"acc1": (value - 0.1, value + 0.1)},
        n=50,
        identity="sha256:1",
        data_fingerprint="sha256:2",
        model="mine",
    ).save(path)
    return path


def test_mean_of_files(run: Run, tmp_path: Path) -> None:
    files = [save(tmp_path / "a.json", "cifar10", 0.9), save(tmp_path / "b.json", "mnist", 0.5)]
    done = run("evaluate", "mean", *files, "--report", "out")
    assert done.exit_code == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    text = " ".join(done.stdout.split())
    assert "mean of 2 of the paper's 27, not of all: cifar10, mnist. Missing: food101," in text
    assert "2 of 35" in text
    assert Path("out/means.csv").is_file()
    printed = json.loads(run("evaluate", "mean", *files, "--json").stdout)
    assert [item["value"]["value"] for item in printed["means"]] == [0.7, 0.7]
    again = run("evaluate", "mean", "out/report.json")
    assert again.exit_code == 2  # a page of means contains no single results


def test_nothing_to_average(run: Run, tmp_path: Path) -> None:
    done = run("evaluate", "mean", save(tmp_path / "a.json", "tfflowers", 0.9))
    assert done.exit_code == 2
    assert "1 result, of tfflowers: expected" in done.stderr
