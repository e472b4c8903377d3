"""Training on several processes: same result as on one, resume with another number, clear ends."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

from diptych.training import Listener, Run, StepReport, train
from diptych.training.checkpoints.checkpoint import FILE, PIECES
from diptych.training.data import Mixture, TarStream
from diptych.training.distributed.watchdog import Watchdog
from diptych.training.distributed.world import is_connection_error
from tests.training import processes
from tests.training.data.make_pairs import decode_in_threads
from tests.training.make_runs import TINY_VIT, config_of, same, weights, write_pairs
from tests.waiting import HANG, pause, wait_until


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A broken record shifts the records of its lane, in the same way on every process.
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 100, corrupt=40)


def close(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=2e-3, atol=2e-4, msg=name)


def run(count: int, pairs: Path, out: Path, **changes: object) -> None:
    options = {"batch_size": 24, "chunk": 4, "lanes": 2, **changes}
    if count == 1:
        train(Run(config_of(pairs, out, model=TINY_VIT, **options)), resume=True)
    else:
        out.parent.mkdir(exist_ok=True)
        processes.run(count, "tests.training.processes:training", out.parent, pairs, out, json.dumps(options))


@pytest.fixture(scope="module")
def whole(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run of one process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(1, pairs, folder)
    return folder


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.filterwarnings("ignore:the run is resumed under other conditions")
def test_two_processes_learn_what_one_learns_and_one_or_three_go_on(
    pairs: Path, whole: Path, tmp_path: Path, parallel: str
) -> None:
    run(2, pairs, tmp_path / "two" / "run", parallel=parallel)
    close(whole, tmp_path / "two" / "run")
    run(2, pairs, tmp_path / "start" / "run", parallel=parallel, max_minutes=1e-9)
    assert bool(list((tmp_path / "start" / "run").glob(f"{PIECES}-*"))) == (parallel == "fsdp")
    for count in (1, 3):
        after = tmp_path / str(count) / "run"
        shutil.copytree(tmp_path / "start" / "run", after)
        run(count, pairs, after, parallel=parallel)
        close(whole, after)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for number, size in enumerate((40, 24, 52)):
        write_pairs(folder / f"s{number}.tar", size, corrupt=20)
    return folder


def seen(folder: Path, processes_: int = 2) -> list[list[str]]:
    """The pairs of every step over all processes, in order; repeated steps must have had the same pairs."""
    steps: dict[int, dict[int, list[str]]] = {}
    for rank in range(processes_):
        for line in (folder / f"seen-{rank}.jsonl").read_text().splitlines():
            if not line.endswith("]]"):
                continue  # the kill came while the line was written
            number, keys = json.loads(line)
            assert steps.setdefault(number, {}).setdefault(rank, keys) == keys, f"step {number} saw others"
    assert sorted(steps) == list(range(len(steps)))
    return [sum((steps[number][rank] for rank in range(processes_)), []) for number in range(len(steps))]  # noqa: RUF017


def options(workers: int) -> str:
    return json.dumps({"batch_size": 16, "chunk": 4, "workers": workers, "epochs": 2})


def kill_two(shards: Path, folder: Path, draw: random.Random, workers: int) -> None:
    """Start two processes, then kill them at a random instant."""
    started = processes.start(
        2,
        "tests.training.processes:streaming",
        folder,
        shards / "s{0..2}.tar",
        folder / "run",
        options(workers),
    )
    try:
        before = steps_done(folder)
        wait_until(
            lambda: steps_done(folder) > before or any(p.poll() is not None for p in started),
            "one more step is done",
        )
        pause(draw.uniform(0, 0.6))
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait(HANG)


def steps_done(folder: Path) -> int:
    file = folder / "seen-0.jsonl"
    return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.soak)])
def test_two_processes_killed_over_shards_end_as_if_never_killed(
    shards: Path, tmp_path: Path, kills: int
) -> None:
    draw = random.Random(kills)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for folder in (killed, whole):
        folder.mkdir()
    for number in range(kills):
        kill_two(shards, killed, draw, workers=1 + number % 2)
    for folder, workers in ((killed, 2), (whole, 1)):
        pattern = shards / "s{0..2}.tar"
        processes.run(
            2, "tests.training.processes:streaming", folder, pattern, folder / "run", options(workers)
        )
    result, expected = seen(killed), seen(whole)
    assert result == expected
    assert len({key for step in expected[: len(expected) // 2] for key in step}) == 7 * 16  # no pair twice
    assert same(killed / "run", whole / "run")


def test_a_process_that_dies_ends_the_others_with_a_message(shards: Path, tmp_path: Path) -> None:
    both = processes.start(
        2,
        "tests.training.processes:streaming",
        tmp_path,
        shards / "s{0..2}.tar",
        tmp_path / "run",
        options(1),
        HANG_AFTER="3",
    )
    wait_until(
        lambda: (tmp_path / "hangs").exists() or any(p.poll() is not None for p in both),
        "the second process has come to its fourth step",
    )
    both[1].kill()
    assert both[0].wait(HANG) != 0
    both[1].wait(HANG)
    message = both[0].errors()
    assert "TrainingError: process 0 of 2 lost the connection to another one at step" in message
    assert "run the same command with --resume" in message
    assert torch.load(tmp_path / "run" / FILE, weights_only=True)["state"]["step"] >= 1


def test_the_watchdog_says_who_does_what() -> None:
    store, result = torch.distributed.HashStore(), []
    quiet: list[str] = []
    slow = Watchdog(store, 1, 3, patience=10 * HANG, report=quiet.append)
    slow.note("reads the data of step 8")
    slow.publish()
    waiting = Watchdog(store, 0, 3, patience=0.4, report=result.append)
    waiting.note("waits for the others before step 8")
    wait_until(lambda: result, "the watchdog has spoken")
    waiting.stop()
    slow.stop()
    assert "nothing has moved on process 0" in result[0]
    assert "process 0: waits for the others before step 8" in result[-1]
    assert "process 1: reads the data of step 8" in result[0]
    assert "process 2: no note yet" in result[0]
    assert not quiet


def test_only_what_tells_of_another_process_counts_as_lost() -> None:
    lost = is_connection_error
    assert lost(RuntimeError("[../gloo/transport/tcp/pair.cc:1] Connection closed by peer"))
    assert lost(torch.distributed.DistBackendError("NCCL communicator was aborted"))
    assert not lost(RuntimeError("shape '[2]' is invalid"))


def test_a_shard_that_vanishes_midway_is_counted_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        write_pairs(tmp_path / f"s{number}.tar", 32)
    notes: list[str] = []

    class Vanishing(Listener):
        def step(self, report: StepReport) -> None:
            (tmp_path / "s2.tar").unlink(missing_ok=True)

        def note(self, text: str) -> None:
            notes.append(text)

    stream = TarStream(str(tmp_path / "s{0..3}.tar"), block=8, wait=0.0)
    config = config_of(tmp_path, tmp_path / "run", data=Mixture(((stream, 1.0),)), model=TINY_VIT)
    decode_in_threads(monkeypatch)
    with pytest.warns(UserWarning, match=r"1 shard changed since the run was planned|could not be counted"):
        summary = train(Run(config), listener=Vanishing())
    assert summary.finished
    assert any("which was planned for step 16" in text for text in notes), notes
    assert 18 <= summary.step < 24  # 24 with all four shards in all three epochs
    assert any("records skipped" in text or "skipped:" in text for text in notes), notes
    assert weights(tmp_path / "run")
