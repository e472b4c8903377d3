"""Indexing: bring the catalogue up to date with the files on disk.

A run lists and compares files, reads and embeds those that are new or changed, and removes those that were
deleted. Each step commits as it goes, so an interrupted run is resumed by starting it again. Two processes
may run at once; the second one works through the pending files from the end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path

from diptych.catalog.annotations.annotations import AnnotationChanges, FileLocation
from diptych.catalog.database.spaces import Space
from diptych.catalog.files.comparison import DiskComparison, compare, known_members, pending_files
from diptych.catalog.files.listing import ListingReport, list_files, roots_of
from diptych.catalog.files.missing import deleted_files, mark_drive_missing, missing_folders
from diptych.catalog.files.roots import (
    IndexPlan,
    RuleOverrides,
    mark_finished,
    plan_run,
    save_roots,
    unforget,
)
from diptych.catalog.indexing.heartbeats import registered_run, with_heartbeat
from diptych.catalog.indexing.intake import IndexOutcome, IntakeSettings, take_in
from diptych.catalog.indexing.replacing import compact, drop_space, lacking_files, replace_active
from diptych.catalog.relevance import Background
from diptych.catalog.store.folder_rules import RuleUsage, check_patterns
from diptych.catalog.store.store import Store
from diptych.embedding.golden import check_image_embeddings, golden_embeddings
from diptych.encoder import Encoder
from diptych.errors import CatalogError, MissingExtraError
from diptych.media.folders.archives import is_archive
from diptych.progress import Stage, silent

SHOWN = 5  # folder names listed in a message
_CHUNK = 500  # files removed in one transaction


def index(
    store: Store,
    encoder: Encoder,
    paths: Sequence[str | Path] = (),
    *,
    model: str = "default",
    settings: IntakeSettings | None = None,
    exclude: Sequence[str] | None = None,
    archives: bool | None = None,
    system_folders: bool | None = None,
    remove_gone: bool = False,
    remember: bool = True,
    reembed: bool = False,
    stage: Stage | None = None,
) -> IndexOutcome:
    """Index the images under these paths, or again under all paths indexed before.

    Parameters
    ----------
    paths : sequence of path
        Files and folders; by default those of earlier runs.
    model : str
        The name by which this encoder can be opened again.
    exclude : sequence of str, optional
        Patterns of files and folders to leave out (see `folder_rules`). Stored for later runs over these
        paths; by default the stored ones are used.
    archives, system_folders : bool, optional
        Read images in archives; enter folders that operating systems and file servers use internally. Stored,
        as `exclude` is. The defaults of a new path are True and False.
    remove_gone : bool
        Remove gone files also where their drive may be missing. With `reembed`, also replace the old space
        if some images have no embedding by the new encoder.
    remember : bool
        Store the paths, so that they are indexed again when none are named; False for a part of one.
    reembed : bool
        Fill a new space with this encoder, and replace the old one once the new one is complete.

    Raises
    ------
    InputError
        A path does not exist, or a pattern is invalid.
    CatalogError
        The catalogue holds embeddings by another encoder and `reembed` is False, or no path is known.
    SaveError
        The device is full or read-only. What was committed before stays.
    """
    stage, settings = stage or silent, settings or IntakeSettings()
    check_patterns(exclude or ())
    given = RuleOverrides(None if exclude is None else tuple(exclude), archives, system_folders)
    plan = plan_run(store, roots_of(paths), given, remember=remember)
    space = space_for(store, encoder, model, reembed=reembed)
    store.sweep()
    outcome = IndexOutcome(notes=plan.notes)
    with registered_run(store) as (others, beat):
        stage = with_heartbeat(stage, beat)
        comparison = _compare_with_disk(store, space, plan, given, settings, outcome, stage, beat)
        if remember:
            # After the listing, which fails for a wrong path, and before the embedding: a run that is killed
            # while embedding is resumed by `diptych index` without any path.
            unforget(store, plan.named)
            save_roots(store, plan.remembered)
        with stage("indexing", comparison.pending) as advance:
            files = pending_files(store, space, backwards=others)
            take_in(store, space, encoder, files, settings, outcome, progress=advance, committed=beat)
        # After the intake. E.g. a file was copied to another folder and then deleted: its old row still holds
        # the content when the copy is read, so the copy needs no embedding.
        _remove_files(store, plan, comparison, outcome, remove_gone=remove_gone)
        mark_finished(store, plan.rules, datetime.now().isoformat(timespec="seconds"))
        if reembed:
            _replace(store, outcome, anyway=remove_gone)
        if not others:  # two processes would rewrite the same embeddings
            outcome.compacted = compact(store, stage)
            outcome.built = improve(store, stage)
    return outcome


def planned_run(store: Store, paths: Sequence[str | Path] = ()) -> IndexPlan:
    """Return what a run over these paths, or over all roots, would list by the stored rules."""
    return plan_run(store, roots_of(paths), RuleOverrides())


def _compare_with_disk(
    store: Store,
    space: Space,
    plan: IndexPlan,
    given: RuleOverrides,
    settings: IntakeSettings,
    outcome: IndexOutcome,
    stage: Stage,
    beat: Callable[[], None],
) -> DiskComparison:
    """List the disk by the rules of each path, and compare the listing with the catalogue."""
    report = ListingReport()
    skip = plan.skipped(store.folder)
    # `list_files` is a generator: the walk happens inside `compare`, which writes what it lists to a table.
    with stage("looking for pictures", None) as advance:
        files = chain.from_iterable(
            list_files(
                root,
                report,
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
            files,
            [*plan.rules, *plan.doubles],
            report,
            retry=settings.retry,
            verify=settings.verify,
            progress=advance,
        )
    outcome.moved, outcome.same = comparison.moved, comparison.same
    outcome.unlisted = [(Path(os.fsdecode(path)), reason) for path, reason in report.unlisted]
    outcome.notes += _unused_patterns(given, report.used)
    if plan.is_new and report.used.system_folders:
        outcome.notes.append(
            f"left out: {', '.join(sorted(report.used.system_folders)[:SHOWN])}, which file servers and "
            "systems keep for themselves; --system-folders enters such folders"
        )
    return comparison


def _unused_patterns(given: RuleOverrides, used: RuleUsage) -> list[str]:
    """Return a note for each given pattern that matched nothing."""
    return [
        f"--exclude {pattern!r} leaves out nothing: it matches no file or folder. A pattern "
        "is a name, or the end of a path, such as  '*.gif'  private/  2019/drafts"
        for pattern in given.exclude or ()
        if pattern and pattern not in used.patterns
    ]


def _remove_files(
    store: Store, plan: IndexPlan, comparison: DiskComparison, outcome: IndexOutcome, *, remove_gone: bool
) -> None:
    """Remove files that were deleted on disk, and those that the present rules leave out."""
    left_out = {file for file in comparison.gone if plan.leaves_out(file[0], member=bool(file[1]))}
    # Files that the rules leave out need no look at the drive: they go whether it is there or not.
    missing = [file for file in comparison.gone if file not in left_out]
    deleted = missing if remove_gone else deleted_files(store, missing, comparison.devices)
    retained = set(missing).difference(deleted)
    # Else another drive that gets their device number would make them look deleted.
    mark_drive_missing(store, retained)
    outcome.retained, outcome.retained_below = len(retained), missing_folders(retained)
    outcome.removed = _forget(store, deleted, left_out, outcome.annotations)
    outcome.left_out = len(left_out)
    if plan.doubles:
        with store.database.writing():
            store.database.many(
                "DELETE FROM roots WHERE path = ?", ((os.fsencode(path),) for path in plan.doubles)
            )
        outcome.notes += [
            f"{double} and {path} are two names of the same folder: it is kept as {path}"
            for double, path in plan.doubles.items()
        ]


def improve(store: Store, stage: Stage) -> str | None:
    """Build a search index if the catalogue is large enough; return one line about it, or why it failed."""
    if store.active is None or (background := store.active.background()) is None:
        return None
    try:
        store.active.refresh()
        # The background texts are everyday queries, which is what the index is tuned for.
        return store.active.improve(background.rows, stage)
    except (CatalogError, MissingExtraError) as error:  # searches without it are exact, but slower
        return f"not built, every search looks at every picture: {error}"


def space_for(store: Store, encoder: Encoder, model: str, *, reembed: bool = False) -> Space:
    """Return the space for this encoder's embeddings, creating it if needed, with its background.

    Raises
    ------
    CatalogError
        The catalogue holds embeddings by another encoder and `reembed` is False.
    """
    space = _space(store, encoder, model, reembed=reembed)
    if space.background() is None:
        background = Background.of(encoder)
        with store.database.writing():
            space.keep_background(background)
    return space


def _space(store: Store, encoder: Encoder, model: str, *, reembed: bool) -> Space:
    store.reopen()  # other processes may have changed the spaces while the encoder was loaded
    active, filling = store.active, store.filling
    if active is None:
        return store.begin_space(encoder.identity, model, golden_embeddings(encoder))
    # The same encoder: its space, if it still makes the same embeddings. Another one, or one that has
    # changed: a second space beside the first, which a killed run may have begun already.
    if active.info.identity == encoder.identity:
        try:
            check_image_embeddings(encoder, active.info.golden)
            return active
        except CatalogError:
            if not reembed:
                raise
    elif not reembed:
        raise CatalogError(
            f"{store.name} holds vectors of {active.info.model_label}, this is {encoder.identity[:19]}...: "
            "vectors of two models cannot be compared. Leave out --model to go on with the first, or use "
            "--reembed: search works with the first until everything is embedded again"
        )
    if filling is not None and not _made_by(encoder, filling):
        drop_space(store, filling)
    return store.begin_space(encoder.identity, model, golden_embeddings(encoder), state="filling")


def _made_by(encoder: Encoder, space: Space) -> bool:
    """Whether a space holds embeddings by exactly this encoder."""
    if space.info.identity != encoder.identity:
        return False
    try:
        check_image_embeddings(encoder, space.info.golden)
    except CatalogError:
        return False
    return True


def _replace(store: Store, outcome: IndexOutcome, *, anyway: bool) -> None:
    """Replace the old space by the new one, or report which images it lacks."""
    if store.filling is None:
        return
    outcome.lacking = [(Path(os.fsdecode(path)), member) for path, member in lacking_files(store)]
    if replace_active(store, lacking=len(outcome.lacking) if anyway else 0):
        outcome.lacking = []


def _forget(
    store: Store,
    deleted: Sequence[FileLocation],
    left_out: Collection[FileLocation],
    annotations: AnnotationChanges,
) -> int:
    """Remove deleted and left-out files in chunks, except deleted ones that exist again meanwhile."""
    # An archive member is gone if the archive is listed without it, and an archive is gone as a file if it
    # could not be read before and now is listed by its members: neither can be checked by `lexists`.
    removed = [
        (path, member)
        for path, member in deleted
        if member or not os.path.lexists(path) or is_archive(os.fsdecode(path))
    ]
    removed += left_out
    for start in range(0, len(removed), _CHUNK):
        annotations.add(store.forget(removed[start : start + _CHUNK]))
    return len(removed)
