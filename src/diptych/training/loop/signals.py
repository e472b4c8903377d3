"""Signals that ask a run to stop: after the step at work it saves, says so, and ends.

Ctrl-C sends SIGINT; Slurm, Kubernetes and `kill` send SIGTERM before they take the machine away. torchrun
passes either on to its processes, which may have got it already from the terminal or from Slurm.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

REASONS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
STATUS = {"interrupted": 130, "terminated": 143}  # of the command, as shells have it: 128 and the signal
ECHO = 2.0  # seconds within which a second signal counts as the first one, passed on


class StopRequest:
    """Whether a signal asked this process to stop.

    Attributes
    ----------
    reason : str
        "interrupted" or "terminated"; "" as long as none came.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.reason = ""
        self._clock, self._since = clock, 0.0

    def handle(self, number: int, frame: Any) -> None:
        """Note a signal; a second Ctrl-C, later than an echo of the first, ends the process at once."""
        if not self.reason:
            self.reason, self._since = REASONS[signal.Signals(number)], self._clock()
        elif number == signal.SIGINT and self._clock() - self._since > ECHO:
            raise KeyboardInterrupt
        # SIGTERM again: the run is on its way out, and SIGKILL is what follows if that takes too long.


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Handle both signals inside; outside the main thread Python allows none, and none comes."""
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
