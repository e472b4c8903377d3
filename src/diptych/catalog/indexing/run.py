"""Indexing: bring the catalogue to what is on disk, from whatever state it is in.

List, compare, read what waits, then take out what is gone. Each step commits as it goes, so the way to resume
is to run it again; two processes may run at once, the second from the other end. How a space takes another's
place is `replacing`'s business.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path

from diptych.catalog.annotations.annotations import Fate
from diptych.catalog.database.spaces import Space
from diptych.catalog.files.listing import Listing, listing, roots_of
from diptych.catalog.files.missing import deleted, folders_of, mark_away
from diptych.catalog.files.roots import GivenRules, Plan, finished, index_again, plan_run
from diptych.catalog.files.roots import remember as remember_roots
from diptych.catalog.files.scan import Comparison, compare, known_members, pending_files
from diptych.catalog.indexing.intake import Outcome, Settings, take_in
from diptych.catalog.indexing.replacing import compact, drop_space, lacking_files, replace_active
from diptych.catalog.indexing.runs import beating, running
from diptych.catalog.relevance import Background
from diptych.catalog.store.folder_rules import Usage, check_patterns
from diptych.catalog.store.golden import check_pictures, golden_rows
from diptych.catalog.store.store import Store
from diptych.encoder import Encoder
from diptych.errors import CatalogError, MissingExtraError
from diptych.media.folders.archives import is_archive
from diptych.progress import Stage, silent

SHOWN = 5  # names of folders in a message
_CHUNK = 500  # files taken out in one transaction


def index(
    store: Store,
    encoder: Encoder,
    paths: Sequence[str | Path] = (),
    *,
    model: str = "default",
    settings: Settings | None = None,
    exclude: Sequence[str] | None = None,
    archives: bool | None = None,
    system_folders: bool | None = None,
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
        Patterns of files and folders to leave out (see `folder_rules`), now and when these paths are indexed
        again; by default those of before.
    archives, system_folders : bool, optional
        Look into archives; enter folders that file servers and systems keep for themselves. Remembered, as
        `exclude` is; at first archives are looked into and system folders are not entered.
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
        A path is not there, or a pattern cannot be matched.
    CatalogError
        The catalogue holds vectors of another encoder and `reembed` is not asked for; nothing to index.
    SaveError
        The device is full or may not be written to. What was committed before stays.
    """
    stage, settings = stage or silent, settings or Settings()
    check_patterns(exclude or ())
    given = GivenRules(None if exclude is None else tuple(exclude), archives, system_folders)
    plan = plan_run(store, roots_of(paths), given, remember=remember)
    space = space_for(store, encoder, model, reembed=reembed)
    store.sweep()
    outcome = Outcome(notes=plan.notes)
    with running(store) as (others, beat):
        stage = beating(stage, beat)
        comparison = _look(store, space, plan, given, settings, outcome, stage, beat)
        if remember:
            index_again(store, plan.named)
            remember_roots(store, plan.remembered)
        with stage("indexing", comparison.pending) as advance:
            files = pending_files(store, space, backwards=others)
            take_in(store, space, encoder, files, settings, outcome, progress=advance, committed=beat)
        _take_out(store, plan, comparison, outcome, remove_gone=remove_gone)
        finished(store, plan.rules, datetime.now().isoformat(timespec="seconds"))
        if reembed:
            _replace(store, outcome, anyway=remove_gone)
        if not others:  # who would copy each other's rows
            outcome.compacted = compact(store, stage)
            outcome.built = improve(store, stage)
    return outcome


def planned_run(store: Store, paths: Sequence[str | Path] = ()) -> Plan:
    """What a run over these paths, or over all that were indexed, would list by the rules it remembers."""
    return plan_run(store, roots_of(paths), GivenRules())


def _look(
    store: Store,
    space: Space,
    plan: Plan,
    given: GivenRules,
    settings: Settings,
    outcome: Outcome,
    stage: Stage,
    beat: Callable[[], None],
) -> Comparison:
    """List the disk, without what each path leaves out, and compare."""
    told = Listing()
    skip = plan.skipped(store.folder)
    with stage("looking for pictures", None) as advance:
        found = chain.from_iterable(
            listing(
                root,
                told,
                rules=rules,
                skip=skip,
                expand=lambda archive: known_members(
                    store, archive, retry=settings.retry, verify=settings.verify
                ),
                visited=beat,
            )
            for root, rules in plan.rules.items()
        )
        comparison = compare(
            store,
            space,
            found,
            [*plan.rules, *plan.doubles],
            told,
            retry=settings.retry,
            verify=settings.verify,
            progress=advance,
        )
    outcome.moved, outcome.same = comparison.moved, comparison.same
    outcome.unlisted = [(Path(os.fsdecode(path)), reason) for path, reason in told.unlisted]
    outcome.notes += _unused(given, told.used)
    if plan.is_new and told.used.system_folders:
        outcome.notes.append(
            f"left out: {', '.join(sorted(told.used.system_folders)[:SHOWN])}, which file servers and "
            "systems keep for themselves; --system-folders enters such folders"
        )
    return comparison


def _unused(given: GivenRules, used: Usage) -> list[str]:
    """What to say of patterns that were given and left out nothing."""
    return [
        f"--exclude {pattern!r} leaves out nothing: no file or folder that was looked at fits it. A pattern "
        "is a name, or the end of a path, such as  '*.gif'  private/  2019/drafts"
        for pattern in given.exclude or ()
        if pattern and pattern not in used.patterns
    ]


def _take_out(
    store: Store, plan: Plan, comparison: Comparison, outcome: Outcome, *, remove_gone: bool
) -> None:
    """Take out files that were deleted, and those that are left out now."""
    left_out = {file for file in comparison.gone if plan.leaves_out(file[0], member=bool(file[1]))}
    away = [file for file in comparison.gone if file not in left_out]
    gone = away if remove_gone else deleted(store, away, comparison.devices)
    kept = set(away).difference(gone)
    mark_away(store, kept)
    outcome.kept, outcome.kept_below = len(kept), folders_of(kept)
    outcome.removed = _remove(store, gone, left_out, outcome.annotations)
    outcome.left_out = len(left_out)
    if plan.doubles:
        with store.database.writing():
            store.database.many(
                "DELETE FROM roots WHERE path = ?", ((os.fsencode(path),) for path in plan.doubles)
            )
        outcome.notes += [
            f"{double} and {path} are one folder by two names: it is kept as {path}"
            for double, path in plan.doubles.items()
        ]


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
