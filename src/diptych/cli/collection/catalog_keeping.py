"""`diptych catalog move`, `backup` and `restore`: a catalogue follows its folders, and survives its disk."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.collection import catalogs
from diptych.cli.collection.tag_output import note_fate
from diptych.cli.shared import options
from diptych.cli.shared.console import clean, complain, note, progress
from diptych.errors import counted

Old = Annotated[Path, typer.Argument(metavar="OLD", help="The folder as it was indexed.", show_default=False)]
New = Annotated[Path, typer.Argument(metavar="NEW", help="Where the same files are now.", show_default=False)]
DryRun = Annotated[bool, typer.Option("--dry-run", metavar="", help="Only look whether the files are there.")]
BackupTo = Annotated[
    Path,
    typer.Argument(metavar="TO", help="A new folder; it becomes a catalogue itself.", show_default=False),
]
BackupFrom = Annotated[
    Path, typer.Argument(metavar="BACKUP", help="A folder that backup wrote.", show_default=False)
]
Replace = Annotated[
    bool,
    typer.Option(
        "--replace",
        metavar="",
        help="Where a catalogue is there already: keep it beside, under a name with the date.",
    ),
]


def move(
    old: Old,
    new: New,
    catalog: catalogs.Catalog = None,
    dry_run: DryRun = False,
    json: options.Json = False,
) -> None:
    """Tell the catalogue that a folder was moved or renamed; no picture is read again.

    The files themselves are moved by you, before. Tags, ratings and vectors
    stay, and lists that undo moving to the trash name the new paths.

    [bold]Examples[/bold]

      mv ~/Pictures /mnt/photos && diptych catalog move ~/Pictures /mnt/photos

    Exit status: 0 done, 1 some files are not in the new folder, 2 not done.
    """
    from diptych.catalog.exchange.relocation import relocate

    with catalogs.opened(catalog) as store:
        lists = (store.folder or catalogs.data_home()) / "undo"
        done = relocate(store, old, new, dry_run=dry_run, lists=lists)
    lacking = done.looked_for - done.there
    if json:
        told = {
            "files": done.files,
            "known_before": done.known,
            "looked_for": done.looked_for,
            "there": done.there,
            "undo_lists": done.undo_lists,
            "dry_run": dry_run,
        }
        typer.echo(jsonlib.dumps(told))
    else:
        verb = "would have" if dry_run else "have" if done.files != 1 else "has"
        typer.echo(clean(f"{counted(done.files, 'file')} {verb} a path in {new} now"))
        if done.known:
            note(f"{counted(done.known, 'file')} in {new} had been indexed there already")
        note_fate(done.annotations)
    if lacking:
        complain(
            "missing",
            f"of {counted(done.looked_for, 'file')} that were looked for {lacking:,} are not in {new}; the "
            "next diptych index takes out what is gone",
        )
        raise typer.Exit(1)


def backup(
    to: BackupTo,
    catalog: catalogs.Catalog = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Copy the catalogue while it is in use: vectors, tags, ratings, undo lists.

    The copy is a catalogue: [bold]diptych search --catalog TO[/bold] works. The pictures
    themselves are not copied.

    [bold]Examples[/bold]

      diptych catalog backup /mnt/backup/catalog-2026-11

      diptych catalog restore /mnt/backup/catalog-2026-11

    Exit status: 0 done, 2 not done.
    """
    from diptych.catalog.exchange.backup import back_up

    with catalogs.opened(catalog) as store:
        place = back_up(store, to, stage=lambda what, total: progress(what, total, unit="B", quiet=quiet))
        pictures = len(store)
    told = {"backup": str(place), "pictures": pictures}
    typer.echo(jsonlib.dumps(told) if json else clean(f"{counted(pictures, 'picture')} in {place}"))


def restore(
    backup: BackupFrom,
    catalog: catalogs.Catalog = None,
    replace: Replace = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Put a backup in the catalogue's place.

    [bold]Examples[/bold]

      diptych catalog restore /mnt/backup/catalog-2026-11

      diptych catalog restore /mnt/backup/catalog-2026-11 --replace

    Exit status: 0 done, 2 not done.
    """
    from diptych.catalog import Store, is_address
    from diptych.catalog.exchange.backup import restore as restore_catalog

    where = catalog or catalogs.default_catalog()
    if is_address(where):
        raise typer.BadParameter("a catalogue in PostgreSQL is restored with pg_restore")
    target = Path(where).expanduser().absolute()
    aside = restore_catalog(
        backup,
        target,
        replace=replace,
        stage=lambda what, total: progress(what, total, unit="B", quiet=quiet),
    )
    store = Store.open(target)
    pictures = len(store)
    store.close()
    if json:
        told = {"catalog": str(target), "pictures": pictures, "before": aside and str(aside)}
        typer.echo(jsonlib.dumps(told))
        return
    typer.echo(clean(f"{counted(pictures, 'picture')} in {target}"))
    if aside is not None:
        note(f"what was there before is in {aside}", quiet=quiet)
