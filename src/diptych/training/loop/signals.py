"""Signals that stop a run: it finishes the current step, saves a checkpoint, reports it and ends.

Ctrl-C sends SIGINT; Slurm, Kubernetes and `kill` send SIGTERM before they end the process. torchrun forwards
either to its processes, which may have received it already from the terminal or from Slurm.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

REASONS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
STATUS = {
    "interrupted": 130,
    "terminated": 143,
}  # exit status of the command, by the rule of shells: 128 + signal
ECHO = 2.0  # seconds within which a second signal counts as the first one, forwarded by torchrun


class StopRequest:
    """Whether a signal has requested this process to stop.

    Attributes
    ----------
    reason : str
        "interrupted" or "terminated"; "" before any signal.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.reason = ""
        self._clock, self._since = clock, 0.0

    def handle(self, number: int, frame: Any) -> None:
        """Record a signal; a second Ctrl-C more than `ECHO` seconds later ends the process at once."""
        if not self.reason:
            self.reason, self._since = REASONS[signal.Signals(number)], self._clock()
        elif number == signal.SIGINT and self._clock() - self._since > ECHO:
            raise KeyboardInterrupt
        # A second SIGTERM is ignored: the run is about to end, and SIGKILL follows if that takes too long.


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Handle both signals in the context; Python allows that in the main thread only."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.handle) for number in REASONS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
