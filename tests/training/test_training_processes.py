"""Whole runs of several processes: they learn as one, go on with another number of them, and end clearly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import processes
import pytest
import torch
from make_runs import TINY_VIT, config_of, weights, write_pairs

from diptych.training import Run, train
from diptych.training.checkpoint import PIECES


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A broken record shifts its lane, and must shift it on every process alike.
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
        processes.run(count, "processes:training", out.parent, pairs, out, json.dumps(options))


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.filterwarnings("ignore:the run goes on under other conditions")
def test_two_processes_learn_what_one_learns_and_one_or_three_go_on(
    pairs: Path, tmp_path: Path, parallel: str
) -> None:
    run(1, pairs, tmp_path / "one" / "run")
    run(2, pairs, tmp_path / "two" / "run", parallel=parallel)
    close(tmp_path / "one" / "run", tmp_path / "two" / "run")
    run(2, pairs, tmp_path / "start" / "run", parallel=parallel, max_minutes=1e-9)
    assert bool(list((tmp_path / "start" / "run").glob(f"{PIECES}-*"))) == (parallel == "fsdp")
    for count in (1, 3):
        after = tmp_path / str(count) / "run"
        shutil.copytree(tmp_path / "start" / "run", after)
        run(count, pairs, after, parallel=parallel)
        close(tmp_path / "one" / "run", after)
