"""A real PostgreSQL server with pgvector, started for the tests and stopped after them."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a PostgreSQL server started for the tests."""
    # The lock file lies in the session's runtime folder, which a test machine may lack or clear.
    with pytest.MonkeyPatch.context() as environment, tempfile.TemporaryDirectory(prefix="pg") as runtime:
        environment.setenv("XDG_RUNTIME_DIR", runtime)
        yield from _server(tmp_path_factory)


def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    import pgserver

    folder = tmp_path_factory.mktemp("postgres")
    for left in (3, 2, 1, 0):
        try:
            running = pgserver.get_server(folder, cleanup_mode="stop")
            break
        except subprocess.TimeoutExpired:  # the default of 10 s may be too short on a busy machine
            if not left:
                raise
    try:
        yield running.get_uri()
    finally:
        running.cleanup()


@pytest.fixture
def new_database(server: str) -> Callable[[], str]:
    """A function that creates a new, empty database and returns its address."""
    import psycopg

    def create() -> str:
        name = f"pictures_{next(_NUMBERS)}"
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        before, _, after = server.partition("/postgres?")
        assert after, server
        return f"{before}/{name}?{after}"

    return create


_NUMBERS = itertools.count()


_CELLS: dict[str, dict[str, bool]] = {}


@pytest.fixture
def matrix() -> Callable[[str, str, bool], None]:
    """A function that records (row, column, passed); the table is printed at the end of the run."""

    def note(row: str, column: str, held: bool) -> None:
        _CELLS.setdefault(row, {})[column] = held

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _CELLS:
        return
    columns = list(dict.fromkeys(column for cells in _CELLS.values() for column in cells))
    terminalreporter.section("what a person made, by what happened to the files")
    terminalreporter.write_line(" " * 22 + " ".join(f"{column[:14]:14}" for column in columns))
    for row, cells in _CELLS.items():
        marks = " ".join(f"{'kept' if cells.get(column) else 'LOST':14}" for column in columns)
        terminalreporter.write_line(f"{row[:21]:22}{marks}", green=all(cells.values()))
