"""`diptych duplicates`: copies in a catalogue, in tiers, with what speaks for each; moved away on request."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from diptych.cli.collection import catalogs
from diptych.cli.collection.filtering import NO_FILTER, FilterOptions, ready_for
from diptych.cli.shared import options
from diptych.cli.shared.console import complain, note, progress, size_of
from diptych.cli.shared.option_groups import with_group
from diptych.cli.shared.own_files import Force, check_own
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
FORMS = ("table", "json", "csv", "imagededup", "remove")
DEFAULT_TIERS = "bytes,picture,part,scene"
MOST_REFUSED = 10  # named one by one

Tiers = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Of bytes (equal files), picture (saved again, resized, mirrored), part (cut, framed, written "
        "over, in a collage), scene (another moment).",
    ),
]
Keep = Annotated[
    str,
    typer.Option(
        metavar="RULES",
        help="Which file stays: resolution, annotated (it has tags, a rating, a caption), exif, "
        "format[:PNG/JPEG/...], largest, smallest, oldest, newest, folder:DIR; the first that tells two "
        "apart.",
    ),
]
Form = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="NAME",
        help="table, json, csv, imagededup ({file: [[file, score]]}), remove (copies, one a line).",
    ),
]
Null = Annotated[
    bool, typer.Option("--print0", "-0", metavar="", help="As --format remove, ended by NUL (xargs -0).")
]
Most = Annotated[
    int, typer.Option("--top", "-k", metavar="N", min=1, help="Groups of each tier in the table.")
]
Html = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write a page to look through them, too: one file of HTML."),
]
Trash = Annotated[
    str | None,
    typer.Option(
        metavar="DIR|auto",
        help="Move copies there; auto: a hidden folder in each indexed one. Nothing is deleted.",
        rich_help_panel=_MOVING,
    ),
]
Copies = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="What counts as a copy, for --trash and the lists: bytes, or bytes,picture, once you have "
        "looked at the pictures: small print may differ in them.",
        rich_help_panel=_MOVING,
    ),
]
Undo = Annotated[
    Path | None,
    typer.Option(metavar="LIST", help="Put back what a run with --trash moved.", rich_help_panel=_MOVING),
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
    filters: FilterOptions = NO_FILTER,
    trash: Trash = None,
    copies: Copies = "bytes",
    undo: Undo = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find copies among the pictures of a catalogue, and say why each is one.

    New pictures are compared with all others once; asking again costs nothing.
    With filters only pictures that pass are compared, with each other.
    Nothing on disk is touched without --trash, and nothing is ever deleted.

    [bold]Examples[/bold]

      diptych duplicates

      diptych duplicates --html review.html

      diptych duplicates --trash auto                          (equal files; one of each stays)

      diptych duplicates --trash auto --copies bytes,picture --keep folder:~/Originals,resolution

      diptych duplicates --undo ~/.local/share/diptych/catalog/undo/20240501-120000.jsonl

    Exit status: 0 done, 1 some files could not be moved or put back, 2 not
    done.
    """
    from diptych.cli.search.duplicates_output import print_groups

    if form not in FORMS:
        raise typer.BadParameter(f"--format takes {', '.join(FORMS)}, not {form!r}")
    if trash is not None and not trash.strip():
        raise typer.BadParameter("--trash takes a folder, or auto")
    check_own(html, force=force)
    form = "json" if json else "null" if print0 else form
    if undo is not None:
        if trash is not None:
            raise typer.BadParameter("--undo puts back what --trash moved: give one of them")
        _put_back(catalog, undo, json=json)
        return
    with catalogs.opened(catalog) as store:
        asked, movable = _tiers(tiers, "--tiers"), _copies(copies)
        found = _find(store, asked, keep, filters.filter(), quiet=quiet)
        if html is not None:
            _write_page(store, found, html, quiet=quiet)
        moved = _move(store, found.groups, trash, movable, quiet=quiet) if trash is not None else None
    print_groups(found, form, top, moved, copies=movable, quiet=quiet)  # type: ignore[arg-type] # checked above
    for content, reason in list(found.failed.items())[:5]:
        complain("failed", f"picture #{content}: {reason}")
    if moved is not None:
        _tell_moved(moved, quiet=quiet)


def _tiers(text: str, option: str) -> tuple[Tier, ...]:
    from diptych.matching.verdicts import TIERS

    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in TIERS:
            raise typer.BadParameter(f"{option} takes some of {', '.join(TIERS)}, not {name!r}")
    return cast("tuple[Tier, ...]", tuple(names))


def _copies(text: str) -> tuple[Tier, ...]:
    """What may be moved: a part shows less than the whole or more, and a scene is another moment."""
    tiers = _tiers(text, "--copies")
    for tier in tiers:
        if tier not in ("bytes", "picture"):
            raise typer.BadParameter(
                f"--copies takes bytes and picture, not {tier}: files of that tier are no copies of each "
                "other. Look through them with --html, and delete by hand"
            )
    return tiers


def _find(store: Store, tiers: Sequence[Tier], keep: str, where: Filter, *, quiet: bool) -> DuplicateGroups:
    from diptych.catalog.duplicates.finding import find_duplicates
    from diptych.catalog.duplicates.keeping import parse_rules

    ready_for(replace(where, folders=()))(store.database)  # folders have a check of their own
    return find_duplicates(
        store,
        tiers=tiers,
        rules=parse_rules(keep),
        folders=where.folders,
        where=replace(where, folders=()),
        stage=lambda what, total: progress(what, total, unit="pictures", quiet=quiet),
    )


def _write_page(store: Store, found: DuplicateGroups, html: Path, *, quiet: bool) -> None:
    from diptych.cli.search.duplicates_page import write_page

    name = "this catalogue" if store.folder is None else str(store.folder)
    with progress("writing the page", len(found.groups), unit="groups", quiet=quiet) as advance:
        shown = write_page(html, found.groups, name, advance=advance)
    note(
        f"to look through: {html}" + (f" (the first {shown:,} groups)" * (shown < len(found.groups))),
        quiet=quiet,
    )


def _move(
    store: Store, groups: Sequence[DuplicateGroup], trash: str, tiers: Sequence[Tier], *, quiet: bool
) -> TrashReport:
    from diptych.catalog.duplicates.trash import move_to_trash
    from diptych.errors import SaveError

    place = None if trash == "auto" else Path(trash)
    lists = (store.folder or catalogs.data_home()) / "undo"
    try:
        with progress("moving", None, unit="files", quiet=quiet) as advance:
            return move_to_trash(store, groups, place, tiers=tiers, lists=lists, progress=advance)
    except (KeyboardInterrupt, SaveError):
        complain("stopped", f"what was moved can be put back: --undo, with the newest list in {lists}")
        raise


def _tell_moved(moved: TrashReport, *, quiet: bool) -> None:
    if moved.undo is None:
        note("nothing to move", quiet=quiet)
        return
    note(f"{counted(len(moved.files), 'file')} moved, {size_of(moved.size)}", quiet=quiet)
    if moved.companions:
        note(f"with {counted(len(moved.companions), 'file')} of captions and metadata", quiet=quiet)
    if moved.annotated:
        note(f"{counted(moved.annotated, 'kept picture')} got tags or ratings of moved ones", quiet=quiet)
    note(f"to put them back: diptych duplicates --undo {shlex.quote(str(moved.undo))}", quiet=quiet)
    for path, reason in moved.left[:MOST_REFUSED]:
        complain("stayed", f"{path}, which belongs to a moved picture: {reason}")
    for file, reason in moved.refused[:MOST_REFUSED]:
        complain("stayed", f"{file.name}: {reason}")
    if len(moved.refused) > MOST_REFUSED:
        complain("stayed", f"and {len(moved.refused) - MOST_REFUSED:,} more")
    if moved.refused:
        raise typer.Exit(1)


def _put_back(catalog: str | None, undo: Path, *, json: bool) -> None:
    import json as jsonlib

    from diptych.catalog.duplicates.undo import put_back

    place = _catalog_of(catalog, undo)
    restored = put_back(undo)
    unknown = _tell_catalog(place, restored)
    for path, reason in restored.problems[:10]:
        complain("failed", f"{path}: {reason}")
    if json:
        problems = [{"path": str(path), "reason": reason} for path, reason in restored.problems]
        files = [str(line.source) for line in restored.lines]
        typer.echo(jsonlib.dumps({"restored": files, "untouched": restored.untouched, "problems": problems}))
    else:
        back, there = counted(len(restored.lines), "file"), restored.untouched
        where = "was where it belongs" if there == 1 else "were where they belong"
        typer.echo(f"{back} put back, {there:,} {where}")
        if unknown:
            option = "" if place is None else f" --catalog {shlex.quote(place)}"
            note(f"diptych index{option} takes {unknown:,} of them into the catalogue again")
    if restored.problems:
        raise typer.Exit(1)


def _catalog_of(catalog: str | None, undo: Path) -> str | None:
    """The catalogue that moved the files, which the list names; another one was asked for by mistake."""
    from diptych.catalog.duplicates.undo import catalog_of

    named = catalog_of(undo)
    if catalog is not None and named and Path(named) != Path(catalog).expanduser().absolute():
        raise typer.BadParameter(f"{undo} was written for the catalogue {named}: leave out --catalog")
    return named or catalog


def _tell_catalog(catalog: str | None, restored: RestoreReport) -> int:
    """How many of the files that are back the catalogue does not know; it need not be there any more."""
    from diptych.catalog.duplicates.trash import take_back
    from diptych.errors import DiptychError

    try:
        with catalogs.opened(catalog) as store:
            return take_back(store, restored)
    except DiptychError as error:
        complain("not told", f"the catalogue, of the files that are back: {error}")
        return 0
