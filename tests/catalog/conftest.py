"""A real PostgreSQL with pgvector, started for the tests and stopped after them."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator

import pytest


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of our own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where no session has made XDG_RUNTIME_DIR
        import pgserver

    running = pgserver.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop")
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
