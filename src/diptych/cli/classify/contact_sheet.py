"""A contact sheet: pictures in a grid, each with its best labels and their scores, as PNG and as HTML.

The pictures are embedded in the HTML page, so that it is a single file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from diptych.cli.shared.console import clean
from diptych.reports.page import embed_image, page_template

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

# Colours of the PNG; the style of the page has the same.
PAPER, INK, GREY, TRACK, ACCENT, FAINT = "#f7f5f0", "#1f1d1a", "#78736a", "#e7e2d7", "#b5502b", "#c4bcab"

MARGIN, GUTTER, SIDE = 96, 48, 320  # margin of the sheet, gap between cards, side of a picture; pixels
ROW = 48  # height of a label with its bar
HEADER, FOOTER = 236, 110


@dataclass(frozen=True)
class Card:
    """One picture and its best labels, best first, scores from 0 to 100."""

    name: str
    picture: Image
    scores: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Sheet:
    """The content of a contact sheet."""

    title: str
    subtitle: str
    footer: str
    cards: Sequence[Card]


def draw(sheet: Sheet, *, columns: int = 4) -> Image:
    """Draw the sheet as an image."""
    from PIL import Image, ImageDraw

    columns = min(columns, len(sheet.cards))
    rows = -(-len(sheet.cards) // columns)
    labels = max(len(card.scores) for card in sheet.cards)
    height = SIDE + 24 + labels * ROW + GUTTER  # of a row of cards
    size = (
        max(2 * MARGIN + columns * SIDE + (columns - 1) * GUTTER, 1100),
        HEADER + rows * height + FOOTER,
    )
    canvas = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(canvas)
    width = size[0] - 2 * MARGIN
    pen.text((MARGIN, 84), _fit(sheet.title, 46, width), fill=INK, font=_font(46))
    pen.text((MARGIN, 152), _fit(sheet.subtitle, 23, width), fill=GREY, font=_font(23))
    for number, card in enumerate(sheet.cards):
        row, column = divmod(number, columns)
        _draw_card(canvas, pen, card, MARGIN + column * (SIDE + GUTTER), HEADER + row * height)
    baseline = size[1] - FOOTER + 14
    pen.line((MARGIN, baseline, size[0] - MARGIN, baseline), fill=TRACK, width=2)
    pen.text((MARGIN, baseline + 22), _fit(sheet.footer, 20, width), fill=GREY, font=_font(20))
    return canvas


def _draw_card(canvas: Image, pen: ImageDraw, card: Card, left: int, top: int) -> None:
    """Draw a picture with rounded corners, and a row for each label below it."""
    canvas.paste(thumbnail(card.picture), (left, top), _rounded_mask())
    y = top + SIDE + 20
    for rank, (label, score) in enumerate(card.scores):
        ink, fill = (INK, ACCENT) if rank == 0 else (GREY, FAINT)
        number = f"{score:.1f}"
        room = SIDE - pen.textlength(number, font=_font(21)) - 16
        # Long labels get a smaller font, and are then cut.
        size = 21 if _font(21).getlength(clean(label)) <= room else 19
        pen.text((left, y + 21 - size), _fit(label, size, room), fill=ink, font=_font(size))
        pen.text((left + SIDE, y), number, fill=ink, font=_font(21), anchor="ra")
        pen.rounded_rectangle((left, y + 30, left + SIDE, y + 34), 2, fill=TRACK)
        if score >= 1:  # a shorter bar is too small for round ends
            pen.rounded_rectangle((left, y + 30, left + SIDE * min(score, 100) / 100, y + 34), 2, fill=fill)
        y += ROW


def thumbnail(picture: Image) -> Image:
    """The central square of a picture, which is what the model gets."""
    from PIL import Image, ImageOps

    return ImageOps.fit(picture, (SIDE, SIDE), Image.Resampling.LANCZOS)


@cache
def _rounded_mask() -> Image:
    """A mask with rounded corners, drawn four times as large and reduced so that edges are smooth."""
    from PIL import Image, ImageDraw

    large = Image.new("L", (4 * SIDE, 4 * SIDE), 0)
    ImageDraw.Draw(large).rounded_rectangle((0, 0, 4 * SIDE - 1, 4 * SIDE - 1), 40, fill=255)
    return large.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


@cache
def _font(size: int) -> FreeTypeFont:
    """The font that is part of Pillow, so that none has to be installed."""
    from PIL import ImageFont

    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont), "this Pillow was built without FreeType"
    return font


def _fit(text: str, size: int, width: float) -> str:
    """Cut text to `width` pixels."""
    text = clean(text)
    if _font(size).getlength(text) <= width:
        return text
    while text and _font(size).getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def render(sheet: Sheet) -> str:
    """Render the sheet as one HTML page that needs no other file."""
    cards = [
        {
            "name": clean(card.name),
            "image": embed_image(thumbnail(card.picture), SIDE, quality=88),
            "scores": [(clean(label), score) for label, score in card.scores],
        }
        for card in sheet.cards
    ]
    return page_template("contact_sheet.html", "diptych.cli.classify").render(
        title=clean(sheet.title), subtitle=clean(sheet.subtitle), footer=clean(sheet.footer), cards=cards
    )
