"""A run's state on disk: everything that the next step depends on, in one file that appears whole.

Random numbers need no place in it: the order, the crops and the dropout of a step are functions of the seed
and the step (`order.py`, `trainer.py`).
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.disk import write_bytes, write_whole
from diptych.errors import TrainingError
from diptych.training.config import TrainConfig

FILE = "checkpoint.pt"
LOG = "log.jsonl"
FORMAT = 1

# Fields that may differ when a run goes on: how it is watched or how fast it is, not what it makes.
FREE = frozenset(
    {"out", "workers", "cache", "max_minutes", "evaluate_every", "checkpoint_every", "log_every"}
    | {"device", "threads", "patience"}
)


@dataclass
class State:
    """Where a run stands.

    Attributes
    ----------
    step : int
        Steps done.
    epoch, position : int
        Where the next batch begins: the epoch, and visits of it already used.
    best : float or None
        Best value of the monitored metric so far.
    stale : int
        Evaluations since then.
    seconds : float
        Time spent training, over all legs.
    total : int
        Steps of the whole run, as the schedule sees it.
    start : str
        Identity of the weights it began with, if it did not begin at random.
    identity : str
        Of the model kept so far.
    metrics : dict
        Of the model kept so far.
    tensors : dict
        Weights and optimiser, only on the way from `load` to the trainer.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    best: float | None = None
    stale: int = 0
    seconds: float = 0.0
    total: int = 0
    start: str = ""
    identity: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    tensors: dict[str, Any] = field(default_factory=dict, repr=False)


def machine(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """The conditions under which two runs can be the same to the last bit."""
    return {
        "threads": str(torch.get_num_threads()),
        "device": device.type,
        "precision": str(dtype).removeprefix("torch."),
        "torch": str(torch.__version__),  # a class of torch's own, which a safe load refuses
    }


def save(
    folder: Path, state: State, tensors: dict[str, Any], config: TrainConfig, conditions: dict[str, str]
) -> None:
    """Write the checkpoint; the one before stays until the new one is whole.

    Raises
    ------
    SaveError
        No space, or no permission.
    """
    values = {f.name: getattr(state, f.name) for f in dataclasses.fields(state) if f.name != "tensors"}
    content = {
        "format": FORMAT,
        "state": values,
        "tensors": tensors,
        "config": fingerprint(config),
        "machine": conditions,
    }

    def write(path: Path) -> None:
        try:
            torch.save(content, path)
        except RuntimeError as error:  # torch's own writer says so when the device is full
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({error})") from error

    write_whole(folder / FILE, write)


def load(folder: Path, config: TrainConfig) -> tuple[State, dict[str, str]]:
    """Read a run's checkpoint and the conditions it was made under.

    Raises
    ------
    TrainingError
        It cannot be read, or belongs to a run with another config.
    """
    path = folder / FILE
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise ValueError(f"it has format {content['format']}, and this version reads {FORMAT}")
        state = State(**content["state"], tensors=content["tensors"])
        saved, before = content["config"], content["machine"]
    except Exception as error:  # torch names no class for a file that is not its own
        raise TrainingError(f"{path} cannot be read as a checkpoint of this package: {error}") from error
    _same(saved, fingerprint(config), path)
    return state, before


def fingerprint(config: TrainConfig) -> dict[str, str]:
    """The fields that decide what a run makes, as texts."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in FREE}
    values["model"] = config.architecture
    return {name: told(value) for name, value in values.items()}


def told(value: Any) -> str:
    """A value as text that is the same in every process: `repr` shows a set in the order of its hashes.

    Examples
    --------
    >>> told({"b": frozenset({"y", "x"}), "a": (1, 2.0)})
    "{'a': (1, 2.0), 'b': {'x', 'y'}}"
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (f"{f.name}={told(getattr(value, f.name))}" for f in dataclasses.fields(value))
        return f"{type(value).__name__}({', '.join(fields)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{told(k)}: {told(v)}" for k, v in value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(told, value))) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(told, value)) + ")"
    return repr(value)


def _same(saved: dict[str, str], now: dict[str, str], path: Path) -> None:
    changed = [name for name in sorted(saved.keys() | now.keys()) if saved.get(name) != now.get(name)]
    if changed:
        told = "; ".join(f"{n} was {_short(saved.get(n))}, is {_short(now.get(n))}" for n in changed[:3])
        raise TrainingError(
            f"{path} belongs to a run with another config ({told}). Resume it with the same config, "
            "or choose another folder for a new run"
        )


def _short(text: str | None) -> str:
    return "not there" if text is None else text if len(text) <= 60 else text[:57] + "..."


def rewind_log(folder: Path, step: int) -> None:
    """Drop lines of the log that were written after the checkpoint a run goes on from."""
    path = folder / LOG
    if not path.is_file():
        return
    kept = []
    for line in path.read_text("utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # the line that a kill cut off
    write_bytes(path, "".join(kept).encode())


def to_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, so that a checkpoint can be read on any machine."""
    return {name: value.detach().cpu() for name, value in tensors.items()}
