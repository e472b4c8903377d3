"""`diptych duplicates` and `diptych similar`, as a user runs them in a terminal."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from typer.testing import Result

from diptych.cli.search import duplicates_page

Run = Callable[..., Result]


def photo(seed: int, size: tuple[int, int] = (120, 90)) -> Image.Image:
    """A picture with enough structure to recognise a small copy of it."""
    import numpy as np

    random = np.random.default_rng(seed)
    rough, fine = (random.integers(0, 256, (n, n, 3), dtype=np.uint8) for n in (5, 24))
    layers = [Image.fromarray(item).resize(size, Image.Resampling.BICUBIC) for item in (rough, fine)]
    return Image.blend(*layers, 0.4)


@pytest.fixture
def indexed(run: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Originals, copies and a crop, indexed into the default catalogue."""
    monkeypatch.setenv("DIPTYCH_CATALOG", str(tmp_path / "catalog"))
    folder = tmp_path / "a folder"
    (folder / "copies").mkdir(parents=True)
    for seed in range(3):
        photo(seed).save(folder / f"{seed}.png")
    (folder / "copies" / "same.png").write_bytes((folder / "0.png").read_bytes())
    photo(1).resize((60, 45), Image.Resampling.LANCZOS).save(folder / "copies" / "small.jpg", quality=90)
    ImageOps.expand(photo(2), 14, (20, 200, 90)).save(folder / "copies" / "<framed> & co.png")
    done = run("index", folder, "-m", tiny, "-q")
    assert done.exit_code == 0, done.stderr
    return folder


def test_a_table_that_fits_and_touches_nothing(run: Run, indexed: Path) -> None:
    before = sorted(indexed.rglob("*"))
    done = run("duplicates")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    titles = [line for line in lines if line and not line.startswith(" ")]
    assert [title.split(":")[0] for title in titles] == [
        *("Same bytes", "Same picture, another file", "Part of another picture, or partly changed")
    ]
    assert titles[0] == "Same bytes: 1 group, 2 files"
    retained = next(
        number for number, line in enumerate(lines) if re.match(r"  keep .*1\.png +120 x 90", line)
    )
    assert "resolution: 120 x 90 against 60 x 45" in lines[retained + 1]
    assert re.match(r"  copy .*copies/small\.jpg +60 x 45", lines[retained + 2])
    assert re.match(r" +saved again, pixels [01]\.\d\d, cosine .* bits", lines[retained + 3])
    assert any(re.match(r" +framed, pixels .* of it", line) for line in lines)
    assert "--trash auto moves 1 copy (bytes), " in done.stderr
    assert "--copies bytes,picture also moves 1 with the same picture; nothing" in done.stderr
    assert sorted(indexed.rglob("*")) == before


def test_forms_for_programs(run: Run, indexed: Path) -> None:
    printed = json.loads(run("duplicates", "--json").stdout)
    assert (printed["pictures"], printed["files"], printed["copies"]) == (5, 6, 1)
    assert [group["tier"] for group in printed["groups"]] == ["bytes", "picture", "part"]
    other = printed["groups"][1]["others"][0]
    assert (Path(other["path"]).name, other["tier"], other["change"]) == (
        "small.jpg",
        "picture",
        "saved again",
    )
    assert other["pixels"] > 0.8
    assert other["box"] is None
    assert printed["groups"][2]["others"][0]["box"][0] == pytest.approx(14 / 148, abs=0.03)
    rows = list(csv.DictReader(io.StringIO(run("duplicates", "--format", "csv").stdout)))
    assert [(row["group"], row["role"], Path(row["path"]).name) for row in rows] == [
        *(("1", "keep", "0.png"), ("1", "bytes", "same.png"), ("2", "keep", "1.png")),
        *(("2", "picture", "small.jpg"), ("3", "keep", "<framed> & co.png"), ("3", "part", "2.png")),
    ]
    mapping = json.loads(run("duplicates", "--format", "imagededup").stdout)
    assert mapping[str(indexed / "0.png")] == [[str(indexed / "copies" / "same.png"), 1.0]]
    assert set(mapping) == {row["path"] for row in rows[:4]}
    removable = run("duplicates", "--format", "remove").stdout.splitlines()
    assert removable == [str(indexed / "copies" / "same.png")]
    more = run("duplicates", "--format", "remove", "--copies", "bytes,picture").stdout.splitlines()
    assert more == [str(indexed / "copies" / name) for name in ("same.png", "small.jpg")]


def test_names_to_remove_are_those_on_disk(run: Run, indexed: Path, tiny: Path) -> None:
    odd = [os.fsencode(indexed) + name for name in (b"/copies/\xff.png", b"/copies/two\nlines.png")]
    for name in odd:
        Path(os.fsdecode(name)).write_bytes((indexed / "0.png").read_bytes())
    assert run("index", indexed, "-m", tiny, "-q").exit_code == 0
    plain = [os.fsencode(indexed / "copies" / name) for name in ("same.png", "small.jpg")]
    done = run("duplicates", "--print0", "--copies", "bytes,picture")
    assert sorted(done.stdout_bytes.split(b"\0")) == sorted([b"", *plain, *odd])
    done = run("duplicates", "--format", "remove", "--copies", "bytes,picture")
    assert sorted(done.stdout_bytes.splitlines()) == sorted([*plain, odd[0]])
    assert "1 file with a line break in the name; --print0 prints all" in done.stderr


def test_tiers_rules_and_folders(run: Run, indexed: Path) -> None:
    def groups(*options: object) -> list[tuple[str, str]]:
        printed = json.loads(run("duplicates", "--json", *options).stdout)
        return [(group["tier"], Path(group["kept"]["path"]).name) for group in printed["groups"]]

    assert groups("--tiers", "bytes") == [("bytes", "0.png")]
    assert groups("--tiers", "bytes,picture", "--keep", f"folder:{indexed / 'copies'}") == [
        *(("bytes", "same.png"), ("picture", "small.jpg"))
    ]
    assert groups("--in", indexed / "copies") == []
    done = run("duplicates", "--in", indexed / "copies")
    assert done.stdout == "no copies among 3 pictures in 3 files\n"
    for options, message in (
        (("--tiers", "twins"), "takes a list of bytes, picture, part, scene"),
        (("--keep", "prettiest"), "there is no rule 'prettiest'"),
        (("--format", "xml"), "takes table, json, csv, imagededup, remove"),
        (("--trash", ""), "takes a folder, or auto"),
        (("--trash", "auto", "--copies", "scene,part"), "--copies takes bytes and picture, not scene"),
        (("--copies", "bytes,part"), "not part: files of that tier are not copies"),
    ):
        refused = run("duplicates", *options)
        assert refused.exit_code == 2
        assert message in " ".join(refused.stderr.replace("│", " ").split())


def test_an_undo_list_knows_its_catalogue(
    run: Run, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed command works elsewhere, where another catalogue is the default one."""
    own = os.environ["DIPTYCH_CATALOG"]
    monkeypatch.delenv("DIPTYCH_CATALOG")
    done = run("duplicates", "--trash", "auto", "--json", "--catalog", os.path.relpath(own, tmp_path))
    assert done.exit_code == 0, done.stderr
    undo = json.loads(done.stdout)["undo"]
    assert Path(undo).is_absolute()
    assert f"diptych duplicates --undo {undo}" in done.stderr
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    refused = run("duplicates", "--undo", undo, "--catalog", tmp_path / "other")
    assert refused.exit_code == 2
    assert "was written for the catalogue" in " ".join(refused.stderr.replace("│", " ").split())
    assert run("duplicates", "--undo", undo).exit_code == 0
    printed = json.loads(run("duplicates", "--json", "--tiers", "bytes", "--catalog", own).stdout)
    assert printed["copies"] == 1


def test_copies_go_and_come_back(run: Run, indexed: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in indexed.rglob("*") if path.is_file()}
    done = run("duplicates", "--trash", "auto", "--copies", "bytes,picture", "--json")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert [Path(item["from"]).name for item in printed["moved"]] == ["same.png", "small.jpg"]
    assert all(Path(item["to"]).exists() and not Path(item["from"]).exists() for item in printed["moved"])
    assert "2 files moved" in done.stderr
    assert f"--undo {printed['undo']}" in done.stderr
    assert "nothing to move" in run("duplicates", "--trash", "auto").stderr
    back = run("duplicates", "--undo", printed["undo"])
    assert back.exit_code == 0, back.stderr
    assert back.stdout == "2 files moved back, 0 were already in place\n"
    catalog = Path(printed["undo"]).parent.parent
    assert f"to index 1 of them again: diptych index --catalog {catalog}" in back.stderr
    assert {path: path.read_bytes() for path in indexed.rglob("*") if path.is_file()} == before
    refused = run("duplicates", "--undo", tmp_path / "nowhere.jsonl")
    assert refused.exit_code == 2
    assert "cannot be read" in refused.stderr


def test_putting_back_needs_no_catalogue(run: Run, indexed: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in indexed.rglob("*") if path.is_file()}
    printed = json.loads(
        run("duplicates", "--trash", tmp_path / "trash", "--copies", "bytes,picture", "--json").stdout
    )
    both = run("duplicates", "--trash", "auto", "--undo", printed["undo"])
    assert both.exit_code == 2
    assert "give one of them" in both.stderr
    retained = Path(printed["undo"]).rename(tmp_path / Path(printed["undo"]).name)
    shutil.rmtree(tmp_path / "catalog")
    back = run("duplicates", "--undo", retained)
    assert back.exit_code == 0, back.stderr
    assert back.stdout == "2 files moved back, 0 were already in place\n"
    assert "warning: the catalogue was not updated" in back.stderr
    assert {path: path.read_bytes() for path in indexed.rglob("*") if path.is_file()} == before


def test_what_stays_is_named(run: Run, indexed: Path) -> None:
    run("duplicates", "-q")
    (indexed / "0.png").write_bytes((indexed / "2.png").read_bytes())
    done = run("duplicates", "--trash", "auto")
    assert done.exit_code == 1
    assert "stayed: " in done.stderr
    assert "has changed since it was indexed: run diptych index" in done.stderr
    assert (indexed / "copies" / "same.png").exists()
    refused = run("duplicates", "--trash", indexed / "trash")
    assert refused.exit_code == 2
    assert "is indexed" in refused.stderr


def pages(html: str) -> list[list[dict[str, object]]]:
    return [
        json.loads(text) for text in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', html)
    ]


def test_the_page(run: Run, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("duplicates", "--html", tmp_path / "page.html", "-q")
    assert done.exit_code == 0, done.stderr
    html = (tmp_path / "page.html").read_text()
    assert not re.search(r"(src|href)=\"?https?:", html)
    assert "3 groups of 6 files in " in html
    assert [len(page) for page in pages(html)] == [1, 1, 1]  # different tiers are on different pages
    assert "<framed>" not in html
    members = pages(html)[2][0]["members"]
    assert isinstance(members, list)
    assert [(item["role"], Path(item["name"]).name) for item in members] == [
        *(("whole", "<framed> & co.png"), ("part", "2.png"))
    ]
    assert members[1]["box"]
    assert members[0]["address"] == (indexed / "copies" / "<framed> & co.png").as_uri()
    picture = Image.open(io.BytesIO(base64.b64decode(members[0]["picture"])))
    assert picture.size == (148, 118)
    monkeypatch.setattr(duplicates_page, "MOST_GROUPS", 2)
    monkeypatch.setattr(duplicates_page, "PER_PAGE", 1)
    done = run("duplicates", "--html", tmp_path / "page.html")
    assert "(the first 2 groups)" in done.stderr
    assert "Shown are the first 2 of 3." in (tmp_path / "page.html").read_text()
    (indexed / "1.png").unlink()
    assert run("duplicates", "--html", tmp_path / "page.html", "-q").exit_code == 0


def test_similar_from_outside(run: Run, indexed: Path, tmp_path: Path) -> None:
    run("duplicates", "-q")
    outside = tmp_path / "outside"
    outside.mkdir()
    photo(1).resize((90, 68), Image.Resampling.LANCZOS).save(outside / "again.jpg")
    photo(2).crop((10, 8, 110, 84)).save(outside / "part.png")
    photo(40).save(outside / "unknown.png")
    (outside / "broken.png").write_bytes(b"broken")
    done = run("similar", outside / "again.jpg", "--top", 0)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert {line.rsplit("/")[-1] for line in lines} == {"1.png", "small.jpg"}
    assert all(re.match(r"  the same: saved again +\d\.\d\d  ", line) for line in lines)
    assert max(map(len, lines)) <= 80
    (tmp_path / "no pictures").mkdir()
    none = run("similar", tmp_path / "no pictures")
    assert (none.exit_code, none.stdout) == (2, "")
    assert "no pictures found in" in none.stderr
    part = run("similar", outside / "part.png", "--top", 0)
    lines = part.stdout.splitlines()
    assert {line.rsplit("/")[-1] for line in lines} == {"2.png", "<framed> & co.png"}
    assert all(line.startswith("  yours is part of it: ") for line in lines)
    collage = Image.new("RGB", (240, 90))
    for number in (0, 1):
        collage.paste(photo(number), (120 * number, 0))
    collage.save(tmp_path / "collage.png")
    whole = run("similar", tmp_path / "collage.png", "--top", 0).stdout
    assert {line.rsplit("/")[-1] for line in whole.splitlines()} >= {"0.png", "1.png"}
    assert all(line.startswith("  it is part of yours: cut") for line in whole.splitlines())
    done = run("similar", outside, "--json", "-k", 1)
    printed = {Path(item["path"]).name: item for item in json.loads(done.stdout)}
    assert set(printed) == {"again.jpg", "part.png", "unknown.png", "broken.png"}
    assert "not a picture" in printed["broken.png"]["error"]
    assert [item["tier"] for item in printed["unknown.png"]["found"]] == ["alike"]
    assert printed["part.png"]["found"][0]["whole"] == "catalogue"
    assert "broken.png" in done.stderr
    nothing = run("similar", outside / "unknown.png")
    assert nothing.exit_code == 1
    assert "looks like it" in nothing.stdout


def test_a_picture_whose_library_is_missing_does_not_stop_similar(
    run: Run, indexed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(300))
    photo(1).save(outside / "b.png")
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    done = run("similar", outside, "--top", 0, "--json")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert "pi_heif" in printed[0]["error"]
    assert printed[1]["found"]
    assert "failed: " in done.stderr


def test_an_empty_catalogue_says_what_to_do(run: Run, tmp_path: Path) -> None:
    done = run("duplicates", "--catalog", tmp_path / "none")
    assert done.exit_code == 2
    assert "diptych index" in done.stderr
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names
