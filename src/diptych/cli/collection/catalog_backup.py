"""`diptych catalog move`, `backup` and `restore`."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.collection.annotation_output import note_annotation_changes
from diptych.cli.shared import catalogs
from diptych.cli.shared.console import clean, note, print_message
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import Json, OutputOptions, argument, flag
from diptych.errors import counted


def move(
    old: Annotated[Path, argument("OLD", "The path under which the folder was indexed.")],
    new: Annotated[Path, argument("NEW", "The path where the same files are now.")],
    catalog: catalogs.Catalog = None,
    dry_run: Annotated[
        bool, flag("--dry-run", "Change nothing; only check that the files are in NEW.")
    ] = False,
    json: Json = False,
) -> None:
    """Update the paths of a catalogue after a folder was moved or renamed.

    Move the files yourself first. No picture is read again; tags, ratings and
    embeddings stay. Undo lists of diptych duplicates get the new paths.

    [bold]Examples[/bold]

      mv ~/Pictures /mnt/photos && diptych catalog move ~/Pictures /mnt/photos

    Exit status: 0 done, 1 some files are not in the new folder, 2 not done.
    """
    from diptych.catalog.exchange.relocation import relocate

    with catalogs.open_catalog(catalog) as store:
        done = relocate(store, old, new, dry_run=dry_run, lists=catalogs.undo_folder(store))
    missing = done.sampled - done.existing
    if json:
        summary = {
            "files": done.files,
            "known_before": done.doubled,
            "looked_for": done.sampled,
            "there": done.existing,
            "undo_lists": done.undo_lists,
            "dry_run": dry_run,
        }
        typer.echo(jsonlib.dumps(summary))
    else:
        verb = "would have" if dry_run else "have" if done.files != 1 else "has"
        typer.echo(clean(f"{counted(done.files, 'file')} {verb} a new path in {new}"))
        if done.doubled:
            note(f"{counted(done.doubled, 'file')} in {new} already indexed before")
        note_annotation_changes(done.annotations)
    if missing:
        print_message(
            "missing",
            f"{missing:,} of {counted(done.sampled, 'file')} not in {new}; the next diptych index removes "
            "missing files from the catalogue",
        )
        raise typer.Exit(1)


@with_groups
def backup(
    to: Annotated[Path, argument("TO", "A new folder for the copy, which is a catalogue itself.")],
    catalog: catalogs.Catalog = None,
    *,
    output: OutputOptions,
) -> None:
    """Copy the catalogue, also while it is in use: embeddings, tags, ratings, undo lists.

    The copy is a catalogue: [bold]diptych search --catalog TO[/bold] works. Pictures are not
    copied.

    [bold]Examples[/bold]

      diptych catalog backup /mnt/backup/catalog-2026-11

      diptych catalog restore /mnt/backup/catalog-2026-11

    Exit status: 0 done, 2 not done.
    """
    from diptych.catalog.exchange.backup import back_up

    with catalogs.open_catalog(catalog) as store:
        folder = back_up(store, to, stage=output.stage("B"))
        pictures = len(store)
    summary = {"backup": str(folder), "pictures": pictures}
    typer.echo(
        jsonlib.dumps(summary) if output.json else clean(f"{counted(pictures, 'picture')} in {folder}")
    )


@with_groups
def restore(
    backup: Annotated[Path, argument("BACKUP", "A folder written by backup.")],
    catalog: catalogs.Catalog = None,
    replace: Annotated[
        bool,
        flag("--replace", "Replace an existing catalogue; it is kept beside, under a name with the date."),
    ] = False,
    *,
    output: OutputOptions,
) -> None:
    """Restore a catalogue from a backup.

    [bold]Examples[/bold]

      diptych catalog restore /mnt/backup/catalog-2026-11

      diptych catalog restore /mnt/backup/catalog-2026-11 --replace

    Exit status: 0 done, 2 not done.
    """
    from diptych.catalog import is_address
    from diptych.catalog.exchange.backup import restore as restore_catalog

    location = catalog or catalogs.default_catalog()
    if is_address(location):
        raise typer.BadParameter("restore a catalogue in PostgreSQL with pg_restore")
    target = Path(location).expanduser().absolute()
    previous = restore_catalog(backup, target, replace=replace, stage=output.stage("B"))
    with catalogs.open_catalog(str(target)) as store:
        pictures = len(store)
    if output.json:
        summary = {"catalog": str(target), "pictures": pictures, "before": previous and str(previous)}
        typer.echo(jsonlib.dumps(summary))
        return
    typer.echo(clean(f"{counted(pictures, 'picture')} in {target}"))
    if previous is not None:
        output.note(f"the previous catalogue is in {previous}")
