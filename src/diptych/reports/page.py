"""Render a self-contained HTML page: headings, paragraphs, sortable tables, embedded plots and a footer.

All texts are escaped; only the SVG drawn by `plots` is inserted as it is. The layout is `data/page.html`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from string import Template

LONG = 100  # a table of more rows scrolls in a box of its own


@dataclass(frozen=True)
class PageTable:
    """A table: its cells as text, and the sort key of each cell."""

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
    """A heading with its paragraphs, tables and plots."""

    title: str
    text: Sequence[str]
    tables: Sequence[PageTable]
    plots: Sequence[PagePlot]


@dataclass(frozen=True)
class PageFooter:
    """Names and values shown at the bottom, and the files saved beside the page."""

    values: Mapping[str, str]
    files: Sequence[str]


def render(title: str, parts: Sequence[PageSection], facts: PageFooter) -> str:
    """Render the page as HTML text."""
    layout = (files("diptych.reports") / "data" / "page.html").read_text("utf-8")
    links = "\n".join(
        f'<a href="#part-{number}">{html.escape(part.title)}</a>' for number, part in enumerate(parts)
    )
    entries = dict(facts.values) | {"Files beside this page": ", ".join(facts.files)}
    foot = "".join(f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in entries.items() if v)
    body = "\n".join(_render_section(number, part) for number, part in enumerate(parts))
    return Template(layout).substitute(
        title=html.escape(title), links=links if len(parts) > 1 else "", parts=body, facts=foot
    )


def _render_section(number: int, section: PageSection) -> str:
    paragraphs = "".join(f"<p>{html.escape(text)}</p>\n" for text in section.text)
    tables = "".join(map(_render_table, section.tables))
    tables = f'<div class="tables">{tables}</div>\n' if tables else ""
    plots = "".join(map(_render_plot, section.plots))
    heading = f'<h2 id="part-{number}">{html.escape(section.title)}</h2>'
    return f"<section>\n{heading}\n{paragraphs}{tables}{plots}</section>"


def _render_table(table: PageTable) -> str:
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


def _render_plot(plot: PagePlot) -> str:
    """The SVG element with unique ids: several drawings on one page would otherwise share clip paths."""
    element = plot.svg[plot.svg.index("<svg") :]
    unique = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{plot.name}-", element)
    return f"<figure>{unique}</figure>\n"
