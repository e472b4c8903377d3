"""Heartbeats of indexing runs: a run that lists, indexes or waits counts as alive, a dead one does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from diptych.catalog import Store
from diptych.catalog.annotations.records import ListedFile
from diptych.catalog.files import listing
from diptych.catalog.indexing import heartbeats
from diptych.catalog.indexing.heartbeats import ALIVE, BEAT, registered_run, with_heartbeat
from diptych.progress import silent
from tests.catalog.catalogs import colours, index


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1e9

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(heartbeats, "time", clock)
    return clock


def seen(catalog: Path) -> bool:
    """Whether another run sees a live run."""
    store = Store.open(catalog)
    try:
        with registered_run(store) as (others, _):
            return others
    finally:
        store.close()


def test_a_listing_that_takes_long_is_a_sign_of_life(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours(tmp_path / "album")
    index(tmp_path / "catalog", tmp_path / "album")
    result, alive = listing._listed_file, []

    def slow(*arguments: object) -> ListedFile:
        clock.now += ALIVE * 0.6
        alive.append(seen(tmp_path / "catalog"))
        return result(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(listing, "_listed_file", slow)
    index(tmp_path / "catalog", tmp_path / "album")
    assert alive == [True] * 6
    assert not seen(tmp_path / "catalog")


def test_progress_is_a_sign_of_life(tmp_path: Path, clock: Clock) -> None:
    store = Store.create(tmp_path / "catalog")
    with registered_run(store) as (_, beat), with_heartbeat(silent, beat)("something", 9) as advance:
        for _ in range(9):
            clock.now += ALIVE * 0.9
            advance(1)
            assert seen(tmp_path / "catalog")
        clock.now += ALIVE * 1.1
        assert not seen(tmp_path / "catalog")  # counts as dead
        advance(1)
        assert seen(tmp_path / "catalog")  # it was only suspended, as on a sleeping laptop
    assert not seen(tmp_path / "catalog")
    store.close()


def test_a_sign_is_not_written_each_time(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.create(tmp_path / "catalog")
    written: list[str] = []
    run = store.database.run
    monkeypatch.setattr(store.database, "run", lambda sql, *more: written.append(sql) or run(sql, *more))
    with registered_run(store) as (_, beat):
        written.clear()
        for _ in range(1000):
            clock.now += BEAT / 100
            beat()
        assert 9 <= len(written) <= 11
        clock.now -= 1e6  # the clock is set back
        beat()
        assert 10 <= len(written) <= 12
    store.close()
