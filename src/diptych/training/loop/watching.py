"""What a run tells while it goes: reports, a summary, and the listener that a screen derives from.

The loop (`trainer.py`) tells; how it is shown is the command line's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StepReport:
    """What the listener is told: one line of the log.

    Attributes
    ----------
    loss : float
        Mean since the last report; chance is log(batch size).
    scale : float
        The factor on cosines.
    pairs_per_second, wait_share : float
        Since the last report; the share of time that went by waiting for data.
    decoded_per_second : float
        Pairs that the workers can read, decode and crop, if that is all they do: where it is no higher than
        `pairs_per_second` at many workers, data is what the run waits for.
    utilisation : float
        Of what the machine could compute, the part that the model needed; 0 where that is not known.
    memory : float
        The most used so far, GiB.
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
class Summary:
    """How a run ended: finished, or how to go on."""

    finished: bool
    reason: str
    step: int
    seconds: float
    metrics: Mapping[str, float]
    identity: str
    folder: Path


class Listener:
    """What a run tells while it goes; override what is of interest."""

    def scanning(self, total: int) -> Callable[[int], None]:
        """Records are about to be read once; returns what to call with the number done."""
        return lambda done: None

    def step(self, report: StepReport) -> None:
        """Some steps were made."""

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """The evaluators were called."""

    def note(self, text: str) -> None:
        """Something worth knowing."""

    def close(self) -> None:
        """The run is over."""


def sample_file(folder: Path, step: int) -> Path:
    """Where an evaluator may draw what the model makes of some pictures; loggers look there.

    Examples
    --------
    >>> sample_file(Path("runs/mine"), 400).as_posix()
    'runs/mine/samples/step-000400.png'
    """
    return folder / "samples" / f"step-{step:06}.png"
