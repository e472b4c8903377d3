"""What a run keeps beside its newest checkpoint: the model, and numbered checkpoints of some epochs.

A numbered checkpoint is a folder in the run's folder, `epoch-3`: checkpoint, log and model as they were after
that epoch. It is laid out as the folder of a run, so whatever reads a run reads it, too. It is written under
a hidden name and renamed once it is whole, and gets a hidden name again before it is removed: a kill leaves
at worst a hidden folder, which goes with the next numbered checkpoint.
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

MODEL = "model"  # folder of the weights, in the folder of a run
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
    """Write a model in our format, with a summary of how it came about.

    Parameters
    ----------
    folder : Path
    config : TrainConfig
    spec : ModelSpec
        Of the run.
    state : State
        Where the run stands.
    metrics : mapping
        Measured of this model.
    epochs : int
        Done when it was.
    weights : mapping
        Whole and on the CPU; None only where another process writes.

    Returns
    -------
    str
        Its identity.
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
    """The numbered checkpoints of a run by their epochs, in order.

    Examples
    --------
    >>> numbered(Path("no-run"))
    {}
    """
    paths = folder.glob("epoch-*")
    found = {int(match[1]): path for path in paths if (match := _NUMBERED.fullmatch(path.name))}
    return dict(sorted(found.items()))


def begin(part: Path) -> None:
    """Make the hidden folder of a checkpoint, empty."""
    with saving(part):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()


def hidden(folder: Path, epoch: int) -> Path:
    """Where the checkpoint of an epoch is written until it is whole."""
    return folder / f".epoch-{epoch}.part"


def publish(folder: Path, epoch: int, *, keep: int, best: int) -> None:
    """Give the checkpoint of an epoch its name, and remove old ones.

    Parameters
    ----------
    folder : Path
        Of the run.
    epoch : int
    keep : int
        So many of the newest stay; 0: all.
    best : int
        The epoch of the best model: its checkpoint stays, too.

    Raises
    ------
    SaveError
        No permission.
    """
    part = hidden(folder, epoch)
    if (folder / checkpoint.LOG).is_file():
        write_bytes(part / checkpoint.LOG, (folder / checkpoint.LOG).read_bytes())
    with saving(folder / f"epoch-{epoch}"):
        _remove(folder / f"epoch-{epoch}")  # of a leg that was killed before it could say so
        part.rename(folder / f"epoch-{epoch}")
        there = numbered(folder)
        for old in list(there)[:-keep] if keep else ():
            if old not in (best, epoch):
                _remove(there[old])
    for left in folder.glob(".epoch-*"):
        shutil.rmtree(left, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.exists():
        gone = path.with_name(f".{path.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def refuse_source(folder: Path, source: Path, named: Path) -> None:
    """Raise TrainingError where a run cannot go on from a folder.

    Parameters
    ----------
    folder : Path
        Of the run.
    source : Path
        What it goes on from: the run's folder, once that has a checkpoint of its own.
    named : Path
        What the user wants it to begin at.
    """
    if named.resolve().is_relative_to(folder.resolve()):
        raise TrainingError(
            f"{named} lies in the folder of the run itself, whose newer checkpoints would be lost: choose "
            "another folder for the run that goes on from it (--out)"
        )
    if not (source / checkpoint.FILE).is_file():
        there = ", ".join(map(str, numbered(source).values()))
        raise TrainingError(
            f"{source} holds no {checkpoint.FILE}: expected a run's folder or a numbered checkpoint in it"
            + (f" ({there})" if there else ", such as runs/mine/epoch-3")
        )


def branch(source: Path, folder: Path) -> None:
    """Copy log and model of a checkpoint into the folder of a new run that goes on from it.

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
    """Raise TrainingError where a run would begin in a folder that holds one, or in a file."""
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"{folder} is a file: expected a folder for the run (--out), which may be new")
    if not resume and (folder / checkpoint.FILE).exists():
        raise TrainingError(
            f"{folder} holds a run already: add --resume to go on with it, or choose another folder"
        )


def monitored(monitor: str, metrics: Mapping[str, float]) -> float | None:
    """What has to get larger; None where nothing is monitored, or it was not measured.

    Examples
    --------
    >>> monitored("val/loss", {"val/loss": 2.0})
    -2.0
    """
    if monitor not in metrics:
        return None
    value = metrics[monitor] * (-1 if monitor.endswith("loss") else 1)
    return -math.inf if math.isnan(value) else value
