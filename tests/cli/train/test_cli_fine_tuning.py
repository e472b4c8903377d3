"""`diptych train --from`: fine-tuning defaults, and measurements before and after."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.make_runs import write_pairs

Run = Callable[..., Any]


@pytest.fixture(autouse=True)
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty small pictures with captions, in the working folder."""
    monkeypatch.chdir(tmp_path)
    return write_pairs(tmp_path / "pairs.tar", 40)


@pytest.fixture
def labelled() -> Path:
    """Forty pictures in two class folders."""
    noise = np.random.default_rng(1)
    for number in range(40):
        path = Path("new") / ("dog", "guitar")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    return Path("new")


GENTLY = ("--epochs", "1", "--batch-size", "8", "--hold-out", "0.3", "--out", "runs/tuned")


def test_fine_tuning_takes_the_starts_shape_and_gentle_rates(run: Run, tiny: Path, labelled: Path) -> None:
    from diptych.training import fine_tuning_defaults
    from diptych.weights import load_checkpoint

    words = ("train", "--pairs", labelled, "--from", tiny, *GENTLY, "--keep-up", "pairs.tar", "--json")
    done = run(*words)
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert (
        printed["metrics"].keys()
        == printed["before"].keys()
        == {"val/acc1", "pairs/image_retrieval_recall@10"}
    )
    assert "val/acc1 0." in done.stderr
    assert " -> " in done.stderr
    before, after = load_checkpoint(tiny), load_checkpoint("runs/tuned")
    assert after.spec.architecture == before.spec.architecture
    assert after.spec.licence == "MIT"
    assert after.spec.training["start"] == before.identity
    rates = [json.loads(line) for line in Path("runs/tuned/log.jsonl").read_text().splitlines()]
    assert all(line.get("lr", 0.0) <= fine_tuning_defaults(before.spec.architecture)["lr"] for line in rates)
    same = (name for name in after.state if "running_mean" in name)
    assert all((after.state[name] == before.state[name]).all() for name in same)


def test_what_is_said_goes_before_gentle_defaults(run: Run, tiny: Path, labelled: Path) -> None:
    more = ("--lr", "0.01", "--set", "lora=2", "--set", "still_norms=false", "--set", "log_every=1")
    done = run("train", "--pairs", labelled, "--from", tiny, *GENTLY, *more)
    assert done.exit_code == 0, done.stderr
    rates = [json.loads(line) for line in Path("runs/tuned/log.jsonl").read_text().splitlines()]
    assert max(line.get("lr", 0.0) for line in rates) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pairs", "pairs.tar", "--keep-up", "pairs.tar"), "with --from"),
        (("recipe.py", "--from", "default"), "need --pairs"),
        (("--pairs", "pairs.tar", "--from", "./nothing"), "nothing"),
        (("--pairs", "pairs.tar", "--from", "TINY", "--model", "diptych-small"), "It fits diptych-tiny"),
        (("--pairs", "pairs.tar", "--from", "TINY", "--keep-up", "gone.tar"), "gone.tar"),
    ],
)
def test_fine_tuning_that_cannot_be_is_said(
    run: Run, tiny: Path, arguments: tuple[str, ...], message: str
) -> None:
    Path("recipe.py").touch()
    done = run("train", *(tiny if word == "TINY" else word for word in arguments))
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_kept_data_set_may_be_called_val(run: Run, tiny: Path, labelled: Path) -> None:
    labelled.rename("val")
    options = ("--epochs", "1", "--batch-size", "8", "--hold-out", "0.3", "--out", "runs/tuned")
    done = run("train", "--pairs", "pairs.tar", "--from", tiny, *options, "--keep-up", "val", "--json")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)["metrics"]
    assert {"val/image_retrieval_recall@10", "val (kept)/acc1"} <= set(printed)
    again = run("train", "--pairs", "pairs.tar", "--from", tiny, *options)
    assert again.exit_code == 2
    assert "holds a run already" in again.stderr
    assert "measuring" not in again.stderr


def test_an_objective_that_knows_no_texts_is_trained_without_measuring(run: Run) -> None:
    options = ("--model", "diptych-tiny", "--epochs", "1", "--batch-size", "8", "--hold-out", "0.3")
    done = run("train", "--pairs", "pairs.tar", *options, "--out", "runs/words", "--set", "objective=words")
    assert done.exit_code == 0, done.stderr
    assert "no validation" in done.stderr


def test_pictures_that_are_learnt_and_measured_are_told(run: Run, tiny: Path, labelled: Path) -> None:
    words = ("train", "--pairs", "pairs.tar", "--from", tiny, "--batch-size", "8", "--dry-run")
    done = run(*words, "--val", "pairs.tar", "--keep-up", labelled)
    assert done.exit_code == 0, done.stderr
    shared = re.search(
        r"warning: (\d+) of (\d+) pictures of val are also among the training pairs", done.stderr
    )
    assert shared is not None
    assert shared[1] == shared[2]
    assert f"pictures of {labelled} are" not in done.stderr
    assert "warning" not in run(*words, "--hold-out", "0.3").stderr
