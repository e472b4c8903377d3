"""Listeners that log to TensorBoard, to Weights & Biases, or to several listeners at once.

The trainer itself writes `log.jsonl`. Nothing is sent over the network unless Weights & Biases is requested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from diptych.errors import TrainingError
from diptych.extras import require
from diptych.files.disk import write_bytes
from diptych.training.checkpoints.checkpoint import stable_repr
from diptych.training.config import TrainConfig
from diptych.training.loop.listener import Listener, StepReport, sample_file


class CombinedListener(Listener):
    """Forwards every event to several listeners, in order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.listeners = listeners

    def scanning(self, total: int) -> Callable[[int], None]:
        """A scan of records starts."""
        counters = [listener.scanning(total) for listener in self.listeners]

        def count(done: int) -> None:
            for counter in counters:
                counter(done)

        return count

    def step(self, report: StepReport) -> None:
        """A logging interval ended."""
        for listener in self.listeners:
            listener.step(report)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """The evaluators returned metrics."""
        for listener in self.listeners:
            listener.evaluated(step, metrics)

    def note(self, text: str) -> None:
        """A message for the user."""
        for listener in self.listeners:
            listener.note(text)

    def close(self) -> None:
        """The run has ended."""
        for listener in self.listeners:
            listener.close()


class TensorBoard(Listener):
    """Writes curves and sample images for `tensorboard --logdir` into the run's folder.

    Parameters
    ----------
    folder : Path
        Of the run.

    Raises
    ------
    MissingExtraError
        tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Imported at the start of the run, not at the first report, so that a missing package is found at
        # once.
        require("tensorboard", extra="tensorboard", purpose="write TensorBoard's files")
        self._writer: Any = None

    def _at(self, step: int) -> Any:
        """The writer, opened at its first use; points at later steps of an interrupted run are hidden."""
        if self._writer is None:
            module = require(
                "torch.utils.tensorboard", extra="tensorboard", purpose="write TensorBoard's files"
            )
            self._writer = module.SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        return self._writer

    def step(self, report: StepReport) -> None:
        """Log the figures of the interval."""
        for name, value in figures(report).items():
            self._at(report.step).add_scalar(f"train/{name}", value, report.step)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics, and the sample image if there is one."""
        for name, value in metrics.items():
            self._at(step).add_scalar(name, value, step)
        if sample_file(self.folder, step).is_file():
            from PIL import Image

            with Image.open(sample_file(self.folder, step)) as image:
                self._at(step).add_image("samples", np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases(Listener):
    """Logs to Weights & Biases; a resumed run continues the same run there.

    Parameters
    ----------
    config : TrainConfig
        Of the run, which is named after its folder.

    Raises
    ------
    MissingExtraError
        wandb is not installed.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.folder = Path(config.out)
        self._wandb = require("wandb", extra="wandb", purpose="log to Weights & Biases")
        values = {name: stable_repr(getattr(config, name)) for name in ("model", "data", "augment")}
        plain = {
            k: v for k, v in vars(config).items() if isinstance(v, str | int | float) and k not in values
        }
        name = "-".join(self.folder.parts[-2:]).strip("/")
        options = {"project": "diptych", "name": name, "resume": "allow", "config": {**plain, **values}}
        try:
            self._run = self._wandb.init(id=_identity(self.folder / "wandb-id"), **options)
        except Exception as error:  # without account or network wandb raises many classes
            raise TrainingError(
                f"Weights & Biases cannot be reached: {error}. Leave out --logger wandb"
            ) from error

    def step(self, report: StepReport) -> None:
        """Log the figures of the interval."""
        values = {f"train/{name}": value for name, value in figures(report).items()}
        self._run.log(values, step=report.step)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics, and the sample image if there is one."""
        values: dict[str, Any] = dict(metrics)
        if sample_file(self.folder, step).is_file():
            values["samples"] = self._wandb.Image(str(sample_file(self.folder, step)))
        self._run.log(values, step=step)

    def close(self) -> None:
        """Mark the run as finished."""
        self._run.finish()


def _identity(file: Path) -> str:
    """The run's id at Weights & Biases: made once, and stored in its folder."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, uuid4().hex.encode())
    return file.read_text("utf-8")


LOGGERS: Mapping[str, Callable[[TrainConfig], Listener]] = {
    "tensorboard": lambda config: TensorBoard(Path(config.out)),
    "wandb": WeightsAndBiases,
}


def figures(report: StepReport) -> dict[str, float]:
    """The figures of a report, without step numbers."""
    return {name: value for name, value in asdict(report).items() if name not in ("step", "steps")}
