"""Shared code of the benchmarks: description of the machine, timing, and peers in their own environment.

A benchmark times ours and the peer's on the same work in one run and prints a ratio. The peer is not a
dependency of this package: it runs in another interpreter (`--peer-python PATH`), reads its work as JSON on
standard input and answers with JSON on standard output, once or repeatedly.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diptych.inputs import processors


def cpu_name() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def machine() -> str:
    """Describe the machine and the interpreter in one line, printed above every table.

    Examples
    --------
    >>> "Python" in machine()
    True
    """
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{cpu_name()}, {processors()} cores{load}, {platform.system()}, Python {platform.python_version()}"
    )


def seconds(work: Callable[[], object], *, repeat: int = 3, warmup: int = 1) -> float:
    """Median wall-clock time of `work` in seconds, after `warmup` runs that do not count."""
    for _ in range(warmup):
        work()
    timings = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        timings.append(time.perf_counter() - start)
    return statistics.median(timings)


def drop_file_cache(folder: Path) -> bool:
    """Drop the files of a folder from the page cache; False if the system has no such call."""
    if not hasattr(os, "posix_fadvise"):
        return False
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return True


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Parser with the options of all benchmarks: the peer's interpreter and the folder of real data."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peer-python", type=Path, help="interpreter that has the peer; without it, ours alone"
    )
    parser.add_argument("--shared", type=Path, default=shared_folder(), help="real data (or DIPTYCH_SHARED)")
    return parser


def shared_folder() -> Path:
    """Folder of real data: DIPTYCH_SHARED, or `../shared` beside the checkout."""
    return Path(os.environ.get("DIPTYCH_SHARED") or Path(__file__).resolve().parents[2] / "shared")


def run_peer(python: Path, script: str, work: object, *, timeout: float = 1800) -> Any:
    """Run `script` with another interpreter and return what it prints as JSON on its last line.

    Parameters
    ----------
    python : Path
        The peer's interpreter.
    script : str
        Source that reads its work with `json.load(sys.stdin)` and prints JSON last.
    work : object
        Anything JSON can hold.
    timeout : float
        Limit in seconds.

    """
    done = subprocess.run(
        [str(python), "-c", script],
        input=json.dumps(work),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
        env=_environment(),
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"the peer ({python}) failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class Conversation:
    """A script in another interpreter that answers each line of JSON with a line of JSON.

    Parameters
    ----------
    python : Path
    script : Path
        Answers each line of standard input with a line of JSON on standard output, and ends with its input.
    """

    def __init__(self, python: Path, script: Path) -> None:
        self.python = python
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - `close` does
        self.process = subprocess.Popen(
            [str(python), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            encoding="utf-8",
            env=_environment(),
        )

    def ask(self, work: object) -> Any:
        """Send work and wait for the answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # the process has ended: readline returns "" below
            self.process.stdin.write(json.dumps(work) + "\n")
            self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            self.errors.seek(0)
            sys.exit(f"{self.python} failed:\n{self.errors.read()[-2000:]}")
        return json.loads(answer)

    def close(self) -> None:
        """Close its input and wait for its end."""
        self.process.communicate()
        self.errors.close()


def _environment() -> dict[str, str]:
    """Our environment with `<shared>/peers` on PYTHONPATH: a stub lets open_clip import beside CPU torch."""
    paths = [str(shared_folder() / "peers"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
