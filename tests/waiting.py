"""How tests wait for processes and threads, with one wide limit: a busy machine must fail no test.

A test that has to know how long something took is wrong here; `benchmarks/` measures times.
`test_architecture.py` keeps clocks, sleeps and small time limits out of every other file of the tests.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

HANG = 900.0  # seconds after which something counts as hung; pytest's own limit (pyproject.toml) is longer
POLL = 0.01  # seconds between two looks


def wait_until(condition: Callable[[], object], expected: str) -> None:
    """Return once the condition holds; fail with what was expected if it never does."""
    end = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < end, f"not within {HANG:.0f} s: {expected}"
        time.sleep(POLL)


def pause(seconds: float) -> None:
    """Do nothing for a while; the test must pass however long this takes."""
    time.sleep(seconds)


def kill_within(process: subprocess.Popen[Any], seconds: float) -> float | None:
    """Kill a process after some seconds; give how long it ran instead, where it ended before that."""
    begun = time.monotonic()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return None
    return time.monotonic() - begun
