"""`diptych search`: search a catalogue by text, by pictures, or both."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.collection import catalogs
from diptych.cli.collection.filtering import FilterOptions, filter_check
from diptych.cli.shared import options
from diptych.cli.shared.console import note
from diptych.cli.shared.option_groups import with_group
from diptych.cli.shared.own_files import Force, check_overwrite

if TYPE_CHECKING:
    from diptych.catalog import Filter, Searcher, SearchResult
    from diptych.cli.search.result_page import ResultPage
    from diptych.cli.search.search_output import Form

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUERY",
        show_default=False,
        help="Words, picture files, or #N for an indexed picture; join them by + and -; 2: in front doubles "
        "the weight. -WORD: less of this word.",
    ),
]
Top = Annotated[int, typer.Option("--top", "-k", metavar="N", min=1, help="Pictures per page.")]
Page = Annotated[int, typer.Option(metavar="N", min=1, help="The page to show.")]
Sort = Annotated[
    str | None,
    typer.Option(
        metavar="likeness|date|name|rating",
        help="Sort the results: nearest first (not the same as the relevance shown, which says how sure it "
        "is that a picture fits), newest first, by path, or best rated first. Without a query: newest first.",
        show_default=False,
    ),
]
Everything = Annotated[
    bool, typer.Option("--all", metavar="", help="Show the nearest pictures even if none fits.")
]
Cutoff = Annotated[
    float | None,
    typer.Option(
        metavar="X", min=0, max=1, help="Smallest relevance shown, from 0 to 1.", show_default=False
    ),
]
Copies = Annotated[
    bool, typer.Option("--copies", metavar="", help="Show near-duplicates one by one instead of grouped.")
]
Html = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Also write the results as one HTML page."),
]
Explain = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Also write each picture as PNG with the matching patches marked."),
]
Preview = Annotated[
    bool, typer.Option("--preview", "-p", metavar="", help="Show the pictures in the terminal.")
]
Paths = Annotated[bool, typer.Option("--paths", metavar="", help="Print only paths, one per line.")]
Null = Annotated[
    bool,
    typer.Option("--print0", "-0", metavar="", help="Print only paths, each ended by NUL (for xargs -0)."),
]
Csv = Annotated[bool, typer.Option("--csv", metavar="", help="Print CSV in UTF-8, one row per picture.")]


@with_group("filters", "encoding")
def search(
    query: Words = None,
    catalog: catalogs.Catalog = None,
    top: Top = 20,
    page: Page = 1,
    sort: Sort = None,
    everything: Everything = False,
    cutoff: Cutoff = None,
    copies: Copies = False,
    *,
    filters: FilterOptions,
    html: Html = None,
    force: Force = False,
    explain: Explain = None,
    preview: Preview = False,
    paths: Paths = False,
    print0: Null = False,
    csv: Csv = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    encoding: catalogs.SearchModelOptions,
) -> None:
    """Search a catalogue by text, by a picture, or both; without a query, list pictures by filters.

    [bold]Examples[/bold]

      diptych search "a dog playing in the snow"

      diptych search beach + photo.jpg - people

      diptych search beach -people

      diptych search "a receipt" --after 2024-01-01 --in ~/Documents -0 | xargs -0 open

      diptych search "#17" --sort date --json

      diptych search --tag snow --not-tag dog --min-rating 4 --csv

      diptych search "a red car" --html found.html --explain maps

    Exit status: 0 pictures found, 1 nothing fits, 2 not done.
    """
    from diptych.catalog import SearchOptions, parse_query
    from diptych.cli.search.result_page import ResultPage
    from diptych.cli.search.search_output import load_images, print_page, write_files

    where, form, offset = filters.filter(), _output_format(json, csv, print0, paths), (page - 1) * top
    check_overwrite(html, force=force)
    if query is None:
        _check_without_query(cutoff, explain)
        shown_page = _list(catalog, where, sort or "date", top, offset)
        images = load_images(shown_page.hits) if html or preview else []
    else:
        search_options = SearchOptions(
            where=where,
            cutoff=_effective_cutoff(everything, cutoff),
            limit=top,
            offset=offset,
            sort=sort or "likeness",  # type: ignore[arg-type] # SearchOptions checks it
            collapse=not copies,
        )
        terms = parse_query(query)
        with catalogs.open_searcher(catalog, encoding, check=filter_check(where)) as searcher:
            answer = searcher.search(terms, search_options)
            shown_page = ResultPage.of_answer(answer, offset, filtered=bool(where))
            heat_source = (searcher, answer.query.embedding) if explain is not None else None
            images = load_images(shown_page.hits, heat_source) if html or explain or preview else []
        _print_notes(answer, searcher, quiet=quiet)
    print_page(shown_page, form, images if preview else [], quiet=quiet)
    write_files(shown_page, images, html, explain, quiet=quiet)
    if not shown_page.hits:
        raise typer.Exit(1)


def _output_format(json: bool, csv: bool, print0: bool, paths: bool) -> Form:
    """The output format that the options choose."""
    if json and csv:
        raise typer.BadParameter("--json and --csv exclude each other")
    return "json" if json else "csv" if csv else "null" if print0 else "paths" if paths else "table"


def _check_without_query(cutoff: float | None, explain: Path | None) -> None:
    """Refuse options that need a query; --all and --copies are what a listing does anyway."""
    for name, value in (("--cutoff", cutoff), ("--explain", explain)):
        if value is not None:
            raise typer.BadParameter(
                f"{name} needs a query; without a query every picture that passes the filters is listed"
            )


def _list(catalog: str | None, where: Filter, sort: str, top: int, offset: int) -> ResultPage:
    """List pictures by filters alone; no model is loaded."""
    from diptych.catalog import list_pictures
    from diptych.cli.search.result_page import ResultPage
    from diptych.errors import CatalogError

    if sort == "likeness":
        raise typer.BadParameter("--sort likeness needs a query: give one, or sort by date, name or rating")
    with catalogs.open_catalog(catalog) as store:
        if store.active is None:
            raise CatalogError(f"{store.name} holds no pictures yet: index some with  diptych index PATH")
        filter_check(where)(store.database)
        listing = list_pictures(store.active, where, sort=sort, limit=top, offset=offset)  # type: ignore[arg-type] # checked by the callee
    return ResultPage.of_listing(listing, offset, sort, filtered=bool(where))


def _effective_cutoff(everything: bool, cutoff: float | None) -> float | None:
    """The smallest relevance to show; None for all of the nearest pictures."""
    from diptych.catalog.relevance import DEFAULT_CUTOFF

    if everything and cutoff is not None:
        raise typer.BadParameter("--all ignores the cut-off: leave out --cutoff")
    return None if everything else DEFAULT_CUTOFF if cutoff is None else cutoff


def _print_notes(answer: SearchResult, searcher: Searcher, *, quiet: bool) -> None:
    """Print how the query was read, and hints."""
    from diptych.backends.autotuning import needs_measurement
    from diptych.catalog.search.query import missing_pictures
    from diptych.cli.shared.labels import note_language

    if texts := [term.value for term in answer.query.terms if term.kind == "text"]:
        note_language(texts, searcher.encoder, quiet=quiet)
    if any(term.weight < 0 for term in answer.query.terms):
        note(f"read as: {' '.join(map(str, answer.query.terms))}", quiet=quiet)
    for word in missing_pictures(answer.query.terms):
        note(f"{word}: there is no such file, so it was read as text", quiet=quiet)
    if sys.stderr.isatty() and needs_measurement(searcher.encoder):
        note("every search loads torch; to start faster, run once: diptych models runtimes", quiet=quiet)
    if answer.query.long_texts:
        texts_read = (
            "1 long text was"
            if len(answer.query.long_texts) == 1
            else f"{len(answer.query.long_texts)} long texts were"
        )
        note(f"{texts_read} read in parts and averaged", quiet=quiet)
