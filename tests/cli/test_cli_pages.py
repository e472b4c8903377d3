"""Pages written by commands: markup in names is escaped, and templates get all their variables."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import jinja2
import pytest
from PIL import Image

from diptych.reports.page import embed_image, page_template

HOSTILE = """</script><script>alert(1)</script><!-- "q" 'q' & {{ 7 * 7 }} $title {% raw %}"""
IMAGE = embed_image(Image.new("RGB", (60, 40), "orange"), 30, quality=80)


def values(text: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Values for each page, with `text` wherever a text from a file or a user can appear."""
    common = {"title": text, "subtitle": text}
    hit = {"ratio": 1.5, "address": text, "image": IMAGE, "heat": IMAGE, "relevance": 0.5, "day": text}
    hit |= {"alike": 2, "caption": text, "name": text}
    table = {"columns": [text], "numeric": [False], "rows": [[(text, text)]], "caption": text, "long": False}
    section = {"title": text, "text": [text], "tables": [table], "plots": [text]}
    return {
        ("report.html", "diptych.reports"): {**common, "sections": [section] * 2, "facts": {text: text}},
        ("contact_sheet.html", "diptych.cli.classify"): {
            **common,
            "footer": text,
            "cards": [{"name": text, "image": IMAGE, "scores": [(text, 50.0)]}],
        },
        ("search.html", "diptych.cli.search"): {**common, "hits": [hit], "empty": text, "footer": text},
        ("duplicates.html", "diptych.cli.search"): {
            **common,
            "pages": [{"tier": text, "title": text, "groups": [{"name": text}]}],
        },
        ("map.html", "diptych.cli.search"): {**common, "data": {"count": 1, "names": [text]}},
    }


PAGES = list(values(""))


class Page(HTMLParser):
    """The elements of a page with the names of their attributes, and its JSON."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, list[str]]] = []
        self.json: list[Any] = []
        self._in_json = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, [name for name, _ in attrs]))
        self._in_json = ("type", "application/json") in attrs

    def handle_data(self, data: str) -> None:
        if self._in_json:
            self.json.append(json.loads(data))
            self._in_json = False


@pytest.mark.parametrize("page", PAGES)
def test_hostile_names_stay_text(page: tuple[str, str]) -> None:
    hostile, plain = (Page(page_template(*page).render(values(text)[page])) for text in (HOSTILE, "nobody"))
    assert hostile.tags == plain.tags
    assert json.dumps(hostile.json) == json.dumps(plain.json).replace('"nobody"', json.dumps(HOSTILE))


@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_for_nothing_and_carries_the_mark(page: tuple[str, str]) -> None:
    text = page_template(*page).render(values("name")[page])
    assert '<meta name="generator" content="Diptych">' in text
    assert "http" not in text.replace("http://www.w3.org/", "")
    assert not {"link", "iframe", "object"} & {tag for tag, _ in Page(text).tags}


@pytest.mark.parametrize("page", PAGES)
def test_a_missing_value_is_an_error(page: tuple[str, str]) -> None:
    for name in values("name")[page]:
        incomplete = {key: value for key, value in values("name")[page].items() if key != name}
        if name not in {"empty", "subtitle"}:  # for a page without hits; a report and a map need not show it
            with pytest.raises(jinja2.UndefinedError, match=f"'{name}' is undefined"):
                page_template(*page).render(incomplete)
