"""An error or a decision of one process alone: all end with that error, or all decide alike; nobody waits."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import processes
import pytest
import torch
from make_runs import TINY_VIT, config_of, write_pairs

from diptych.errors import SaveError
from diptych.training import Listener, Run, StepReport, checkpoint, train
from diptych.training.learner import Learner
from diptych.training.watchdog import Watchdog
from diptych.training.world import DistributedWorld
from waiting import HANG


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 64)


# --------------------------------------------------------------------------- what the processes do


def rank() -> int:
    return torch.distributed.get_rank()


def fails_alone(folder: str, pairs: str, kind: str, parallel: str) -> None:
    """Train as one of two; at the third step, or while it saves or measures, one process fails."""
    evaluators = {}
    if kind == "evaluator":

        def broken(model: object, step: int) -> dict[str, float]:
            raise ZeroDivisionError("no answers")

        evaluators["val"] = broken
    elif kind == "disk":

        def full(*args: object, **names: object) -> None:
            raise SaveError("the disk is full")

        checkpoint.save = full  # called on the first process alone
    elif kind == "memory":
        step = Learner._gradients

        def starved(self: Learner, batch: object, number: int) -> object:
            if rank() == 1 and number == 2:
                raise torch.OutOfMemoryError("no memory left")
            return step(self, batch, number)  # type: ignore[arg-type]

        Learner._gradients = starved  # type: ignore[method-assign,assignment]
    elif kind == "start" and rank() == 1:

        def missing(self: Learner, *args: object) -> None:
            raise FileNotFoundError("teacher.safetensors")

        Learner.__init__ = missing  # type: ignore[method-assign,assignment]
    config = config_of(Path(pairs), Path(folder) / "run", model=TINY_VIT, chunk=4, parallel=parallel)
    train(Run(config, evaluators), resume=True)


def decides_alone(folder: str, pairs: str, out: str) -> None:
    """Measure values that differ by process, and stop by patience."""
    values = iter([0.5, 0.5, 0.5])

    def evaluator(model: object, step: int) -> dict[str, float]:
        return {"recall": next(values) + rank() * 1e-7 * step}

    config = config_of(Path(pairs), Path(out), model=TINY_VIT, monitor="val/recall", patience=2, epochs=5)
    summary = train(Run(config, {"val": evaluator}))
    written = {"reason": summary.reason, "step": summary.step, "identity": summary.identity}
    (Path(folder) / f"summary-{rank() if torch.distributed.is_initialized() else 0}.json").touch()
    with (Path(folder) / "summaries.jsonl").open("a") as file:
        file.write(json.dumps(written) + "\n")


def is_told_to_stop(folder: str, pairs: str, out: str) -> None:
    """One of two processes gets SIGTERM."""

    class Terminate(Listener):
        def step(self, report: StepReport) -> None:
            if report.step == 2 and rank() == 1:
                signal.raise_signal(signal.SIGTERM)

    config = config_of(Path(pairs), Path(out), model=TINY_VIT)
    summary = train(Run(config), listener=Terminate())
    with (Path(folder) / "summaries.jsonl").open("a") as file:
        file.write(json.dumps([summary.reason, summary.step]) + "\n")


# ------------------------------------------------------------------------------------------ the tests

KINDS = {
    "evaluator": "ZeroDivisionError: no answers",
    "disk": "the disk is full",
    "memory": "OutOfMemoryError: no memory left",
    "start": "FileNotFoundError: teacher.safetensors",
}


@pytest.mark.parametrize(
    ("kind", "parallel"), [(kind, "ddp") for kind in KINDS] + [("memory", "fsdp"), ("evaluator", "fsdp")]
)
def test_an_error_of_one_process_is_the_error_of_all(
    pairs: Path, tmp_path: Path, kind: str, parallel: str
) -> None:
    both = processes.start(2, "test_training_failures:fails_alone", tmp_path, pairs, kind, parallel)
    # Far less than the ten minutes of a collective; far more than a busy machine needs.
    told = [process.communicate(timeout=HANG)[1] for process in both]
    assert all(process.returncode == 1 for process in both), told
    failing = 1 if kind in ("memory", "start") else 0
    assert KINDS[kind] in told[failing].splitlines()[-1]
    assert KINDS[kind] in told[1 - failing], told[1 - failing]
    assert f"TrainingError: process {failing} of 2 failed" in told[1 - failing], told[1 - failing]


def test_values_that_differ_in_the_last_bit_stop_no_process(pairs: Path, tmp_path: Path) -> None:
    processes.run(2, "test_training_failures:decides_alone", tmp_path, pairs, tmp_path / "run")
    first, second = map(json.loads, (tmp_path / "summaries.jsonl").read_text().splitlines())
    assert first == second
    assert (first["reason"], first["step"]) == ("no better for a while", 12)


def test_a_signal_to_one_process_saves_and_stops_all(pairs: Path, tmp_path: Path) -> None:
    processes.run(2, "test_training_failures:is_told_to_stop", tmp_path, pairs, tmp_path / "run")
    told = [json.loads(line) for line in (tmp_path / "summaries.jsonl").read_text().splitlines()]
    assert told == [["terminated", 2]] * 2
    state = torch.load(tmp_path / "run" / checkpoint.FILE, weights_only=True)["state"]
    assert state["step"] == 2


def test_a_process_that_does_not_come_out_of_its_wait_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.training.watchdog.GRACE", 0.05)
    store, told = torch.distributed.HashStore(), []
    aborted: list[str] = []
    ended: list[int] = []
    stuck = Watchdog(
        store,
        0,
        2,
        patience=0.2,
        tell=told.append,
        abort=lambda: aborted.append("group"),
        end=ended.append,
    )
    failing = Watchdog(store, 1, 2, patience=60, tell=told.append)
    assert failing.report_failure("OSError: gone").rank == 1
    stuck._thread.join(timeout=HANG)
    failing.stop()
    assert (aborted, ended) == (["group"], [1])
    assert any("process 1 failed, so this one ends: OSError: gone" in text for text in told)


def test_the_first_failure_is_the_one_that_is_named() -> None:
    store = torch.distributed.HashStore()
    both = [Watchdog(store, rank, 2, patience=60) for rank in (0, 1)]
    first = both[1].report_failure("KeyError: 'a'", wait=0.0)
    second = both[0].report_failure("RuntimeError: what came of it", wait=0.0)
    for watchdog in both:
        watchdog.stop()
    assert first == second
    assert second.text == "KeyError: 'a'"


def test_a_first_process_that_is_gone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.training.world.SILENCE", 0.1)
    world = DistributedWorld.__new__(DistributedWorld)
    world.rank, world.size, world._runs = 1, 2, 0
    world.store = torch.distributed.HashStore()
    world.watchdog = Watchdog(world.store, 1, 2)
    with pytest.raises(Exception, match="process 0 gave no sign of life"):
        world.run_on_first(lambda: 0)
    world.watchdog.stop()
