"""Indexing: bring the catalogue to what is on disk, from whatever state it is in.

List, compare, read what waits, then take out what is gone. Each step commits as it goes, so the way to resume
is to run it again; two processes may run at once, the second from the other end. How a space takes another's
place is `replacing`'s business.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path

from diptych.catalog.annotations import Fate
from diptych.catalog.golden import check_pictures, golden_rows
from diptych.catalog.intake import Outcome, Settings, take_in
from diptych.catalog.listing import Listing, listing, roots_of
from diptych.catalog.relevance import Background
from diptych.catalog.replacing import compact, drop_space, lacking_files, replace_active
from diptych.catalog.roots import believed, excluded, finished, known_roots, left_out
from diptych.catalog.roots import remember as remember_roots
from diptych.catalog.scan import Comparison, below, compare, known_members, pending_files
from diptych.catalog.spaces import Space
from diptych.catalog.store import Store
from diptych.embedding import Stage, silent
from diptych.encoder import Encoder
from diptych.errors import CatalogError, MissingExtraError, SaveError
from diptych.media.archives import is_archive

ALIVE = 60.0  # seconds since its last sign that another run counts as running
_CHUNK = 500  # files taken out in one transaction


def index(
    store: Store,
    encoder: Encoder,
    paths: Sequence[str | Path] = (),
    *,
    model: str = "default",
    settings: Settings | None = None,
    exclude: Sequence[str] | None = None,
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
    exclude : sequence of str, optional
        Patterns of file and folder names to leave out, now and when these paths are indexed again; by default
        those of before.
    remove_gone : bool
        Take out what is gone even where a folder is there and holds no picture any more, which looks like a
        drive that is not there; with `reembed`, do without pictures that the new encoder was not shown.
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
    patterns = {root: excluded(store, root) if exclude is None else tuple(exclude) for root in roots}
    space = space_for(store, encoder, model, reembed=reembed)
    store.sweep()
    outcome = Outcome()
    with _running(store) as (others, beat):
        comparison = _look(store, space, patterns, settings, outcome, stage)
        if remember:
            remember_roots(store, patterns)
        with stage("indexing", comparison.pending) as advance:
            files = pending_files(store, space, backwards=others)
            take_in(store, space, encoder, files, settings, outcome, progress=advance, committed=beat)
        excluded_now = {one for one in comparison.gone if left_out(one[0], patterns)}
        away = [one for one in comparison.gone if one not in excluded_now]
        gone = away if remove_gone else believed(store, away)
        outcome.kept = len(away) - len(gone)
        outcome.removed = _remove(store, gone, excluded_now, outcome.annotations)
        finished(store, roots, datetime.now().isoformat(timespec="seconds"))
        if reembed:
            _replace(store, outcome, anyway=remove_gone)
        if not others:  # who would copy each other's rows
            outcome.compacted = compact(store, stage)
            outcome.built = improve(store, stage)
    return outcome


def _look(
    store: Store,
    space: Space,
    roots: Mapping[Path, Sequence[str]],
    settings: Settings,
    outcome: Outcome,
    stage: Stage,
) -> Comparison:
    """List the disk, without what each path leaves out, and compare."""
    told = Listing()
    with stage("looking for pictures", None) as advance:
        found = chain.from_iterable(
            listing(
                root,
                told,
                exclude=exclude,
                skip=[] if store.folder is None else [store.folder.absolute()],
                expand=lambda archive: known_members(store, archive, retry=settings.retry),
            )
            for root, exclude in roots.items()
        )
        comparison = compare(store, space, found, list(roots), told, retry=settings.retry, progress=advance)
    outcome.moved, outcome.same = comparison.moved, comparison.same
    outcome.unlisted = [(Path(os.fsdecode(path)), reason) for path, reason in told.unlisted]
    return comparison


def improve(store: Store, stage: Stage) -> str | None:
    """Build what a search of so many pictures needs; what was built, or why it was not, in one line."""
    if store.active is None or (background := store.active.background()) is None:
        return None
    try:
        store.active.refresh()
        return store.active.improve(background.rows, stage)
    except (CatalogError, MissingExtraError) as error:  # searches are right without it, and slower
        return f"not built, every search looks at every picture: {error}"


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
    store.reopen()  # opening an encoder takes seconds
    active, filling = store.active, store.filling
    if active is None:
        return store.begin_space(encoder.identity, model, golden_rows(encoder))
    if active.info.identity == encoder.identity:
        try:
            check_pictures(encoder, active.info.golden)
            return active
        except CatalogError:
            if not reembed:
                raise
    elif not reembed:
        raise CatalogError(
            f"{store.name} holds vectors of {active.info.told}, this is {encoder.identity[:19]}...: "
            "vectors of two models cannot be compared. Leave out --model to go on with the first, or say "
            "--reembed: search works with the first until everything is embedded again"
        )
    if filling is not None and not _made_by(encoder, filling):
        drop_space(store, filling)
    return store.begin_space(encoder.identity, model, golden_rows(encoder), state="filling")


def _made_by(encoder: Encoder, space: Space) -> bool:
    """Whether an earlier run has filled a space with just this encoder."""
    if space.info.identity != encoder.identity:
        return False
    try:
        check_pictures(encoder, space.info.golden)
    except CatalogError:
        return False
    return True


def _replace(store: Store, outcome: Outcome, *, anyway: bool) -> None:
    """Put the new space in the old one's place, or say what is missing in it."""
    if store.filling is None:
        return
    outcome.lacking = [(Path(os.fsdecode(path)), member) for path, member in lacking_files(store)]
    if replace_active(store, lacking=len(outcome.lacking) if anyway else 0):
        outcome.lacking = []


def _remove(
    store: Store,
    gone: Sequence[tuple[bytes, str]],
    left_out_now: Collection[tuple[bytes, str]],
    annotations: Fate,
) -> int:
    """Take gone files out, and what is left out; one that somebody has put back meanwhile stays."""
    # A member of an archive is gone when a listing of the archive no longer has it; so is an archive that
    # stood for itself, because it could not be read, and now is listed by its members.
    really = [one for one in gone if one[1] or not os.path.lexists(one[0]) or is_archive(os.fsdecode(one[0]))]
    really += left_out_now
    for start in range(0, len(really), _CHUNK):
        annotations.add(store.forget(really[start : start + _CHUNK]))
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
