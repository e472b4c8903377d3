"""Sharded checkpoints: valid ones are read; pickles that name code are refused and never executed."""

from __future__ import annotations

import dataclasses
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych.errors import TrainingError
from diptych.training.checkpoints.checkpoint import State, load_sharded

TENSORS = {
    "model": {"a": torch.ones(3, 4), "b": torch.zeros((), dtype=torch.bfloat16)},
    "scaler": {"scale": 2.0, "none": None},
}


class Bomb:
    """An object whose pickle calls os.mkdir, like a malicious file."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def write(folder: Path, tensors: dict[str, Any]) -> State:
    from torch.distributed.checkpoint.state_dict_saver import save

    with warnings.catch_warnings():  # torch warns that there is only one process
        warnings.simplefilter("ignore", UserWarning)
        save(tensors, checkpoint_id=folder / "pieces-1")
    return State(pieces="pieces-1")


def empty() -> dict[str, Any]:
    zeros = {name: torch.zeros_like(tensor) for name, tensor in TENSORS["model"].items()}
    return {"model": zeros, "scaler": {"scale": 0.0, "none": 1}}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    read = load_sharded(tmp_path, write(tmp_path, TENSORS), empty())
    assert torch.equal(read["model"]["a"], torch.ones(3, 4))
    assert read["scaler"] == {"scale": 2.0, "none": None}


@pytest.mark.parametrize("protocol", [2, 4])
def test_metadata_that_name_code_are_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    state = write(tmp_path, TENSORS)
    (tmp_path / "pieces-1" / ".metadata").write_bytes(pickle.dumps(Bomb(tmp_path / "ran"), protocol))
    with pytest.raises(TrainingError, match=r"mkdir, which no checkpoint does"):
        load_sharded(tmp_path, state, empty())
    assert not (tmp_path / "ran").exists()


def test_a_name_inside_a_known_module_is_refused(tmp_path: Path) -> None:
    state = write(tmp_path, TENSORS)
    module = b"\x8c\x26torch.distributed.checkpoint.metadata"
    code = b"\x80\x04" + module + b"\x8c\x09os.system\x93\x8c\x04true\x85R."
    (tmp_path / "pieces-1" / ".metadata").write_bytes(
        code.replace(b"\x8c\x26", bytes([0x8C, len(module) - 2]))
    )
    with pytest.raises(TrainingError, match=r"os\.system"):
        load_sharded(tmp_path, state, empty())


def test_plain_values_that_name_code_are_refused_and_not_run(tmp_path: Path) -> None:
    state = write(tmp_path, {**TENSORS, "scaler": {"scale": Bomb(tmp_path / "ran"), "none": None}})
    with pytest.raises(TrainingError, match="nothing in it was run"):
        load_sharded(tmp_path, state, empty())
    assert not (tmp_path / "ran").exists()


def test_a_pickle_before_a_value_that_is_a_zip_is_refused_and_not_run(tmp_path: Path) -> None:
    """Python's zipfile reads the appended zip, torch.load the pickle before it."""
    state = write(tmp_path, TENSORS)
    metadata = tmp_path / "pieces-1" / ".metadata"
    content = pickle.loads(metadata.read_bytes())
    index, place = next((i, p) for i, p in content.storage_data.items() if i.fqn == "scaler.scale")
    path = tmp_path / "pieces-1" / place.relative_path
    data = path.read_bytes()
    value = data[place.offset : place.offset + place.length]
    bomb = pickle.dumps(Bomb(tmp_path / "ran"), 2)
    content.storage_data[index] = dataclasses.replace(place, offset=len(data), length=len(bomb) + len(value))
    path.write_bytes(data + bomb + value)
    metadata.write_bytes(pickle.dumps(content, 2))
    with pytest.raises(TrainingError, match="nothing was run"):
        load_sharded(tmp_path, state, empty())
    assert not (tmp_path / "ran").exists()


def test_a_module_among_the_names_of_metadata_is_refused(tmp_path: Path) -> None:
    state = write(tmp_path, TENSORS)
    code = b"\x80\x02ctorch.distributed.checkpoint.metadata\nos\n}X\x04\x00\x00\x00exitK\x01sb."
    (tmp_path / "pieces-1" / ".metadata").write_bytes(code)
    with pytest.raises(TrainingError, match=r"metadata\.os, which no checkpoint does"):
        load_sharded(tmp_path, state, empty())
