"""Signs of life: runs that index one catalogue at the same time know of each other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from diptych.catalog.store.store import Store
from diptych.errors import SaveError
from diptych.progress import Progress, Stage

ALIVE = 60.0  # seconds since its last sign that another run counts as running
BEAT = 10.0  # seconds between two signs


@contextlib.contextmanager
def running(store: Store) -> Iterator[tuple[bool, Callable[[], None]]]:
    """Say that this run is alive.

    Yields
    ------
    others : bool
        Whether another one is.
    beat : callable
        Says it again; to be called often, it writes every `BEAT` seconds at most.
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
        # A clock may be set back.
        if 0 <= now - last < BEAT:
            return
        last = now
        with database.writing():
            # A run that stood still for long, as a laptop does that sleeps, was taken for dead.
            if not database.run("UPDATE runs SET beat = ? WHERE id = ?", (now, number)):
                database.run("INSERT INTO runs (id, beat) VALUES (?, ?)", (number, now))

    try:
        yield others, beat
    finally:
        # When the device is full that is the error to be told, not this one; the row grows old by itself.
        with contextlib.suppress(SaveError), database.writing():
            database.run("DELETE FROM runs WHERE id = ?", (number,))


def beating(stage: Stage, beat: Callable[[], None]) -> Stage:
    """Stages whose progress is a sign of life, too."""

    @contextlib.contextmanager
    def beats(what: str, total: int | None) -> Iterator[Progress]:
        with stage(what, total) as advance:

            def both(done: int) -> None:
                advance(done)
                beat()

            yield both

    return beats
