"""What a search found as one page of HTML that needs no other file: pictures in rows, how well each fits.

Draws what it is handed. The pictures are inside the page, each a link to its file; where a map of the patches
that fit was made, it appears under the pointer.
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
class Shown:
    """A hit with its picture, None where it cannot be read any more, and the map of what fits."""

    hit: ResultHit
    picture: Image | None
    heat: Image | None = None


def render(page: ResultPage, shown: Sequence[Shown], *, catalog: str) -> str:
    """The page."""
    if shown:
        figures = "\n".join(map(_figure, shown))
    elif page.order:
        figures = '<p class="none">No picture passes the filters.</p>'
    else:
        figures = f'<p class="none">Nothing here fits ({counted(page.searched, "picture")} searched).</p>'
    return Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=_escaped(" ".join(page.query) or "Pictures"),
        subtitle=_subtitle(page, len(shown)),
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
    return f" The bar says how well a picture fits, from 0 to 1; the cut-off was {cutoff}."


def _figure(one: Shown) -> str:
    entry, fit = one.hit.entry, one.hit.relevance
    ratio = entry.width / entry.height if entry.width and entry.height else 1.0
    ratio = min(max(ratio, 0.5), 2.4)  # a panorama would have a row to itself, a strip none
    image = _image(one.picture, clean(entry.caption or entry.name), "") if one.picture is not None else ""
    image += _image(one.heat, "where it fits", "heat") if one.heat is not None else ""
    try:
        address = html.escape(entry.path.as_uri())
    except ValueError:
        address = "#"
    day = entry.day
    alike = f" +{len(one.hit.alike)} alike" if one.hit.alike else ""
    caption = f"<q>{_escaped(entry.caption)}</q>" if entry.caption else ""
    name = _escaped(entry.name)
    figure = "" if fit is None else f'<b>{fit:.2f}</b><i style="--share:{100 * fit:.0f}%"></i>'
    return (
        f'<figure style="--ratio:{ratio:.3f}"><a href="{address}">{image or "(cannot be read)"}</a>'
        f"<figcaption>{figure}<span>{day}{alike}</span>"
        f'{caption}<p title="{name}"><bdi>{name}</bdi></p></figcaption></figure>'
    )


def _image(picture: Image, alt: str, kind: str) -> str:
    small = picture.convert("RGB")
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
