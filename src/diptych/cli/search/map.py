"""`diptych map`: a catalogue as a page on which like lies near like, with regions named by words."""

from __future__ import annotations

import base64
import json as jsonlib
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.collection import catalogs
from diptych.cli.collection.filtering import NO_FILTER, FilterOptions, ready_for
from diptych.cli.shared import options
from diptych.cli.shared.console import clean, complain, progress
from diptych.cli.shared.option_groups import with_group
from diptych.cli.shared.own_files import Force, check_own

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from diptych.catalog import CatalogEntry, Searcher
    from diptych.catalog.map.mapping import CollectionMap

Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page.")]
Clusters = Annotated[str, typer.Option(metavar="auto|N", help="How many regions, each of several places.")]
LabelsFile = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="What regions may be called, one a line; by default a thousand words.",
    ),
]
NoThumbnails = Annotated[
    bool, typer.Option("--no-thumbnails", metavar="", help="Dots and names only: no picture is read.")
]
Inline = Annotated[
    bool,
    typer.Option("--inline", metavar="", help="Thumbnails inside the page, which can then be sent alone."),
]
Limit = Annotated[
    int, typer.Option("--limit", metavar="N", min=4, help="At most so many pictures, drawn at random.")
]
Title = Annotated[str, typer.Option(metavar="TEXT", help="What stands above the map.")]
Seed = Annotated[int, typer.Option(metavar="N", help="Another one gives another map of the same pictures.")]


@with_group("filters")
def map_(
    out: Out = Path("map.html"),
    catalog: catalogs.Catalog = None,
    clusters: Clusters = "auto",
    labels: LabelsFile = None,
    no_thumbnails: NoThumbnails = False,
    inline: Inline = False,
    limit: Limit = 100_000,
    title: Title = "A map of pictures",
    force: Force = False,
    seed: Seed = 0,
    filters: FilterOptions = NO_FILTER,
    json: options.Json = False,
    quiet: options.Quiet = False,
    model: catalogs.Model = None,
    pretrained: options.Pretrained = None,
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
) -> None:
    """Draw a catalogue as a map: like lies near like, and regions are called by words.

    The page works without a network. Thumbnails lie in a folder beside it,
    FILE_files, and are loaded as one comes nearer; a hundred thousand take
    about 60 MB.

    [bold]Examples[/bold]

      diptych map

      diptych map --in ~/Pictures/2024 --out 2024.html --inline

      diptych map --clusters 12 --labels birds.txt --no-thumbnails

    Exit status: 0 done, 1 some pictures could not be read, 2 nothing done.
    """
    from diptych.catalog.map.mapping import make_map
    from diptych.catalog.map.naming import read_words

    if inline and no_thumbnails:
        raise typer.BadParameter("--inline puts thumbnails into the page: leave out --no-thumbnails")
    if out.is_dir():
        raise typer.BadParameter(f"--out {out} is a folder: name the page in it, as {out / 'map.html'}")
    check_own(out, force=force)
    start = time.monotonic()
    machine: dict[str, Any] = {"device": device, "precision": precision, "threads": threads}
    regions = options.count(clusters, "--clusters")
    vocabulary = read_words(labels)
    where = filters.filter()
    with catalogs.searcher(catalog, model, pretrained, ready=ready_for(where), **machine) as searcher:
        drawn = make_map(
            searcher,
            vocabulary,
            regions=regions,
            where=where,
            most=limit,
            seed=seed,
            stage=lambda what, total: progress(what, total, unit="steps", quiet=quiet),
        )
        page = _Page(searcher, drawn, out.absolute(), seed)
        if not no_thumbnails:
            page.draw_thumbnails(inline=inline, quiet=quiet)
        page.write(title)
    told = _plain(drawn, page, time.monotonic() - start)
    typer.echo(jsonlib.dumps(told)) if json else _print(told)
    if page.failed:
        complain("failed", f"{len(page.failed)} pictures could not be read and are grey: {page.failed[0]}")
        raise typer.Exit(1)


class _Page:
    """A page on its way to disk, and the sheets beside it."""

    def __init__(self, searcher: Searcher, drawn: CollectionMap, path: Path, seed: int) -> None:
        from diptych.catalog import read_entries
        from diptych.catalog.map.thumbnails import levels_of, sheet_order, side_for

        self.map, self.path = drawn, path
        self.folder = path.with_name(f"{path.stem}_files")
        self.levels: NDArray[np.uint8] = levels_of(drawn.places, seed=seed)
        order = sheet_order(drawn.places, self.levels)
        self.entries: list[CatalogEntry] = read_entries(
            searcher.store.database, drawn.contents[order].tolist()
        )
        there = {entry.content for entry in self.entries}  # another process may have taken some out
        self.order = order[[int(content) in there for content in drawn.contents[order]]]
        self.side = side_for(len(self.entries))
        self.sheets: Sequence[str] = ()
        self.failed: list[str] = []
        self.bytes = 0

    def draw_thumbnails(self, *, inline: bool, quiet: bool) -> None:
        """Sheets into the page, or into files that are kept where a run before has made them."""
        from diptych.catalog.map.thumbnails import COLUMNS, fingerprint, sheets
        from diptych.files.disk import write_bytes

        mark = fingerprint(self.entries, self.side)
        count = -(-len(self.entries) // COLUMNS**2)
        files = [self.folder / f"{mark}-{number:05d}.webp" for number in range(count)]
        made: dict[int, bytes] = {}
        with progress("thumbnails", len(self.entries), unit="pictures", quiet=quiet) as advance:
            # What a stopped run has made is whole, and its name says of what; failures are tried again.
            skip = None if inline else lambda number: files[number].is_file()
            for number, sheet in sheets(self.entries, self.side, skip=skip, progress=advance):
                self.failed += [f"{entry.name}: {reason}" for entry, reason in sheet.failed]
                if inline:
                    made[number] = sheet.data
                elif not sheet.failed:
                    write_bytes(files[number], sheet.data)
                else:
                    files[number] = files[number].with_name(f"{mark}-{number:05d}-part.webp")
                    write_bytes(files[number], sheet.data)
        if inline:
            self.sheets = [f"data:image/webp;base64,{_text(made[number])}" for number in range(count)]
        else:
            self.sheets = [f"{self.folder.name}/{file.name}" for file in files]
            self.bytes = sum(file.stat().st_size for file in files)

    def write(self, title: str) -> None:
        """The page, whole or not at all; then what only the page before has shown goes."""
        from diptych.catalog.map.thumbnails import COLUMNS, LEVELS, WIDEST
        from diptych.cli.search.map_page import Shown, render
        from diptych.files.disk import write_bytes

        shown = len(self.entries)
        of = f" of {self.map.total:,}" if self.map.total > shown else ""
        page = render(
            Shown(
                title=title,
                subtitle=f"{shown:,}{of} pictures, {len(self.map.regions)} regions",
                map=self.map,
                order=self.order,
                entries=self.entries,
                levels=self.levels,
                sheets=self.sheets,
                side=self.side,
                columns=COLUMNS,
                widest=WIDEST,
                level_count=LEVELS,
            )
        ).encode()
        write_bytes(self.path, page)
        self.bytes += len(page)
        used = {sheet.rpartition("/")[2] for sheet in self.sheets}
        for old in self.folder.glob("*.webp"):
            if old.name not in used and re.fullmatch(r"[0-9a-f]{12}-\d{5}(-part)?\.webp", old.name):
                old.unlink(missing_ok=True)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _plain(drawn: CollectionMap, page: _Page, seconds: float) -> dict[str, Any]:
    """What was drawn, as JSON has it."""
    return {
        "page": str(page.path),
        "pictures": len(page.entries),
        "of": drawn.total,
        "bytes": page.bytes,
        "regions": [
            {
                "words": list(one.words),
                "pictures": one.size,
                "places": [
                    {"words": list(place.words), "pictures": place.size}
                    for place, region in zip(drawn.clusters, drawn.region, strict=True)
                    if region == number
                ],
            }
            for number, one in enumerate(drawn.regions)
        ],
        "failed": page.failed,
        "seconds": round(seconds, 3),
    }


def _print(told: dict[str, Any]) -> None:
    for region in sorted(told["regions"], key=lambda one: -one["pictures"]):
        typer.echo(f"{region['pictures']:>9,}  {clean(', '.join(region['words'][:3]))}")
    of = f" of {told['of']:,}" if told["of"] > told["pictures"] else ""
    typer.echo(
        f"{told['page']}: {told['pictures']:,}{of} pictures, {told['bytes'] / 1e6:.1f} MB with thumbnails, "
        f"in {told['seconds']:.1f} s"
    )
