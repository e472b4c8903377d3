"""`diptych similar`: is this picture in the catalogue, part of one there, or one of them part of it."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.collection import catalogs
from diptych.cli.collection.filtering import NO_FILTER, FilterOptions, ready_for
from diptych.cli.shared import options
from diptych.cli.shared.console import clean, complain, fitted, screen
from diptych.cli.shared.option_groups import with_group

if TYPE_CHECKING:
    from diptych.catalog.duplicates.similar import SimilarImage

Pictures = Annotated[
    list[str],
    typer.Argument(metavar="PICTURE", help="Files, folders and patterns; they need not be indexed."),
]
Alike = Annotated[
    int,
    typer.Option("--top", "-k", metavar="N", min=0, help="Pictures that only look like it, at most."),
]


@with_group("filters")
def similar(
    pictures: Pictures,
    catalog: catalogs.Catalog = None,
    alike: Alike = 5,
    filters: FilterOptions = NO_FILTER,
    json: options.Json = False,
    model: catalogs.Model = None,
    pretrained: options.Pretrained = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
) -> None:
    """Look for pictures from outside in a catalogue: the same, parts, wholes they are part of, like ones.

    Parts in a catalogue are found best once [bold]diptych duplicates[/bold] has
    looked at its pictures.

    [bold]Examples[/bold]

      diptych similar downloaded.jpg

      diptych similar their-website/ --top 0 --json

    Exit status: 0 something was found, 1 only like ones or nothing, 2 not done.
    """
    from diptych.catalog.duplicates.similar import SimilarImageSearch
    from diptych.errors import ImageError, InputError, MissingExtraError
    from diptych.media import find_images

    paths = find_images(pictures)
    if not paths:
        raise InputError(f"there are no pictures in {', '.join(map(str, pictures))}")
    told: list[dict[str, Any]] = []
    found_any = False
    where = filters.filter()
    with catalogs.opened(catalog) as store:
        ready_for(where)(store.database)
        encoder, _ = catalogs.encoder_for(
            store, model, pretrained, device=device, precision=precision, threads=threads
        )
        inquiry = SimilarImageSearch(store, encoder, where)
        try:
            for path in paths:
                try:
                    found = inquiry.search(path, alike=alike)
                except (ImageError, MissingExtraError) as error:
                    complain("failed", str(error))
                    told.append({"path": str(path), "error": str(error), "found": []})
                    continue
                found_any |= any(one.tier != "alike" for one in found)
                told.append({"path": str(path), "found": [_plain(one) for one in found]})
                if not json:
                    _print(path, found, many=len(paths) > 1)
        finally:
            inquiry.close()
    if json:
        typer.echo(jsonlib.dumps(told))
    if not found_any:
        raise typer.Exit(1)


def _print(path: Path, found: list[SimilarImage], *, many: bool) -> None:
    width = screen().width
    if many:
        typer.echo(clean(str(path)))
    if not found:
        typer.echo("  nothing like it")
    for one in found:
        name = fitted(one.entry.name, width - 37, tail=True)
        typer.echo(f"  {fitted(says(one), 26)}  {one.cosine:5.2f}  {name}".rstrip())


def says(one: SimilarImage) -> str:
    """What a picture of the catalogue is to the one from outside, in a few words.

    Examples
    --------
    >>> from diptych.catalog.duplicates.similar import SimilarImage
    >>> from diptych.matching.verdicts import Verdict
    >>> says(SimilarImage(None, "part", 0.9, Verdict("part", "cut", 0.98, whole=1)))
    'yours is part of it: cut'
    >>> says(SimilarImage(None, "alike", 0.9))
    'looks like it'
    """
    told = one.verdict
    if told is None:
        return {"bytes": "the same bytes"}.get(one.tier, "looks like it")
    if one.tier == "picture":
        return f"the same: {told.change}"
    if one.tier == "scene":
        return "the same scene"
    whose = {0: "it is part of yours", 1: "yours is part of it"}.get(-1 if told.whole is None else told.whole)
    if told.change == "first frame" and not whose:
        return "the same first frame"
    return f"{whose}: {told.change}" if whose else f"the same but {told.change}"


def _plain(one: SimilarImage) -> dict[str, Any]:
    told = one.verdict
    return {
        "id": one.entry.content,
        "path": str(one.entry.path),
        "member": one.entry.member,
        "tier": one.tier,
        "change": told and told.change,
        "pixels": told and round(told.pixels, 4),
        "cosine": round(one.cosine, 5),
        "box": told and told.box and [round(float(edge), 4) for edge in told.box],
        "whole": None if told is None or told.whole is None else ("outside", "catalogue")[told.whole],
    }
