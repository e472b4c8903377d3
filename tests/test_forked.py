"""Processes of forked.py end like normal programs: exit status, error output, interpreter shutdown."""

from __future__ import annotations

import atexit
import os
import warnings
from pathlib import Path

import pytest

from tests.forked import Forked
from tests.waiting import HANG


def writes(path: str) -> None:
    Path(path).write_text(os.environ["WORD"])


def warns(path: str) -> None:
    warnings.warn("careful", stacklevel=1)


def aborts_at_the_end(path: str) -> None:
    atexit.register(os.abort)


def leaves(path: str) -> None:
    os._exit(7)


@pytest.mark.parametrize(
    ("work", "status", "said"),
    [
        ("writes", 0, ""),
        ("warns", 1, "UserWarning: careful"),
        ("aborts_at_the_end", -6, ""),
        ("leaves", 7, ""),
    ],
)
def test_how_it_ends(tmp_path: Path, work: str, status: int, said: str) -> None:
    file = tmp_path / "word"
    process = Forked(f"tests.test_forked:{work}", str(file), errors=tmp_path / "errors", WORD="mine")
    assert process.wait(HANG) == status, process.errors()
    assert said in process.errors()
    assert file.exists() == (work == "writes")
    assert not file.exists() or file.read_text() == "mine"
    assert process.poll() == status
    assert "WORD" not in os.environ
