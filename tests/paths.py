"""Paths of the repository and the package, for processes that tests start."""

from __future__ import annotations

import os
from pathlib import Path

import diptych

ROOT = Path(__file__).resolve().parents[1]


def python_path() -> str:
    """The PYTHONPATH with which another process imports the package under test and the test helpers."""
    return os.pathsep.join([str(Path(diptych.__file__).parents[1]), str(ROOT)])
