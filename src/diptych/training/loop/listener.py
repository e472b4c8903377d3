"""Events of a run: reports, a summary, and the listener that receives them.

`trainer.py` calls the listener; the command line displays the events.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StepReport:
    """Figures of a logging interval: one line of the log, whose keys are the fields.

    Attributes
    ----------
    loss : float
        Mean since the last report; InfoNCE of a random model is log(batch size).
    scale : float
        The factor on cosines.
    pairs_per_second, wait_share : float
        Since the last report; the share of the time spent waiting for data.
    decoded_per_second : float
        Pairs that the workers can read, decode and crop. If it is no higher than `pairs_per_second`, data
        limits the speed of the run.
    utilisation : float
        Model FLOP utilisation, see `meter.py`; 0 if the peak of the device is unknown.
    memory : float
        Peak so far, GiB.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    scale: float
    lr: float
    gradient: float
    pairs_per_second: float
    wait_share: float
    seconds: float
    decoded_per_second: float = 0.0
    utilisation: float = 0.0
    memory: float = 0.0


@dataclass(frozen=True)
class RunSummary:
    """How a run ended: finished or stopped, for which reason, and where the model is."""

    finished: bool
    reason: str
    step: int
    seconds: float
    metrics: Mapping[str, float]
    identity: str
    folder: Path


class Listener:
    """Receives the events of a run; override the methods of interest."""

    def scanning(self, total: int) -> Callable[[int], None]:
        """A scan of `total` records starts; returns the function that is called with the number done."""
        return lambda done: None

    def step(self, report: StepReport) -> None:
        """A logging interval ended."""

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """The evaluators returned metrics."""

    def note(self, text: str) -> None:
        """A message for the user."""

    def close(self) -> None:
        """The run has ended."""


def sample_file(folder: Path, step: int) -> Path:
    """The image that an evaluator may write to show results; loggers upload it.

    Examples
    --------
    >>> sample_file(Path("runs/mine"), 400).as_posix()
    'runs/mine/samples/step-000400.png'
    """
    return folder / "samples" / f"step-{step:06}.png"
