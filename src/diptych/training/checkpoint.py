"""A run's state on disk: everything that the next step depends on, in one file that appears whole.

Random numbers need no place in it: the order, the crops and the dropout of a step are functions of the seed
and the step (`order.py`, `trainer.py`).
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.errors import TrainingError
from diptych.training.config import TrainConfig
from diptych.weights.disk import write_bytes, write_whole

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
    identity : str
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
    identity: str = ""
    tensors: dict[str, Any] = field(default_factory=dict, repr=False)


def save(folder: Path, state: State, tensors: dict[str, Any], config: TrainConfig) -> None:
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
        "threads": torch.get_num_threads(),
    }
    write_whole(folder / FILE, lambda path: torch.save(content, path))


def load(folder: Path, config: TrainConfig) -> tuple[State, int]:
    """Read a run's checkpoint and the number of threads it was made with.

    Raises
    ------
    TrainingError
        There is none, it cannot be read, or it belongs to a run with another config.
    """
    path = folder / FILE
    if not path.is_file():
        raise TrainingError(f"{folder} holds no checkpoint to resume from; start without --resume")
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state = State(**content["state"], tensors=content["tensors"])
        saved, threads = content["config"], content["threads"]
    except Exception as error:  # torch names no class for a file that is not its own
        raise TrainingError(f"{path} cannot be read as a checkpoint of this package: {error}") from error
    if content["format"] != FORMAT:
        raise TrainingError(f"{path} has format {content['format']}; this version reads {FORMAT}")
    _same(saved, fingerprint(config), path)
    return state, threads


def fingerprint(config: TrainConfig) -> dict[str, str]:
    """The fields that decide what a run makes, as texts."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in FREE}
    values["model"] = config.architecture
    return {name: repr(value) for name, value in values.items()}


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
