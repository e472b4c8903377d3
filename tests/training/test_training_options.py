"""Training with every documented value of every option: alone, and on two processes where it matters.

The values come from the annotations of the config, so that a new value is tested without a change here.
`NEEDS` holds the options that a value requires.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import typing
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torch.distributed as dist

from diptych.training import Run, TrainConfig, train
from diptych.weights import load_checkpoint
from tests.training import processes
from tests.training.make_runs import COLOURS, TINY, TINY_VIT, config_of, write_pairs

CAPTIONS = tuple(f"a {list(COLOURS)[n % 4]} square, number {n}" for n in range(32))
BIASED = dataclasses.replace(TINY_VIT, init_logit_bias=-5.0)
NEEDS: dict[tuple[str, Any], dict[str, Any]] = {
    ("loss", "sigmoid"): {"model": BIASED},
    ("objective", "classes"): {"classes": CAPTIONS},
    ("lock", "both"): {"lock_image_unlocked_groups": 2, "lock_text_unlocked_layers": 1},
    ("still_norms", True): {"model": TINY},
}


def values() -> list[tuple[str, Any]]:
    """All fields with a finite set of values, with each value."""
    hints = typing.get_type_hints(TrainConfig)
    table: list[tuple[str, Any]] = []
    for field in dataclasses.fields(TrainConfig):
        kind = hints[field.name]
        if typing.get_origin(kind) is Literal:
            table += [(field.name, value) for value in typing.get_args(kind)]
        elif kind is bool:
            table += [(field.name, value) for value in (False, True)]
    return table


def test_the_table_holds_the_options_that_the_docs_name() -> None:
    names = {name for name, _ in values()}
    assert {"precision", "parallel", "exchange", "objective", "loss", "same_caption", "lock"} <= names
    assert ("precision", "float16") in values()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs") / "pairs.tar", 32)


def tiny(pairs: Path, out: Path, **changes: Any) -> TrainConfig:
    few: dict[str, Any] = {"model": TINY_VIT, "epochs": 1, "chunk": 8, "checkpoint_every": 100}
    return config_of(pairs, out, **{**few, **changes})


@pytest.mark.parametrize(("name", "value"), values())
def test_every_value_trains(
    pairs: Path, tmp_path: Path, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the frontend of the compiler, with chunks and checkpoints; generating C++ would take minutes.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    config = tiny(pairs, tmp_path, **{name: value}, **NEEDS.get((name, value), {}))
    summary = train(Run(config))
    assert (summary.finished, summary.step) == (True, 2)
    state = load_checkpoint(tmp_path).state
    assert all(torch.isfinite(tensor).all() for tensor in state.values())


# Options that several processes share or shard: each value with DDP and with FSDP2, combined in few runs.
SHARED = ("loss", "precision", "exchange", "lock", "same_caption", "grad_checkpointing")


def shared_values() -> list[dict[str, Any]]:
    """Options of all runs of two processes: run n takes value n of each option, modulo their number."""
    table = {name: [value for other, value in values() if other == name] for name in (*SHARED, "objective")}
    combined = [
        {name: table[name][n % len(table[name])] for name in SHARED}
        for n in range(max(len(table[name]) for name in SHARED))
    ]
    # Other objectives have no loss, lock or equal captions to choose.
    combined += [{"objective": value} for value in table["objective"] if value != "contrastive"]
    runs = [
        {"parallel": parallel, **options, **_needs(options)}
        for parallel in ("ddp", "fsdp")
        for options in combined
    ]
    return [
        *runs,
        {"parallel": "fsdp", "model": TINY},
        {"parallel": "fsdp", "model": TINY, "precision": "float16"},
    ]


def _needs(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for option in options.items() for key, value in NEEDS.get(option, {}).items()}


def test_the_runs_of_two_processes_take_every_value() -> None:
    for parallel in ("ddp", "fsdp"):
        runs = [changes for changes in shared_values() if changes["parallel"] == parallel]
        for name in SHARED:
            wanted = {value for other, value in values() if other == name}
            assert wanted == {changes[name] for changes in runs if name in changes}, name


def runs_of_two(folder: str, pairs: str) -> None:
    """All runs one after another, by the same two processes."""
    rank = int(os.environ["RANK"])
    for number, changes in enumerate(shared_values()):
        if not dist.is_initialized():  # the end of a run leaves the process group
            meeting = f"file://{folder}/meeting-{number}"
            dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
        summary = train(Run(tiny(Path(pairs), Path(folder) / f"run-{number}", **changes)))
        with (Path(folder) / f"done-{rank}.jsonl").open("a") as file:
            file.write(json.dumps([number, summary.finished, summary.step]) + "\n")


def test_every_value_that_processes_share_trains_on_two(pairs: Path, tmp_path: Path) -> None:
    processes.run(2, "tests.training.test_training_options:runs_of_two", tmp_path, pairs)
    count = len(shared_values())
    for rank in (0, 1):
        done = [json.loads(line) for line in (tmp_path / f"done-{rank}.jsonl").read_text().splitlines()]
        assert done == [[number, True, 2] for number in range(count)]
    for number, changes in enumerate(shared_values()):
        state = load_checkpoint(tmp_path / f"run-{number}").state
        assert all(torch.isfinite(tensor).all() for tensor in state.values()), changes
