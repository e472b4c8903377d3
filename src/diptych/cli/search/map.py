"""`diptych map`: a page that shows a catalogue as a map, similar pictures side by side, regions named."""

from __future__ import annotations

import json as jsonlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.shared import catalogs
from diptych.cli.shared.console import clean, print_message
from diptych.cli.shared.encoders import CatalogModelOptions
from diptych.cli.shared.filters import FilterOptions
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import OutputOptions, count, flag, option
from diptych.cli.shared.own_files import Force, check_overwrite
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.catalog.map.mapping import CollectionMap
    from diptych.cli.search.map_page import MapPage


@dataclass(frozen=True)
class MapOptions:
    """What the map shows."""

    clusters: Annotated[str, option("auto|N", "Number of regions; each holds several clusters.")] = "auto"
    labels: Annotated[
        Path | None,
        option("FILE", "A file of names for regions, one per line. Default: a thousand common words."),
    ] = None
    no_thumbnails: Annotated[
        bool, flag("--no-thumbnails", "Draw dots and names only; no picture is read.")
    ] = False
    inline: Annotated[
        bool, flag("--inline", "Put the thumbnails into the page, so that it is a single file.")
    ] = False
    limit: Annotated[int, option("N", "Show at most N pictures, drawn at random.", min=4)] = 100_000
    title: Annotated[str, option("TEXT", "The title of the page.")] = "A map of pictures"
    force: Force = False
    seed: Annotated[int, option("N", "Random seed; another seed gives another layout.")] = 0


@with_groups
def map_(
    out: Annotated[Path, option("FILE", "The HTML page to write.", "--out", "-o")] = Path("map.html"),
    catalog: catalogs.Catalog = None,
    *,
    drawing: MapOptions,
    filters: FilterOptions,
    output: OutputOptions,
    encoding: CatalogModelOptions,
) -> None:
    """Draw a catalogue as a map: similar pictures are side by side, and regions have names.

    The page works without a network. Thumbnails are in a folder beside it,
    FILE_files, and are loaded on zooming in; a hundred thousand take about
    60 MB.

    [bold]Examples[/bold]

      diptych map

      diptych map --in ~/Pictures/2024 --out 2024.html --inline

      diptych map --clusters 12 --labels birds.txt --no-thumbnails

    Exit status: 0 done, 1 some pictures could not be read, 2 nothing done.
    """
    from diptych.catalog.map.mapping import make_map
    from diptych.catalog.map.naming import read_words
    from diptych.cli.search.map_page import MapPage

    if drawing.inline and drawing.no_thumbnails:
        raise typer.BadParameter(
            "--inline puts thumbnails into the page, and --no-thumbnails leaves them out: give one"
        )
    if out.is_dir():
        raise typer.BadParameter(f"--out {out} is a folder: name a file, such as {out / 'map.html'}")
    check_overwrite(out, force=drawing.force)
    start = time.monotonic()
    regions = count(drawing.clusters, "--clusters")
    vocabulary = read_words(drawing.labels)
    picture_filter = filters.filter()
    with catalogs.open_searcher(catalog, encoding, picture_filter) as searcher:
        picture_map = make_map(
            searcher,
            vocabulary,
            regions=regions,
            filters=picture_filter,
            most=drawing.limit,
            seed=drawing.seed,
            stage=output.stage("steps"),
        )
        page = MapPage(searcher, picture_map, out.absolute(), drawing.seed)
        if not drawing.no_thumbnails:
            page.draw_thumbnails(inline=drawing.inline, quiet=output.quiet)
        page.write(drawing.title)
    summary = _to_json(picture_map, page, time.monotonic() - start)
    typer.echo(jsonlib.dumps(summary)) if output.json else _print_summary(summary)
    if page.failed:
        pictures = counted(len(page.failed), "picture")
        print_message("failed", f"{pictures} could not be read, shown in grey; the first: {page.failed[0]}")
        raise typer.Exit(1)


def _to_json(picture_map: CollectionMap, page: MapPage, seconds: float) -> dict[str, Any]:
    """The values that --json prints."""
    return {
        "page": str(page.path),
        "pictures": len(page.entries),
        "of": picture_map.total,
        "bytes": page.bytes,
        "regions": [
            {
                "words": list(region.words),
                "pictures": region.size,
                "places": [
                    {"words": list(cluster.words), "pictures": cluster.size}
                    for cluster, parent in zip(picture_map.clusters, picture_map.region, strict=True)
                    if parent == number
                ],
            }
            for number, region in enumerate(picture_map.regions)
        ],
        "failed": page.failed,
        "seconds": round(seconds, 3),
    }


def _print_summary(summary: dict[str, Any]) -> None:
    for region in sorted(summary["regions"], key=lambda region: -region["pictures"]):
        typer.echo(f"{region['pictures']:>9,}  {clean(', '.join(region['words'][:3]))}")
    of = f" of {summary['of']:,}" if summary["of"] > summary["pictures"] else ""
    typer.echo(
        f"{summary['page']}: {summary['pictures']:,}{of} pictures, {summary['bytes'] / 1e6:.1f} MB with "
        f"thumbnails, in {summary['seconds']:.1f} s"
    )
