"""`diptych index`: bring a catalogue up to date with the files on disk."""

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
from diptych.cli.shared.console import clean, note, print_message, progress
from diptych.cli.shared.option_groups import with_group
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.catalog import IndexOutcome, Store

SHOWN_FAILURES, SHOWN_FOLDERS = 10, 3

Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="PATH", help="Folders and pictures. Default: everything indexed before.", show_default=False
    ),
]
Archives = Annotated[
    bool | None,
    typer.Option(
        "--archives/--no-archives",
        help="Index pictures inside zip and tar archives. The choice is remembered; at first it is yes.",
        show_default=False,
    ),
]
SystemFolders = Annotated[
    bool | None,
    typer.Option(
        "--system-folders/--no-system-folders",
        help="Index folders that file servers and systems use themselves (@eaDir, #recycle ...). The choice "
        "is remembered; at first it is no.",
        show_default=False,
    ),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        metavar="",
        help="Read every file again, even if size and time are unchanged, and report changed pictures.",
    ),
]
Retry = Annotated[bool, typer.Option("--retry", metavar="", help="Read again the files that failed before.")]
Gone = Annotated[
    bool,
    typer.Option(
        "--remove-gone",
        metavar="",
        help="Remove missing files from the catalogue even if a whole folder is missing, as with an "
        "unplugged drive. With --reembed, drop pictures that could not be embedded again.",
    ),
]
Forget = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        help="Remove this file or folder from the catalogue, not from disk, until it is indexed by name "
        "again. PATHs are indexed first, so the same pictures keep their tags there.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="Skip files that match, now and later: a name ('*.gif'), a folder (private/), the end of a path "
        "(2019/drafts), or a path below the indexed folder (/2019). '' removes all patterns.",
    ),
]
Watch = Annotated[
    bool,
    typer.Option(
        "--watch", metavar="", help="Keep running and index changes as they happen; stop with Ctrl-C."
    ),
]
Reembed = Annotated[
    bool,
    typer.Option(
        "--reembed",
        metavar="",
        help="Embed all pictures again with another --model; until that is done, search uses the old one.",
    ),
]


@with_group("encoding")
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
    *,
    encoding: catalogs.EmbeddingOptions,
) -> None:
    """Index pictures so that they can be searched; run it again when files have changed.

    Only new and changed files are read, copies are embedded once, renamed and
    deleted files are noticed. It may be stopped at any time: the same command
    continues where it stopped.

    [bold]Examples[/bold]

      diptych index ~/Pictures

      diptych index                          (update everything indexed before)

      diptych index /mnt/photos --catalog /mnt/photos/.catalog --exclude '*thumb*'

      diptych index ~/new-place --forget ~/old-place

      diptych index --watch

      diptych index --reembed --model ViT-B-32 --pretrained openai

    Exit status: 0 done, 1 some pictures could not be read, 2 nothing done.
    """
    from diptych.catalog import IntakeSettings, index_pictures

    start = time.monotonic()
    with catalogs.open_catalog(catalog, create=True) as store:
        if forget and not paths:
            _forget(store, forget, json=json)
            return
        _check(store, forget, paths, quiet=quiet)
        encoder, reference = catalogs.encoder_for(
            store, encoding, autotune=functools.partial(note, quiet=quiet)
        )
        threads, batch_size = encoding.counts()
        settings = IntakeSettings(exact=encoding.exact, threads=threads, batch_size=batch_size, retry=retry)
        stage = functools.partial(progress, unit="files", quiet=quiet)
        run = functools.partial(
            index_pictures, store, encoder, model=reference.stored, settings=settings, stage=stage
        )
        rules: dict[str, Any] = {"exclude": exclude, "archives": archives, "system_folders": system_folders}
        settings = replace(settings, verify=verify)
        outcome = run(paths or (), settings=settings, remove_gone=remove_gone, reembed=reembed, **rules)
        failed = _print_outcome(store, outcome, time.monotonic() - start, json=json, quiet=quiet)
        if forget:
            _forget(store, forget, paths or (), json=json)
        if watch:
            _watch(store, run, paths, json=json, quiet=quiet)
    if failed:
        raise typer.Exit(1)


def _watch(
    store: Store, run: Callable[..., IndexOutcome], paths: list[Path] | None, *, json: bool, quiet: bool
) -> None:
    """Index changes until Ctrl-C; prints a line only when something was done."""
    from diptych.catalog import changed_folders, planned_run
    from diptych.errors import CatalogError, InputError, SaveError

    plan = planned_run(store, paths or ())
    note(f"watching {', '.join(map(str, plan.rules))}; stop with Ctrl-C", quiet=quiet)
    skip = [*plan.forgotten, *([store.folder] if store.folder else [])]
    changes = changed_folders(plan.rules, skip=skip, note=functools.partial(note, quiet=quiet))
    for folders in changes:
        start = time.monotonic()
        try:
            outcome = run(folders, remember=False)
        # The folder vanished after the notification, the drive failed, the disk is full, or another process
        # held the database: the next rescan compares it again, so a watch must not end here.
        except (CatalogError, InputError, SaveError, OSError) as error:
            print_message("failed", str(error))
            continue
        if outcome.changed:
            _print_outcome(store, outcome, time.monotonic() - start, json=json, quiet=quiet)


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
            f"{counted(removed, 'file')} removed from the catalogue; {counted(len(store), 'picture')} left"
        )


def _check(store: Store, forget: list[Path] | None, paths: list[Path] | None, *, quiet: bool) -> None:
    """Check the paths to forget before anything is indexed, and warn about a network drive."""
    from diptych.catalog import check_forgettable

    check_forgettable(store, forget or (), paths or ())
    _warn_about_network_drive(store, quiet=quiet)


def _warn_about_network_drive(store: Store, *, quiet: bool) -> None:
    """Warn once per catalogue on a network drive, where SQLite's locks may not work."""
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


def _print_outcome(store: Store, outcome: IndexOutcome, seconds: float, *, json: bool, quiet: bool) -> bool:
    """Print what was done; returns whether something could not be read."""
    from diptych.catalog import failures

    broken = failures(store.database)
    if json:
        typer.echo(jsonlib.dumps(_to_json(store, outcome, broken, seconds)))
    else:
        typer.echo(_summary_line(store, outcome, seconds))
    if outcome.built:
        note(f"index: {outcome.built}", quiet=quiet)
    for message in outcome.notes:
        print_message("note", message)
    _print_removals(outcome)
    note_fate(outcome.annotations, quiet=quiet)
    if outcome.lacking:
        first = clean("/".join(map(str, filter(None, outcome.lacking[0]))))
        print_message(
            "note",
            f"{counted(len(outcome.lacking), 'picture')} without an embedding by the new model, the first: "
            f"{first}. Search still uses the old model. Make the files readable and run the same command "
            "again, or drop these pictures with --reembed --remove-gone",
        )
    for path, reason in outcome.unlisted:
        print_message("failed", f"{path} could not be listed ({reason}); its pictures stay in the catalogue")
    if broken and not json:
        _print_broken(broken, outcome, quiet=quiet)
    return bool(outcome.failed or outcome.unlisted)


def _print_removals(outcome: IndexOutcome) -> None:
    """Print missing files that were kept, files that were left out, and files replaced unnoticed."""
    if outcome.kept:
        folders = ", ".join(str(path) for path in outcome.kept_below[:SHOWN_FOLDERS])
        more = f" and {len(outcome.kept_below) - SHOWN_FOLDERS} more" * (
            len(outcome.kept_below) > SHOWN_FOLDERS
        )
        print_message(
            "note",
            f"{counted(outcome.kept, 'file')} missing in {folders}{more}: is a drive unplugged? They stay in "
            "the catalogue; --remove-gone removes them",
        )
    if outcome.left_out:
        verb = "was" if outcome.left_out == 1 else "were"
        print_message(
            "note",
            f"{counted(outcome.left_out, 'file')} {verb} removed from the catalogue though on disk, because "
            "of --exclude or --no-archives, or as part of a system folder (--system-folders indexes those)",
        )
    for path, member in outcome.differing[:SHOWN_FAILURES]:
        name = f"{path}/{member}" if member else str(path)
        print_message("note", f"{name} holds a different picture than before, with the same size and time")
    if len(outcome.differing) > SHOWN_FAILURES:
        print_message("note", f"and {len(outcome.differing) - SHOWN_FAILURES} more (--json lists all)")


def _summary_line(store: Store, outcome: IndexOutcome, seconds: float) -> str:
    """Counts, time and speed, in one line."""
    done = [
        f"{number:,} {label}"
        for number, label in (
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
    summary = ", ".join(done) or "nothing new"
    return f"{counted(len(store), 'picture')} in {store.name}: {summary} in {seconds:.1f} s{rate}"


def _print_broken(broken: list[tuple[Path, str, str]], outcome: IndexOutcome, *, quiet: bool) -> None:
    if not outcome.failed:
        note(
            f"{counted(len(broken), 'file')} could not be read before, unchanged since (--retry reads them "
            "again)",
            quiet=quiet,
        )
        return
    print_message(
        "failed", f"{counted(len(broken), 'file')} cannot be read; to be read again after a change:"
    )
    for path, member, reason in broken[:SHOWN_FAILURES]:
        name = f"{path}/{member}" if member else str(path)
        typer.echo(f"  {clean(f'{name}: {reason}')}", err=True)
    if len(broken) > SHOWN_FAILURES:
        typer.echo(f"  and {len(broken) - SHOWN_FAILURES} more (--json lists all)", err=True)


def _to_json(
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
