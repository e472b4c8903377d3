"""Heartbeats: runs that index one catalogue at the same time know of each other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from diptych.catalog.store.store import Store
from diptych.errors import SaveError
from diptych.progress import Progress, Stage

ALIVE = 60.0  # seconds after its last heartbeat for which a run counts as running
BEAT = 10.0  # seconds between two heartbeats


@contextlib.contextmanager
def registered_run(store: Store) -> Iterator[tuple[bool, Callable[[], None]]]:
    """Register this run in the catalogue for the duration of the context.

    Yields
    ------
    others : bool
        Whether another run is in progress.
    beat : callable
        Sends a heartbeat. To be called often; it writes at most every `BEAT` seconds.
    """
    database = store.database
    last = time.time()
    with database.writing():
        database.run("DELETE FROM runs WHERE beat < ?", (last - ALIVE,))
        others = bool(database.all("SELECT 1 FROM runs LIMIT 1"))
        database.run("INSERT INTO runs (beat) VALUES (?)", (last,))
        number = database.all("SELECT MAX(id) FROM runs")[0][0]

    def beat() -> None:
        nonlocal last
        now = time.time()
        # The difference is negative if the clock was set back: then write.
        if 0 <= now - last < BEAT:
            return
        last = now
        with database.writing():
            # The row is gone if this run paused for long, as on a sleeping laptop, and was taken for dead.
            if not database.run("UPDATE runs SET beat = ? WHERE id = ?", (now, number)):
                database.run("INSERT INTO runs (id, beat) VALUES (?, ?)", (number, now))

    try:
        yield others, beat
    finally:
        # If the device is full, do not hide the original error; the row expires by itself.
        with contextlib.suppress(SaveError), database.writing():
            database.run("DELETE FROM runs WHERE id = ?", (number,))


def with_heartbeat(stage: Stage, beat: Callable[[], None]) -> Stage:
    """Wrap a stage so that each progress call also sends a heartbeat."""

    @contextlib.contextmanager
    def beating_stage(name: str, total: int | None) -> Iterator[Progress]:
        with stage(name, total) as advance:

            def advance_and_beat(done: int) -> None:
                advance(done)
                beat()

            yield advance_and_beat

    return beating_stage
