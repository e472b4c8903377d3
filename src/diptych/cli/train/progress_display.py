"""Progress output of `diptych train`: a bar on a terminal, a line every 30 seconds elsewhere."""

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

_LINE_SECONDS = 30  # between lines without a terminal


@contextmanager
def listening(quiet: bool, loggers: Sequence[str], config: TrainConfig) -> Iterator[Listener]:
    """A listener that shows progress, unless `quiet`, and passes everything to the named loggers."""
    for name in loggers:
        if name not in LOGGERS:
            raise InputError(f"--logger {name}: expected {' or '.join(LOGGERS)}")
    display = Listener() if quiet else ProgressDisplay(sys.stderr.isatty())
    combined = CombinedListener([display, *(LOGGERS[name](config) for name in loggers)])
    try:
        yield combined
    finally:
        combined.close()


class ProgressDisplay(Listener):
    """Progress display: step, loss, logit scale, pairs per second, time spent waiting for data, time left."""

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=Console(stderr=True),
            disable=not terminal,
        )
        self.task = self.bar.add_task("starting", total=None, figures="")
        self.last = time.monotonic()
        self.bar.start()

    def scanning(self, total: int) -> Callable[[int], None]:
        """Show the scan of the data."""
        self.bar.update(self.task, description="reading pairs", total=total, completed=0)
        return lambda done: self.bar.advance(self.task, done)

    def step(self, report: StepReport) -> None:
        """Show a training step."""
        figures = (
            f"loss {report.loss:.3f}  scale {report.scale:.1f}  "
            f"{report.pairs_per_second:,.0f}/s  waits {report.wait_share:.0%}"
        )
        description = f"step {report.step}/{report.steps}"
        self.bar.update(
            self.task, description=description, total=report.steps, completed=report.step, figures=figures
        )
        if not self.terminal and time.monotonic() - self.last > _LINE_SECONDS:
            self.last = time.monotonic()
            note(f"{description}  {figures}")

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Print metrics above the bar."""
        self.note(f"step {step}: " + (", ".join(f"{n} {v:.3f}" for n, v in metrics.items()) or "saved"))

    def close(self) -> None:
        """Stop the bar, and leave it on the screen."""
        self.bar.stop()

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        if self.terminal:
            self.bar.console.print(text, markup=False, highlight=False)
        else:
            note(text)
