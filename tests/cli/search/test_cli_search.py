"""`diptych index` and `diptych search`: from a folder to results, as a user runs them in a terminal."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from diptych.catalog import load_entry
from diptych.catalog.store.entries import CatalogEntry
from diptych.errors import MissingExtraError
from diptych.media import load_image
from tests.cli.cli_tools import paint
from tests.waiting import HANG

Run = Callable[..., Result]


@pytest.fixture
def indexed(run: Run, tiny: Path, album: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The album, indexed with a tiny model into the default catalogue."""
    monkeypatch.setenv("DIPTYCH_CATALOG", str(tmp_path / "catalog"))
    done = run("index", album, "-m", tiny)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith(f"3 pictures in {tmp_path / 'catalog'}: 3 embedded in ")
    return album


def test_the_model_is_remembered_from_anywhere(run: Run, indexed: Path) -> None:
    done = run("search", "a", "dog", "--all")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert {line.rsplit("/")[-1] for line in lines} == {"a.jpg", "b.png", "c.webp"}
    assert max(map(len, lines)) <= 80
    assert "nothing new" in run("index").stdout


def test_json_and_paths(run: Run, indexed: Path) -> None:
    printed = json.loads(run("search", "a dog", "--all", "--json", "-k", 2).stdout)
    assert (printed["query"], printed["searched"], len(printed["hits"]), printed["total"]) == (
        ['"a dog"'],
        3,
        2,
        3,
    )
    assert set(printed["hits"][0]) >= {
        "id",
        "path",
        "member",
        "relevance",
        "cosine",
        "taken",
        "caption",
        "tags",
    }
    assert (printed["hits"][0]["taken_from"], printed["hits"][0]["rating"]) == ("file time", None)
    paths = run("search", "a dog", "--all", "--paths").stdout.splitlines()
    assert paths[:2] == [hit["path"] for hit in printed["hits"]]
    assert run("search", "a dog", "--all", "-0").stdout == "".join(path + "\0" for path in paths)


def test_paths_are_the_bytes_of_the_names(run: Run, indexed: Path) -> None:
    odd = os.fsencode(indexed) + b"/caf\xe9 \n.png"
    with open(odd, "wb") as file:  # noqa: PTH123 - no text
        file.write((indexed / "b.png").read_bytes() + b"\0")
    with zipfile.ZipFile(indexed / "more.zip", "w") as archive:
        archive.write(indexed / "a.jpg", "inner/x.jpg")
    (indexed / "a.jpg").unlink()
    assert run("index").exit_code == 0
    done = run("search", "a dog", "--all", "--copies", "-0")
    assert set(done.stdout_bytes.split(b"\0")[:-1]) == {
        odd, *(os.fsencode(indexed / name) for name in ("b.png", "inner/c.webp", "more.zip/inner/x.jpg"))
    }  # fmt: skip
    assert "1 path inside archives" in done.stderr
    assert odd + b"\n" in run("search", "a dog", "--all", "--copies", "--paths").stdout_bytes


def test_by_picture_by_number_and_minus(run: Run, indexed: Path) -> None:
    best = json.loads(run("search", indexed / "b.png", "--all", "--json").stdout)["hits"][0]
    assert Path(best["path"]).name == "b.png"
    again = json.loads(run("search", f"#{best['id']}", "--all", "--json").stdout)["hits"][0]
    assert again["id"] == best["id"]
    assert run("search", "a dog", "+", indexed / "b.png", "-", "people", "--all").exit_code == 0
    refused = run("search", "-", "people")
    assert refused.exit_code == 2
    assert "say what to look for too" in refused.stderr


def test_nothing_fits(run: Run, indexed: Path) -> None:
    done = run("search", "a dog", "--cutoff", "1")
    assert done.exit_code == 1
    assert done.stdout.startswith("nothing here fits (3 pictures searched); the best is ")
    printed = json.loads(run("search", "a dog", "--cutoff", "1", "--json").stdout)
    assert printed["hits"] == []
    assert printed["nearest"]["path"]


def test_filters_and_pages(run: Run, indexed: Path) -> None:
    def results(*words: object) -> list[str]:
        return [Path(line).name for line in run("search", "dog", "--all", "--paths", *words).stdout.split()]

    assert results("--in", indexed / "inner") == ["c.webp"]
    assert results("--name", "B.PNG") == ["b.png"]
    assert results("--before", "1999") == []
    assert len(results("--after", "1999")) == 3
    assert results("--larger", "1G") == []
    assert results("--page", 2, "-k", 2) == results()[2:]
    assert "no picture passes the filters" in run("search", "dog", "--before", "1999").stdout
    for words in (["--after", "soon"], ["--larger", "big"], ["--near", "here"], ["--sort", "size"]):
        assert run("search", "dog", *words).exit_code == 2


def test_odd_queries_are_told_of(run: Run, indexed: Path) -> None:
    for query, printed in (
        ("#99999999999999999999", "no picture #9999"),
        ("dog + 0:cat", "the weight of 'cat'"),
    ):
        refused = run("search", *query.split())
        assert refused.exit_code == 2
        assert printed in refused.stderr
    done = run("search", "phto.jpg", "--all")
    assert done.exit_code == 0
    assert "phto.jpg: there is no such file, so it was read as text" in done.stderr
    nowhere = run("search", "a", "dog", "--in", indexed / "none", "--in", indexed / "inner")
    assert nowhere.exit_code == 2
    assert f"{indexed / 'none'}: there is no such file or folder" in nowhere.stderr
    assert "inner: there" not in nowhere.stderr
    assert "there is no" not in run("search", "a", "dog", "--all").stderr


class Links(HTMLParser):
    """The pictures and links of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.images = 0
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += tag == "img"
        self.links += [value or "" for name, value in attrs if tag == "a" and name == "href"]


def test_a_contact_sheet_and_marked_pictures(run: Run, indexed: Path, tmp_path: Path) -> None:
    (indexed / "<b>odd & name.jpg").write_bytes((indexed / "a.jpg").read_bytes()[:-2] + b"\xff\xd9\0")
    run("index")
    done = run("search", "a dog", "--all", "--copies", "--html", "sheet.html", "--explain", "maps")
    assert done.exit_code == 0, done.stderr
    page = Links()
    page.feed(Path("sheet.html").read_text("utf-8"))
    assert page.images == 8  # each result with its map
    assert all(link.startswith("file:///") for link in page.links)
    assert "<b>odd" not in Path("sheet.html").read_text("utf-8")
    maps = [load_image(path) for path in Path("maps").iterdir()]
    assert [picture.size for picture in maps] == [(48, 40)] * 4


def test_marked_pictures_of_every_page_have_names_of_their_own(run: Run, indexed: Path) -> None:
    with zipfile.ZipFile(indexed / "more.zip", "w") as archive:
        for number in range(2):
            archive.write(paint(Path(f"{number}.png"), 20 + number), f"{number}.png")
    run("index")
    for page in (1, 2):
        shown = ("search", "a dog", "--all", "--copies", "--explain", "maps", "-k", 3, "--page", page)
        assert run(*shown).exit_code == 0
    marked = sorted(path.stem for path in Path("maps").iterdir())
    assert [name[:4] for name in marked] == ["001-", "002-", "003-", "004-", "005-"]
    assert {name[4:] for name in marked} == {"a", "b", "c", "0", "1"}


def test_a_picture_that_is_gone_is_told_of(run: Run, indexed: Path) -> None:
    (indexed / "a.jpg").unlink()
    done = run("search", "a dog", "--all", "--html", "sheet.html")
    assert done.exit_code == 0
    assert "a.jpg: there is no such file" in done.stderr


def test_a_picture_that_needs_an_extra_is_told_of(
    run: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(entry: CatalogEntry, *, target: int | None = None) -> Image.Image:
        if entry.path.name == "b.png":
            raise MissingExtraError("pi_heif is needed to read HEIC")
        return load_entry(entry, target=target)

    monkeypatch.setattr("diptych.catalog.load_entry", without)
    done = run("search", "a dog", "--all", "--html", "sheet.html", "--explain", "maps")
    assert done.exit_code == 0, done.stderr
    assert "pi_heif is needed" in done.stderr
    assert len(done.stdout.splitlines()) == 3
    assert len(list(Path("maps").iterdir())) == 2


def test_broken_files_set_the_exit_status(run: Run, indexed: Path) -> None:
    (indexed / "broken.jpg").write_bytes(b"broken")
    done = run("index")
    assert done.exit_code == 1
    assert "broken.jpg: not a picture" in done.stderr
    printed = json.loads(run("index", "--retry", "--json").stdout)
    assert [Path(item["path"]).name for item in printed["failed"]] == ["broken.jpg"]
    again = run("index")
    assert again.exit_code == 0
    assert "could not be read before" in again.stderr


def test_taking_out_and_leaving_in(run: Run, indexed: Path) -> None:
    assert (
        "1 file removed from the catalogue; 2 pictures left"
        in run("index", "--forget", indexed / "b.png").stdout
    )
    assert "nothing new" in run("index").stdout  # until it is named again
    assert "1 embedded" in run("index", indexed / "b.png").stdout
    shutil.rmtree(indexed)
    indexed.mkdir()
    retained = run("index")
    assert "is a drive unplugged?" in retained.stderr
    assert "3 removed" in run("index", "--remove-gone").stdout
    shutil.rmtree(indexed)
    missing = run("index")
    assert missing.exit_code == 1
    assert "(it is not there); its pictures stay in the catalogue" in missing.stderr


def test_the_file_that_passes_the_filter_is_shown(run: Run, indexed: Path) -> None:
    (indexed / "aaa").mkdir()
    picture = next(indexed.glob("*.png"))
    (indexed / "aaa" / "copy.png").write_bytes(picture.read_bytes())
    assert run("index").exit_code == 0
    for there in (indexed / "aaa" / "copy.png", picture):
        done = run("search", "red", "--all", "--paths", "--name", there.relative_to(indexed))
        assert done.stdout.splitlines()[0] == str(there)


def test_slips_are_told_before_the_model_is_loaded(
    run: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.cli.shared.catalogs.encoder_for", None)  # loading this model would fail
    for words, message in (
        (("",), "the query is empty"),
        ((indexed / "no.jpg",), "there is no such picture"),
        ((indexed,), "it is not a picture"),
        (("dog", "--in", indexed / "nowhere"), "neither on disk nor in the catalogue"),
    ):
        done = run("search", *words)
        assert done.exit_code == 2, done.stderr
        assert message in " ".join(done.stderr.split())


def test_another_model(run: Run, indexed: Path, tiny: Path, tmp_path: Path) -> None:
    refused = run("index", "-m", "default")
    assert refused.exit_code == 2
    assert "--reembed" in refused.stderr
    assert "search with that model" in run("search", "dog", "-m", "default").stderr
    assert run("index", "-m", "default", "--reembed").exit_code == 0
    assert run("search", "dog", "--all").exit_code == 0
    assert str(tiny) not in run("search", "dog", "--all", "--json").stdout


def test_no_catalogue_yet(run: Run, tmp_path: Path) -> None:
    done = run("search", "dog", "--catalog", tmp_path / "none")
    assert done.exit_code == 2
    assert "make one with diptych index PATH" in done.stderr
    assert run("index", "--catalog", tmp_path / "none").exit_code == 2


def test_a_note_where_the_model_does_not_read_the_language(run: Run, indexed: Path) -> None:
    done = run("search", "собака бежит по снегу", "--all")
    assert done.exit_code == 0
    assert "note: " in done.stderr


def test_watching(tiny: Path, album: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "DIPTYCH_CATALOG": str(tmp_path / "catalog"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "diptych", "index", str(album), "-m", str(tiny), "--watch"]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    observed = threading.Event()

    def write() -> None:
        """Write repeatedly: the system's watch may not have started when "watching" is printed."""
        for seed in itertools.count(100):
            paint(tmp_path / "d.png", seed)
            (album / "later").mkdir(exist_ok=True)
            (tmp_path / "d.png").replace(album / "later" / "d.png")
            if observed.wait(1.0):
                return

    writing = threading.Thread(target=write)
    try:
        assert "3 embedded" in process.stdout.readline()
        assert "watching" in process.stderr.readline()
        writing.start()
        lines = iter(process.stdout.readline, "")
        assert "1 embedded" in next(lines)
        observed.set()
        writing.join()
        shutil.rmtree(album / "later")
        assert any("1 removed" in line for line in lines)  # after it has seen the last write
    finally:
        process.send_signal(signal.SIGINT)
        observed.set()
        process.communicate(timeout=HANG)
    assert process.returncode == 130
