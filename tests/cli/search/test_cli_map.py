"""`diptych map`: a self-contained page with the map, written atomically."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from tests.cli.cli_tools import paint

Run = Callable[..., Result]


@pytest.fixture
def indexed(run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Twenty pictures; the name of one contains the end tag of a script."""
    folder = tmp_path / "album"
    for number in range(19):
        paint(folder / ("one" if number % 2 else "two") / f"{number}.png", number)
    paint(folder / "one" / "<!--<script>é&.png", 99)
    monkeypatch.setenv("DIPTYCH_CATALOG", str(tmp_path / "catalog"))
    assert run("index", folder, "-m", tiny).exit_code == 0
    return folder


class Page(HTMLParser):
    """The contents of a page: opened and closed tags, addresses, data of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.scripts: dict[str, str] = {}
        self._script = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag not in ("meta", "input", "link", "br", "img"):
            self.open.append(tag)
        self.ids |= {given["id"] or ""} if "id" in given else set()
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        self._script = given.get("type") or "" if tag == "script" else ""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


def read(path: Path) -> tuple[Page, dict[str, Any]]:
    page = Page(path.read_text(encoding="utf-8"))
    return page, json.loads(page.scripts["application/json"])


def unpacked(text: str, kind: str) -> Any:
    return np.frombuffer(base64.b64decode(text), kind)


def test_a_page_holds_the_map(run: Run, indexed: Path, tmp_path: Path) -> None:
    done = run("map", "--clusters", 3, "--title", "Ours & <theirs>")
    assert done.exit_code == 0, done.stderr
    assert "map.html: 20 pictures" in done.stdout.splitlines()[-1]
    page, data = read(tmp_path / "map.html")
    assert page.open == []
    assert page.links == [], "the page asks for nothing"
    assert {"map", "search", "regions", "card", "told", "data"} <= page.ids
    assert "Ours &amp; &lt;theirs&gt;" in (tmp_path / "map.html").read_text(encoding="utf-8")
    assert data["count"] == len(data["names"]) == 20
    places = unpacked(data["places"], "<u2").reshape(-1, 2)
    members, levels = unpacked(data["members"], "<u2"), unpacked(data["levels"], "u1")
    assert len(places) == len(members) == len(levels) == 20
    assert (np.diff(levels.astype(int)) >= 0).all()
    assert len(data["regions"]) == 3
    assert members.max() < len(data["clusters"])
    assert {item["region"] for item in data["clusters"]} == {0, 1, 2}
    assert sum(item["size"] for item in data["regions"]) == 20
    assert len({item["words"][0] for item in data["clusters"]}) == len(data["clusters"])
    home = [data["folder_names"][i] for i in unpacked(data["folders"], "<u4")]
    addresses = {f"{folder}/{name}" for (folder, _), name in zip(home, data["names"], strict=True)}
    assert addresses == {path.as_uri() for path in indexed.rglob("*.png")}


def test_sheets_lie_beside_the_page_and_are_kept(run: Run, indexed: Path, tmp_path: Path) -> None:
    assert run("map", "--out", "maps/all.html").exit_code == 0
    _, data = read(tmp_path / "maps" / "all.html")
    sheets = [tmp_path / "maps" / name for name in data["sheets"]]
    assert [sheet.parent.name for sheet in sheets] == ["all_files"]
    stamp = sheets[0].stat().st_mtime_ns
    (tmp_path / "maps" / "all_files" / "mine.webp").write_text("mine")
    assert run("map", "--out", "maps/all.html").exit_code == 0
    assert sheets[0].stat().st_mtime_ns == stamp, "nothing was drawn again"
    paint(indexed / "new.png", 123)
    run("index")
    assert run("map", "--out", "maps/all.html").exit_code == 0
    assert not sheets[0].exists()
    assert len(list((tmp_path / "maps" / "all_files").iterdir())) == 2, "a new sheet, and a stranger's file"


def test_a_page_alone_and_one_without_thumbnails(run: Run, indexed: Path, tmp_path: Path) -> None:
    assert run("map", "--inline").exit_code == 0
    _, data = read(tmp_path / "map.html")
    assert [sheet.split(",")[0] for sheet in data["sheets"]] == ["data:image/webp;base64"]
    assert base64.b64decode(data["sheets"][0].split(",")[1]).startswith(b"RIFF")
    assert run("map", "--no-thumbnails").exit_code == 0
    assert read(tmp_path / "map.html")[1]["sheets"] == []
    assert not (tmp_path / "map_files").exists()


def test_json_words_and_seed(run: Run, indexed: Path, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text(
        "\n".join(f"a word{letter}" for letter in "abcdefgh"), encoding="utf-8"
    )
    words = ("map", "--labels", tmp_path / "words.txt", "--clusters", 2, "--json", "--no-thumbnails")
    printed = json.loads(run(*words).stdout)
    first = (tmp_path / "map.html").read_bytes()
    assert (printed["pictures"], printed["of"], len(printed["regions"]), printed["failed"]) == (20, 20, 2, [])
    assert all(region["words"][0].startswith("word") for region in printed["regions"])
    assert sum(location["pictures"] for region in printed["regions"] for location in region["places"]) == 20
    run(*words)
    assert (tmp_path / "map.html").read_bytes() == first
    some = json.loads(run(*words, "--limit", 8).stdout)
    assert (some["pictures"], some["of"]) == (8, 20)


def test_pictures_that_are_gone_are_told_of(run: Run, indexed: Path, tmp_path: Path) -> None:
    (indexed / "two" / "0.png").unlink()
    done = run("map")
    assert done.exit_code == 1
    assert "1 picture could not be read, shown in grey" in done.stderr
    assert read(tmp_path / "map.html")[1]["count"] == 20


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--clusters", "none"], "--clusters takes 'auto' or a whole number"),
        (["--clusters", "11"], "11 regions of"),
        (["--inline", "--no-thumbnails"], "--no-thumbnails leaves them out"),
        (["--labels", "missing.txt"], "missing.txt cannot be read: No such file"),
        (["--out", "."], "is a folder: name a file"),
        (["--name", "nothing.png"], "0 pictures cannot make a map"),
    ],
)
def test_what_cannot_be_is_said(run: Run, indexed: Path, words: list[str], why: str) -> None:
    done = run("map", *words)
    assert done.exit_code == 2
    assert why in " ".join(done.stderr.replace("│", " ").split())
