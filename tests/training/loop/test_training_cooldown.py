"""Learning rate cooldown: a constant rate that falls over the last epochs, planned at start or on resume."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import InputError, TrainingError
from diptych.training import Listener, Run, TrainConfig, train
from diptych.training.loop.optim import rate
from tests.training import processes
from tests.training.make_runs import TINY_VIT, config_of, logged, same, write_pairs

STEPS = 4  # per epoch
LEVEL = {"schedule": "constant", "warmup": 1}
COOLED = {**LEVEL, "epochs": 4, "epochs_cooldown": 2}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 64)


def open_clip_rate(step: int, steps: int, cooldown: int, *, peak: float, power: float, end: float) -> float:
    """The rate of open_clip's `const_lr_cooldown`, after the warmup."""
    start = steps - cooldown
    if step < start:
        return peak
    decay: float = (1 - (step - start) / (steps - start)) ** power
    return decay * (peak - end) + end


@given(
    steps=st.integers(2, 60),
    part=st.floats(0, 1),
    power=st.floats(0.1, 4),
    end=st.floats(0, 1),
)
def test_the_rate_of_a_cooldown_is_that_of_open_clip(
    steps: int, part: float, power: float, end: float
) -> None:
    cooldown = max(1, round(part * steps))
    for step in range(steps):
        mine = rate(step, steps, max_rate=1.0, warmup=0, cooldown=cooldown, power=power, end=end)
        assert mine == pytest.approx(
            open_clip_rate(step, steps, cooldown, peak=1.0, power=power, end=end), abs=1e-12
        )


def rates(config: TrainConfig, *, resume: bool = False) -> list[float]:
    seen: list[float] = []

    class Watch(Listener):
        def step(self, report) -> None:  # type: ignore[no-untyped-def]
            seen.append(report.lr)

    train(Run(config), resume=resume, listener=Watch())
    return seen


@pytest.mark.parametrize(("power", "end"), [(1.0, 0.0), (2.0, 1e-4), (0.5, 1e-3)])
def test_the_last_epochs_cool_down(pairs: Path, tmp_path: Path, power: float, end: float) -> None:
    options = {"lr_cooldown_power": power, "lr_cooldown_end": end}
    config = config_of(pairs, tmp_path, lr=1e-3, **{**COOLED, "epochs": 3, "epochs_cooldown": 1}, **options)
    falling = [end + (1e-3 - end) * (1 - n / STEPS) ** power for n in range(STEPS)]
    assert rates(config) == pytest.approx([1e-3] * 2 * STEPS + falling)


def test_a_constant_run_resumed_with_a_cooldown_is_a_run_with_that_cooldown(
    pairs: Path, tmp_path: Path
) -> None:
    train(Run(config_of(pairs, tmp_path / "whole", **COOLED)))
    train(Run(config_of(pairs, tmp_path / "legs", epochs=2, **LEVEL)))
    cooled = config_of(pairs, tmp_path / "legs", **COOLED)
    train(Run(dataclasses.replace(cooled, max_minutes=1e-9)), resume=True)  # interrupted within the cooldown
    train(Run(cooled), resume=True)
    assert logged(tmp_path / "legs") == logged(tmp_path / "whole")  # reports the first step that differs
    assert same(tmp_path / "legs", tmp_path / "whole")
    train(Run(config_of(pairs, tmp_path / "level", epochs=4, **LEVEL)))
    assert not same(tmp_path / "level", tmp_path / "whole")


def test_a_cooldown_that_has_not_begun_can_be_moved_or_given_up(pairs: Path, tmp_path: Path) -> None:
    train(Run(config_of(pairs, tmp_path / "level", epochs=3, **LEVEL)))
    config = config_of(pairs, tmp_path / "run", **COOLED)
    train(Run(dataclasses.replace(config, max_minutes=1e-9)))
    train(Run(config_of(pairs, tmp_path / "run", epochs=3, **LEVEL)), resume=True)
    assert same(tmp_path / "level", tmp_path / "run")


def test_steps_that_are_done_cannot_get_another_rate(pairs: Path, tmp_path: Path) -> None:
    train(Run(config_of(pairs, tmp_path / "level", epochs=2, **LEVEL)))
    late = config_of(pairs, tmp_path / "level", **{**COOLED, "epochs": 3})
    with pytest.raises(
        TrainingError, match=r"has started epoch 2 at the full rate: expected epochs=4 or more"
    ):
        train(Run(late), resume=True)
    train(Run(config_of(pairs, tmp_path / "cooled", **COOLED)))
    for changes in ({"epochs": 6}, {"lr_cooldown_power": 2.0}, {"epochs": 5, "epochs_cooldown": 0}):
        with pytest.raises(TrainingError, match="is in its cooldown, which began after epoch 2"):
            train(Run(config_of(pairs, tmp_path / "cooled", **{**COOLED, **changes})), resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs_cooldown": 1}, "needs schedule=constant"),
        ({**LEVEL, "epochs_cooldown": 9}, "at most the 3 epochs"),
        ({**LEVEL, "epochs_cooldown": -1}, "expected 0 or more"),
        ({"lr_cooldown_power": 0.0}, "expected a number above 0"),
        ({"lr_cooldown_end": 1.0}, "expected a rate from 0 to lr=0.001"),
        ({"lr_cooldown_end": float("nan")}, "expected a rate from 0 to lr=0.001"),
    ],
)
def test_cooldowns_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config_of(Path("x"), Path("y"), **changes)


def test_two_processes_cool_down_alike(pairs: Path, tmp_path: Path) -> None:
    cooled = {**LEVEL, "epochs": 2, "epochs_cooldown": 1}
    out = tmp_path / "legs"
    processes.run(
        2, "tests.training.processes:training", tmp_path, pairs, out, json.dumps({**LEVEL, "epochs": 1})
    )
    processes.run(2, "tests.training.processes:training", tmp_path, pairs, out, json.dumps(cooled))
    processes.run(
        2, "tests.training.processes:training", tmp_path, pairs, tmp_path / "whole", json.dumps(cooled)
    )
    assert same(out, tmp_path / "whole")
    config = config_of(pairs, tmp_path / "alone", model=TINY_VIT, **cooled)
    alone = rates(config)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["lr"] for line in lines if "lr" in line] == alone
