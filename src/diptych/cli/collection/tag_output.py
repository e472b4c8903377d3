"""What `diptych tag` says: tags there are, tags given, sidecars written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import typer

from diptych.cli.collection import tag_by_hand
from diptych.cli.shared.console import clean, complain, fitted, note, screen
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.catalog.annotations.annotations import AnnotationChanges

SHOWN_FAILURES = 10


def print_done(told: dict[str, Any]) -> None:
    """Say everything that was done."""
    if "by_hand" in told:
        tag_by_hand.print_annotated(told["by_hand"])
    if "cleared" in told:
        cleared = told["cleared"]
        typer.echo(f"{counted(cleared['tags'], 'tag')} of {clean(cleared['origin'])} taken away")
    if "labels" in told:
        _print_labels(told)
    if "tags" in told:
        for one in told["tags"]:
            typer.echo(f"{one['pictures']:>9,}  {fitted(one['tag'], 40)}  {clean(one['origin'])}")
        if not told["tags"]:
            typer.echo("no picture has a tag yet: give some with  diptych tag --label dog --label snow")
    if "sidecars" in told:
        _print_sidecars(told["sidecars"])


def _print_labels(told: dict[str, Any]) -> None:
    """Counts, and with --dry-run the best pictures below each."""
    width = min(max((len(one["tag"]) for one in told["labels"]), default=0), 40)
    for one in told["labels"]:
        share = one["pictures"] / max(told["judged"], 1)
        typer.echo(f"{one['pictures']:>9,}  {fitted(one['tag'], width)}  {100 * share:5.1f} %")
        for example in one["examples"] if told["dry_run"] else ():
            name = fitted(example["path"], screen().width - 20, tail=True).rstrip()
            typer.echo(f"{'':11}{example['score']:4.2f}  {name}")
    done = "would have" if told["dry_run"] else "have"
    changed = "" if told["dry_run"] else f"; {told['changed']:,} changed"
    typer.echo(
        f"{told['tagged']:,} of {told['judged']:,} pictures {done} a tag of {clean(told['origin'])}{changed}"
    )


def _print_sidecars(told: dict[str, Any]) -> None:
    done = [
        f"{told[key]:,} {what}"
        for key, what in (
            ("written", "written"),
            ("unchanged", "unchanged"),
            ("removed", "removed"),
            ("missing", "left out, their pictures are not there"),
            ("inside_archives", "left out, inside archives"),
        )
        if told[key]
    ]
    typer.echo(f"sidecars: {', '.join(done) or 'nothing to do'}")


def print_failures(failures: list[dict[str, str]]) -> None:
    """Name what could not be written, and leave with status 1."""
    complain("failed", f"{len(failures)} sidecars were left as they are:")
    for one in failures[:SHOWN_FAILURES]:
        typer.echo(f"  {clean('{path}: {reason}'.format(**one))}", err=True)
    if len(failures) > SHOWN_FAILURES:
        typer.echo(f"  and {len(failures) - SHOWN_FAILURES} more (all of them with --json)", err=True)
    raise typer.Exit(1)


def note_fate(fate: AnnotationChanges, *, quiet: bool = False) -> None:
    """Say what became of tags and ratings when files changed or left."""
    if fate.carried:
        kept = "keeps its" if fate.carried == 1 else "keep their"
        note(f"{counted(fate.carried, 'edited picture')} {kept} tags and ratings", quiet=quiet)
    if fate.brought_back:
        note(f"tags and ratings of {counted(fate.brought_back, 'picture')} are back", quiet=quiet)
    if fate.set_aside:
        path, member = fate.set_aside[0]
        name = os.fsdecode(path) + (f"/{member}" if member else "")
        note(
            f"tags and ratings of {counted(len(fate.set_aside), 'picture')} that left are kept, and come "
            f"back with the same pictures; the first is {name}",
            quiet=quiet,
        )
