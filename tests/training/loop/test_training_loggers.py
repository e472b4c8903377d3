"""Loggers: what each receives, resumed runs, and missing packages."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from diptych.errors import MissingExtraError, TrainingError
from diptych.training import Listener, Run, StepReport, sample_file, train
from diptych.training.loop.loggers import LOGGERS, CombinedListener, TensorBoard, figures
from tests.training.make_runs import config_of, write_pairs


class Told(Listener):
    """A logger that records its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def scanning(self, total: int) -> Any:
        self.calls.append(("scanning", total))
        return lambda done: self.calls.append(("done", done))

    def step(self, report: StepReport) -> None:
        self.calls.append(("step", report.step))

    def evaluated(self, step: int, metrics: Any) -> None:
        self.calls.append(("evaluated", step, dict(metrics)))

    def note(self, text: str) -> None:
        self.calls.append(("note", text))

    def close(self) -> None:
        self.calls.append("close")


def test_several_are_told_the_same(tmp_path: Path) -> None:
    single, other = Told(), Told()
    every = CombinedListener([single, other])
    config = config_of(write_pairs(tmp_path / "pairs.tar", 64), tmp_path / "run", epochs=1, ema=0.0)
    train(Run(config, {"toy": lambda model, step: {"n": 1.0}}), listener=every)
    every.close()
    assert single.calls == other.calls
    kinds = [call[0] for call in single.calls[:-1]]
    assert kinds.count("step") == 4
    assert ("evaluated", 4, {"toy/n": 1.0}) in single.calls
    assert {"scanning", "done"} <= set(kinds)
    assert single.calls[-1] == "close"


class FakeRun:
    def __init__(self, **options: Any) -> None:
        self.options, self.logged, self.finished = options, list[Any](), False

    def log(self, values: dict[str, Any], step: int) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


def test_weights_and_biases_gets_figures_and_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake: Any = ModuleType("wandb")
    fake.Image = lambda path: ("image", path)
    fake.init = lambda **options: setattr(fake, "run", FakeRun(**options)) or fake.run
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = config_of(write_pairs(tmp_path / "pairs.tar", 64), tmp_path / "runs" / "a", epochs=1, ema=0.0)
    listener = LOGGERS["wandb"](config)

    def evaluate(model: Any, step: int) -> dict[str, float]:
        sample_file(Path(config.out), step).parent.mkdir()
        Image.new("RGB", (8, 8)).save(sample_file(Path(config.out), step))
        return {"n": 1.0}

    train(Run(config, {"toy": evaluate}), listener=listener)
    listener.close()
    assert fake.run.options["name"] == "runs-a"
    assert fake.run.options["id"] == (tmp_path / "runs" / "a" / "wandb-id").read_text()
    again = fake.run.options["id"]
    LOGGERS["wandb"](config)
    assert fake.run.options["id"] == again  # a resumed run continues in the same logger run
    fake.init = lambda **options: 1 / 0
    with pytest.raises(TrainingError, match="cannot be reached"):
        LOGGERS["wandb"](config)
    fake.run = listener._run
    assert fake.run.options["resume"] == "allow"
    assert fake.run.options["config"]["batch_size"] == 16
    assert [step for step, _ in fake.run.logged] == [1, 2, 3, 4, 4]
    assert "train/loss" in fake.run.logged[0][1]
    last = fake.run.logged[-1][1]
    assert last["toy/n"] == 1.0
    assert last["samples"][0] == "image"
    assert fake.run.finished


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_logger_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"diptych\[{name}\]"):
        LOGGERS[name](config_of(tmp_path / "pairs.tar", tmp_path / "run"))


def test_a_leg_that_goes_on_hides_what_it_does_again(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    report = StepReport(3, 9, 0, 2.0, 14.0, 1e-3, 1.0, 10.0, 0.1, 5.0)
    for steps in ((3, 4, 5), (4, 5, 6)):
        board = TensorBoard(tmp_path)
        for step in steps:
            board.step(StepReport(**{**vars(report), "step": step}))
        board.close()
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [3, 4, 5, 6]
    assert set(figures(report)) >= {"loss", "utilisation", "decoded_per_second", "memory", "wait_share"}
