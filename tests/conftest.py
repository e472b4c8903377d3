"""Fixtures shared by all tests: the folder of real data, and the settings of hypothesis."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Scripts that make recordings run in separate environments with the recorded libraries.
collect_ignore_glob = ["*/make_*.py"]

# Hypothesis fails examples and data that take longer than its limits, which may happen on a busy machine.
# Fixtures that are not made anew for each example are used on purpose. In continuous integration every run
# tries the same examples.
settings.register_profile(
    "suite",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    derandomize="CI" in os.environ,
    database=None if "CI" in os.environ else settings.default.database,
    print_blob=True,
)
settings.load_profile("suite")

# A shell that starts the suite in the background makes it ignore Ctrl-C, and every program that a test
# starts and interrupts inherits this: the test would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class SharedFolder:
    """The shared material: `shared / "parity" / "tokens.json"`; a missing file fails the test."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __truediv__(self, name: str | Path) -> Path:
        path = self.root / name
        if not path.exists():
            pytest.fail(f"DIPTYCH_SHARED is {self.root}, but {path} is not there")
        return path


@pytest.fixture(scope="session")
def shared() -> SharedFolder:
    """Real data and recorded outputs: DIPTYCH_SHARED, or ../shared beside the checkout if it exists."""
    named = os.environ.get("DIPTYCH_SHARED")
    root = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    if not root.is_dir():
        if named:
            pytest.fail(f"DIPTYCH_SHARED names {root}, which is not a folder")
        pytest.skip("no shared material: set DIPTYCH_SHARED to its folder")
    return SharedFolder(root)


@pytest.fixture(autouse=True, scope="session")
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use an empty cache: the user's choice of the fastest runtime must not affect a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIPTYCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
