"""Indexing: bring the catalogue to what is on disk, from whatever state it is in.

List, compare, read what waits, then take out what is gone. Each step commits as it goes, so the way to resume
is to run it again; two processes may run at once, the second from the other end. How a space takes another's
place is `replacing`'s business.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from diptych.catalog.golden import check_pictures, golden_rows
from diptych.catalog.intake import Outcome, Settings, take_in
from diptych.catalog.listing import Listing, listing, roots_of
from diptych.catalog.relevance import Background
from diptych.catalog.replacing import compact, drop_space, replace_active
from diptych.catalog.scan import Comparison, below, compare, known_members, pending_files
from diptych.catalog.spaces import Space, Stage
from diptych.catalog.store import Store
from diptych.embedding import Progress
from diptych.encoder import Encoder
from diptych.errors import CatalogError, SaveError

ALIVE = 60.0  # seconds since its last sign that another run counts as running
_CHUNK = 500  # files taken out in one transaction


def index(
    store: Store,
    encoder: Encoder,
    paths: Sequence[str | Path] = (),
    *,
    model: str = "default",
    settings: Settings | None = None,
    exclude: Sequence[str] = (),
    remove_gone: bool = False,
    remember: bool = True,
    reembed: bool = False,
    stage: Stage | None = None,
) -> Outcome:
    """Index pictures under these paths, or again under all paths indexed before.

    Parameters
    ----------
    store : Store
    encoder : Encoder
    paths : sequence of path
        Files and folders; by default those of earlier runs.
    model : str
        The name that opens this encoder again.
    settings : Settings, optional
    exclude : sequence of str
        Patterns of file and folder names to leave out.
    remove_gone : bool
        Take out what is gone even where a whole path holds no picture any more, which looks like a drive that
        is not there.
    remember : bool
        Index these paths again when none are named; not for a part of one.
    reembed : bool
        Fill a new space with this encoder, and put it in the old one's place once it is whole.
    stage : callable, optional
        `stage(what, total)` gives a context with a progress function.

    Returns
    -------
    Outcome

    Raises
    ------
    InputError
        A path is not there.
    CatalogError
        The catalogue holds vectors of another encoder and `reembed` is not asked for; nothing to index.
    SaveError
        The device is full or may not be written to. What was committed before stays.
    """
    stage, settings = stage or silent, settings or Settings()
    roots = roots_of(paths) if paths else known_roots(store)
    space = space_for(store, encoder, model, reembed=reembed)
    store.sweep()
    outcome = Outcome()
    with _running(store) as (others, beat):
        comparison = _look(store, space, roots, exclude, settings, outcome, stage)
        if remember:
            _remember(store, roots)
        with stage("indexing", comparison.pending) as advance:
            files = pending_files(store, space, backwards=others)
            take_in(store, space, encoder, files, settings, outcome, progress=advance, committed=beat)
        gone = comparison.gone if remove_gone else _believable(store, roots, comparison.gone)
        outcome.kept = len(comparison.gone) - len(gone)
        outcome.removed = _remove(store, gone)
        _remember(store, roots, finished=datetime.now().isoformat(timespec="seconds"))
        if reembed:
            replace_active(store)
        if not others:  # who would copy each other's rows
            outcome.compacted = compact(store, stage)
            outcome.built = improve(store, stage)
    return outcome


def _look(
    store: Store,
    space: Space,
    roots: Sequence[Path],
    exclude: Sequence[str],
    settings: Settings,
    outcome: Outcome,
    stage: Stage,
) -> Comparison:
    """List the disk and compare."""
    told = Listing()
    with stage("looking for pictures", None) as advance:
        found = listing(
            roots,
            told,
            exclude=exclude,
            skip=[] if store.folder is None else [store.folder.absolute()],
            expand=lambda archive: known_members(store, archive),
        )
        comparison = compare(store, space, found, roots, told, retry=settings.retry, progress=advance)
    outcome.moved, outcome.same = comparison.moved, comparison.same
    outcome.unlisted = [(Path(os.fsdecode(path)), reason) for path, reason in told.unlisted]
    return comparison


def _remember(store: Store, roots: Sequence[Path], *, finished: str | None = None) -> None:
    """What to index when nothing is named; when that was last finished."""
    with store.database.writing():
        for root in map(os.fsencode, roots):
            if finished is None:
                store.database.run(
                    "INSERT INTO roots (path) VALUES (?) ON CONFLICT (path) DO NOTHING", (root,)
                )
            else:
                store.database.run("UPDATE roots SET finished = ? WHERE path = ?", (finished, root))


def improve(store: Store, stage: Stage) -> str | None:
    """Build what a search of so many pictures needs; what was built, in one line."""
    if store.active is None or (background := store.active.background()) is None:
        return None
    store.active.refresh()
    return store.active.improve(background.rows, stage)


def space_for(store: Store, encoder: Encoder, model: str, *, reembed: bool = False) -> Space:
    """Where this encoder's vectors go, checked; begun if need be, with what hits are compared with.

    Raises
    ------
    CatalogError
        The catalogue holds vectors of another encoder and `reembed` is not asked for.
    """
    space = _space(store, encoder, model, reembed=reembed)
    if space.background() is None:
        made = Background.of(encoder)
        with store.database.writing():
            space.keep_background(made)
    return space


def _space(store: Store, encoder: Encoder, model: str, *, reembed: bool) -> Space:
    active, filling = store.active, store.filling
    if active is None:
        return store.begin_space(encoder.identity, model, golden_rows(encoder))
    if reembed and active.info.identity != encoder.identity:
        if filling is not None and filling.info.identity != encoder.identity:
            drop_space(store, filling)
            filling = None
        return filling or store.begin_space(encoder.identity, model, golden_rows(encoder), state="filling")
    if active.info.identity != encoder.identity:
        raise CatalogError(
            f"{store.name} holds vectors of {active.info.told}, this is {encoder.identity[:19]}...: "
            "vectors of two models cannot be compared. Leave out --model to go on with the first, or say "
            "--reembed: search works with the first until everything is embedded again"
        )
    check_pictures(encoder, active.info.golden)
    return active


def known_roots(store: Store) -> list[Path]:
    """What was indexed before; InputError where one of it is not there."""
    roots = [
        Path(os.fsdecode(bytes(row[0]))) for row in store.database.all("SELECT path FROM roots ORDER BY path")
    ]
    if not roots:
        raise CatalogError(f"{store.name} holds nothing yet: name a folder, as in  diptych index ~/Pictures")
    return roots_of(roots)


def _believable(
    store: Store, roots: Sequence[Path], gone: Sequence[tuple[bytes, str]]
) -> list[tuple[bytes, str]]:
    """Gone files, without those of a path that has no picture left: that is how a missing drive looks."""
    believed = list(gone)
    for root in roots:
        name = os.fsencode(root)
        low, high = below(name)
        there = store.database.all(
            "SELECT 1 FROM found WHERE path = ? OR (path >= ? AND path < ?) LIMIT 1", (name, low, high)
        )
        if not there:
            believed = [one for one in believed if not (one[0] == name or low <= one[0] < high)]
    return believed


def _remove(store: Store, gone: Sequence[tuple[bytes, str]]) -> int:
    """Take gone files out; one that another process or person has put back meanwhile stays."""
    # A member of an archive is gone when a listing of the archive no longer has it.
    really = [one for one in gone if one[1] or not os.path.lexists(one[0])]
    for start in range(0, len(really), _CHUNK):
        store.forget(really[start : start + _CHUNK])
    return len(really)


@contextlib.contextmanager
def _running(store: Store) -> Iterator[tuple[bool, Callable[[], None]]]:
    """Say that this run is alive; whether another one is, and a function that says it again."""
    database = store.database
    with database.writing():
        database.run("DELETE FROM runs WHERE beat < ?", (time.time() - ALIVE,))
        others = bool(database.all("SELECT 1 FROM runs LIMIT 1"))
        database.run("INSERT INTO runs (beat) VALUES (?)", (time.time(),))
        number = database.all("SELECT MAX(id) FROM runs")[0][0]

    def beat() -> None:
        with database.writing():
            database.run("UPDATE runs SET beat = ? WHERE id = ?", (time.time(), number))

    try:
        yield others, beat
    finally:
        # When the device is full that is the error to be told, not this one; the row grows old by itself.
        with contextlib.suppress(SaveError), database.writing():
            database.run("DELETE FROM runs WHERE id = ?", (number,))


@contextlib.contextmanager
def silent(what: str, total: int | None) -> Iterator[Progress]:
    """A stage that shows nothing."""
    yield lambda count: None


def forget_paths(store: Store, paths: Sequence[str | Path]) -> int:
    """Take files and folders out of the catalogue, whether they are there or not; how many files that was."""
    count = 0
    for path in paths:
        name = os.path.abspath(os.fsencode(Path(path).expanduser()))  # noqa: PTH100 - bytes
        low, high = below(name)
        known = store.database.all(
            "SELECT path, member FROM files WHERE path = ? OR (path >= ? AND path < ?)", (name, low, high)
        )
        for start in range(0, len(known), _CHUNK):
            store.forget([(bytes(row[0]), row[1]) for row in known[start : start + _CHUNK]])
        with store.database.writing():
            store.database.run(
                "DELETE FROM roots WHERE path = ? OR (path >= ? AND path < ?)", (name, low, high)
            )
        count += len(known)
    return count
