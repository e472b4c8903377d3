"""`diptych search`: pictures of a catalogue found in words, by pictures, or both."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli import catalogs, options
from diptych.cli.console import note

if TYPE_CHECKING:
    from diptych.catalog import Answer, Filter, Searcher

_FILTERS = "Filters"

Words = Annotated[
    list[str],
    typer.Argument(
        metavar="QUERY",
        help="Words, pictures, #N for a stored one; joined by + and -, weighted by 2: before them. -WORD: "
        "less of this word.",
    ),
]
Top = Annotated[int, typer.Option("--top", "-k", metavar="N", min=1, help="Pictures of a page.")]
Page = Annotated[int, typer.Option(metavar="N", min=1, help="Which page.")]
Sort = Annotated[
    str,
    typer.Option(
        metavar="likeness|date",
        help="Order among what fits: the nearest first (the figure beside it says how sure it is that a "
        "picture fits at all, which is another question), or the newest.",
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
After = Annotated[
    str | None, typer.Option(metavar="DATE", help="Taken on it or later.", rich_help_panel=_FILTERS)
]
Before = Annotated[
    str | None, typer.Option(metavar="DATE", help="On it or earlier.", rich_help_panel=_FILTERS)
]
Folder = Annotated[
    list[Path] | None, typer.Option("--in", metavar="DIR", help="In this folder.", rich_help_panel=_FILTERS)
]
Tag = Annotated[
    list[str] | None, typer.Option(metavar="TAG", help="With this tag.", rich_help_panel=_FILTERS)
]
Camera = Annotated[str, typer.Option(metavar="TEXT", help="Part of its name.", rich_help_panel=_FILTERS)]
Caption = Annotated[str, typer.Option(metavar="TEXT", help="Part of the caption.", rich_help_panel=_FILTERS)]
Name = Annotated[str, typer.Option(metavar="TEXT", help="Part of the path.", rich_help_panel=_FILTERS)]
Near = Annotated[
    str | None,
    typer.Option(metavar="LAT,LON,KM", help="Taken within so many kilometres.", rich_help_panel=_FILTERS),
]
Larger = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Files of at least 500k, 2M, ...", rich_help_panel=_FILTERS)
]
Smaller = Annotated[str | None, typer.Option(metavar="SIZE", help="At most.", rich_help_panel=_FILTERS)]
MinSide = Annotated[
    int | None, typer.Option(metavar="PIXELS", help="Of the shorter side.", rich_help_panel=_FILTERS)
]
Shape = Annotated[
    str, typer.Option(metavar="NAME", help="landscape, portrait or square.", rich_help_panel=_FILTERS)
]


def search(
    query: Words,
    catalog: catalogs.Catalog = None,
    top: Top = 20,
    page: Page = 1,
    sort: Sort = "likeness",
    everything: Everything = False,
    cutoff: Cutoff = None,
    copies: Copies = False,
    after: After = None,
    before: Before = None,
    folder: Folder = None,
    tag: Tag = None,
    camera: Camera = "",
    caption: Caption = "",
    name: Name = "",
    near: Near = None,
    larger: Larger = None,
    smaller: Smaller = None,
    min_side: MinSide = None,
    shape: Shape = "",
    html: Html = None,
    explain: Explain = None,
    preview: Preview = False,
    paths: Paths = False,
    print0: Null = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    model: catalogs.Model = None,
    pretrained: options.Pretrained = None,
    runtime: options.Runtime = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    threads: options.Threads = "auto",
) -> None:
    """Find pictures in words, by a picture, or both.

    [bold]Examples[/bold]

      diptych search "a dog playing in the snow"

      diptych search beach + photo.jpg - people

      diptych search beach -people

      diptych search "a receipt" --after 2024-01-01 --in ~/Documents -0 | xargs -0 open

      diptych search "#17" --sort date --json

      diptych search "a red car" --html found.html --explain maps

    Exit status: 0 found, 1 nothing fits, 2 not done.
    """
    from diptych.catalog import Options, parse_query
    from diptych.cli.search_output import Form, pictures_of, print_answer, write_files

    where = _filter(after, before, folder, tag, camera, caption, name, near, larger, smaller, min_side, shape)
    how = Options(
        where=where,
        cutoff=_cutoff(everything, cutoff),
        limit=top,
        offset=(page - 1) * top,
        sort=sort,  # type: ignore[arg-type] # checked by Options
        collapse=not copies,
    )
    machine = {"device": device, "precision": precision, "threads": threads, "runtime": runtime}
    terms = parse_query(query)
    with catalogs.searcher(catalog, model, pretrained, ready=where.check, **machine) as asking:
        answer = asking.search(terms, how)
        shown = pictures_of(asking, answer, explain=explain is not None) if html or explain or preview else []
    _tell_notes(answer, asking, quiet=quiet)
    form: Form = "json" if json else "null" if print0 else "paths" if paths else "table"
    print_answer(answer, how.offset, form, shown if preview else [], filtered=bool(where), quiet=quiet)
    write_files(answer, how.offset, shown, html, explain, quiet=quiet)
    if not answer.hits:
        raise typer.Exit(1)


def _cutoff(everything: bool, asked: float | None) -> float | None:
    """How well a picture must fit; None where whatever is nearest is shown."""
    from diptych.catalog.relevance import DEFAULT_CUTOFF

    if everything and asked is not None:
        raise typer.BadParameter("--all shows whatever is nearest: leave out --cutoff")
    return None if everything else DEFAULT_CUTOFF if asked is None else asked


def _tell_notes(answer: Answer, asking: Searcher, *, quiet: bool) -> None:
    """What is worth knowing of the query."""
    from diptych.catalog.query import missing_pictures
    from diptych.cli.labels import tell_language
    from diptych.encoders.settling import is_open

    if texts := [term.value for term in answer.asked.terms if term.kind == "text"]:
        tell_language(texts, asking.encoder, quiet=quiet)
    if any(term.weight < 0 for term in answer.asked.terms):
        note(f"read as: {' '.join(map(str, answer.asked.terms))}", quiet=quiet)
    for word in missing_pictures(answer.asked.terms):
        note(f"{word}: there is no such file, so it was looked for as words", quiet=quiet)
    if sys.stderr.isatty() and is_open(asking.encoder):
        note("every search loads torch: diptych models runtimes, once, lets it start faster", quiet=quiet)
    if answer.asked.long:
        note(f"{len(answer.asked.long)} long texts were read in parts and averaged", quiet=quiet)


def _filter(
    after: str | None,
    before: str | None,
    folder: list[Path] | None,
    tag: list[str] | None,
    camera: str,
    caption: str,
    name: str,
    near: str | None,
    larger: str | None,
    smaller: str | None,
    min_side: int | None,
    shape: str,
) -> Filter:
    from diptych.catalog import Filter

    return Filter(
        after=read_date(after, end=False),
        before=read_date(before, end=True),
        folders=tuple(folder or ()),
        tags=tuple(tag or ()),
        camera=camera,
        caption=caption,
        name=name,
        near=read_place(near),
        min_bytes=read_size(larger),
        max_bytes=read_size(smaller),
        min_side=min_side,
        shape=shape,
    )


def read_date(text: str | None, *, end: bool) -> date | None:
    """A day, or the first or last one of a month or year.

    Examples
    --------
    >>> [str(read_date(text, end=True)) for text in ("2024", "2024-02", "2024-02-03")]
    ['2024-12-31', '2024-02-29', '2024-02-03']
    """
    if text is None:
        return None
    import calendar

    try:
        parts = [int(part) for part in text.split("-")]
        year, month = parts[0], parts[1] if len(parts) > 1 else (12 if end else 1)
        last = calendar.monthrange(year, month)[1]
        return date(year, month, parts[2] if len(parts) > 2 else (last if end else 1))
    except (ValueError, IndexError, calendar.IllegalMonthError) as error:
        raise typer.BadParameter(f"{text!r} is no date: expected 2024, 2024-05 or 2024-05-31") from error


def read_size(text: str | None) -> int | None:
    """Bytes.

    Examples
    --------
    >>> read_size("500k"), read_size("1.5M"), read_size("12")
    (500000, 1500000, 12)
    """
    if text is None:
        return None
    units = {"k": 10**3, "m": 10**6, "g": 10**9}
    number = text.lower().removesuffix("b")
    try:
        return int(float(number.rstrip("kmg")) * units.get(number[-1:], 1))
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{text!r} is no size: expected a number, or one with k, M or G") from error


def read_place(text: str | None) -> tuple[float, float, float] | None:
    """Latitude, longitude, kilometres; 10 of these when they are not said.

    Examples
    --------
    >>> read_place("48.1,11.6"), read_place("48.1,11.6,25")
    ((48.1, 11.6, 10.0), (48.1, 11.6, 25.0))
    """
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(",")]
        latitude, longitude, km = numbers if len(numbers) == 3 else (*numbers, 10.0)
        return latitude, longitude, km
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no place: expected LATITUDE,LONGITUDE,KILOMETRES") from error
