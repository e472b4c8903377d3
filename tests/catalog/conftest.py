"""A real PostgreSQL with pgvector, started for the tests and stopped after them."""

from __future__ import annotations

import itertools
import subprocess
import tempfile
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of our own."""
    # Its lock lies in the session's runtime folder, which a test machine may lack or clear.
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
        except subprocess.TimeoutExpired:  # it waits 10 s, which a busy machine may need
            if not left:
                raise
    try:
        yield running.get_uri()
    finally:
        running.cleanup()


@pytest.fixture
def new_database(server: str) -> Callable[[], str]:
    """Call it for the address of a new, empty database."""
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
