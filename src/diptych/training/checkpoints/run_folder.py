"""The folder of a run beside its newest checkpoint: the model, and numbered checkpoints of some epochs.

A numbered checkpoint is a folder in the run's folder, `epoch-3`: checkpoint, log and model after that epoch.
It has the layout of a run's folder, so that it can be read like one. It is written as `.epoch-3.part` and
renamed when it is complete; before it is removed, it is renamed to `.epoch-3.gone`. So a kill leaves at worst
a hidden folder, which the next numbered checkpoint removes.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from diptych.errors import TrainingError
from diptych.files.disk import saving, write_bytes
from diptych.training.checkpoints import checkpoint
from diptych.training.config import TrainConfig
from diptych.weights import ModelSpec, save_checkpoint

MODEL = "model"  # folder of the weights in the run's folder
_NUMBERED = re.compile(r"epoch-([1-9][0-9]*)")


def write_model(
    folder: Path,
    config: TrainConfig,
    spec: ModelSpec,
    state: checkpoint.State,
    metrics: Mapping[str, float],
    epochs: int,
    weights: Mapping[str, Tensor] | None,
) -> str:
    """Write a model in our format, with a summary of its training.

    Parameters
    ----------
    spec : ModelSpec
        Of the run.
    state : State
        State of the run.
    metrics : mapping
        Of this model.
    epochs : int
        Epochs after which it was saved.
    weights : mapping
        Unsharded and on the CPU; None only on processes that do not write.

    Returns
    -------
    str
        Identity of the model.
    """
    assert weights is not None
    summary = {
        "steps": state.step,
        "epochs": epochs,
        "batch_size": config.batch_size,
        "pairs_seen": state.step * config.batch_size,
        "seconds": round(state.seconds, 1),
        "seed": config.seed,
        **({"start": state.start} if state.start else {}),
        "torch": str(torch.__version__),
        "metrics": {name: round(value, 6) for name, value in metrics.items()},
    }
    extra = [Path(config.tokenizer_file)] if config.tokenizer_file else []
    return save_checkpoint(folder, replace(spec, training=summary), weights, extra_files=extra)


def numbered(folder: Path) -> dict[int, Path]:
    """The numbered checkpoints of a run: epoch -> folder, in order.

    Examples
    --------
    >>> numbered(Path("no-run"))
    {}
    """
    paths = folder.glob("epoch-*")
    by_epoch = {int(match[1]): path for path in paths if (match := _NUMBERED.fullmatch(path.name))}
    return dict(sorted(by_epoch.items()))


def begin(part: Path) -> None:
    """Create the hidden folder of a checkpoint, empty."""
    with saving(part):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()


def hidden(folder: Path, epoch: int) -> Path:
    """The folder in which the checkpoint of an epoch is written until it is complete."""
    return folder / f".epoch-{epoch}.part"


def publish(folder: Path, epoch: int, *, keep: int, best: int) -> None:
    """Rename the complete checkpoint of an epoch to its final name, and remove old ones.

    Parameters
    ----------
    folder : Path
        Of the run.
    keep : int
        Number of the newest that stay; 0: all.
    best : int
        The epoch of the best model, whose checkpoint stays as well.

    Raises
    ------
    SaveError
        No permission.
    """
    part = hidden(folder, epoch)
    # The log up to this epoch, so that a run can be resumed from the numbered checkpoint.
    if (folder / checkpoint.LOG).is_file():
        write_bytes(part / checkpoint.LOG, (folder / checkpoint.LOG).read_bytes())
    with saving(folder / f"epoch-{epoch}"):
        _remove(folder / f"epoch-{epoch}")  # of a run that was killed right after it
        part.rename(folder / f"epoch-{epoch}")
        # e.g. epochs 1 to 5, keep=2, best=2: removes 1 and 3.
        existing = numbered(folder)
        for old in list(existing)[:-keep] if keep else ():
            if old not in (best, epoch):
                _remove(existing[old])
    for leftover in folder.glob(".epoch-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _remove(path: Path) -> None:
    """Remove a checkpoint; renamed first, so that a kill leaves no incomplete one under its name."""
    if path.exists():
        gone = path.with_name(f".{path.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def refuse_source(folder: Path, source: Path, named: Path) -> None:
    """Raise TrainingError if a run cannot continue from a folder.

    Parameters
    ----------
    folder : Path
        Of the run.
    source : Path
        The folder that it continues from: the run's own folder once that has a checkpoint.
    named : Path
        The folder that the user named (--resume-from).
    """
    if named.resolve().is_relative_to(folder.resolve()):
        raise TrainingError(
            f"{named} is in the folder of the run itself, whose newer checkpoints would be lost: choose "
            "another folder for the run that continues from it (--out)"
        )
    if not (source / checkpoint.FILE).is_file():
        existing = ", ".join(map(str, numbered(source).values()))
        raise TrainingError(
            f"{source} holds no {checkpoint.FILE}: expected a run's folder or a numbered checkpoint in it"
            + (f" ({existing})" if existing else ", such as runs/mine/epoch-3")
        )


def branch(source: Path, folder: Path) -> None:
    """Copy log and model of a checkpoint into the folder of a new run that continues from it.

    Raises
    ------
    SaveError
        No space, or no permission.
    """
    with saving(folder):
        if (source / checkpoint.LOG).is_file():
            write_bytes(folder / checkpoint.LOG, (source / checkpoint.LOG).read_bytes())
        if (source / MODEL).is_dir():
            shutil.copytree(source / MODEL, folder / MODEL, dirs_exist_ok=True)


def refuse_used(folder: Path, *, resume: bool) -> None:
    """Raise TrainingError if a new run would overwrite one in its folder, or if the folder is a file."""
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder} is a file: expected a folder for the run (--out), which may be new")
    if not resume and (folder / checkpoint.FILE).exists():
        raise TrainingError(
            f"{folder} holds a run already: add --resume to continue it, or choose another folder"
        )


def monitored(monitor: str, metrics: Mapping[str, float]) -> float | None:
    """The monitored value, negated for a loss, so that larger is better; None if it is not among the metrics.

    Examples
    --------
    >>> monitored("val/loss", {"val/loss": 2.0})
    -2.0
    """
    if monitor not in metrics:
        return None
    # NaN counts as the worst value: comparisons with NaN are always false.
    value = metrics[monitor] * (-1 if monitor.endswith("loss") else 1)
    return -math.inf if math.isnan(value) else value
