"""What `diptych train` shows while it goes: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from diptych.cli.shared.console import note
from diptych.errors import InputError
from diptych.training import Listener, StepReport, TrainConfig
from diptych.training.loop.loggers import LOGGERS, CombinedListener

_LINES = 30  # seconds between lines where there is no terminal


@contextmanager
def listening(quiet: bool, log: Sequence[str], config: TrainConfig) -> Iterator[Listener]:
    """A listener that shows the run, or none of it, and tells loggers by their names."""
    for name in log:
        if name not in LOGGERS:
            raise InputError(f"--logger {name}: expected {' or '.join(LOGGERS)}")
    screen = Listener() if quiet else Screen(sys.stderr.isatty())
    every = CombinedListener([screen, *(LOGGERS[name](config) for name in log)])
    try:
        yield every
    finally:
        every.close()


class Screen(Listener):
    """The bar: step, loss, scale, pairs per second, share of time waiting for data, time left."""

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[told]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=Console(stderr=True),
            disable=not terminal,
        )
        self.task = self.bar.add_task("starting", total=None, told="")
        self.last = time.monotonic()
        self.bar.start()

    def scanning(self, total: int) -> Callable[[int], None]:
        """Count the records that have been read."""
        self.bar.update(self.task, description="reading pairs", total=total, completed=0)
        return lambda done: self.bar.advance(self.task, done)

    def step(self, report: StepReport) -> None:
        """Move the bar."""
        told = (
            f"loss {report.loss:.3f}  scale {report.scale:.1f}  "
            f"{report.pairs_per_second:,.0f}/s  waits {report.wait_share:.0%}"
        )
        description = f"step {report.step}/{report.steps}"
        self.bar.update(
            self.task, description=description, total=report.steps, completed=report.step, told=told
        )
        if not self.terminal and time.monotonic() - self.last > _LINES:
            self.last = time.monotonic()
            note(f"{description}  {told}")

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the figures above the bar."""
        self.note(f"step {step}: " + (", ".join(f"{n} {v:.3f}" for n, v in metrics.items()) or "saved"))

    def close(self) -> None:
        """Leave the bar as it is."""
        self.bar.stop()

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        if self.terminal:
            self.bar.console.print(text, markup=False, highlight=False)
        else:
            note(text)
