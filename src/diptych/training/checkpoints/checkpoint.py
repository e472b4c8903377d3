"""Checkpoints: everything that the next step depends on, in one file that is written atomically.

No state of random generators is stored: order, crops and dropout of a step are functions of the seed and the
step (`data/order.py`, `loop/gradients.py`). A sharded model (FSDP2) is written by all processes into a folder
beside the file, by torch.distributed.checkpoint; the file then names the folder, so that the checkpoint still
becomes valid at one instant. Either kind can be read by any number of processes.

e.g. at step 400 with FSDP2: all processes write `pieces-400/`, rank 0 replaces `checkpoint.pt`, which named
`pieces-200/` before, and then removes `pieces-200/`. A kill at any time leaves one valid checkpoint.
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
PIECES = "pieces"  # prefix of the folders of sharded checkpoints
FORMAT = 4  # of the file: its keys and the fields of `State`

# Fields that may differ when a run is resumed: they change its speed or its reports, not its result.
FREE = frozenset(
    {"out", "workers", "cache", "max_minutes", "evaluate_every", "checkpoint_every", "log_every"}
    | {"device", "threads", "patience", "chunk", "parallel", "exchange"}
    | {"save_frequency", "keep_checkpoints"}
    | {"features_folder"}
    | {"tokenizer_file", "languages"}  # the path of the tokenizer; its content is in its config
)


# Fields that define the end of a constant schedule. No step before the end depends on them.
ENDING = ("epochs", "epochs_cooldown", "lr_cooldown_power", "lr_cooldown_end")


@dataclass
class State:
    """The state of a run. The names of the fields are keys of the checkpoint file.

    Attributes
    ----------
    step : int
        Steps done.
    lanes : int
        Lanes of the data (`data/batch.py`), fixed at the start of the run.
    positions : dict
        Position of each lane in the epoch; empty at its start.
    best : float or None
        Best value of the monitored metric so far.
    best_epoch : int
        The epoch of the saved model.
    stale : int
        Evaluations since then.
    seconds : float
        Training time, over all resumptions.
    total : int
        Planned steps of the whole run, for the schedule.
    cooldown : int
        Steps at the end in which the rate decays, if the config has a cooldown.
    warmup : int
        Steps of warmup: fewer than in the config for a short run; unchanged when the run is extended.
    start : str
        Identity of the weights that it started from; "" for a random start.
    identity : str
        Of the saved model.
    metrics : dict
        Of the saved model.
    chunk : int
        Pairs encoded at once, if the config leaves it to be measured; else 0.
    tensors : dict
        Weights and optimiser, only between `load` and the trainer.
    pieces : str
        The folder of the tensors of a sharded model; else "".
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
    """The conditions that must be equal for two runs to be bitwise equal."""
    return {
        "threads": str(torch.get_num_threads()),
        "processes": str(world.size),
        "chunk": str(config.chunk),
        "parallel": config.parallel if world.size > 1 else "",
        "device": device.type,
        "precision": str(dtype).removeprefix("torch."),
        "torch": str(torch.__version__),  # a subclass of str, which `read` would refuse
    }


def save(
    folder: Path, state: State, tensors: dict[str, Any], config: TrainConfig, conditions: dict[str, str]
) -> None:
    """Write the checkpoint atomically: until it is complete, the one before stays.

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
        except RuntimeError as error:  # from torch's writer when the disk is full
            raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} ({error})") from error

    write_atomically(folder / FILE, write)


def save_sharded(folder: Path, state: State, tensors: dict[str, Any], *args: Any, world: World) -> None:
    """Write a sharded checkpoint; all processes must call this, with the arguments of `save`.

    Raises
    ------
    SaveError
        A process could not write its part; the checkpoint before stays valid.
    """
    from torch.distributed.checkpoint.state_dict_saver import save as save_each

    # Always a new folder: the one that the file names must stay unchanged until the new one is complete.
    taken = {path.name for path in folder.glob(f"{PIECES}-*")}
    name = world.broadcast(next(n for n in map(f"{PIECES}-{{}}".format, count(state.step)) if n not in taken))
    try:
        save_each(tensors, checkpoint_id=folder / name)
    except Exception as error:  # torch raises an error of one process on all, wrapped in its own classes
        raise SaveError(f"{folder / name} could not be written: {error}") from error
    # Only now that all processes have written: this makes the new folder the valid one.
    if world.first:
        save(folder, dataclasses.replace(state, pieces=name), {}, *args)
        for old in folder.glob(f"{PIECES}-*"):
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)
    world.barrier()


def load_sharded(folder: Path, state: State, like: dict[str, Any]) -> dict[str, Any]:
    """Load the tensors of a sharded checkpoint, sharded or unsharded as those of `like`.

    Raises
    ------
    TrainingError
        The folder is missing or incomplete.
    """
    from torch.distributed.checkpoint.state_dict_loader import load as load_each

    from diptych.training.checkpoints.sharded_reader import (
        CheckpointException,
        ShardedCheckpointPlanner,
        ShardedCheckpointReader,
    )

    path = folder / state.pieces
    try:
        with warnings.catch_warnings():  # torch warns that there is only one process
            warnings.simplefilter("ignore", UserWarning)
            load_each(
                like, storage_reader=ShardedCheckpointReader(path), planner=ShardedCheckpointPlanner(path)
            )
    except (Exception, CheckpointException) as error:  # CheckpointException is a BaseException
        failures = getattr(error, "failures", {})
        reason = next((failure[0] for failure in failures.values()), error)
        raise TrainingError(f"{path} cannot be read: {reason}") from error
    return like


def read(folder: Path) -> tuple[State, dict[str, str], dict[str, str]]:
    """Read a checkpoint: its state, the fingerprint of its config, and the conditions of `machine`.

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
    """Read the checkpoint of a run with this config, and the conditions of `machine`.

    Raises
    ------
    TrainingError
        It cannot be read, belongs to a run with another config, or is past the steps that the config changes.
    """
    path = folder / FILE
    state, saved, before = read(folder)
    now = fingerprint(config)
    # A field that this version has and the one that began the run had not counts as its default.
    defaults = fingerprint(TrainConfig(data=config.data))
    new_fields = {name: defaults[name] for name in now.keys() - saved.keys() if name in defaults}
    saved = {**new_fields, **saved}
    ending = {name: now[name] for name in ENDING if saved[name] != now[name]} if can_extend(config) else {}
    _refuse_other_config({**saved, **ending}, now, path)
    if ending:
        _refuse_passed(state, saved, now, path)
        state.total = 0  # counted again by the trainer
    return state, before


def _refuse_passed(state: State, saved: Mapping[str, str], now: Mapping[str, str], path: Path) -> None:
    """Raise TrainingError if steps that are done would have had another learning rate."""

    def past_start_of_cooldown(epochs: int, cooldown: int) -> bool:
        begin = epochs - cooldown
        return bool(cooldown) and (state.epoch > begin or (state.epoch == begin and bool(state.positions)))

    if past_start_of_cooldown(int(saved["epochs"]), int(saved["epochs_cooldown"])):
        begin = int(saved["epochs"]) - int(saved["epochs_cooldown"])
        raise TrainingError(
            f"{path} is in its cooldown, which began after epoch {begin}: resume it with the same config, or "
            "from an earlier checkpoint (--resume-from; save_frequency keeps numbered ones)"
        )
    cooldown = int(now["epochs_cooldown"])
    if past_start_of_cooldown(int(now["epochs"]), cooldown):
        done = state.epoch + bool(state.positions)
        raise TrainingError(
            f"a cooldown of the last {cooldown} of {now['epochs']} epochs would have begun after epoch "
            f"{int(now['epochs']) - cooldown}, and {path} has started epoch {done} at the full rate: "
            f"expected epochs={done + cooldown} or more"
        )


def can_extend(config: TrainConfig) -> bool:
    """Whether a run may be resumed with another number of epochs, or with another cooldown.

    A cosine reaches 0 at the end of the run, so every step depends on the end. At a constant rate no step
    before the cooldown does, unless the image side changes over the epochs.
    """
    return config.schedule == "constant" and not config.image_sizes


def fingerprint(config: TrainConfig) -> dict[str, str]:
    """The fields that the result of a run depends on, as texts; those of the augmentation separately.

    Stored in the checkpoint, and compared when a run is resumed: names of fields and of dataclasses in a
    config are part of the format.
    """
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name not in FREE}
    values["model"] = config.architecture
    augment = values.pop("augment")
    values |= {f"augment.{f.name}": getattr(augment, f.name) for f in dataclasses.fields(augment)}
    return {name: stable_repr(value) for name, value in values.items()}


def stable_repr(value: Any) -> str:
    """A repr that is the same in every process: that of a set has the order of hashes, which are random.

    Examples
    --------
    >>> stable_repr({"b": frozenset({"y", "x"}), "a": (1, 2.0)})
    "{'a': (1, 2.0), 'b': {'x', 'y'}}"
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (f"{f.name}={stable_repr(getattr(value, f.name))}" for f in dataclasses.fields(value))
        # Checkpoints hold the names of classes: one that was renamed keeps its old name here.
        return f"{getattr(value, 'stored_name', type(value).__name__)}({', '.join(fields)})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{stable_repr(k)}: {stable_repr(v)}" for k, v in value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(stable_repr, value))) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(stable_repr, value)) + ")"
    return repr(value)


def _refuse_other_config(saved: dict[str, str], now: dict[str, str], path: Path) -> None:
    """Raise TrainingError if two fingerprints differ."""
    changed = [name for name in sorted(saved.keys() | now.keys()) if saved.get(name) != now.get(name)]
    if changed:
        differences = "; ".join(
            f"{n} was {_short(saved.get(n))}, is {_short(now.get(n))}" for n in changed[:3]
        )
        cosine = changed == ["epochs"] and now["schedule"] == repr("cosine")
        extend = ". A run with schedule=constant can be extended" if cosine else ""
        raise TrainingError(
            f"{path} belongs to a run with another config ({differences}). Resume it with the same config, "
            f"or choose another folder for a new run{extend}"
        )


def _short(text: str | None) -> str:
    return "not there" if text is None else text if len(text) <= 60 else text[:57] + "..."


def truncate_log(folder: Path, step: int) -> None:
    """Drop the lines of the log after the step of the checkpoint from which a run is resumed."""
    path = folder / LOG
    if not path.is_file():
        return
    earlier = []
    for line in path.read_text("utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                earlier.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # a line that was cut off by a kill
    write_bytes(path, "".join(earlier).encode())


def to_cpu(value: Any) -> Any:
    """Copy tensors, also in nested dictionaries, to the CPU, so that any machine can read the checkpoint."""
    if isinstance(value, Mapping):
        return {name: to_cpu(inner) for name, inner in value.items()}
    return value.detach().cpu() if isinstance(value, Tensor) else value
