"""Checkpoints: numbered ones, resume from any of them, and recovery after a kill."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from diptych.backends.supervised import supervised_classes
from diptych.errors import TrainingError
from diptych.training import Run, train
from diptych.training.checkpoints import checkpoint, run_folder
from diptych.weights import load_checkpoint
from tests.training import processes
from tests.training.make_runs import TINY_VIT, config_of, logged, same, write_pairs

LEVEL = {"schedule": "constant", "warmup": 1}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 32)


def history(out: Path) -> list[int]:
    """Epochs of the numbered checkpoints; all must be complete, and no other files may be left."""
    result = run_folder.numbered(out)
    for epoch, path in result.items():
        assert checkpoint.read(path)[0].epoch == epoch
        assert load_checkpoint(path).spec.training["epochs"] == epoch
    return list(result)


@pytest.mark.parametrize(
    ("frequency", "keep", "expected"),
    [(0, 0, []), (1, 0, [1, 2, 3, 4, 5]), (2, 0, [2, 4]), (1, 2, [2, 4, 5]), (1, 1, [2, 5]), (2, 1, [2, 4])],
)
def test_the_newest_and_the_best_are_kept(
    pairs: Path, tmp_path: Path, frequency: int, keep: int, expected: list[int]
) -> None:
    values = iter([0.1, 0.9, 0.3, 0.2, 0.8])
    evaluators = {"val": lambda model, step: {"recall": next(values)}}
    options = {"save_frequency": frequency, "keep_checkpoints": keep, "monitor": "val/recall"}
    train(Run(config_of(pairs, tmp_path, epochs=5, **options), evaluators))
    assert history(tmp_path) == expected
    assert not list(tmp_path.glob(".epoch-*"))
    assert load_checkpoint(tmp_path).spec.training["epochs"] == 2
    if 4 in expected:
        training = load_checkpoint(tmp_path / "epoch-4").spec.training
        assert training["metrics"] == {"val/recall": 0.2}
        state, _, _ = checkpoint.read(tmp_path / "epoch-4")
        assert (state.best, state.stale, state.metrics) == (0.2, 0, {"val/recall": 0.2})
        assert state.identity == load_checkpoint(tmp_path / "epoch-4").identity


def test_a_numbered_checkpoint_is_the_run_as_it_was(pairs: Path, tmp_path: Path) -> None:
    train(Run(config_of(pairs, tmp_path / "short", epochs=2, **LEVEL)))
    train(Run(config_of(pairs, tmp_path / "plain", epochs=3, **LEVEL)))
    train(Run(config_of(pairs, tmp_path / "run", epochs=3, save_frequency=1, evaluate_every=3, **LEVEL)))
    assert same(tmp_path / "run", tmp_path / "plain")
    assert same(tmp_path / "run/epoch-2", tmp_path / "short")
    assert logged(tmp_path / "run/epoch-2") == logged(tmp_path / "short")
    assert checkpoint.read(tmp_path / "run/epoch-2")[0].metrics == {}  # nothing was evaluated there


def test_a_run_of_another_objective_is_read_by_its_number(pairs: Path, tmp_path: Path) -> None:
    options = {"objective": "captions", "epochs": 1, "save_frequency": 1, "model": TINY_VIT}
    train(Run(config_of(pairs, tmp_path, **options)))
    assert supervised_classes(tmp_path / "epoch-1") == supervised_classes(tmp_path) == ()
    assert load_checkpoint(tmp_path / "epoch-1").identity == load_checkpoint(tmp_path).identity


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_kill_leaves_a_whole_history(
    pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, after: bool
) -> None:
    """Killed at the first rename, at the second, and at the first removal (with `keep_checkpoints=1`)."""
    config = config_of(pairs, tmp_path / "run", save_frequency=1, keep_checkpoints=1, epochs=2)
    rename, calls = Path.rename, []

    def killing(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == number and not after:
            raise Killed
        moved = rename(self, target)
        if len(calls) == number:
            raise Killed
        return moved

    monkeypatch.setattr(Path, "rename", killing)
    with pytest.raises(Killed):
        train(Run(config))
    monkeypatch.undo()
    left = {(1, False): [], (1, True): [1], (2, False): [1], (2, True): [1, 2], (3, False): [1, 2]}
    assert history(tmp_path / "run") == left.get((number, after), [2])
    assert train(Run(config), resume=True).finished
    assert history(tmp_path / "run") == [2]
    assert not list((tmp_path / "run").glob(".epoch-*"))
    train(Run(config_of(pairs, tmp_path / "whole", epochs=2)))
    assert same(tmp_path / "run", tmp_path / "whole")


COOLED = {**LEVEL, "epochs": 3, "epochs_cooldown": 2}


def test_a_cooldown_begins_at_a_numbered_checkpoint_in_another_folder(pairs: Path, tmp_path: Path) -> None:
    train(Run(config_of(pairs, tmp_path / "whole", **COOLED)))
    train(Run(config_of(pairs, tmp_path / "long", epochs=3, save_frequency=1, **LEVEL)))
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "long").rglob("*"))
    config = config_of(pairs, tmp_path / "cooled", **COOLED)
    source = tmp_path / "long/epoch-1"
    train(Run(dataclasses.replace(config, max_minutes=1e-9)), resume_from=source)
    # The command of a job that is started again: by now it has its own checkpoint.
    train(Run(config), resume=True, resume_from=source)
    assert logged(tmp_path / "cooled") == logged(tmp_path / "whole")
    assert same(tmp_path / "cooled", tmp_path / "whole")
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "long").rglob("*")) == before
    # A finished run gives a model at once.
    train(Run(config_of(pairs, tmp_path / "again", **COOLED)), resume_from=tmp_path / "cooled")
    assert same(tmp_path / "again", tmp_path / "cooled")


def test_where_a_run_cannot_begin_is_said(pairs: Path, tmp_path: Path) -> None:
    config = config_of(pairs, tmp_path / "run", epochs=1, save_frequency=1, **LEVEL)
    train(Run(config))
    new = dataclasses.replace(config, out=str(tmp_path / "new"), epochs=2)
    with pytest.raises(TrainingError, match="is in the folder of the run itself"):
        train(Run(config), resume=True, resume_from=tmp_path / "run/epoch-1")
    with pytest.raises(TrainingError, match=r"epoch-9 holds no checkpoint.pt.*such as runs/mine/epoch-3"):
        train(Run(new), resume_from=tmp_path / "run/epoch-9")
    (tmp_path / "run" / checkpoint.FILE).unlink()
    with pytest.raises(TrainingError, match=r"holds no checkpoint.pt.*run.epoch-1\)"):
        train(Run(new), resume_from=tmp_path / "run")
    train(Run(new), resume_from=tmp_path / "run/epoch-1")
    with pytest.raises(TrainingError, match="holds a run already: add --resume"):
        train(Run(new), resume_from=tmp_path / "run/epoch-1")
    other = dataclasses.replace(new, out=str(tmp_path / "other"), lr=0.5)
    with pytest.raises(TrainingError, match="another config"):
        train(Run(other), resume_from=tmp_path / "run/epoch-1")


def branching(folder: str, pairs: str, out: str, source: str, changes: str) -> None:
    """Start at a numbered checkpoint, as one of several processes."""
    warnings.filterwarnings("ignore", "the run is resumed under other conditions")
    config = config_of(Path(pairs), Path(out), model=TINY_VIT, **json.loads(changes))
    train(Run(config), resume_from=source)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_keep_numbered_checkpoints_and_begin_at_them(
    pairs: Path, tmp_path: Path, parallel: str
) -> None:
    changes: dict[str, Any] = {"parallel": parallel, "epochs": 3, "save_frequency": 1, "keep_checkpoints": 2}
    whole = tmp_path / "whole"
    processes.run(2, "tests.training.processes:training", tmp_path, pairs, whole, json.dumps(changes))
    assert history(whole) == [2, 3]
    assert bool(list((whole / "epoch-2").glob("pieces-*"))) == (parallel == "fsdp")
    again, source = tmp_path / "again", whole / "epoch-2"
    processes.run(
        2,
        "tests.training.checkpoints.test_training_history:branching",
        tmp_path,
        pairs,
        again,
        source,
        json.dumps(changes),
    )
    assert same(again, whole)
    assert history(again) == [3]
