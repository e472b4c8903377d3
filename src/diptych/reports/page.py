"""One self-contained HTML page: headings, statements, sortable tables, plots inside, facts at the foot.

Takes plain texts and SVG drawn by `plots.py`; everything else is escaped. The layout is `data/page.html`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

LONG = 100  # rows beyond which a table scrolls in a box of its own, and what follows stays within reach


@dataclass(frozen=True)
class PageTable:
    """A table: its cells as texts, and the text each is sorted by."""

    name: str
    columns: Sequence[str]
    cells: Sequence[Sequence[str]]
    keys: Sequence[Sequence[str]]
    caption: str


@dataclass(frozen=True)
class PagePlot:
    """A plot as SVG."""

    name: str
    svg: str


@dataclass(frozen=True)
class PageSection:
    """What stands under one heading."""

    title: str
    text: Sequence[str]
    tables: Sequence[PageTable]
    pictures: Sequence[PagePlot]


@dataclass(frozen=True)
class PageFooter:
    """What stands at the foot, and the files beside the page."""

    values: Mapping[str, str]
    files: Sequence[str]


def render(title: str, parts: Sequence[PageSection], facts: PageFooter) -> str:
    """The page as text."""
    layout = (files("diptych.reports") / "data" / "page.html").read_text("utf-8")
    links = "\n".join(
        f'<a href="#part-{number}">{html.escape(part.title)}</a>' for number, part in enumerate(parts)
    )
    told = dict(facts.values) | {"Files beside this page": ", ".join(facts.files)}
    foot = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in told.items() if v)
    body = "\n".join(_part(number, part) for number, part in enumerate(parts))
    return Template(layout).substitute(
        title=html.escape(title), links=links if len(parts) > 1 else "", parts=body, facts=foot
    )


def _part(number: int, part: PageSection) -> str:
    paragraphs = "".join(f"<p>{html.escape(text)}</p>\n" for text in part.text)
    tables = f'<div class="tables">{"".join(map(_table, part.tables))}</div>\n' if part.tables else ""
    pictures = "".join(map(_picture, part.pictures))
    head = f'<h2 id="part-{number}">{html.escape(part.title)}</h2>'
    return f"<section>\n{head}\n{paragraphs}{tables}{pictures}</section>"


def _table(table: PageTable) -> str:
    numbers = [
        bool(table.keys) and all(_is_number(row[i]) for row in table.keys) for i in range(len(table.columns))
    ]
    kinds = [' class="number"' if number else "" for number in numbers]
    heads = "".join(
        f'<th scope="col"{kind}><button type="button">{html.escape(name)}</button></th>'
        for name, kind in zip(table.columns, kinds, strict=True)
    )
    rows = "".join(
        "<tr>"
        + "".join(
            f'<td{kind} data-key="{html.escape(key)}">{html.escape(cell)}</td>'
            for cell, key, kind in zip(cells, keys, kinds, strict=True)
        )
        + "</tr>\n"
        for cells, keys in zip(table.cells, table.keys, strict=True)
    )
    caption = f"<caption>{html.escape(table.caption)}</caption>" if table.caption else ""
    table_body = f"<thead><tr>{heads}</tr></thead><tbody>\n{rows}</tbody>"
    box = "table long" if len(table.cells) > LONG else "table"
    return f'<div class="{box}"><table>{caption}{table_body}</table></div>\n'


def _is_number(text: str) -> bool:
    try:
        float(text or "0")
    except ValueError:
        return False
    return True


def _picture(picture: PagePlot) -> str:
    """The SVG element alone, its names made its own: two drawings on one page would share clip paths."""
    own = re.sub(
        r'(\bid="|url\(#|href="#)', rf"\g<1>{picture.name}-", picture.svg[picture.svg.index("<svg") :]
    )
    return f"<figure>{own}</figure>\n"
