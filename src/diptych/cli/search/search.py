"""`diptych search`: search a catalogue by text, by pictures, or both."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from diptych.cli.shared import catalogs
from diptych.cli.shared.encoders import SearchModelOptions
from diptych.cli.shared.filters import FilterOptions, check_filter
from diptych.cli.shared.option_groups import with_groups
from diptych.cli.shared.options import Json, Output, Quiet, argument, flag, option
from diptych.cli.shared.own_files import Force, check_overwrite
from diptych.errors import counted

if TYPE_CHECKING:
    from diptych.catalog import Filter, Searcher, SearchResult
    from diptych.cli.search.result_page import ResultPage
    from diptych.cli.search.search_output import Form

_PATH_STARTS = ("/", "./", "../", "~/")  # of a value right behind a short option


@dataclass(frozen=True)
class PageOptions:
    """Which results of a query are shown, and in which order."""

    top: Annotated[int, option("N", "Pictures per page.", "--top", "-k", min=1)] = 20
    page: Annotated[int, option("N", "The page to show.", min=1)] = 1
    sort: Annotated[
        str | None,
        option(
            "likeness|date|name|rating",
            "Sort the results: nearest first (not the same as the relevance shown, which says how sure "
            "it is that a picture fits), newest first, by path, or best rated first. Without a query: newest "
            "first.",
            show_default=False,
        ),
    ] = None
    everything: Annotated[bool, flag("--all", "Show the nearest pictures even if none fits.")] = False
    cutoff: Annotated[
        float | None, option("X", "Smallest relevance shown, from 0 to 1.", min=0, max=1, show_default=False)
    ] = None
    copies: Annotated[bool, flag("--copies", "Show near-duplicates one by one instead of grouped.")] = False

    @property
    def offset(self) -> int:
        """Number of pictures on earlier pages."""
        return (self.page - 1) * self.top

    def effective_cutoff(self) -> float | None:
        """The smallest relevance to show; None for all of the nearest pictures."""
        from diptych.catalog.relevance import DEFAULT_CUTOFF

        if self.everything and self.cutoff is not None:
            raise typer.BadParameter("--all ignores the cut-off: leave out --cutoff")
        return None if self.everything else DEFAULT_CUTOFF if self.cutoff is None else self.cutoff


@dataclass(frozen=True)
class SearchOutputOptions(Output):
    """How results are printed, and files that show them."""

    html: Annotated[Path | None, option("FILE", "Also write the results as one HTML page.")] = None
    force: Force = False
    explain: Annotated[
        Path | None, option("DIR", "Also write each picture as PNG with the matching patches marked.")
    ] = None
    preview: Annotated[bool, flag("--preview", "Show the pictures in the terminal.", "-p")] = False
    paths: Annotated[bool, flag("--paths", "Print only paths, one per line.")] = False
    print0: Annotated[
        bool,
        flag("--print0", "Print only paths, each ended by NUL (for xargs -0).", "-0"),
    ] = False
    csv: Annotated[bool, flag("--csv", "Print CSV in UTF-8, one row per picture.")] = False
    json: Json = False
    quiet: Quiet = False

    @property
    def form(self) -> Form:
        """The output format."""
        if self.json and self.csv:
            raise typer.BadParameter("--json and --csv exclude each other")
        formats: tuple[tuple[bool, Form], ...] = (
            (self.json, "json"),
            (self.csv, "csv"),
            (self.print0, "null"),
            (self.paths, "paths"),
        )
        return next((form for chosen, form in formats if chosen), "table")

    @property
    def images(self) -> bool:
        """Whether the pictures themselves are shown."""
        return bool(self.html or self.explain or self.preview)


@with_groups
def search(
    query: Annotated[
        list[str] | None,
        argument(
            "QUERY",
            "Words, picture files, or #N for an indexed picture; join them by + and -; 2: in front "
            "doubles the weight. -WORD: less of this word.",
        ),
    ] = None,
    catalog: catalogs.Catalog = None,
    *,
    results: PageOptions,
    filters: FilterOptions,
    output: SearchOutputOptions,
    encoding: SearchModelOptions,
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

    picture_filter, form = filters.filter(), output.form
    check_overwrite(output.html, force=output.force)
    if query is None:
        for name, value in (("--cutoff", results.cutoff), ("--explain", output.explain)):
            if value is not None:  # --all and --copies are what a listing does anyway
                raise typer.BadParameter(
                    f"{name} needs a query; without a query every picture that passes the filters is listed"
                )
        page = _list(catalog, picture_filter, results)
        images = load_images(page.hits) if output.images else []
    else:
        search_options = SearchOptions(
            filters=picture_filter,
            cutoff=results.effective_cutoff(),
            limit=results.top,
            offset=results.offset,
            sort=results.sort or "likeness",  # type: ignore[arg-type] # SearchOptions checks it
            collapse=not results.copies,
        )
        terms = parse_query(query)
        with catalogs.open_searcher(catalog, encoding, picture_filter) as searcher:
            answer = searcher.search(terms, search_options)
            page = ResultPage.of_answer(answer, results.offset, filtered=bool(picture_filter))
            heat_source = (searcher, answer.query.embedding) if output.explain is not None else None
            images = load_images(page.hits, heat_source) if output.images else []
        _print_notes(answer, searcher, output)
    print_page(page, form, images if output.preview else [], quiet=output.quiet)
    write_files(page, images, output.html, output.explain, quiet=output.quiet)
    if not page.hits:
        raise typer.Exit(1)


def _list(catalog: str | None, picture_filter: Filter, results: PageOptions) -> ResultPage:
    """List pictures by filters alone; no model is loaded."""
    from diptych.catalog import list_pictures
    from diptych.cli.search.result_page import ResultPage
    from diptych.errors import CatalogError

    sort = results.sort or "date"
    if sort == "likeness":
        raise typer.BadParameter("--sort likeness needs a query: give one, or sort by date, name or rating")
    with catalogs.open_catalog(catalog) as store:
        if store.active is None:
            raise CatalogError(f"{store.name} holds no pictures yet: index some with  diptych index PATH")
        check_filter(picture_filter, store.database)
        listing = list_pictures(
            store.active,
            picture_filter,
            sort=sort,  # type: ignore[arg-type] # checked by the callee
            limit=results.top,
            offset=results.offset,
        )
    return ResultPage.of_listing(listing, results.offset, sort, filtered=bool(picture_filter))


def _print_notes(answer: SearchResult, searcher: Searcher, output: Output) -> None:
    """Print how the query was read, and hints."""
    from diptych.backends.autotuning import needs_measurement
    from diptych.catalog.search.query import missing_pictures
    from diptych.cli.shared.labels import note_language

    if texts := [term.value for term in answer.query.terms if term.kind == "text"]:
        note_language(texts, searcher.encoder, quiet=output.quiet)
    if any(term.weight < 0 for term in answer.query.terms):
        output.note(f"read as: {' '.join(map(str, answer.query.terms))}")
    for word in missing_pictures(answer.query.terms):
        output.note(f"{word}: there is no such file, so it was read as text")
    if sys.stderr.isatty() and needs_measurement(searcher.encoder):
        output.note("every search loads torch; to start faster, run once: diptych models runtimes")
    if long_texts := len(answer.query.long_texts):
        verb = "was" if long_texts == 1 else "were"
        output.note(f"{counted(long_texts, 'long text')} {verb} read in parts and averaged")


class QueryCommand(TyperCommand):
    """A command whose arguments are a query: `-people` is a query word, not five short options.

    As in a search engine, a minus in front of a word excludes it. Words that can only be options stay
    options, wherever they stand; all others become words of the query.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the words of the query behind ``--``, then parse as usual."""
        option_args, words = split_query(args, self.get_params(ctx))
        return super().parse_args(ctx, [*option_args, "--", *words] if words else option_args)


def split_query(args: Sequence[str], parameters: Iterable[Any]) -> tuple[list[str], list[str]]:
    """Separate options with their values from the words of the query; both keep their order.

    A word that begins with one dash is an option where it is one short option, several flags together
    (``-p0``), or a short option with a number or a path right behind it (``-k5``, ``-c./catalog``). Any other
    word of two or more characters belongs to the query. An unknown single letter (``-n``) and an unknown
    word with two dashes stay options and are refused later: they are typing errors. Everything after ``--``
    is query.

    Examples
    --------
    >>> from typer.main import get_command
    >>> from diptych.cli.main import app
    >>> search = get_command(app).commands["search"]
    >>> split_query(["beach", "-people", "-k", "5", "-p", "+", "sea"], search.params)
    (['-k', '5', '-p'], ['beach', '-people', '+', 'sea'])
    """
    options = [parameter for parameter in parameters if isinstance(parameter, TyperOption)]
    by_name = {
        name: parameter for parameter in options for name in (*parameter.opts, *parameter.secondary_opts)
    }
    option_args: list[str] = []
    words: list[str] = []
    remaining = iter(args)
    for arg in remaining:
        if arg == "--":
            words += remaining
        elif not _is_option(arg, by_name):
            words.append(arg)
        else:
            option_args.append(arg)
            parameter = by_name.get(arg)  # None for `--top=5`, which holds its value
            if parameter is not None and _takes_value(parameter):
                option_args += [value for value in [next(remaining, None)] if value is not None]
    return option_args, words


def _is_option(arg: str, by_name: dict[str, TyperOption]) -> bool:
    if not arg.startswith("-") or arg == "-":
        return False
    if arg.startswith("--") or len(arg) == 2:
        # "-5" and "-é" are never options, so they are words; an unknown "-n" is a typing error.
        return arg.startswith("--") or (arg[1].isascii() and arg[1].isalpha()) or arg in by_name
    flags = arg[1:]
    while flags and (parameter := by_name.get(f"-{flags[0]}")) is not None:
        if _takes_value(parameter):
            value = flags[1:]
            return value.isdecimal() or value.startswith(_PATH_STARTS)
        flags = flags[1:]
    return not flags


def _takes_value(parameter: TyperOption) -> bool:
    return not parameter.is_flag and parameter.nargs != 0
