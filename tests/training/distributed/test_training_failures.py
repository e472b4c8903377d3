"""Failures and decisions of a single process: all processes end with its error or decide alike."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from diptych.errors import DataError, SaveError
from diptych.training import Listener, Run, StepReport, train
from diptych.training.checkpoints import checkpoint
from diptych.training.data import Batch
from diptych.training.distributed.watchdog import Watchdog
from diptych.training.distributed.world import DistributedWorld, is_connection_error
from diptych.training.loop.trainable_model import TrainableModel
from tests.training import processes
from tests.training.make_runs import TINY_VIT, config_of, write_pairs
from tests.waiting import HANG

# ---------------------------------------------------------------- functions of the two processes

# The error of one process, and its rank.
KINDS = {
    "evaluator": (0, "ZeroDivisionError: no answers"),
    "disk": (0, "SaveError: the disk is full"),
    "memory": (1, "OutOfMemoryError: no memory left"),
    "start": (1, "FileNotFoundError: teacher.safetensors"),
}
# The last case ends the processes: FSDP2 keeps open the connection on which the other one waits.
CASES = [("evaluator", "fsdp"), *((kind, "ddp") for kind in KINDS), ("memory", "fsdp")]


def in_turn(folder: str, pairs: str) -> None:
    """All cases by the same two processes; the error of the last case ends them."""
    rank = int(os.environ["RANK"])
    runs = [partial(decides_alone, folder, pairs), partial(is_told_to_stop, folder, pairs)]
    runs += [partial(fails_alone, folder, pairs, kind, parallel) for kind, parallel in CASES]
    for number, run in enumerate(runs):
        if not dist.is_initialized():  # the end of a run leaves the process group
            meeting = f"file://{folder}/meeting-{number}"
            dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
        result: object
        try:
            with pytest.MonkeyPatch.context() as patch:
                result = run(rank, patch)
        except Exception as error:
            if number + 1 == len(runs):
                raise
            result = f"{type(error).__name__}: {error}"
        with (Path(folder) / f"results-{rank}.jsonl").open("a") as file:
            file.write(json.dumps(result) + "\n")


def fails_alone(
    folder: str, pairs: str, kind: str, parallel: str, rank: int, patch: pytest.MonkeyPatch
) -> None:
    """Train; one process fails at the third step, while saving, or while evaluating."""
    evaluators = {}
    if kind == "evaluator":

        def broken(model: object, step: int) -> dict[str, float]:
            raise ZeroDivisionError("no answers")

        evaluators["val"] = broken
    elif kind == "disk":

        def full(*args: object, **names: object) -> None:
            raise SaveError("the disk is full")

        patch.setattr(checkpoint, "save", full)  # called on the first process only
    elif kind == "memory":
        step = TrainableModel._gradients

        def starved(self: TrainableModel, batch: Batch, number: int) -> torch.Tensor:
            if rank == 1 and number == 2:
                raise torch.OutOfMemoryError("no memory left")
            return step(self, batch, number)

        patch.setattr(TrainableModel, "_gradients", starved)
    elif kind == "start" and rank == 1:

        def missing(self: TrainableModel, *args: object) -> None:
            raise FileNotFoundError("teacher.safetensors")

        patch.setattr(TrainableModel, "__init__", missing)
    config = config_of(
        Path(pairs), Path(folder) / f"{kind}-{parallel}", model=TINY_VIT, chunk=4, parallel=parallel
    )
    train(Run(config, evaluators))


def decides_alone(folder: str, pairs: str, rank: int, _: pytest.MonkeyPatch) -> object:
    """Evaluate to values that differ by process, and stop by patience."""
    values = iter([0.5, 0.5, 0.5])

    def evaluator(model: object, step: int) -> dict[str, float]:
        return {"recall": next(values) + rank * 1e-7 * step}

    options = {"monitor": "val/recall", "patience": 2, "epochs": 5}
    config = config_of(Path(pairs), Path(folder) / "decided", model=TINY_VIT, **options)
    summary = train(Run(config, {"val": evaluator}))
    return [summary.reason, summary.step, summary.identity]


def is_told_to_stop(folder: str, pairs: str, rank: int, _: pytest.MonkeyPatch) -> object:
    """Train while one of two processes gets SIGTERM."""

    class Terminate(Listener):
        def step(self, report: StepReport) -> None:
            if report.step == 2 and rank == 1:
                signal.raise_signal(signal.SIGTERM)

    config = config_of(Path(pairs), Path(folder) / "stopped", model=TINY_VIT)
    summary = train(Run(config), listener=Terminate())
    return [summary.reason, summary.step]


# ---------------------------------------------------------------------------------------------- tests


@dataclass(frozen=True)
class Pair:
    """The outcome of two processes: results of all cases but the last, and the exit status of that one."""

    folder: Path
    results: list[list[object]]
    status: list[int]
    errors: list[str]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    pairs = write_pairs(folder / "pairs.tar", 64)
    both = processes.start(2, "tests.training.distributed.test_training_failures:in_turn", folder, pairs)
    # Far less than the ten minutes of a collective's timeout; far more than a busy machine needs.
    status = [process.wait(HANG) for process in both]
    errors = [process.errors() for process in both]
    files = [folder / f"results-{rank}.jsonl" for rank in (0, 1)]
    assert all(file.is_file() for file in files), errors
    results = [list(map(json.loads, file.read_text().splitlines())) for file in files]
    assert [len(of_one) for of_one in results] == [1 + len(CASES)] * 2, (results, errors)
    return Pair(folder, results, status, errors)


@pytest.mark.parametrize(("kind", "parallel"), CASES[:-1])
def test_an_error_of_one_process_is_the_error_of_all(pair: Pair, kind: str, parallel: str) -> None:
    (failing, error), number = KINDS[kind], 2 + CASES.index((kind, parallel))
    assert pair.results[failing][number] == error
    other = str(pair.results[1 - failing][number])
    assert other.startswith(f"TrainingError: process {failing} of 2 failed"), other
    assert error in other


def test_an_error_of_one_process_ends_the_command_on_all(pair: Pair) -> None:
    failing, error = KINDS[CASES[-1][0]]
    assert pair.status == [1, 1], pair.errors
    assert error in pair.errors[failing].splitlines()[-1]
    assert f"TrainingError: process {failing} of 2 failed" in pair.errors[1 - failing]
    assert error in pair.errors[1 - failing]


def test_values_that_differ_in_the_last_bit_stop_no_process(pair: Pair) -> None:
    first, second = (of_one[0] for of_one in pair.results)
    assert first == second
    assert first[:2] == ["no better for a while", 12]  # type: ignore[index]


def test_a_signal_to_one_process_saves_and_stops_all(pair: Pair) -> None:
    assert [of_one[1] for of_one in pair.results] == [["terminated", 2]] * 2
    state = torch.load(pair.folder / "stopped" / checkpoint.FILE, weights_only=True)["state"]
    assert state["step"] == 2


@pytest.mark.parametrize("abortable", [True, False])
def test_a_process_that_does_not_come_out_of_its_wait_is_ended(
    monkeypatch: pytest.MonkeyPatch, abortable: bool
) -> None:
    monkeypatch.setattr("diptych.training.distributed.watchdog.GRACE", 0.05)
    store, result = torch.distributed.HashStore(), []
    aborted: list[str] = []
    ended: list[int] = []

    def abort() -> None:
        aborted.append("group")
        if not abortable:
            raise RuntimeError("no such group")

    stuck = Watchdog(store, 0, 2, patience=0.2, report=result.append, abort=abort, end=ended.append)
    failing = Watchdog(store, 1, 2, patience=60, report=result.append)
    assert failing.report_failure("OSError: gone").rank == 1
    stuck._thread.join(timeout=HANG)
    failing.stop()
    assert (aborted, ended) == (["group"], [1])
    assert any("process 1 failed, so this process ends: OSError: gone" in text for text in result)


def test_the_first_failure_is_the_one_that_is_named() -> None:
    store = torch.distributed.HashStore()
    both = [Watchdog(store, rank, 2, patience=60) for rank in (0, 1)]
    first = both[1].report_failure("KeyError: 'a'", wait=0.0)
    second = both[0].report_failure("RuntimeError: what came of it", wait=0.0)
    for watchdog in both:
        watchdog.stop()
    assert first == second
    assert second.text == "KeyError: 'a'"


def test_a_broken_connection_to_data_is_an_error_of_this_process() -> None:
    text = "connection reset by peer"
    lost = [RuntimeError(f"[gloo/transport/tcp/pair.cc:1] {text}"), dist.DistBackendError("NCCL error")]
    own = [DataError(f"s3://shards/0.tar: {text}"), ConnectionResetError(text), TimeoutError("timed out")]
    assert [is_connection_error(error) for error in (*lost, *own)] == [True, True, False, False, False]


def test_messages_wait_for_a_process_that_is_behind_and_leave_the_store_then() -> None:
    store = torch.distributed.HashStore()
    worlds = []
    for rank in range(3):
        world = DistributedWorld.__new__(DistributedWorld)
        world.rank, world.size, world._runs, world.store = rank, 3, 0, store
        world.watchdog = Watchdog(store, rank, 3)
        worlds.append(world)
    first, *others = worlds

    def work() -> str:
        for number in (7, 8, 7):
            first.send_from_first(number)
        return "done"

    assert first.run_on_first(work) == "done"  # before any of the other processes has read it
    for world in others:
        served: list[int] = []
        assert world.run_on_first(lambda: "", served.append) == "done"
        assert served == [7, 8, 7]
    kept = [f"diptych/first/1/{number}{more}" for number in range(4) for more in ("", "/readers")]
    assert not any(store.check([key]) for key in kept)
    for world in worlds:
        world.watchdog.stop()


def test_a_first_process_that_is_gone_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.training.distributed.world.SILENCE", 0.1)
    world = DistributedWorld.__new__(DistributedWorld)
    world.rank, world.size, world._runs = 1, 2, 0
    world.store = torch.distributed.HashStore()
    world.watchdog = Watchdog(world.store, 1, 2)
    with pytest.raises(Exception, match="process 0 gave no sign of life"):
        world.run_on_first(lambda: 0)
    world.watchdog.stop()
