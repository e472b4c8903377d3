"""A run's state on disk: everything that the next step depends on, in one file that appears whole.

Random numbers need no place in it: the order, the crops and the dropout of a step are functions of the seed
and the step (`diptych.training.data.order`, `gradients.py`). A model in pieces (FSDP2) is written by all
processes at once into a folder beside the file, by torch.distributed.checkpoint; the file then names the
folder, so that it is still the file that appears at one instant. Either kind is read by any number of
processes.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.errors import SaveError, TrainingError, WeightsError
from diptych.files.disk import write_atomically, write_bytes
from diptych.training.config import TrainConfig
from diptych.training.distributed.world import World
from diptych.weights.openai.pickled import read_torch_file

FILE = "checkpoint.pt"
LOG = "log.jsonl"
PIECES = "pieces"  # begin the names of folders of pieces
FORMAT = 4

# Fields that may differ when a run goes on: how it is watched or how fast it is, not what it makes.
FREE = frozenset(
    {"out", "workers", "cache", "max_minutes", "evaluate_every", "checkpoint_every", "log_every"}
    | {"device", "threads", "patience", "chunk", "parallel", "exchange"}
    | {"save_frequency", "keep_checkpoints"}
    | {"tokenizer_file", "languages"}  # where the tokenizer lies; what it is, is its config's
)


# Fields that say how a constant schedule ends. No step before the end depends on them.
ENDING = ("epochs", "epochs_cooldown", "lr_cooldown_power", "lr_cooldown_end")


@dataclass
class State:
    """Where a run stands.

    Attributes
    ----------
    step : int
        Steps done.
    epoch : int
    lanes : int
        In how many the data is dealt out, from the start of the run on.
    positions : dict
        Where each lane stands in the epoch; none at its beginning.
    best : float or None
        Best value of the monitored metric so far.
    best_epoch : int
        The epoch after which the model kept was made.
    stale : int
        Evaluations since then.
    seconds : float
        Time spent training, over all legs.
    total : int
        Steps of the whole run, as the schedule sees it.
    cooldown : int
        Steps at the end in which the rate falls, where the config has a cooldown.
    warmup : int
        Steps of warmup: fewer than the config's in a short run, and the same however it is extended.
    start : str
        Identity of the weights it began with, if it did not begin at random.
    identity : str
        Of the model kept so far.
    metrics : dict
        Of the model kept so far.
    chunk : int
        Found for the run, where the config leaves it to be found.
    tensors : dict
        Weights and optimiser, only on the way from `load` to the trainer.
    pieces : str
        The folder they are in instead, where they are in pieces.
    """

    step: int = 0
    epoch: int = 0
    lanes: int = 0
    positions: dict[int, Any] = field(default_factory=dict)
    best: float | None = None
    best_epoch: int = 0
    stale: int = 0
    seconds: float = 0.0
    total: int = 0
    cooldown: int = 0
    warmup: int = 0
    start: str = ""
    identity: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    chunk: int = 0
    tensors: dict[str, Any] = field(default_factory=dict, repr=False)
    pieces: str = ""


def machine(config: TrainConfig, device: torch.device, dtype: torch.dtype, world: World) -> dict[str, str]:
    """The conditions under which two runs can be the same to the last bit."""
    return {
        "threads": str(torch.get_num_threads()),
        "processes": str(world.size),
        "chunk": str(config.chunk),
        "parallel": config.parallel if world.size > 1 else "",
        "device": device.type,
        "precision": str(dtype).removeprefix("torch."),
        "torch": str(torch.__version__),  # a class of torch's own, which `read` refuses
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

    write_atomically(folder / FILE, write)


def save_pieces(folder: Path, state: State, tensors: dict[str, Any], *args: Any, world: World) -> None:
    """Write a checkpoint of a model in pieces; all processes must call this, with what `save` takes.

    Raises
    ------
    SaveError
        A process could not write its part; the checkpoint before is as it was.
    """
    from torch.distributed.checkpoint.state_dict_saver import save as save_each

    # Of its own, always: the folder that the file names now must stay as it is until another is whole.
    taken = {path.name for path in folder.glob(f"{PIECES}-*")}
    name = world.broadcast(next(n for n in map(f"{PIECES}-{{}}".format, count(state.step)) if n not in taken))
    try:
        save_each(tensors, checkpoint_id=folder / name)
    except Exception as error:  # what one process meets comes to all, wrapped in classes of torch's own
        raise SaveError(f"{folder / name} could not be written: {error}") from error
    if world.first:
        save(folder, dataclasses.replace(state, pieces=name), {}, *args)
        for old in folder.glob(f"{PIECES}-*"):
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)
    world.barrier()


def read_pieces(folder: Path, state: State, like: dict[str, Any]) -> dict[str, Any]:
    """The tensors of a checkpoint in pieces, cut as those of `like` are, or whole.

    Raises
    ------
    TrainingError
        The folder is not there or not whole.
    """
    from torch.distributed.checkpoint.state_dict_loader import load as load_each

    from diptych.training.checkpoints.pieces import CheckpointException, PiecesPlanner, PiecesReader

    path = folder / state.pieces
    try:
        with warnings.catch_warnings():  # torch says that one process is one process
            warnings.simplefilter("ignore", UserWarning)
            load_each(like, storage_reader=PiecesReader(path), planner=PiecesPlanner(path))
    except (Exception, CheckpointException) as error:  # as above; theirs is no Exception
        failures = getattr(error, "failures", {})
        reason = next((failure[0] for failure in failures.values()), error)
        raise TrainingError(f"{path} cannot be read: {reason}") from error
    return like


def read(folder: Path) -> tuple[State, dict[str, str], dict[str, str]]:
    """Read a run's checkpoint, its config as texts (`fingerprint`) and the conditions it was made under.

    Raises
    ------
    TrainingError
        It cannot be read.
    """
    path = folder / FILE
    try:
        content: dict[str, Any] = read_torch_file(path)
        if content["format"] != FORMAT:
            raise ValueError(f"it has format {content['format']}, and this version reads {FORMAT}")
        state = State(**content["state"], tensors=content["tensors"])
        return state, content["config"], content["machine"]
    except (WeightsError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read as a checkpoint of this package: {error}") from error


def load(folder: Path, config: TrainConfig) -> tuple[State, dict[str, str]]:
    """Read a run's checkpoint and the conditions it was made under.

    Raises
    ------
    TrainingError
        It cannot be read, belongs to a run with another config, or has passed what the config changes.
    """
    path = folder / FILE
    state, saved, before = read(folder)
    now = fingerprint(config)
    # A field that came after the run was begun had no say in it: it counts as what it is by default.
    usual = fingerprint(TrainConfig(data=config.data))
    younger = {name: usual[name] for name in now.keys() - saved.keys() if name in usual}
    saved = {**younger, **saved}
    ending = {name: now[name] for name in ENDING if saved[name] != now[name]} if can_extend(config) else {}
    _same({**saved, **ending}, now, path)
    if ending:
        _refuse_passed(state, saved, now, path)
        state.total = 0  # to be counted again
    return state, before


def _refuse_passed(state: State, saved: Mapping[str, str], now: Mapping[str, str], path: Path) -> None:
    """Raise TrainingError where steps that are done would have had another rate."""

    def passed(epochs: int, cooldown: int) -> bool:
        begin = epochs - cooldown
        return bool(cooldown) and (state.epoch > begin or (state.epoch == begin and bool(state.positions)))

    if passed(int(saved["epochs"]), int(saved["epochs_cooldown"])):
        begin = int(saved["epochs"]) - int(saved["epochs_cooldown"])
        raise TrainingError(
            f"{path} is in its cooldown, which began after epoch {begin}: resume it with the same config, or "
            "go on from a checkpoint before that (save_frequency keeps some, --resume-from)"
        )
    cooldown = int(now["epochs_cooldown"])
    if passed(int(now["epochs"]), cooldown):
        done = state.epoch + bool(state.positions)
        raise TrainingError(
            f"a cooldown of the last {cooldown} of {now['epochs']} epochs would have begun after epoch "
            f"{int(now['epochs']) - cooldown}, and {path} has begun epoch {done} at the full rate: expected "
            f"epochs={done + cooldown} or more"
        )


def can_extend(config: TrainConfig) -> bool:
    """Whether a run may be resumed with another number of epochs, or with another cooldown at its end.

    A cosine reaches 0 where the run ends, so every step of it depends on the end. At a constant rate none
    does before the cooldown, unless pictures grow over the epochs.
    """
    return config.schedule == "constant" and not config.image_sizes


def fingerprint(config: TrainConfig) -> dict[str, str]:
    """The fields that decide what a run makes, as texts; those of the augmentation one by one."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in FREE}
    values["model"] = config.architecture
    augment = values.pop("augment")
    values |= {f"augment.{f.name}": getattr(augment, f.name) for f in dataclasses.fields(augment)}
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
        cosine = changed == ["epochs"] and now["schedule"] == repr("cosine")
        extend = ". A run with schedule=constant can be extended" if cosine else ""
        raise TrainingError(
            f"{path} belongs to a run with another config ({told}). Resume it with the same config, "
            f"or choose another folder for a new run{extend}"
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


def to_cpu(value: Any) -> Any:
    """Tensors on the CPU, so that a checkpoint can be read on any machine; dictionaries of them likewise."""
    if isinstance(value, Mapping):
        return {name: to_cpu(inner) for name, inner in value.items()}
    return value.detach().cpu() if isinstance(value, Tensor) else value
