"""What a run tells, sent on: to TensorBoard, to Weights & Biases, to several listeners at once.

The log that every run has, `log.jsonl`, is the trainer's. Nothing leaves the machine unless somebody asks for
Weights & Biases by name.
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
from diptych.training.checkpoints.checkpoint import told
from diptych.training.config import TrainConfig
from diptych.training.loop.watching import Listener, StepReport, sample_file


class Several(Listener):
    """Listeners that are told the same, in order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.listeners = listeners

    def scanning(self, total: int) -> Callable[[int], None]:
        """Records are about to be read once."""
        counters = [listener.scanning(total) for listener in self.listeners]

        def count(done: int) -> None:
            for counter in counters:
                counter(done)

        return count

    def step(self, report: StepReport) -> None:
        """Some steps were made."""
        for listener in self.listeners:
            listener.step(report)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """The evaluators were called."""
        for listener in self.listeners:
            listener.evaluated(step, metrics)

    def note(self, text: str) -> None:
        """Something worth knowing."""
        for listener in self.listeners:
            listener.note(text)

    def close(self) -> None:
        """The run is over."""
        for listener in self.listeners:
            listener.close()


class TensorBoard(Listener):
    """Curves and samples for `tensorboard --logdir`, in the run's own folder.

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
        # Asked for now: after an hour would be late to hear that it is missing.
        require("tensorboard", extra="tensorboard", purpose="write TensorBoard's files")
        self._writer: Any = None

    def _at(self, step: int) -> Any:
        """The writer; what an earlier leg told of later steps than the first is hidden."""
        if self._writer is None:
            module = require(
                "torch.utils.tensorboard", extra="tensorboard", purpose="write TensorBoard's files"
            )
            self._writer = module.SummaryWriter(str(self.folder / "tensorboard"), purge_step=step)
        return self._writer

    def step(self, report: StepReport) -> None:
        """Curves of the interval."""
        for name, value in figures(report).items():
            self._at(report.step).add_scalar(f"train/{name}", value, report.step)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Points of the metrics, and the sample pictures if some were drawn."""
        for name, value in metrics.items():
            self._at(step).add_scalar(name, value, step)
        if sample_file(self.folder, step).is_file():
            from PIL import Image

            with Image.open(sample_file(self.folder, step)) as picture:
                self._at(step).add_image(
                    "samples", np.asarray(picture.convert("RGB")), step, dataformats="HWC"
                )

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


class WeightsAndBiases(Listener):
    """The same for wandb; a run that goes on goes on there too.

    Parameters
    ----------
    config : TrainConfig
        Its folder names the run.

    Raises
    ------
    MissingExtraError
        wandb is not installed.
    """

    def __init__(self, config: TrainConfig) -> None:
        self.folder = Path(config.out)
        self._wandb = require("wandb", extra="wandb", purpose="log to Weights & Biases")
        values = {name: told(getattr(config, name)) for name in ("model", "data", "augment")}
        plain = {
            k: v for k, v in vars(config).items() if isinstance(v, str | int | float) and k not in values
        }
        name = "-".join(self.folder.parts[-2:]).strip("/")
        options = {"project": "diptych", "name": name, "resume": "allow", "config": {**plain, **values}}
        try:
            self._run = self._wandb.init(id=_identity(self.folder / "wandb-id"), **options)
        except Exception as error:  # no account, no network: wandb has many classes for it
            raise TrainingError(
                f"Weights & Biases cannot be reached: {error}. Leave out --logger wandb"
            ) from error

    def step(self, report: StepReport) -> None:
        """Curves of the interval."""
        values = {f"train/{name}": value for name, value in figures(report).items()}
        self._run.log(values, step=report.step)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Points of the metrics, and the sample pictures if some were drawn."""
        values: dict[str, Any] = dict(metrics)
        if sample_file(self.folder, step).is_file():
            values["samples"] = self._wandb.Image(str(sample_file(self.folder, step)))
        self._run.log(values, step=step)

    def close(self) -> None:
        """Say that the run is over."""
        self._run.finish()


def _identity(file: Path) -> str:
    """The run's own name at Weights & Biases: made once, and kept in its folder."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(file, uuid4().hex.encode())
    return file.read_text("utf-8")


LOGGERS: Mapping[str, Callable[[TrainConfig], Listener]] = {
    "tensorboard": lambda config: TensorBoard(Path(config.out)),
    "wandb": WeightsAndBiases,
}


def figures(report: StepReport) -> dict[str, float]:
    """A report's figures, without the step they are of."""
    return {name: value for name, value in asdict(report).items() if name not in ("step", "steps")}
