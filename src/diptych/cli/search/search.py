"""`diptych search`: pictures of a catalogue found in words, by pictures, or both."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.collection import catalogs
from diptych.cli.collection.filtering import NO_FILTER, FilterOptions, ready_for
from diptych.cli.shared import options
from diptych.cli.shared.console import note
from diptych.cli.shared.option_groups import with_group
from diptych.cli.shared.own_files import Force, check_own

if TYPE_CHECKING:
    from diptych.catalog import Filter, Searcher, SearchResult
    from diptych.cli.search.result_page import ResultPage
    from diptych.cli.search.search_output import Form

Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="QUERY",
        show_default=False,
        help="Words, pictures, #N for a stored one; joined by + and -, weighted by 2: before them. -WORD: "
        "less of this word.",
    ),
]
Top = Annotated[int, typer.Option("--top", "-k", metavar="N", min=1, help="Pictures of a page.")]
Page = Annotated[int, typer.Option(metavar="N", min=1, help="Which page.")]
Sort = Annotated[
    str | None,
    typer.Option(
        metavar="likeness|date|name|rating",
        help="Order among what fits: the nearest first (the figure beside it says how sure it is that a "
        "picture fits at all, which is another question), the newest, by path, the best rated. Without a "
        "query the newest first.",
        show_default=False,
    ),
]
Everything = Annotated[
    bool, typer.Option("--all", metavar="", help="Show the nearest pictures even where none fits.")
]
Cutoff = Annotated[
    float | None,
    typer.Option(
        metavar="X", min=0, max=1, help="How well a picture must fit, from 0 to 1.", show_default=False
    ),
]
Copies = Annotated[
    bool, typer.Option("--copies", metavar="", help="Show pictures that look the same one by one.")
]
Html = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write a contact sheet too: one page of HTML."),
]
Explain = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write each picture with the patches that fit marked, as PNG."),
]
Preview = Annotated[
    bool, typer.Option("--preview", "-p", metavar="", help="Draw the pictures in the terminal.")
]
Paths = Annotated[bool, typer.Option("--paths", metavar="", help="Print paths alone, for a pipe.")]
Null = Annotated[bool, typer.Option("--print0", "-0", metavar="", help="The same, ended by NUL (xargs -0).")]
Csv = Annotated[bool, typer.Option("--csv", metavar="", help="Print a row a picture, as UTF-8.")]


@with_group("filters")
def search(
    query: Words = None,
    catalog: catalogs.Catalog = None,
    top: Top = 20,
    page: Page = 1,
    sort: Sort = None,
    everything: Everything = False,
    cutoff: Cutoff = None,
    copies: Copies = False,
    filters: FilterOptions = NO_FILTER,
    html: Html = None,
    force: Force = False,
    explain: Explain = None,
    preview: Preview = False,
    paths: Paths = False,
    print0: Null = False,
    csv: Csv = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    model: catalogs.Model = None,
    pretrained: options.Pretrained = None,
    runtime: options.Runtime = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
) -> None:
    """Find pictures in words, by a picture, or both; without a query list those that pass the filters.

    [bold]Examples[/bold]

      diptych search "a dog playing in the snow"

      diptych search beach + photo.jpg - people

      diptych search beach -people

      diptych search "a receipt" --after 2024-01-01 --in ~/Documents -0 | xargs -0 open

      diptych search "#17" --sort date --json

      diptych search --tag snow --not-tag dog --min-rating 4 --csv

      diptych search "a red car" --html found.html --explain maps

    Exit status: 0 found, 1 nothing fits, 2 not done.
    """
    from diptych.catalog import SearchOptions, parse_query
    from diptych.cli.search.result_page import ResultPage
    from diptych.cli.search.search_output import pictures_of, print_page, write_files

    where, form, offset = filters.filter(), _form(json, csv, print0, paths), (page - 1) * top
    check_own(html, force=force)
    if query is None:
        _refuse_without_query(cutoff, explain)
        shown_page = _list(catalog, where, sort or "date", top, offset)
        pictures = pictures_of(shown_page.hits) if html or preview else []
    else:
        how = SearchOptions(
            where=where,
            cutoff=_cutoff(everything, cutoff),
            limit=top,
            offset=offset,
            sort=sort or "likeness",  # type: ignore[arg-type] # checked by Options
            collapse=not copies,
        )
        terms = parse_query(query)
        machine = {"device": device, "precision": precision, "threads": threads, "runtime": runtime}
        with catalogs.searcher(catalog, model, pretrained, ready=ready_for(where), **machine) as asking:
            answer = asking.search(terms, how)
            shown_page = ResultPage.of_answer(answer, offset, filtered=bool(where))
            heat = (asking, answer.query.embedding) if explain is not None else None
            pictures = pictures_of(shown_page.hits, heat) if html or explain or preview else []
        _tell_notes(answer, asking, quiet=quiet)
    print_page(shown_page, form, pictures if preview else [], quiet=quiet)
    write_files(shown_page, pictures, html, explain, quiet=quiet)
    if not shown_page.hits:
        raise typer.Exit(1)


def _form(json: bool, csv: bool, print0: bool, paths: bool) -> Form:
    """How the result is printed."""
    if json and csv:
        raise typer.BadParameter("--json and --csv exclude each other")
    return "json" if json else "csv" if csv else "null" if print0 else "paths" if paths else "table"


def _refuse_without_query(cutoff: float | None, explain: Path | None) -> None:
    """Options that say how well pictures fit a query, and there is none; --all and --copies are as it is."""
    given = {"--cutoff": cutoff is not None, "--explain": explain is not None}
    for name in (name for name, is_given in given.items() if is_given):
        raise typer.BadParameter(f"{name} needs a query; without one every picture that passes is listed")


def _list(catalog: str | None, where: Filter, sort: str, top: int, offset: int) -> ResultPage:
    """Pictures without a query: no model is loaded."""
    from diptych.catalog import list_pictures
    from diptych.cli.search.result_page import ResultPage
    from diptych.errors import CatalogError

    if sort == "likeness":
        raise typer.BadParameter("--sort likeness needs a query: give one, or sort by date, name or rating")
    with catalogs.opened(catalog) as store:
        if store.active is None:
            raise CatalogError(f"{store.name} holds no pictures yet: index some with  diptych index PATH")
        ready_for(where)(store.database)
        listing = list_pictures(store.active, where, sort=sort, limit=top, offset=offset)  # type: ignore[arg-type] # checked there
    return ResultPage.of_listing(listing, offset, sort, filtered=bool(where))


def _cutoff(everything: bool, asked: float | None) -> float | None:
    """How well a picture must fit; None where whatever is nearest is shown."""
    from diptych.catalog.relevance import DEFAULT_CUTOFF

    if everything and asked is not None:
        raise typer.BadParameter("--all shows whatever is nearest: leave out --cutoff")
    return None if everything else DEFAULT_CUTOFF if asked is None else asked


def _tell_notes(answer: SearchResult, asking: Searcher, *, quiet: bool) -> None:
    """What is worth knowing of the query."""
    from diptych.backends.settling import is_open
    from diptych.catalog.search.query import missing_pictures
    from diptych.cli.shared.labels import tell_language

    if texts := [term.value for term in answer.query.terms if term.kind == "text"]:
        tell_language(texts, asking.encoder, quiet=quiet)
    if any(term.weight < 0 for term in answer.query.terms):
        note(f"read as: {' '.join(map(str, answer.query.terms))}", quiet=quiet)
    for word in missing_pictures(answer.query.terms):
        note(f"{word}: there is no such file, so it was looked for as words", quiet=quiet)
    if sys.stderr.isatty() and is_open(asking.encoder):
        note("every search loads torch: diptych models runtimes, once, lets it start faster", quiet=quiet)
    if answer.query.long_texts:
        note(f"{len(answer.query.long_texts)} long texts were read in parts and averaged", quiet=quiet)
