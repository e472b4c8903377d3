"""Reports: complete files, exact numbers, and pages without executable content."""

from __future__ import annotations

import csv
import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diptych.reports import Bars, Curve, Curves, Estimate, Heatmap, Report, Section, Table
from diptych.reports.report import LONG, format_cell

TABLE = Table(
    ["class", "n", "accuracy"], [["dog", 1200, Estimate(0.5, 0.4, 0.6, 90)], ["cat", 3, None]], "All."
)
PLOTS = {
    "curve": Curves(
        curves={"ours": Curve([1, 2], [0.1, 0.2])}, x="shots", y="accuracy", levels={"chance": 0.1}
    ),
    "bars": Bars(
        values={"dog": (0.5, 0.4, 0.6), "cat": (0.2, None, None)}, x="accuracy", levels={"chance": 0.1}
    ),
    "heat": Heatmap(rows=["a", "b"], columns=["x", "y"], values=[[0.1, 0.9], [math.nan, 0.5]]),
}


class Page(HTMLParser):
    """The elements of a page, its texts, and the ids that it defines."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_all_files_are_there_and_say_the_same(tmp_path: Path) -> None:
    report = Report(
        "T", [Section("One", ["Said."], {"classes": TABLE}, PLOTS)], {"acc1": 0.5}, {"Command": "x"}
    )
    names = [path.name for path in report.save(tmp_path)]
    assert names[:2] == ["index.html", "report.json"]
    assert set(names[2:]) == {"classes.csv", *(f"{n}.{e}" for n in PLOTS for e in ("svg", "png"))}
    page = Page((tmp_path / "index.html").read_text("utf-8"))
    assert page.tags.count("svg") == 3
    assert {"Said.", "0.500 [0.400, 0.600]", "1,200", "All.", "Command"} <= set(page.texts)
    assert json.loads((tmp_path / "report.json").read_text()) == {
        "title": "T",
        "acc1": 0.5,
        "facts": {"Command": "x"},
    }
    rows = list(csv.reader((tmp_path / "classes.csv").read_text().splitlines()))
    assert rows[1] == ["dog", "1200", "0.5", "0.4", "0.6", "90"]
    assert rows[2] == ["cat", "3", "", "", "", ""]


def test_two_drawings_on_a_page_share_no_names(tmp_path: Path) -> None:
    Report("T", [Section("One", plots=PLOTS)], {}).save(tmp_path)
    ids = Page((tmp_path / "index.html").read_text("utf-8")).ids
    assert len(ids) == len(set(ids))


@settings(max_examples=25)
@given(st.text(max_size=30))
@example("</script><script>alert(1)</script>")
@example("\"'>{{ 7 * 7 }}<!--")
def test_no_text_becomes_markup(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    home = tmp_path_factory.mktemp("page")

    def tags(text: str) -> list[str]:
        section = Section(text, [text], {"t": Table([text], [[text]], text)})
        Report(text, [section, section.within(text)], {}, {"a": text}).save(home)
        return Page((home / "index.html").read_text("utf-8")).tags

    assert tags(text) == tags("x" if text else "")


def test_json_has_no_nan_and_takes_arrays() -> None:
    values = {
        "a": np.float32(0.5),
        "b": [math.nan, math.inf],
        "c": np.arange(2),
        "d": Estimate(1.0, 0.0, 2.0, 3),
    }
    read = json.loads(Report("T", [], values).to_json())
    assert read["a"] == 0.5
    assert read["b"] == [None, None]
    assert read["c"] == [0, 1]
    assert read["d"] == {"value": 1.0, "low": 0.0, "high": 2.0, "n": 3, "effective": None}


@pytest.mark.parametrize(
    ("cell", "text"), [(math.nan, ""), (True, "True"), (-1234, "-1,234"), ("0.5", "0.5")]
)
def test_cells_are_told(cell: object, text: str) -> None:
    assert format_cell(cell) == text  # type: ignore[arg-type]


def test_without_matplotlib_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    names = [path.name for path in Report("T", [Section("One", plots=PLOTS)], {}).save(tmp_path)]
    assert names == ["index.html", "report.json"]
    assert "diptych[plots]" in (tmp_path / "index.html").read_text("utf-8")


def test_two_tables_of_one_file_are_a_mistake() -> None:
    twice = [Section("One", tables={"classes": TABLE}), Section("Two", tables={"classes": TABLE})]
    with pytest.raises(ValueError, match="two tables of the report share a file: classes"):
        Report("T", twice, {})
    Report("T", [twice[0], twice[1].within("Other data, again")], {})


@settings(max_examples=25)
@given(names=st.lists(st.text(), min_size=1, max_size=4, unique=True))
@example(names=["distances-x/../../../evil", "distances-x-evil", "Classes", "classes"])
def test_names_from_data_stay_in_the_folder(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    home = tmp_path_factory.mktemp("deep") / "a" / "b" / "report"
    report = Report("T", [Section("One", tables=dict.fromkeys(names, TABLE))], {})
    files = report.save(home)
    assert len({path.name.casefold() for path in files}) == len(names) + 2
    assert {path.parent for path in files} == {home}
    written = [path for path in home.parents[2].rglob("*") if path.is_file()]
    assert sorted(written) == sorted(files)


def test_the_name_of_a_plot_is_no_markup(tmp_path: Path) -> None:
    plots = {'x"><script>alert(1)</script>\\1': PLOTS["curve"], "x/../../../evil": PLOTS["bars"]}
    Report("T", [Section("One", plots=plots)], {}).save(tmp_path / "a" / "b")
    page = Page((tmp_path / "a" / "b" / "index.html").read_text("utf-8"))
    assert page.tags.count("script") == 1  # of the page itself
    assert len(set(page.ids)) == len(page.ids)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_table_without_rows_has_its_columns(tmp_path: Path) -> None:
    empty = Table(["model", "shift"], [])
    Report("T", [Section("One", tables={"none": empty, "compact": empty.compact("shift")})], {}).save(
        tmp_path
    )
    page = (tmp_path / "index.html").read_text("utf-8")
    assert page.count("shift") == 1
    assert (tmp_path / "none.csv").read_text("utf-8") == "model,shift\n"


def test_a_long_table_scrolls_in_its_own_box(tmp_path: Path) -> None:
    for count, long in ((LONG, False), (LONG + 1, True)):
        table = Table(["n"], [[n] for n in range(count)])
        Report("T", [Section("One", tables={"numbers": table})], {}).save(tmp_path)
        page = (tmp_path / "index.html").read_text("utf-8")
        assert ('<div class="table long">' in page) is long
