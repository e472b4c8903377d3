"""Quickly started processes for tests: forked from a server that has already imported the libraries.

A new process needs seconds to import torch, and the tests of training start dozens of them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import types
import warnings
from multiprocessing import forkserver
from pathlib import Path

import pytest

# Imports of the server. Optimizers import torch._dynamo, and runs import tokenizers, at their first use.
LIBRARIES = ["tests.training.processes", "pytest", "tokenizers", "torch._dynamo"]


class Forked:
    """A process that calls `module:function` with some texts; the part of `subprocess.Popen` that tests need.

    Parameters
    ----------
    work : str
    texts : sequence of str
    errors : Path
        The file for its standard error.
    **environment : str
        Variables of this process only.
    """

    def __init__(self, work: str, *texts: str, errors: Path, **environment: str) -> None:
        self._errors = errors
        context = multiprocessing.get_context("forkserver")
        with pytest.MonkeyPatch.context() as patch:
            # The server gets both settings at its start, which is when the first process starts.
            patch.setenv("OMP_NUM_THREADS", "1")  # no threads, which do not survive a fork
            patch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
            context.set_forkserver_preload(LIBRARIES)
            variables = {**os.environ, **environment}
            self._process = context.Process(target=_run, args=(work, texts, errors, variables))
            self._process.start()

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Wait for the end of the process and return its exit status."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"{self._process.name} hangs"
        return self._process.exitcode

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def errors(self) -> str:
        """Return the text that the process has written to its standard error."""
        return self._errors.read_text(errors="replace")


def _run(work: str, texts: tuple[str, ...], errors: Path, environment: dict[str, str]) -> None:
    """In the new process: set up the environment of a command, and call the function."""
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    # Processes that this one spawns would import pytest as their main module.
    sys.modules["__main__"] = types.ModuleType("__main__")
    # The server's child would leave by os._exit. A normal program reaches the interpreter's shutdown, where
    # leftover threads can abort it, so this process does the same.
    forkserver.os = types.SimpleNamespace(**{**vars(os), "_exit": sys.exit})  # type: ignore[attr-defined]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.simplefilter("error")
    module, name = work.split(":")
    getattr(importlib.import_module(module), name)(*texts)
