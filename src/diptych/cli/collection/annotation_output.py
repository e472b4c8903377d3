"""Terminal output of `diptych tag`: tags of the catalogue, tags given, sidecars written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import typer

from diptych.cli.shared.console import (
    clean,
    fit_width,
    note,
    print_failures,
    print_message,
    print_messages,
    stdout_console,
)
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.catalog.annotations.annotations import AnnotationChanges

SHOWN = 10  # failures that are named one by one


def print_done(done: dict[str, Any]) -> None:
    """Print a summary of everything that was done, from the values that --json prints."""
    if "by_hand" in done:
        _print_by_hand(done["by_hand"])
    if "cleared" in done:
        cleared = done["cleared"]
        typer.echo(f"{counted(cleared['tags'], 'tag')} of {clean(cleared['origin'])} removed")
    if "labels" in done:
        _print_labels(done)
    if "tags" in done:
        for row in done["tags"]:
            typer.echo(f"{row['pictures']:>9,}  {fit_width(row['tag'], 40)}  {clean(row['origin'])}")
        if not done["tags"]:
            typer.echo("no picture has a tag yet: add some with  diptych tag --label dog --label snow")
    if "sidecars" in done:
        _print_sidecars(done["sidecars"])


def _print_by_hand(done: dict[str, Any]) -> None:
    """Print the counts, and the paths that are not in the catalogue."""
    parts = [f"{counted(done['pictures'], 'picture')} chosen"]
    parts += [f"{done['tagged']:,} newly tagged"] if "tagged" in done else []
    parts += [f"{counted(done['untagged'], 'tag')} removed"] if "untagged" in done else []
    parts += [f"{done['rated']:,} newly rated"] if "rated" in done else []
    typer.echo(", ".join(parts))
    if not done["pictures"] and not done["unknown"]:
        print_message("nothing done", "no picture of the catalogue passes the filters")
    hint = "is not in the catalogue: run diptych index on it first"
    print_messages("unknown", [f"{path} {hint}" for path in done["unknown"]], most=SHOWN)


def _print_labels(done: dict[str, Any]) -> None:
    """Print the number of pictures of each label, and with --dry-run the best pictures."""
    width = min(max((len(row["tag"]) for row in done["labels"]), default=0), 40)
    for row in done["labels"]:
        percent = 100 * row["pictures"] / max(done["judged"], 1)
        typer.echo(f"{row['pictures']:>9,}  {fit_width(row['tag'], width)}  {percent:5.1f} %")
        for example in row["examples"] if done["dry_run"] else ():
            name = fit_width(example["path"], stdout_console().width - 20, tail=True).rstrip()
            typer.echo(f"{'':11}{example['score']:4.2f}  {name}")
    verb = "would have" if done["dry_run"] else "has" if done["tagged"] == 1 else "have"
    changed = "" if done["dry_run"] else f"; {done['changed']:,} changed"
    pictures = f"{done['tagged']:,} of {counted(done['judged'], 'picture')}"
    typer.echo(f"{pictures} {verb} a tag of {clean(done['origin'])}{changed}")


def _print_sidecars(counts: dict[str, Any]) -> None:
    done = [
        f"{counts[key]:,} {label}"
        for key, label in (
            ("written", "written"),
            ("unchanged", "unchanged"),
            ("removed", "removed"),
            ("missing", "left out because their pictures are missing"),
            ("inside_archives", "left out because their pictures are in archives"),
        )
        if counts[key]
    ]
    typer.echo(f"sidecars: {', '.join(done) or 'nothing to do'}")


def print_sidecar_failures(failures: list[dict[str, str]]) -> None:
    """Print the sidecars that could not be written, and exit with status 1."""
    lines = ["{path}: {reason}".format(**failure) for failure in failures]
    print_failures(f"{counted(len(failures), 'sidecar')} could not be written:", lines, most=SHOWN)
    raise typer.Exit(1)


def note_annotation_changes(changes: AnnotationChanges, *, quiet: bool = False) -> None:
    """Print what happened to tags and ratings when files changed or left the catalogue."""
    if changes.carried:
        verb = "keeps its" if changes.carried == 1 else "keep their"
        note(f"{counted(changes.carried, 'edited picture')} {verb} tags and ratings", quiet=quiet)
    if changes.brought_back:
        note(f"tags and ratings of {counted(changes.brought_back, 'picture')} restored", quiet=quiet)
    if changes.set_aside:
        path, member = changes.set_aside[0]
        name = os.fsdecode(path) + (f"/{member}" if member else "")
        note(
            f"tags and ratings of {counted(len(changes.set_aside), 'picture')} that left the catalogue "
            f"are kept, and restored when the same pictures come back; the first is {name}",
            quiet=quiet,
        )
