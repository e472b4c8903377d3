"""`diptych index`: bring a catalogue to what is on disk."""

from __future__ import annotations

import functools
import json as jsonlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.collection import catalogs
from diptych.cli.collection.tag_output import note_fate
from diptych.cli.shared import options
from diptych.cli.shared.console import clean, complain, note, progress
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.catalog import IndexOutcome, Store

SHOWN_FAILURES, SHOWN_FOLDERS = 10, 3

Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PATH", help="Folders and pictures; by default what was indexed before.", show_default=False
    ),
]
Archives = Annotated[
    bool | None,
    typer.Option(
        "--archives/--no-archives",
        help="Look into zip and tar archives, or do not, now and later; at first they are looked into.",
        show_default=False,
    ),
]
SystemFolders = Annotated[
    bool | None,
    typer.Option(
        "--system-folders/--no-system-folders",
        help="Enter folders that file servers and systems keep for themselves (@eaDir, #recycle ...), "
        "now and later; at first they are left out.",
        show_default=False,
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        metavar="",
        help="Read every file again, whatever its time says, and name those that hold another picture now.",
    ),
]
Retry = Annotated[bool, typer.Option("--retry", metavar="", help="Read again what failed before.")]
Gone = Annotated[
    bool,
    typer.Option(
        "--remove-gone",
        metavar="",
        help="Take gone files out even where a whole folder is empty now, as it is when a drive is missing; "
        "with --reembed, do without pictures that could not be embedded anew.",
    ),
]
Forget = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        help="Take this file or folder out of the catalogue, and leave it out until it is named again; the "
        "disk is not touched. Folders to index come first: tags go over to the same pictures there.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Leave out what fits, now and later: a name ('*.gif'), a folder (private/), the end of a path "
        "(2019/drafts), or a path from the indexed folder on (/2019); '' leaves out nothing any more.",
    ),
]
Watch = Annotated[
    bool,
    typer.Option("--watch", metavar="", help="Go on watching, and index what changes; Ctrl-C ends it."),
]
Reembed = Annotated[
    bool,
    typer.Option(
        "--reembed",
        metavar="",
        help="Embed everything with another --model; search goes on with the old one until that is done.",
    ),
]


def index(
    paths: Paths = None,
    catalog: catalogs.Catalog = None,
    exclude: Exclude = None,
    archives: Archives = None,
    system_folders: SystemFolders = None,
    retry: Retry = False,
    verify: Verify = False,
    remove_gone: Gone = False,
    forget: Forget = None,
    watch: Watch = False,
    reembed: Reembed = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    model: catalogs.Model = None,
    pretrained: options.Pretrained = None,
    exact: options.Exact = False,
    runtime: options.Runtime = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
    batch_size: options.BatchSize = "auto",
) -> None:
    """Index pictures, so that they can be searched; run it again whenever something has changed.

    Only new and changed files are read; copies are embedded once; renamed and
    deleted files are noticed. It may be stopped at any instant: the same
    command goes on.

    [bold]Examples[/bold]

      diptych index ~/Pictures

      diptych index                          (again, whatever was indexed before)

      diptych index /mnt/photos --catalog /mnt/photos/.catalog --exclude '*thumb*'

      diptych index ~/new-place --forget ~/old-place

      diptych index --watch

      diptych index --reembed --model ViT-B-32 --pretrained openai

    Exit status: 0 done, 1 some pictures could not be read, 2 nothing done.
    """
    from diptych.catalog import IntakeSettings, index_pictures

    start = time.monotonic()
    with catalogs.opened(catalog, create=True) as store:
        if forget and not paths:
            _forget(store, forget, json=json)
            return
        _check(store, forget, paths, quiet=quiet)
        encoder, name = catalogs.encoder_for(
            store,
            model,
            pretrained,
            device=device,
            precision=precision,
            threads=threads,
            batch_size=batch_size,
            exact=exact,
            runtime=runtime,
            settle=functools.partial(note, quiet=quiet),
        )
        counts = options.count(threads, "--threads"), options.count(batch_size, "--batch-size")
        settings = IntakeSettings(exact=exact, threads=counts[0], batch_size=counts[1] or 32, retry=retry)
        stage = functools.partial(progress, unit="files", quiet=quiet)
        run = functools.partial(index_pictures, store, encoder, model=name, settings=settings, stage=stage)
        rules: dict[str, Any] = {"exclude": exclude, "archives": archives, "system_folders": system_folders}
        settings = replace(settings, verify=verify)
        outcome = run(paths or (), settings=settings, remove_gone=remove_gone, reembed=reembed, **rules)
        failed = _tell(store, outcome, time.monotonic() - start, json=json, quiet=quiet)
        if forget:
            _forget(store, forget, paths or (), json=json)
        if watch:
            _watch(store, run, paths, json=json, quiet=quiet)
    if failed:
        raise typer.Exit(1)


def _watch(
    store: Store, run: Callable[..., IndexOutcome], paths: list[Path] | None, *, json: bool, quiet: bool
) -> None:
    """Index what changes, until Ctrl-C; says only what it did."""
    from diptych.catalog import changed_folders, planned_run
    from diptych.errors import CatalogError, InputError, SaveError

    plan = planned_run(store, paths or ())
    note(f"watching {', '.join(map(str, plan.rules))}; Ctrl-C ends it", quiet=quiet)
    skip = [*plan.forgotten, *([store.folder] if store.folder else [])]
    changes = changed_folders(plan.rules, skip=skip, note=functools.partial(note, quiet=quiet))
    for folders in changes:
        start = time.monotonic()
        try:
            outcome = run(folders, remember=False)
        # A folder that went between the system's word and ours, a drive that fails, a device that is full,
        # another process that held the database: what could not be done now is compared again at the next
        # rescan.
        except (CatalogError, InputError, SaveError, OSError) as error:
            complain("failed", str(error))
            continue
        if outcome.changed:
            _tell(store, outcome, time.monotonic() - start, json=json, quiet=quiet)


def _forget(store: Store, paths: list[Path], keep: Sequence[Path] = (), *, json: bool) -> None:
    from diptych.catalog import forget_paths
    from diptych.catalog.annotations.annotations import AnnotationChanges

    changes = AnnotationChanges()
    removed = forget_paths(store, paths, keep=keep, changes=changes)
    if json:
        typer.echo(jsonlib.dumps({"removed": removed, "set_aside": len(changes.set_aside)}))
    else:
        note_fate(changes)
        typer.echo(
            f"{counted(removed, 'file')} taken out of the catalogue; {counted(len(store), 'picture')} stay"
        )


def _check(store: Store, forget: list[Path] | None, paths: list[Path] | None, *, quiet: bool) -> None:
    """Refuse paths that cannot be forgotten before anything is indexed; warn of a network drive."""
    from diptych.catalog import check_forgettable

    check_forgettable(store, forget or (), paths or ())
    _warn_of_network(store, quiet=quiet)


def _warn_of_network(store: Store, *, quiet: bool) -> None:
    """Say once of a catalogue that it lies on a network drive, where SQLite's locks may not hold."""
    from diptych.catalog import network_kind

    key = "warned of network drive"
    if store.folder is None or not (kind := network_kind(store.folder)):
        return
    with store.database.writing():
        if store.database.all("SELECT 1 FROM meta WHERE key = ?", (key,)):
            return
        store.database.run("INSERT INTO meta (key, value) VALUES (?, ?)", (key, kind))
    note(
        f"{store.folder} is on a network drive ({kind}): use this catalogue from one computer at a time, or "
        "its database may be damaged. A catalogue on a local disk may index pictures on a network drive; "
        "several computers can share one in PostgreSQL (--catalog postgresql://HOST/NAME)",
        quiet=quiet,
    )


def _tell(store: Store, outcome: IndexOutcome, seconds: float, *, json: bool, quiet: bool) -> bool:
    """Say what was done; whether something could not be read."""
    from diptych.catalog import failures

    broken = failures(store.database)
    if json:
        typer.echo(jsonlib.dumps(_plain(store, outcome, broken, seconds)))
    else:
        typer.echo(_line(store, outcome, seconds))
    if outcome.built:
        note(f"index: {outcome.built}", quiet=quiet)
    for message in outcome.notes:
        complain("note", message)
    _tell_taken_out(outcome)
    note_fate(outcome.annotations, quiet=quiet)
    if outcome.lacking:
        first = clean("/".join(map(str, filter(None, outcome.lacking[0]))))
        complain(
            "note",
            f"{len(outcome.lacking):,} pictures have no vector of the new model yet, the first is {first}: "
            "search goes on with the old one. Once they can be read the same command ends it; "
            "--reembed --remove-gone goes on without them",
        )
    for path, reason in outcome.unlisted:
        complain("failed", f"{path} could not be listed ({reason}); what is known in it was left in")
    if broken and not json:
        _tell_broken(broken, outcome, quiet=quiet)
    return bool(outcome.failed or outcome.unlisted)


def _tell_taken_out(outcome: IndexOutcome) -> None:
    """Say what is gone and stays, what was left out, and what was replaced in secret."""
    if outcome.kept:
        folders = ", ".join(str(path) for path in outcome.kept_below[:SHOWN_FOLDERS])
        more = f" and {len(outcome.kept_below) - SHOWN_FOLDERS} more" * (
            len(outcome.kept_below) > SHOWN_FOLDERS
        )
        complain(
            "note",
            f"{counted(outcome.kept, 'file')} not there, in {folders}{more}: is a drive missing? Left in the "
            "catalogue; --remove-gone takes them out",
        )
    if outcome.left_out:
        verb = "that is on disk was" if outcome.left_out == 1 else "that are on disk were"
        complain(
            "note",
            f"{counted(outcome.left_out, 'file')} {verb} taken out: left out by --exclude or --no-archives, "
            "or in folders that systems keep for themselves (--system-folders enters those)",
        )
    for path, member in outcome.differing[:SHOWN_FAILURES]:
        name = f"{path}/{member}" if member else str(path)
        complain("note", f"{name} holds another picture than before, with the same size and time")
    if len(outcome.differing) > SHOWN_FAILURES:
        complain("note", f"and {len(outcome.differing) - SHOWN_FAILURES} more (all of them with --json)")


def _line(store: Store, outcome: IndexOutcome, seconds: float) -> str:
    """What was done, in one line."""
    done = [
        f"{number:,} {what}"
        for number, what in (
            (outcome.embedded, "embedded"),
            (outcome.copies, "copies"),
            (outcome.checked, "checked and unchanged"),
            (outcome.moved, "renamed"),
            (outcome.removed, "removed"),
            (outcome.failed, "failed"),
        )
        if number
    ]
    rate = f" ({outcome.embedded / seconds:,.0f} pictures/s)" if outcome.embedded and seconds > 1 else ""
    what = ", ".join(done) or "nothing new"
    return f"{counted(len(store), 'picture')} in {store.name}: {what} in {seconds:.1f} s{rate}"


def _tell_broken(broken: list[tuple[Path, str, str]], outcome: IndexOutcome, *, quiet: bool) -> None:
    if not outcome.failed:
        note(
            f"{len(broken)} files could not be read before and have not changed (--retry reads them)",
            quiet=quiet,
        )
        return
    complain("failed", f"{len(broken)} files cannot be read; they are tried again when they change:")
    for path, member, reason in broken[:SHOWN_FAILURES]:
        name = f"{path}/{member}" if member else str(path)
        typer.echo(f"  {clean(f'{name}: {reason}')}", err=True)
    if len(broken) > SHOWN_FAILURES:
        typer.echo(f"  and {len(broken) - SHOWN_FAILURES} more (all of them with --json)", err=True)


def _plain(
    store: Store, outcome: IndexOutcome, broken: list[tuple[Path, str, str]], seconds: float
) -> dict[str, Any]:
    return {
        "catalog": store.name,
        "pictures": len(store),
        "embedded": outcome.embedded,
        "copies": outcome.copies,
        "renamed": outcome.moved,
        "removed": outcome.removed,
        "unchanged": outcome.same,
        "checked": outcome.checked,
        "differing": [{"path": str(path), "member": member} for path, member in outcome.differing],
        "left_out": outcome.left_out,
        "gone_but_kept": outcome.kept,
        "notes": outcome.notes,
        "failed": [
            {"path": str(path), "member": member, "reason": reason} for path, member, reason in broken
        ],
        "unlisted": [{"path": str(path), "reason": reason} for path, reason in outcome.unlisted],
        "lacking": [{"path": str(path), "member": member} for path, member in outcome.lacking],
        "annotations": {
            "carried": outcome.annotations.carried,
            "brought_back": outcome.annotations.brought_back,
            "set_aside": [
                {"path": str(Path(os.fsdecode(path))), "member": member}
                for path, member in outcome.annotations.set_aside
            ],
        },
        "index": outcome.built,
        "seconds": round(seconds, 3),
    }
