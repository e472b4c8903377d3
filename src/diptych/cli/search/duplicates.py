"""`diptych duplicates`: find copies in a catalogue, in tiers, with evidence; move them to a trash folder."""

from __future__ import annotations

import functools
import json as jsonlib
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from diptych.cli.shared import catalogs
from diptych.cli.shared.console import format_size, note, print_message, print_messages
from diptych.cli.shared.filters import FilterOptions, check_filter
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import Output, OutputOptions, flag, option
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

OUTPUT_FORMATS = ("table", "json", "csv", "imagededup", "remove")
MOST_REFUSED = 10  # files that stayed and are named one by one

_moving_option = functools.partial(option, rich_help_panel="Moving")


@dataclass(frozen=True)
class GroupOptions:
    """Which copies are grouped, and how the groups are shown."""

    tiers: Annotated[
        str,
        option(
            "LIST",
            "Kinds of copies to find: bytes (equal files), picture (saved again, resized, mirrored), "
            "part (cropped, framed, with added text, in a collage), scene (another moment).",
        ),
    ] = "bytes,picture,part,scene"
    keep: Annotated[
        str,
        option(
            "RULES",
            "Rules for which file to keep, tried in order until one decides: resolution, annotated (has "
            "tags, a rating or a caption), exif, format[:PNG/JPEG/...], largest, smallest, oldest, newest, "
            "folder:DIR.",
        ),
    ] = "resolution,annotated,exif,format,largest,oldest"
    form: Annotated[
        str,
        option(
            "NAME",
            "Output: table, json, csv, imagededup ({file: [[file, score]]}), or remove (paths of "
            "copies, one per line).",
            "--format",
        ),
    ] = "table"
    print0: Annotated[
        bool, flag("--print0", "Print paths of copies, each ended by NUL (for xargs -0).", "-0")
    ] = False
    top: Annotated[int, option("N", "Groups of each kind shown in the table.", "--top", "-k", min=1)] = 20
    html: Annotated[Path | None, option("FILE", "Also write one HTML page to review the groups.")] = None
    force: Force = False


@dataclass(frozen=True)
class MovingOptions:
    """Whether copies are moved, and where to."""

    trash: Annotated[
        str | None,
        _moving_option(
            "DIR|auto",
            "Move copies into this folder; auto: a hidden folder in each indexed folder. Nothing is deleted.",
        ),
    ] = None
    copies: Annotated[
        str,
        _moving_option(
            "LIST",
            "What counts as a copy for --trash and for lists of paths: bytes, or bytes,picture. Review "
            "the pictures first: they may differ in small print.",
        ),
    ] = "bytes"
    undo: Annotated[
        Path | None, _moving_option("LIST", "Move back the files that a run with --trash moved.")
    ] = None


@with_groups
def duplicates(
    catalog: catalogs.Catalog = None,
    *,
    grouping: GroupOptions,
    filters: FilterOptions,
    moving: MovingOptions,
    output: OutputOptions,
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

    trash = moving.trash
    if grouping.form not in OUTPUT_FORMATS:
        raise typer.BadParameter(f"--format takes {', '.join(OUTPUT_FORMATS)}, not {grouping.form!r}")
    if trash is not None and not trash.strip():
        raise typer.BadParameter("--trash takes a folder, or auto")
    check_overwrite(grouping.html, force=grouping.force)
    form = "json" if output.json else "null" if grouping.print0 else grouping.form
    if moving.undo is not None:
        if trash is not None:
            raise typer.BadParameter("--undo moves back what --trash moved: give one of them")
        _put_back(catalog, moving.undo, json=output.json)
        return
    with catalogs.open_catalog(catalog) as store:
        tiers, copies = _read_tiers(grouping.tiers, "--tiers"), _read_copies(moving.copies)
        result = _find(store, tiers, grouping.keep, filters.filter(), output)
        if grouping.html is not None:
            _write_page(store, result, grouping.html, output)
        moved = _move(store, result.groups, trash, copies, output) if trash is not None else None
    print_groups(result, form, grouping.top, moved, copies=copies, quiet=output.quiet)  # type: ignore[arg-type] # checked above
    failed = [f"picture #{content}: {reason}" for content, reason in result.failed.items()]
    print_messages("failed", failed, most=5)
    if moved is not None:
        _print_moved(moved, output)


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


def _find(
    store: Store, tiers: Sequence[Tier], keep: str, picture_filter: Filter, output: Output
) -> DuplicateGroups:
    from diptych.catalog.duplicates.finding import find_duplicates
    from diptych.catalog.duplicates.keeping import parse_rules

    without_folders = replace(picture_filter, folders=())  # find_duplicates checks the folders itself
    check_filter(without_folders, store.database)
    return find_duplicates(
        store,
        tiers=tiers,
        rules=parse_rules(keep),
        folders=picture_filter.folders,
        filters=without_folders,
        stage=output.stage("pictures"),
    )


def _write_page(store: Store, result: DuplicateGroups, html: Path, output: Output) -> None:
    from diptych.cli.search.duplicates_page import write_page

    name = "this catalogue" if store.folder is None else str(store.folder)
    with output.progress("writing the page", len(result.groups), unit="groups") as advance:
        shown = write_page(html, result.groups, name, advance=advance)
    extent = f" (the first {counted(shown, 'group')})" if shown < len(result.groups) else ""
    output.note(f"page to review: {html}{extent}")


def _move(
    store: Store, groups: Sequence[DuplicateGroup], trash: str, tiers: Sequence[Tier], output: Output
) -> TrashReport:
    from diptych.catalog.duplicates.trash import move_to_trash
    from diptych.errors import SaveError

    folder = None if trash == "auto" else Path(trash)
    lists = catalogs.undo_folder(store)
    try:
        with output.progress("moving", None, unit="files") as advance:
            return move_to_trash(store, groups, folder, tiers=tiers, lists=lists, progress=advance)
    except (KeyboardInterrupt, SaveError):
        print_message("stopped", f"to move files back: --undo, with the newest list in {lists}")
        raise


def _print_moved(moved: TrashReport, output: Output) -> None:
    if moved.undo is None:
        output.note("nothing to move")
        return
    output.note(f"{counted(len(moved.files), 'file')} moved, {format_size(moved.size)}")
    if moved.companions:
        output.note(f"and {counted(len(moved.companions), 'file')} of captions and metadata with them")
    if moved.annotated:
        output.note(f"{counted(moved.annotated, 'kept picture')} got tags or ratings of moved copies")
    output.note(f"to move them back: diptych duplicates --undo {shlex.quote(str(moved.undo))}")
    for path, reason in moved.unmoved:
        print_message("stayed", f"{path}, which belongs to a moved picture: {reason}")
    refused = [f"{file.name}: {reason}" for file, reason in moved.refused]
    print_messages("stayed", refused, most=MOST_REFUSED)
    if moved.refused:
        raise typer.Exit(1)


def _put_back(catalog: str | None, undo: Path, *, json: bool) -> None:
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
            catalog_option = "" if location is None else f" --catalog {shlex.quote(location)}"
            note(f"to index {unknown:,} of them again: diptych index{catalog_option}")
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
