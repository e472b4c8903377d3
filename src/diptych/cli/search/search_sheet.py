"""Search results as one HTML page that needs no other file.

The pictures are embedded in the page, each a link to its file. If a heat map was made, it appears when the
pointer is over the picture.
"""

from __future__ import annotations

import base64
import html
import io
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from diptych.cli.shared.console import clean
from diptych.errors import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from diptych.cli.search.result_page import ResultHit, ResultPage

PAGE = Path(__file__).parent / "data" / "search.html"
SIDE = 420  # pixels of the longer side of a picture in the page


@dataclass(frozen=True, eq=False)
class HitImage:
    """A hit with its image, None if it cannot be read any more, and its heat map, if there is one."""

    hit: ResultHit
    image: Image | None
    heat: Image | None = None


def render(page: ResultPage, images: Sequence[HitImage], *, catalog: str) -> str:
    """Render the page as HTML."""
    if images:
        figures = "\n".join(map(_figure, images))
    elif page.order:
        figures = '<p class="none">No picture passes the filters.</p>'
    else:
        figures = f'<p class="none">Nothing here fits ({counted(page.searched, "picture")} searched).</p>'
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=_escaped(" ".join(page.query) or "Pictures"),
        subtitle=_subtitle(page, len(images)),
        figures=figures,
        footer=f"{_escaped(catalog)}.{_footer(page)}",
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


def _figure(hit_image: HitImage) -> str:
    hit = hit_image.hit
    entry, relevance = hit.entry, hit.relevance
    ratio = entry.width / entry.height if entry.width and entry.height else 1.0
    ratio = min(max(ratio, 0.5), 2.4)  # else a panorama would fill a row, and a tall strip would vanish
    tags = ""
    if hit_image.image is not None:
        tags += _image_tag(hit_image.image, clean(entry.caption or entry.name), "")
    if hit_image.heat is not None:
        tags += _image_tag(hit_image.heat, "where it fits", "heat")
    try:
        address = html.escape(entry.path.as_uri())
    except ValueError:
        address = "#"
    day = entry.day
    alike = f" +{len(hit.alike)} alike" if hit.alike else ""
    caption = f"<q>{_escaped(entry.caption)}</q>" if entry.caption else ""
    name = _escaped(entry.name)
    bar = "" if relevance is None else f'<b>{relevance:.2f}</b><i style="--share:{100 * relevance:.0f}%"></i>'
    return (
        f'<figure style="--ratio:{ratio:.3f}"><a href="{address}">{tags or "(cannot be read)"}</a>'
        f"<figcaption>{bar}<span>{day}{alike}</span>"
        f'{caption}<p title="{name}"><bdi>{name}</bdi></p></figcaption></figure>'
    )


def _image_tag(image: Image, alt: str, kind: str) -> str:
    small = image.convert("RGB")
    small.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=82)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    role = f' class="{kind}"' if kind else ""
    return (
        f'<img{role} src="data:image/jpeg;base64,{data}" width="{small.width}" height="{small.height}" '
        f'alt="{html.escape(alt)}">'
    )


def _escaped(text: str) -> str:
    return html.escape(clean(text))
