"""`diptych evaluate suite`: one command and one report; the same command again resumes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.cli_tools import noisy_flowers

Run = Callable[..., Result]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Training and test flowers; cached rows are stored in a folder of the test."""
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    return noisy_flowers(tmp_path / "data")


def test_a_suite_is_measured_once_and_reported_twice(run: Run, tiny: Path, root: Path) -> None:
    words = ("evaluate", "suite", "--data", root, "-m", tiny, "--skip", "robustness")
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    assert "2/2  tfflowers, probes" in done.stderr
    assert "linear" not in done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "commonest mistakes" not in done.stdout  # the files of the report
    assert Path("suite/index.html").is_file()
    assert len(list(Path("cache/rows").glob("*.npz"))) == 4  # two parts, before and after projection
    again = run(*words, "--json")
    assert again.stderr.count("as before") == 2
    tasks = [item["task"] for item in json.loads(again.stdout)["results"]]
    assert tasks == ["zeroshot_classification", "few_shot", "zeroshot_classification", "linear_probe", "knn"]


def test_a_dry_run_lists_and_measures_nothing(run: Run, root: Path) -> None:
    done = run("evaluate", "suite", "--data", root, "--dry-run")
    assert done.stdout.splitlines() == [
        "tfflowers, zero-shot: 12 pictures",
        "tfflowers, probes: 24 pictures",
        "tfflowers, corruptions: 912 pictures",
    ]
    assert not Path("suite").exists()


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("--skip", "everything"), "zero-shot, retrieval, probes, robustness"),
        (("--dataset", "mnist"), "holds no mnist"),
        (("--corrupt", "mnist"), "to corrupt"),
    ],
)
def test_what_is_wrong_is_said(run: Run, root: Path, words: tuple[str, ...], printed: str) -> None:
    done = run("evaluate", "suite", "--data", root, *words)
    assert done.exit_code == 2
    assert printed in done.stderr
