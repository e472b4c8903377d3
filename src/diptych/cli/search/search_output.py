"""Output of `diptych search`: table, JSON, CSV, paths, HTML page, pictures with heat maps."""

from __future__ import annotations

import csv
import io
import json as jsonlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from diptych.cli.shared.console import (
    bar,
    clean,
    fit_width,
    note,
    plain_output,
    print_message,
    stdout_console,
)
from diptych.errors import counted

Form = Literal["table", "json", "csv", "paths", "null"]
COLUMNS = (
    *("id", "path", "member", "relevance", "cosine", "taken", "taken_from", "taken_by", "width", "height"),
    *("bytes", "latitude", "longitude", "camera", "caption", "tags", "rating", "copies", "alike"),
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from diptych.catalog import Searcher
    from diptych.cli.search.result_page import ResultHit, ResultPage
    from diptych.encoder import FloatArray
    from diptych.reports.page import EmbeddedImage


SIDE = 420  # pixels of the longer side of a picture in the HTML page


@dataclass(frozen=True, eq=False)
class HitImage:
    """A hit with its image, None if it cannot be read any more, and its heat map, if there is one."""

    hit: ResultHit
    image: Image | None
    heat: Image | None = None


def load_images(
    hits: Sequence[ResultHit], heat_source: tuple[Searcher, FloatArray] | None = None
) -> list[HitImage]:
    """Load the image of each hit, None for one that cannot be read.

    With `heat_source`, the searcher and the embedding of the query, (E,), a heat map is drawn on each.
    """
    from diptych.catalog import heat_map, load_entry, overlay
    from diptych.errors import ImageError, MissingExtraError

    images = []
    for hit in hits:
        try:
            image = load_entry(hit.entry, target=SIDE)
        except (ImageError, MissingExtraError) as error:
            print_message("failed", str(error))
            images.append(HitImage(hit, None))
            continue
        heat = None
        if heat_source is not None:
            searcher, embedding = heat_source
            heat = overlay(image, heat_map(searcher.encoder, image, embedding, searcher.background.rows))
        images.append(HitImage(hit, image, heat))
    return images


def write_files(
    page: ResultPage, images: list[HitImage], html: Path | None, explain: Path | None, *, quiet: bool
) -> None:
    """Write the HTML page and the pictures with heat maps, numbered as in the table."""
    from diptych.files.disk import file_stem, write_bytes

    for number, hit_image in enumerate(images, page.offset + 1):
        if explain is not None and hit_image.heat is not None:
            buffer = io.BytesIO()
            hit_image.heat.save(buffer, "PNG")
            entry = hit_image.hit.entry
            stem = file_stem(Path(entry.member or entry.path).stem, spaces=True)
            write_bytes(explain / f"{number:03d}-{stem}.png", buffer.getvalue())
    if html is not None:
        write_bytes(html, _render(page, images).encode("utf-8", "replace"))
        note(f"contact sheet: {html}", quiet=quiet)


def _render(page: ResultPage, images: Sequence[HitImage]) -> str:
    """Render a page of results as HTML: each picture is a link to its file, over it appears its heat map."""
    from diptych.reports.page import page_template

    return page_template("search.html", "diptych.cli.search").render(
        title=clean(" ".join(page.query) or "Pictures"),
        subtitle=_subtitle(page, len(images)),
        hits=list(map(_figure, images)),
        empty="No picture passes the filters."
        if page.order
        else f"Nothing here fits ({counted(page.searched, 'picture')} searched).",
        footer=f"diptych search.{_footer(page)}",
    )


def _subtitle(page: ResultPage, shown: int) -> str:
    if page.order:
        return f"{shown:,} shown of {counted(page.total, 'picture')}, {page.order}"
    more = "more than " if page.more else ""
    return f"{shown:,} shown of {more}{page.total:,} that fit, among {counted(page.searched, 'picture')}"


def _footer(page: ResultPage) -> str:
    if page.order:
        return ""
    cutoff = "left out" if page.cutoff is None else f"{page.cutoff:.2f}"
    return f" The bar shows the relevance of a picture, from 0 to 1; the cut-off was {cutoff}."


def _figure(hit_image: HitImage) -> dict[str, Any]:
    entry = hit_image.hit.entry
    ratio = entry.width / entry.height if entry.width and entry.height else 1.0
    try:
        address = entry.path.as_uri()
    except ValueError:
        address = "#"
    return {
        "ratio": min(max(ratio, 0.5), 2.4),  # a panorama would fill a row, and a tall strip would vanish
        "address": address,
        "image": _embed(hit_image.image),
        "heat": _embed(hit_image.heat),
        "relevance": hit_image.hit.relevance,
        "day": entry.day,
        "alike": len(hit_image.hit.alike),
        "caption": clean(entry.caption or ""),
        "name": clean(entry.name),
    }


def _embed(image: Image | None) -> EmbeddedImage | None:
    from diptych.reports.page import embed_image

    return None if image is None else embed_image(image, SIDE, quality=82)


def print_page(page: ResultPage, form: Form, previews: list[HitImage], *, quiet: bool) -> None:
    """Print a page of results; `previews` are images to draw in the terminal."""
    if form == "json":
        typer.echo(jsonlib.dumps(_to_json(page)))
    elif form == "csv":
        _print_csv(page)
    elif form in ("paths", "null"):
        _print_paths(page, b"\0" if form == "null" else b"\n", quiet=quiet)
    elif not page.hits:
        typer.echo(_no_results_message(page))
    else:
        _print_table(page, previews, quiet=quiet)


def _print_csv(page: ResultPage) -> None:
    """Print CSV in UTF-8 whatever the locale is; file names that are not valid text keep their bytes."""
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
    """Print paths as the bytes of the file system, which need not be valid text."""
    out = typer.get_binary_stream("stdout")
    for hit in page.hits:
        try:
            name = os.fsencode(hit.entry.name)
        except UnicodeEncodeError:  # a member of an archive, in a locale that cannot encode its name
            name = hit.entry.name.encode("utf-8", "surrogateescape")
        out.write(name + end)
    out.flush()
    if inside := sum(bool(hit.entry.member) for hit in page.hits):
        note(f"{counted(inside, 'path')} inside archives, which other programs cannot open", quiet=quiet)


def _no_results_message(page: ResultPage) -> str:
    if not page.searched:
        return "no picture passes the filters" if page.filtered else "this catalogue holds no picture yet"
    if page.offset and page.total:
        total = f"{'more than ' * page.more}{counted(page.total, 'picture')}"
        verb = "fit" if page.total > 1 else "fits"
        return f"{total} {verb}; this page is after the last one"
    if page.order:
        return f"no picture passes the filters ({counted(page.searched, 'picture')} in the catalogue)"
    message = f"nothing here fits ({counted(page.searched, 'picture')} searched)"
    if page.best is None:
        return message
    best = f"{clean(page.best.entry.name)} at {page.best.relevance:.2f}"
    return f"{message}; the best is {best} (--all shows the nearest; try a sentence instead of a word)"


def _print_table(page: ResultPage, previews: list[HitImage], *, quiet: bool) -> None:
    from diptych.cli.search.preview import render_preview, terminal_protocol

    console, plain = stdout_console(), plain_output()
    images = {preview.hit.entry.content: preview.image for preview in previews}
    protocol = terminal_protocol() if previews else ""
    if previews and not protocol:
        note("this terminal cannot show pictures: --html writes a page of them", quiet=quiet)
    rated = bool(page.order) and any(hit.entry.rating is not None for hit in page.hits)
    for number, hit in enumerate(page.hits, page.offset + 1):
        taken = f"{hit.entry.day:10}"
        relevance = (
            "" if hit.relevance is None else f"{hit.relevance:4.2f} {bar(hit.relevance, 8, plain=plain)}  "
        )
        stars = f"{_stars(hit.entry.rating, plain=plain)}  " if rated else ""
        more = f" +{len(hit.alike)}" if hit.alike else ""
        # Columns of a line: number 4, date 10 and gaps make 19; relevance with its bar 15, stars 7.
        room = console.width - 19 - 15 * bool(relevance) - 7 * rated
        name = fit_width(hit.entry.name, room - len(more), tail=True).rstrip() + more
        typer.echo(f"{number:>4}  {relevance}{taken}  {stars}{name}")
        image = images.get(hit.entry.content)
        if protocol and image is not None:
            typer.echo(render_preview(image, protocol), nl=False)
    last = page.offset + len(page.hits)
    if page.total > last or page.more:
        note(f"{last:,} {_of_how_many(page)} (--page N shows more)", quiet=quiet)


def _stars(rating: int | None, *, plain: bool) -> str:
    """A rating in five columns: stars, or "x" for rejected."""
    if rating == -1:
        return "x    "
    return ("*" if plain else "★") * (rating or 0) + " " * (5 - (rating or 0))


def _of_how_many(page: ResultPage) -> str:
    if page.order:
        return f"of {counted(page.total, 'picture')}, {page.order}"
    total = f"{'more than ' * page.more}{page.total:,} that fit, out of "
    return f"{'the nearest of ' if page.cutoff is None else f'of {total}'}{counted(page.searched, 'picture')}"


def _to_json(page: ResultPage) -> dict[str, Any]:
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
        "alike": [entry.name for entry in hit.alike],
    }
