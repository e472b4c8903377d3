"""Search results as one HTML page that needs no other file.

The pictures are embedded in the page, each a link to its file. If a heat map was made, it appears when the
pointer is over the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diptych.cli.shared.console import clean
from diptych.errors import counted
from diptych.reports.page import EmbeddedImage, embed_image, page_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from diptych.cli.search.result_page import ResultHit, ResultPage

SIDE = 420  # pixels of the longer side of a picture in the page


@dataclass(frozen=True, eq=False)
class HitImage:
    """A hit with its image, None if it cannot be read any more, and its heat map, if there is one."""

    hit: ResultHit
    image: Image | None
    heat: Image | None = None


def render(page: ResultPage, images: Sequence[HitImage], *, catalog: str) -> str:
    """Render the page as HTML."""
    return page_template("search.html", "diptych.cli.search").render(
        title=clean(" ".join(page.query) or "Pictures"),
        subtitle=_subtitle(page, len(images)),
        hits=list(map(_figure, images)),
        empty="No picture passes the filters."
        if page.order
        else f"Nothing here fits ({counted(page.searched, 'picture')} searched).",
        footer=f"{clean(catalog)}.{_footer(page)}",
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
    return None if image is None else embed_image(image, SIDE, quality=82)
