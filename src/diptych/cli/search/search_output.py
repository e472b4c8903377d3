"""What `diptych search` says and writes: a table, JSON, paths, a page, pictures with their maps."""

from __future__ import annotations

import csv
import io
import json as jsonlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from diptych.cli.shared.console import bar, clean, complain, fitted, note, plain_output, screen
from diptych.errors import counted

Form = Literal["table", "json", "csv", "paths", "null"]
COLUMNS = (
    *("id", "path", "member", "relevance", "cosine", "taken", "taken_from", "taken_by", "width", "height"),
    *("bytes", "latitude", "longitude", "camera", "caption", "tags", "rating", "copies", "alike"),
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diptych.catalog import Searcher
    from diptych.cli.search.result_page import ResultHit, ResultPage
    from diptych.cli.search.search_sheet import Shown
    from diptych.encoder import FloatArray


def pictures_of(hits: Sequence[ResultHit], heat: tuple[Searcher, FloatArray] | None = None) -> list[Shown]:
    """The hits with their pictures and, with a searcher and a query's row, where in them the words fit."""
    from diptych.catalog import heat_map, load_entry, overlay
    from diptych.cli.search.search_sheet import SIDE, Shown
    from diptych.errors import ImageError, MissingExtraError

    shown = []
    for hit in hits:
        try:
            picture = load_entry(hit.entry, target=SIDE)
        except (ImageError, MissingExtraError) as error:
            complain("failed", str(error))
            shown.append(Shown(hit, None))
            continue
        marked = None
        if heat is not None:
            asking, row = heat
            marked = overlay(picture, heat_map(asking.encoder, picture, row, asking.background.rows))
        shown.append(Shown(hit, picture, marked))
    return shown


def write_files(
    page: ResultPage, shown: list[Shown], html: Path | None, explain: Path | None, *, quiet: bool
) -> None:
    """The contact sheet and the marked pictures, numbered as the table numbers them."""
    from diptych.cli.search.search_sheet import render
    from diptych.files.disk import file_stem, write_bytes

    for number, one in enumerate(shown, page.offset + 1):
        if explain is not None and one.heat is not None:
            buffer = io.BytesIO()
            one.heat.save(buffer, "PNG")
            stem = file_stem(Path(one.hit.entry.member or one.hit.entry.path).stem, spaces=True)
            write_bytes(explain / f"{number:03d}-{stem}.png", buffer.getvalue())
    if html is not None:
        write_bytes(html, render(page, shown, catalog="diptych search").encode("utf-8", "replace"))
        note(f"contact sheet: {html}", quiet=quiet)


def print_page(page: ResultPage, form: Form, shown: list[Shown], *, quiet: bool) -> None:
    """The page on standard output; `shown` are pictures to draw beside it."""
    if form == "json":
        typer.echo(jsonlib.dumps(_plain(page)))
    elif form == "csv":
        _print_csv(page)
    elif form in ("paths", "null"):
        _print_paths(page, b"\0" if form == "null" else b"\n", quiet=quiet)
    elif not page.hits:
        typer.echo(_nothing(page))
    else:
        _print_table(page, shown, quiet=quiet)


def _print_csv(page: ResultPage) -> None:
    """For other programs: UTF-8 whatever the terminal is, names' own bytes where they are no text."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    for hit in page.hits:
        row = _plain_hit(hit)
        lists = {key: "; ".join(value) for key, value in row.items() if isinstance(value, list)}
        writer.writerow(row | lists)
    out = typer.get_binary_stream("stdout")
    out.write(text.getvalue().encode("utf-8", "surrogateescape"))
    out.flush()


def _print_paths(page: ResultPage, end: bytes, *, quiet: bool) -> None:
    """The names' own bytes, which need not be valid text, for a program that opens them."""
    out = typer.get_binary_stream("stdout")
    for hit in page.hits:
        try:
            name = os.fsencode(hit.entry.name)
        except UnicodeEncodeError:  # of a member of an archive, on a system of few letters
            name = hit.entry.name.encode("utf-8", "surrogateescape")
        out.write(name + end)
    out.flush()
    if inside := sum(bool(hit.entry.member) for hit in page.hits):
        note(f"{inside} of these lie inside archives, where other programs do not find them", quiet=quiet)


def _nothing(page: ResultPage) -> str:
    if not page.searched:
        return "no picture passes the filters" if page.filtered else "this catalogue holds no picture yet"
    if page.offset and page.total:
        total = f"{'more than ' * page.more}{counted(page.total, 'picture')}"
        verb = "fit" if page.total > 1 else "fits"
        return f"{total} {verb}; this page is behind the last that was found"
    if page.order:
        return f"no picture passes the filters ({counted(page.searched, 'picture')} in the catalogue)"
    told = f"nothing here fits ({counted(page.searched, 'picture')} searched)"
    if page.best is None:
        return told
    best = f"{clean(page.best.entry.name)} at {page.best.relevance:.2f}"
    return f"{told}; the best is {best} (--all shows the nearest; a sentence may say more than a word)"


def _print_table(page: ResultPage, shown: list[Shown], *, quiet: bool) -> None:
    from diptych.cli.search.preview import preview, way_of

    console, plain = screen(), plain_output()
    drawn = {one.hit.entry.content: one.picture for one in shown}
    way = way_of() if shown else ""
    if shown and not way:
        note("this terminal shows no pictures: --html writes a page of them", quiet=quiet)
    rated = bool(page.order) and any(hit.entry.rating is not None for hit in page.hits)
    for number, hit in enumerate(page.hits, page.offset + 1):
        taken = f"{hit.entry.day:10}"
        figure = (
            "" if hit.relevance is None else f"{hit.relevance:4.2f} {bar(hit.relevance, 8, plain=plain)}  "
        )
        stars = f"{_stars(hit.entry.rating, plain=plain)}  " if rated else ""
        more = f" +{len(hit.alike)}" if hit.alike else ""
        room = console.width - 19 - 15 * bool(figure) - 7 * rated
        name = fitted(hit.entry.name, room - len(more), tail=True).rstrip() + more
        typer.echo(f"{number:>4}  {figure}{taken}  {stars}{name}")
        picture = drawn.get(hit.entry.content)
        if way and picture is not None:
            typer.echo(preview(picture, way), nl=False)
    last = page.offset + len(page.hits)
    if page.total > last or page.more:
        note(f"{last:,} {_of_how_many(page)} (--page goes on)", quiet=quiet)


def _stars(rating: int | None, *, plain: bool) -> str:
    """Five columns."""
    if rating == -1:
        return "x    "
    return ("*" if plain else "★") * (rating or 0) + " " * (5 - (rating or 0))


def _of_how_many(page: ResultPage) -> str:
    if page.order:
        return f"of {counted(page.total, 'picture')}, {page.order}"
    total = f"{'more than ' * page.more}{page.total:,} that fit, out of "
    return f"{'the nearest of ' if page.cutoff is None else f'of {total}'}{counted(page.searched, 'picture')}"


def _plain(page: ResultPage) -> dict[str, Any]:
    return {
        "query": list(page.query),
        "searched": page.searched,
        "cutoff": page.cutoff,
        "total": page.total,
        "more": page.more,
        "offset": page.offset,
        "hits": [_plain_hit(hit) for hit in page.hits],
        "nearest": _plain_hit(page.best) if page.best and not page.hits else None,
    }


def _plain_hit(hit: ResultHit) -> dict[str, Any]:
    entry = hit.entry
    return {
        "id": entry.content,
        "path": str(entry.path),
        "member": entry.member,
        "relevance": None if hit.relevance is None else round(hit.relevance, 4),
        "cosine": None if hit.cosine is None else round(hit.cosine, 5),
        "taken": entry.taken.isoformat() if entry.taken else None,
        "taken_from": entry.taken_from,
        "taken_by": None if not entry.taken else "camera" if entry.dated else "file",
        "width": entry.width,
        "height": entry.height,
        "bytes": entry.size,
        "latitude": entry.latitude,
        "longitude": entry.longitude,
        "camera": entry.camera,
        "caption": entry.caption,
        "tags": list(entry.tags),
        "rating": entry.rating,
        "copies": [f"{path}/{member}" if member else str(path) for path, member in entry.copies],
        "alike": [one.name for one in hit.alike],
    }
