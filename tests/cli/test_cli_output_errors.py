"""Errors of the operating system: only a failure of standard output is reported as a failed output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from diptych.cli import main

def command() -> None:
    {body}

main.app = command
sys.argv = ["diptych", "index"]
main.main()
"""


def run(body: str, output: int) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body)], stdout=output, stderr=subprocess.PIPE, text=True
    )
    return done.returncode, done.stderr.strip()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize("size", [1, 100_000])
def test_a_full_device(size: int) -> None:
    with Path("/dev/full").open("w") as full:
        status, message = run(f"print('x' * {size})", full.fileno())
    assert (status, message) == (2, "error: the output could not be written: No space left on device")


def test_a_reader_who_left() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    assert run("print('x')", writing) == (1, "")
    os.close(writing)


def test_something_else() -> None:
    status, message = run("print('x'); raise PermissionError(13, 'Permission denied')", subprocess.DEVNULL)
    assert (status, message) == (2, "error: Permission denied (--debug shows where)")
    status, message = run("raise OSError(28, 'No space left on device', '/a/b')", subprocess.DEVNULL)
    assert (status, message) == (2, "error: /a/b: No space left on device")
