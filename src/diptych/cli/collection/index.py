"""`diptych index`: bring a catalogue up to date with the files on disk."""

from __future__ import annotations

import functools
import json as jsonlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.collection.annotation_output import note_annotation_changes
from diptych.cli.shared import catalogs
from diptych.cli.shared.console import clean, print_failures, print_message, print_messages
from diptych.cli.shared.encoders import EmbeddingOptions
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import OutputOptions, argument, flag, option
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.catalog import IndexOutcome, Store

SHOWN_FAILURES, SHOWN_FOLDERS = 10, 3


@dataclass(frozen=True)
class IndexOptions:
    """Which files are indexed, and what happens to those that changed or are missing."""

    exclude: Annotated[
        list[str] | None,
        option(
            "PATTERN",
            "Skip files that match, now and later: a name ('*.gif'), a folder (private/), the end of a "
            "path (2019/drafts), or a path below the indexed folder (/2019). '' removes all patterns.",
        ),
    ] = None
    archives: Annotated[
        bool | None,
        typer.Option(
            "--archives/--no-archives",
            help="Index pictures inside zip and tar archives. The choice is remembered; at first it is yes.",
            show_default=False,
        ),
    ] = None
    system_folders: Annotated[
        bool | None,
        typer.Option(
            "--system-folders/--no-system-folders",
            help="Index folders that file servers and systems use themselves (@eaDir, #recycle ...). The "
            "choice is remembered; at first it is no.",
            show_default=False,
        ),
    ] = None
    retry: Annotated[bool, flag("--retry", "Read again the files that failed before.")] = False
    verify: Annotated[
        bool,
        flag(
            "--verify",
            "Read every file again, even if size and time are unchanged, and report changed pictures.",
        ),
    ] = False
    remove_gone: Annotated[
        bool,
        flag(
            "--remove-gone",
            "Remove missing files from the catalogue even if a whole folder is missing, as with an unplugged "
            "drive. With --reembed, drop pictures that could not be embedded again.",
        ),
    ] = False
    forget: Annotated[
        list[Path] | None,
        option(
            "PATH",
            "Remove this file or folder from the catalogue, not from disk, until it is indexed by name "
            "again. PATHs are indexed first, so the same pictures keep their tags there.",
        ),
    ] = None
    watch: Annotated[
        bool, flag("--watch", "Keep running and index changes as they happen; stop with Ctrl-C.")
    ] = False
    reembed: Annotated[
        bool,
        flag(
            "--reembed",
            "Embed all pictures again with another --model; until that is done, search uses the old one.",
        ),
    ] = False


@with_groups
def index(
    paths: Annotated[
        list[Path] | None, argument("PATH", "Folders and pictures. Default: everything indexed before.")
    ] = None,
    catalog: catalogs.Catalog = None,
    *,
    choice: IndexOptions,
    output: OutputOptions,
    encoding: EmbeddingOptions,
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
    forget = choice.forget or []
    with catalogs.open_catalog(catalog, create=True) as store:
        if forget and not paths:
            _forget(store, forget, json=output.json)
            return
        _check_before(store, forget, paths or [], output)
        encoder, reference = catalogs.encoder_for(store, encoding, autotune=output.note)
        threads, batch_size = encoding.counts(32)
        settings = IntakeSettings(
            exact=encoding.exact, threads=threads, batch_size=batch_size, retry=choice.retry
        )
        run = functools.partial(
            index_pictures,
            store,
            encoder,
            model=reference.stored,
            settings=settings,
            stage=output.stage("files"),
        )
        outcome = run(
            paths or (),
            settings=replace(settings, verify=choice.verify),
            remove_gone=choice.remove_gone,
            reembed=choice.reembed,
            exclude=choice.exclude,
            archives=choice.archives,
            system_folders=choice.system_folders,
        )
        _print_outcome(store, outcome, time.monotonic() - start, output)
        if forget:
            _forget(store, forget, paths or (), json=output.json)
        if choice.watch:
            _watch(store, run, paths or (), output)
    if outcome.failed or outcome.unlisted:
        raise typer.Exit(1)


def _watch(
    store: Store, run: Callable[..., IndexOutcome], paths: Sequence[Path], output: OutputOptions
) -> None:
    """Index changes until Ctrl-C; prints a line only when something was done."""
    from diptych.catalog import changed_folders, planned_run
    from diptych.errors import CatalogError, InputError, SaveError

    plan = planned_run(store, paths)
    output.note(f"watching {', '.join(map(str, plan.rules))}; stop with Ctrl-C")
    skip = [*plan.forgotten, *([store.folder] if store.folder else [])]
    for folders in changed_folders(plan.rules, skip=skip, note=output.note):
        start = time.monotonic()
        try:
            outcome = run(folders, remember=False)
        # The folder vanished after the notification, the drive failed, the disk is full, or another process
        # held the database: the next rescan compares it again, so a watch must not end here.
        except (CatalogError, InputError, SaveError, OSError) as error:
            print_message("failed", str(error))
            continue
        if outcome.changed:
            _print_outcome(store, outcome, time.monotonic() - start, output)


def _forget(store: Store, paths: list[Path], keep: Sequence[Path] = (), *, json: bool) -> None:
    from diptych.catalog import forget_paths
    from diptych.catalog.annotations.annotations import AnnotationChanges

    changes = AnnotationChanges()
    removed = forget_paths(store, paths, keep=keep, changes=changes)
    if json:
        typer.echo(jsonlib.dumps({"removed": removed, "set_aside": len(changes.set_aside)}))
    else:
        note_annotation_changes(changes)
        typer.echo(
            f"{counted(removed, 'file')} removed from the catalogue; {counted(len(store), 'picture')} left"
        )


def _check_before(store: Store, forget: list[Path], paths: list[Path], output: OutputOptions) -> None:
    """Check the paths to forget, and warn once about a network drive, where SQLite's locks may not work."""
    from diptych.catalog import check_forgettable, network_kind

    check_forgettable(store, forget, paths)
    key = "warned of network drive"
    if store.folder is None or not (kind := network_kind(store.folder)):
        return
    with store.database.writing():
        if store.database.all("SELECT 1 FROM meta WHERE key = ?", (key,)):
            return
        store.database.run("INSERT INTO meta (key, value) VALUES (?, ?)", (key, kind))
    output.note(
        f"{store.folder} is on a network drive ({kind}): use this catalogue from one computer at a time, or "
        "its database may be damaged. A catalogue on a local disk may index pictures on a network drive; "
        "several computers can share one in PostgreSQL (--catalog postgresql://HOST/NAME)"
    )


def _print_outcome(store: Store, outcome: IndexOutcome, seconds: float, output: OutputOptions) -> None:
    """Print what was done and what could not be read."""
    from diptych.catalog import failures

    broken = failures(store.database)
    if output.json:
        typer.echo(jsonlib.dumps(_to_json(store, outcome, broken, seconds)))
    else:
        typer.echo(_summary_line(store, outcome, seconds))
    if outcome.built:
        output.note(f"index: {outcome.built}")
    for message in outcome.notes:
        print_message("note", message)
    _print_removals(outcome)
    note_annotation_changes(outcome.annotations, quiet=output.quiet)
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
    if broken and not output.json:
        _print_broken(broken, outcome, output)


def _print_removals(outcome: IndexOutcome) -> None:
    """Print missing files that stay, files that were removed, and files replaced unnoticed."""
    if outcome.retained:
        folders = ", ".join(str(path) for path in outcome.retained_below[:SHOWN_FOLDERS])
        hidden = len(outcome.retained_below) - SHOWN_FOLDERS
        more = f" and {hidden} more" if hidden > 0 else ""
        print_message(
            "note",
            f"{counted(outcome.retained, 'file')} missing in {folders}{more}: is a drive unplugged? They "
            "stay in the catalogue; --remove-gone removes them",
        )
    if outcome.left_out:
        verb = "was" if outcome.left_out == 1 else "were"
        print_message(
            "note",
            f"{counted(outcome.left_out, 'file')} {verb} removed from the catalogue though on disk, because "
            "of --exclude or --no-archives, or as part of a system folder (--system-folders indexes those)",
        )
    hint = "holds a different picture than before, with the same size and time"
    differing = [f"{_name(path, member)} {hint}" for path, member in outcome.differing]
    print_messages("note", differing, most=SHOWN_FAILURES)


def _summary_line(store: Store, outcome: IndexOutcome, seconds: float) -> str:
    """Counts, time and speed, in one line."""
    done = [
        f"{number:,} {label}"
        for number, label in (
            (outcome.embedded, "embedded"),
            (outcome.copies, "copy" if outcome.copies == 1 else "copies"),
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


def _print_broken(broken: list[tuple[Path, str, str]], outcome: IndexOutcome, output: OutputOptions) -> None:
    if not outcome.failed:
        output.note(
            f"{counted(len(broken), 'file')} could not be read before, unchanged since (--retry reads them "
            "again)"
        )
        return
    summary = f"{counted(len(broken), 'file')} cannot be read; to be read again after a change:"
    lines = [f"{_name(path, member)}: {reason}" for path, member, reason in broken]
    print_failures(summary, lines, most=SHOWN_FAILURES)


def _name(path: Path, member: str) -> str:
    return f"{path}/{member}" if member else str(path)


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
        "gone_but_kept": outcome.retained,
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
