"""`diptych duplicates`: find copies in a catalogue, in tiers, with evidence; move them to a trash folder."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from diptych.cli.collection import catalogs
from diptych.cli.collection.filtering import FilterOptions, filter_check
from diptych.cli.shared import options
from diptych.cli.shared.console import format_size, note, print_message, progress
from diptych.cli.shared.option_groups import with_group
from diptych.cli.shared.own_files import Force, check_overwrite
from diptych.errors import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diptych.catalog import Filter, Store
    from diptych.catalog.duplicates.finding import DuplicateGroups
    from diptych.catalog.duplicates.groups import DuplicateGroup
    from diptych.catalog.duplicates.trash import TrashReport
    from diptych.catalog.duplicates.undo import RestoreReport
    from diptych.matching.verdicts import Tier

_MOVING = "Moving"
OUTPUT_FORMATS = ("table", "json", "csv", "imagededup", "remove")
DEFAULT_TIERS = "bytes,picture,part,scene"
MOST_REFUSED = 10  # files that stayed and are named one by one

Tiers = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Kinds of copies to find: bytes (equal files), picture (saved again, resized, mirrored), part "
        "(cropped, framed, with added text, in a collage), scene (another moment).",
    ),
]
Keep = Annotated[
    str,
    typer.Option(
        metavar="RULES",
        help="Rules for which file to keep, tried in order until one decides: resolution, annotated (has "
        "tags, a rating or a caption), exif, format[:PNG/JPEG/...], largest, smallest, oldest, newest, "
        "folder:DIR.",
    ),
]
Form = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="NAME",
        help="Output: table, json, csv, imagededup ({file: [[file, score]]}), or remove (paths of copies, "
        "one per line).",
    ),
]
Null = Annotated[
    bool,
    typer.Option(
        "--print0", "-0", metavar="", help="Print paths of copies, each ended by NUL (for xargs -0)."
    ),
]
Most = Annotated[
    int,
    typer.Option("--top", "-k", metavar="N", min=1, help="DuplicateGroups of each kind shown in the table."),
]
Html = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also write one HTML page to review the groups."),
]
Trash = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|auto",
        help="Move copies into this folder; auto: a hidden folder in each indexed folder. Nothing is "
        "deleted.",
        rich_help_panel=_MOVING,
    ),
]
Copies = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="What counts as a copy for --trash and for lists of paths: bytes, or bytes,picture. Review the "
        "pictures first: they may differ in small print.",
        rich_help_panel=_MOVING,
    ),
]
Undo = Annotated[
    Path | None,
    typer.Option(
        metavar="LIST", help="Move back the files that a run with --trash moved.", rich_help_panel=_MOVING
    ),
]


@with_group("filters")
def duplicates(
    catalog: catalogs.Catalog = None,
    tiers: Tiers = DEFAULT_TIERS,
    keep: Keep = "resolution,annotated,exif,format,largest,oldest",
    form: Form = "table",
    print0: Null = False,
    top: Most = 20,
    html: Html = None,
    force: Force = False,
    *,
    filters: FilterOptions,
    trash: Trash = None,
    copies: Copies = "bytes",
    undo: Undo = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find copies among the pictures of a catalogue, with the evidence for each.

    New pictures are compared with all others once, so a second run is fast.
    With filters, only pictures that pass are compared with each other. No file
    is moved without --trash, and none is ever deleted.

    [bold]Examples[/bold]

      diptych duplicates

      diptych duplicates --html review.html

      diptych duplicates --trash auto                          (equal files; one of each is kept)

      diptych duplicates --trash auto --copies bytes,picture --keep folder:~/Originals,resolution

      diptych duplicates --undo ~/.local/share/diptych/catalog/undo/20240501-120000.jsonl

    Exit status: 0 done, 1 some files could not be moved or put back, 2 not
    done.
    """
    from diptych.cli.search.duplicates_output import print_groups

    if form not in OUTPUT_FORMATS:
        raise typer.BadParameter(f"--format takes {', '.join(OUTPUT_FORMATS)}, not {form!r}")
    if trash is not None and not trash.strip():
        raise typer.BadParameter("--trash takes a folder, or auto")
    check_overwrite(html, force=force)
    form = "json" if json else "null" if print0 else form
    if undo is not None:
        if trash is not None:
            raise typer.BadParameter("--undo moves back what --trash moved: give one of them")
        _put_back(catalog, undo, json=json)
        return
    with catalogs.open_catalog(catalog) as store:
        searched, movable = _read_tiers(tiers, "--tiers"), _read_copies(copies)
        result = _find(store, searched, keep, filters.filter(), quiet=quiet)
        if html is not None:
            _write_page(store, result, html, quiet=quiet)
        moved = _move(store, result.groups, trash, movable, quiet=quiet) if trash is not None else None
    print_groups(result, form, top, moved, copies=movable, quiet=quiet)  # type: ignore[arg-type] # checked above
    for content, reason in list(result.failed.items())[:5]:
        print_message("failed", f"picture #{content}: {reason}")
    if moved is not None:
        _print_moved(moved, quiet=quiet)


def _read_tiers(text: str, option: str) -> tuple[Tier, ...]:
    from diptych.matching.verdicts import TIERS

    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in TIERS:
            raise typer.BadParameter(f"{option} takes a list of {', '.join(TIERS)}, not {name!r}")
    return cast("tuple[Tier, ...]", tuple(names))


def _read_copies(text: str) -> tuple[Tier, ...]:
    """Read the tiers that may be moved; parts and scenes show something else than the kept file."""
    tiers = _read_tiers(text, "--copies")
    for tier in tiers:
        if tier not in ("bytes", "picture"):
            raise typer.BadParameter(
                f"--copies takes bytes and picture, not {tier}: files of that tier are not copies of each "
                "other. Review them with --html and delete by hand"
            )
    return tiers


def _find(store: Store, tiers: Sequence[Tier], keep: str, where: Filter, *, quiet: bool) -> DuplicateGroups:
    from diptych.catalog.duplicates.finding import find_duplicates
    from diptych.catalog.duplicates.keeping import parse_rules

    filter_check(replace(where, folders=()))(store.database)  # find_duplicates checks the folders itself
    return find_duplicates(
        store,
        tiers=tiers,
        rules=parse_rules(keep),
        folders=where.folders,
        where=replace(where, folders=()),
        stage=lambda name, total: progress(name, total, unit="pictures", quiet=quiet),
    )


def _write_page(store: Store, result: DuplicateGroups, html: Path, *, quiet: bool) -> None:
    from diptych.cli.search.duplicates_page import write_page

    name = "this catalogue" if store.folder is None else str(store.folder)
    with progress("writing the page", len(result.groups), unit="groups", quiet=quiet) as advance:
        shown = write_page(html, result.groups, name, advance=advance)
    note(
        f"page to review: {html}" + (f" (the first {shown:,} groups)" * (shown < len(result.groups))),
        quiet=quiet,
    )


def _move(
    store: Store, groups: Sequence[DuplicateGroup], trash: str, tiers: Sequence[Tier], *, quiet: bool
) -> TrashReport:
    from diptych.catalog.duplicates.trash import move_to_trash
    from diptych.errors import SaveError

    folder = None if trash == "auto" else Path(trash)
    lists = (store.folder or catalogs.data_home()) / "undo"
    try:
        with progress("moving", None, unit="files", quiet=quiet) as advance:
            return move_to_trash(store, groups, folder, tiers=tiers, lists=lists, progress=advance)
    except (KeyboardInterrupt, SaveError):
        print_message("stopped", f"to move files back: --undo, with the newest list in {lists}")
        raise


def _print_moved(moved: TrashReport, *, quiet: bool) -> None:
    if moved.undo is None:
        note("nothing to move", quiet=quiet)
        return
    note(f"{counted(len(moved.files), 'file')} moved, {format_size(moved.size)}", quiet=quiet)
    if moved.companions:
        note(f"and {counted(len(moved.companions), 'file')} of captions and metadata with them", quiet=quiet)
    if moved.annotated:
        note(f"{counted(moved.annotated, 'kept picture')} got tags or ratings of moved copies", quiet=quiet)
    note(f"to move them back: diptych duplicates --undo {shlex.quote(str(moved.undo))}", quiet=quiet)
    for path, reason in moved.left[:MOST_REFUSED]:
        print_message("stayed", f"{path}, which belongs to a moved picture: {reason}")
    for file, reason in moved.refused[:MOST_REFUSED]:
        print_message("stayed", f"{file.name}: {reason}")
    if len(moved.refused) > MOST_REFUSED:
        print_message("stayed", f"and {len(moved.refused) - MOST_REFUSED:,} more")
    if moved.refused:
        raise typer.Exit(1)


def _put_back(catalog: str | None, undo: Path, *, json: bool) -> None:
    import json as jsonlib

    from diptych.catalog.duplicates.undo import put_back

    location = _catalog_of(catalog, undo)
    restored = put_back(undo)
    unknown = _update_catalog(location, restored)
    for path, reason in restored.problems[:10]:
        print_message("failed", f"{path}: {reason}")
    if json:
        problems = [{"path": str(path), "reason": reason} for path, reason in restored.problems]
        files = [str(line.source) for line in restored.lines]
        typer.echo(jsonlib.dumps({"restored": files, "untouched": restored.untouched, "problems": problems}))
    else:
        moved_back, untouched = counted(len(restored.lines), "file"), restored.untouched
        remark = "was already in place" if untouched == 1 else "were already in place"
        typer.echo(f"{moved_back} moved back, {untouched:,} {remark}")
        if unknown:
            option = "" if location is None else f" --catalog {shlex.quote(location)}"
            note(f"to index {unknown:,} of them again: diptych index{option}")
    if restored.problems:
        raise typer.Exit(1)


def _catalog_of(catalog: str | None, undo: Path) -> str | None:
    """The catalogue that the undo list names; any other one on the command line is a mistake."""
    from diptych.catalog.duplicates.undo import catalog_of

    named = catalog_of(undo)
    if catalog is not None and named and Path(named) != Path(catalog).expanduser().absolute():
        raise typer.BadParameter(f"{undo} was written for the catalogue {named}: leave out --catalog")
    return named or catalog


def _update_catalog(catalog: str | None, restored: RestoreReport) -> int:
    """Record the restored files in the catalogue, if it still exists; returns how many it does not know."""
    from diptych.catalog.duplicates.undo import take_back
    from diptych.errors import DiptychError

    try:
        with catalogs.open_catalog(catalog) as store:
            return take_back(store, restored)
    except DiptychError as error:
        print_message("warning", f"the catalogue was not updated: {error}")
        return 0
