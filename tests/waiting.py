"""Waiting for processes and threads in tests, with one generous limit, so that a busy machine fails no test.

Tests do not measure times; `benchmarks/` does. `test_architecture.py` keeps clocks, sleeps and small time
limits out of all other test files.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

HANG = 900.0  # seconds after which something counts as hung; pytest's own limit (pyproject.toml) is longer
POLL = 0.01  # seconds between two checks


def wait_until(condition: Callable[[], object], expected: str) -> None:
    """Return as soon as the condition holds; fail with the expected event if it never does."""
    end = time.monotonic() + HANG
    while not condition():
        assert time.monotonic() < end, f"not within {HANG:.0f} s: {expected}"
        time.sleep(POLL)


def pause(seconds: float) -> None:
    """Sleep; the test must pass however long this takes."""
    time.sleep(seconds)


def kill_within(process: subprocess.Popen[Any], seconds: float) -> float | None:
    """Kill a process after some seconds, or return its run time if it ends before that."""
    begun = time.monotonic()
    try:
        process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        return None
    return time.monotonic() - begun
