"""What `diptych search` says and writes: a table, JSON, paths, a page, pictures with their maps."""

from __future__ import annotations

import io
import json as jsonlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from diptych.cli.console import bar, clean, complain, fitted, note, plain_output, screen
from diptych.errors import counted

Form = Literal["table", "json", "paths", "null"]

if TYPE_CHECKING:
    from diptych.catalog import Answer, Hit, Searcher
    from diptych.cli.search_sheet import Shown


def pictures_of(asking: Searcher, answer: Answer, *, explain: bool) -> list[Shown]:
    """The hits with their pictures, and where in them the words fit."""
    from diptych.catalog import heat_map, load_entry, overlay
    from diptych.cli.search_sheet import SIDE, Shown
    from diptych.errors import ImageError, MissingExtraError

    shown = []
    for hit in answer.hits:
        try:
            picture = load_entry(hit.entry, target=SIDE)
        except (ImageError, MissingExtraError) as error:
            complain("failed", str(error))
            shown.append(Shown(hit, None))
            continue
        marked = None
        if explain:
            heat = heat_map(asking.encoder, picture, answer.asked.row, asking.background.rows)
            marked = overlay(picture, heat)
        shown.append(Shown(hit, picture, marked))
    return shown


def write_files(
    answer: Answer, offset: int, shown: list[Shown], html: Path | None, explain: Path | None, *, quiet: bool
) -> None:
    """The contact sheet and the marked pictures, numbered as the table numbers them."""
    from diptych.cli.search_sheet import render
    from diptych.disk import file_stem, write_bytes

    for number, one in enumerate(shown, offset + 1):
        if explain is not None and one.heat is not None:
            buffer = io.BytesIO()
            one.heat.save(buffer, "PNG")
            stem = file_stem(Path(one.hit.entry.member or one.hit.entry.path).stem, spaces=True)
            write_bytes(explain / f"{number:03d}-{stem}.png", buffer.getvalue())
    if html is not None:
        write_bytes(html, render(answer, shown, catalog="diptych search").encode("utf-8", "replace"))
        note(f"contact sheet: {html}", quiet=quiet)


def print_answer(
    answer: Answer, offset: int, form: Form, shown: list[Shown], *, filtered: bool, quiet: bool
) -> None:
    """The answer on standard output; `shown` are pictures to draw beside it."""
    if form == "json":
        typer.echo(jsonlib.dumps(_plain(answer, offset)))
    elif form in ("paths", "null"):
        _print_paths(answer, b"\0" if form == "null" else b"\n", quiet=quiet)
    elif not answer.hits:
        typer.echo(_nothing(answer, offset, filtered=filtered))
    else:
        _print_table(answer, offset, shown, quiet=quiet)


def _print_paths(answer: Answer, end: bytes, *, quiet: bool) -> None:
    """The names' own bytes, which need not be valid text, for a program that opens them."""
    out = typer.get_binary_stream("stdout")
    for hit in answer.hits:
        try:
            name = os.fsencode(hit.entry.name)
        except UnicodeEncodeError:  # of a member of an archive, on a system of few letters
            name = hit.entry.name.encode("utf-8", "surrogateescape")
        out.write(name + end)
    out.flush()
    if inside := sum(bool(hit.entry.member) for hit in answer.hits):
        note(f"{inside} of these lie inside archives, where other programs do not find them", quiet=quiet)


def _nothing(answer: Answer, offset: int, *, filtered: bool) -> str:
    if not answer.searched:
        return "no picture passes the filters" if filtered else "this catalogue holds no picture yet"
    if offset and answer.total:
        total = f"{'more than ' * answer.more}{answer.total:,}"
        return f"{total} pictures fit; this page is behind the last that was found"
    told = f"nothing here fits ({counted(answer.searched, 'picture')} searched)"
    if answer.best is None:
        return told
    best = f"{clean(answer.best.entry.name)} at {answer.best.relevance:.2f}"
    return f"{told}; the best is {best} (--all shows the nearest; a sentence may say more than a word)"


def _print_table(answer: Answer, offset: int, shown: list[Shown], *, quiet: bool) -> None:
    from diptych.cli.preview import preview, way_of

    console, plain = screen(), plain_output()
    drawn = {one.hit.entry.content: one.picture for one in shown}
    way = way_of() if shown else ""
    if shown and not way:
        note("this terminal shows no pictures: --html writes a page of them", quiet=quiet)
    room = console.width - 34
    for number, hit in enumerate(answer.hits, offset + 1):
        taken = f"{hit.entry.day:10}"
        more = f" +{len(hit.alike)}" if hit.alike else ""
        name = fitted(hit.entry.name, room - len(more), tail=True).rstrip() + more
        fit = bar(hit.relevance, 8, plain=plain)
        typer.echo(f"{number:>4}  {hit.relevance:4.2f} {fit}  {taken}  {name}")
        picture = drawn.get(hit.entry.content)
        if way and picture is not None:
            typer.echo(preview(picture, way), nl=False)
    last = offset + len(answer.hits)
    if answer.total > last or answer.more:
        total = f"{'more than ' * answer.more}{answer.total:,} that fit, out of "
        total = "the nearest of " if answer.cutoff is None else f"of {total}"
        note(f"{last:,} {total}{answer.searched:,} pictures (--page goes on)", quiet=quiet)


def _plain(answer: Answer, offset: int) -> dict[str, Any]:
    return {
        "query": [str(term) for term in answer.asked.terms],
        "searched": answer.searched,
        "cutoff": answer.cutoff,
        "total": answer.total,
        "more": answer.more,
        "offset": offset,
        "hits": [_plain_hit(hit) for hit in answer.hits],
        "nearest": _plain_hit(answer.best) if answer.best and not answer.hits else None,
    }


def _plain_hit(hit: Hit) -> dict[str, Any]:
    entry = hit.entry
    return {
        "id": entry.content,
        "path": str(entry.path),
        "member": entry.member,
        "relevance": round(hit.relevance, 4),
        "cosine": round(hit.cosine, 5),
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
