"""`diptych similar`: find copies, parts and look-alikes of outside pictures in a catalogue."""

from __future__ import annotations

import json as jsonlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import catalogs
from diptych.cli.shared.console import clean, fit_width, print_message, stdout_console
from diptych.cli.shared.encoders import CatalogModelOptions
from diptych.cli.shared.filters import FilterOptions, check_filter
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import Json, option

if TYPE_CHECKING:
    from diptych.catalog.duplicates.similar import SimilarImage


@with_groups
def similar(
    pictures: Annotated[
        list[str],
        typer.Argument(metavar="PICTURE", help="Pictures, folders or patterns; they need not be indexed."),
    ],
    catalog: catalogs.Catalog = None,
    alike: Annotated[
        int, option("N", "Show at most N pictures that only look alike.", "--top", "-k", min=0)
    ] = 5,
    *,
    filters: FilterOptions,
    json: Json = False,
    encoding: CatalogModelOptions,
) -> None:
    """Find copies, crops and look-alikes of pictures from outside in a catalogue.

    Crops are found best after [bold]diptych duplicates[/bold] has compared the
    pictures of the catalogue.

    [bold]Examples[/bold]

      diptych similar downloaded.jpg

      diptych similar their-website/ --top 0 --json

    Exit status: 0 a copy or crop was found, 1 only look-alikes or nothing, 2 not done.
    """
    from diptych.catalog.duplicates.similar import SimilarImageSearch
    from diptych.errors import ImageError, InputError, MissingExtraError
    from diptych.media import find_images

    paths = find_images(pictures)
    if not paths:
        raise InputError(f"no pictures found in {', '.join(map(str, pictures))}")
    results: list[dict[str, Any]] = []
    any_copy = False
    picture_filter = filters.filter()
    with catalogs.open_catalog(catalog) as store:
        check_filter(picture_filter, store.database)
        encoder, _ = catalogs.encoder_for(store, encoding)
        image_search = SimilarImageSearch(store, encoder, picture_filter)
        try:
            for path in paths:
                try:
                    matches = image_search.search(path, alike=alike)
                except (ImageError, MissingExtraError) as error:
                    print_message("failed", str(error))
                    results.append({"path": str(path), "error": str(error), "found": []})
                    continue
                any_copy |= any(match.tier != "alike" for match in matches)
                results.append({"path": str(path), "found": [_to_json(match) for match in matches]})
                if not json:
                    _print(path, matches, with_path=len(paths) > 1)
        finally:
            image_search.close()
    if json:
        typer.echo(jsonlib.dumps(results))
    if not any_copy:
        raise typer.Exit(1)


def _print(path: Path, matches: list[SimilarImage], *, with_path: bool) -> None:
    width = stdout_console().width
    if with_path:
        typer.echo(clean(str(path)))
    if not matches:
        typer.echo("  nothing similar")
    for match in matches:
        name = fit_width(match.entry.name, width - 37, tail=True)
        typer.echo(f"  {fit_width(describe_similarity(match), 26)}  {match.cosine:5.2f}  {name}".rstrip())


def describe_similarity(match: SimilarImage) -> str:
    """Describe how a picture of the catalogue relates to the one from outside.

    Examples
    --------
    >>> from diptych.catalog.duplicates.similar import SimilarImage
    >>> from diptych.matching.verdicts import Verdict
    >>> describe_similarity(SimilarImage(None, "part", 0.9, Verdict("part", "cut", 0.98, whole=1)))
    'yours is part of it: cut'
    >>> describe_similarity(SimilarImage(None, "alike", 0.9))
    'looks like it'
    """
    verdict = match.verdict
    if verdict is None:
        return {"bytes": "the same bytes"}.get(match.tier, "looks like it")
    if match.tier == "picture":
        return f"the same: {verdict.change}"
    if match.tier == "scene":
        return "the same scene"
    # `whole` is the index of the larger picture: 0 the one from outside, 1 the one in the catalogue.
    relations = {0: "it is part of yours", 1: "yours is part of it"}
    relation = relations.get(-1 if verdict.whole is None else verdict.whole)
    if verdict.change == "first frame" and not relation:
        return "the same first frame"
    return f"{relation}: {verdict.change}" if relation else f"the same but {verdict.change}"


def _to_json(match: SimilarImage) -> dict[str, Any]:
    verdict = match.verdict
    return {
        "id": match.entry.content,
        "path": str(match.entry.path),
        "member": match.entry.member,
        "tier": match.tier,
        "change": verdict and verdict.change,
        "pixels": verdict and round(verdict.pixels, 4),
        "cosine": round(match.cosine, 5),
        "box": verdict and verdict.box and [round(float(edge), 4) for edge in verdict.box],
        "whole": None
        if verdict is None or verdict.whole is None
        else ("outside", "catalogue")[verdict.whole],
    }
