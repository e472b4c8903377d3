"""`diptych tag`: from label lists to tags and sidecars, as a user runs it in a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from diptych.media.metadata.xmp import keywords_in

Run = Callable[..., Result]


@pytest.fixture
def indexed(run: Run, tiny: Path, album: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The album, indexed with a tiny model into the default catalogue."""
    monkeypatch.setenv("DIPTYCH_CATALOG", str(tmp_path / "catalog"))
    assert run("index", album, "-m", tiny).exit_code == 0
    return album


def test_from_labels_to_search_and_back(run: Run, indexed: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.txt").write_text("a dog\n# a remark\nsnow\n", encoding="utf-8")
    done = run("tag", "--labels", tmp_path / "noise.txt", "--least", 0)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3 of 3 pictures have a tag of noise; 3 changed"
    results = json.loads(run("search", "x", "--all", "--json", "--tag", "snow").stdout)["hits"]
    assert len(results) == 3
    assert set(results[0]["tags"]) == {"a dog", "snow"}
    listed = run("tag")
    assert [line.split() for line in listed.stdout.splitlines()] == [
        ["3", "a", "dog", "noise"],
        ["3", "snow", "noise"],
    ]
    assert run("tag", "--clear", "noise").stdout == "6 tags of noise removed\n"
    assert run("tag").stdout.startswith("no picture has a tag yet")


def test_other_labels_are_another_list(run: Run, indexed: Path) -> None:
    for words in (["dog"], ["snow", "ice"], ["dog"]):
        done = run("tag", *(part for word in words for part in ("--label", word)), "--least", 0)
        assert done.stdout.splitlines()[-1].startswith(f"3 of 3 pictures have a tag of {', '.join(words)}; ")
    printed = json.loads(run("tag", "--json").stdout)["tags"]
    assert [(item["origin"], item["tag"]) for item in printed] == [
        *(("dog", "dog"), ("snow, ice", "ice"), ("snow, ice", "snow"))
    ]
    assert run("tag", "--clear", "snow, ice").stdout == "6 tags of snow, ice removed\n"


def test_a_dry_run_names_the_best(run: Run, indexed: Path) -> None:
    done = run("tag", "--label", "dog", "--least", 0, "--dry-run")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3 of 3 pictures would have a tag of dog"
    for name in ("a.jpg", "b.png", "c.webp"):
        assert name in done.stdout
    assert json.loads(run("tag", "--json").stdout) == {"tags": []}


def test_json_groups_and_origin(run: Run, indexed: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(
        '{"animal": {"dog": ["dog", "puppy"], "cat": null}}', encoding="utf-8"
    )
    printed = json.loads(
        run("tag", "--labels", tmp_path / "labels.json", "--origin", "beasts", "--least", 0, "--json").stdout
    )
    assert (printed["origin"], printed["judged"], printed["dry_run"]) == ("beasts", 3, False)
    assert {item["tag"]: item["pictures"] for item in printed["labels"]} == {"animal": 3, "dog": 3, "cat": 3}
    example = printed["labels"][0]["examples"][0]
    assert Path(example["path"]).exists()
    assert 0 <= example["score"] <= 1


def test_only_one_and_only_there(run: Run, indexed: Path) -> None:
    words = ("--label", "dog", "--label", "cat", "--least", 0, "--json")
    printed = json.loads(run("tag", *words, "--one").stdout)
    assert sum(item["pictures"] for item in printed["labels"]) == 3
    printed = json.loads(run("tag", *words, "--in", indexed / "inner").stdout)
    assert printed["judged"] == 1


def test_sidecars(run: Run, indexed: Path) -> None:
    before = {path: path.read_bytes() for path in indexed.rglob("*") if path.is_file()}
    done = run("tag", "--label", "dog & cat", "--least", 0, "--xmp")
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "sidecars: 3 written"
    assert keywords_in((indexed / "inner" / "c.webp.xmp").read_bytes())[0] == ("dog & cat",)
    assert run("tag", "--xmp").stdout == "sidecars: 3 unchanged\n"
    assert run("tag", "--xmp-undo").stdout == "sidecars: 3 removed\n"
    assert {path: path.read_bytes() for path in indexed.rglob("*") if path.is_file()} == before
    assert run("tag", "--xmp", "--xmp-style", "adobe").exit_code == 0
    assert (indexed / "a.xmp").is_file()
    assert run("tag", "--clear", "dog & cat", "--xmp", "--xmp-style", "adobe").exit_code == 0
    assert {path: path.read_bytes() for path in indexed.rglob("*") if path.is_file()} == before


def test_a_sidecar_that_is_none_is_told_of(run: Run, indexed: Path) -> None:
    (indexed / "a.jpg.xmp").write_text("no XML")
    done = run("tag", "--label", "dog", "--least", 0, "--xmp")
    assert done.exit_code == 1
    assert "sidecars: 2 written" in done.stdout
    assert "a.jpg.xmp: not XMP" in done.stderr
    assert (indexed / "a.jpg.xmp").read_text() == "no XML"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--clear", "nothing"], "no list is called 'nothing'"),
        (["--clear", "x", "--label", "dog"], "--clear removes tags"),
        (["--label", "dog", "--one", "--top", "2"], "leave out --top"),
        (["--label", "dog", "--dry-run", "--xmp"], "leave out --dry-run"),
        (["--clear", "winter", "--dry-run"], "leave out --clear"),
        (["--xmp-undo", "--dry-run"], "leave out --clear and --xmp-undo"),
        (["--clear", "winter", "--in", "."], "--clear removes the tags of a whole list"),
        (["--clear", "winter", "--after", "2024-01-01"], "--clear removes the tags of a whole list"),
        (["--clear", "winter", "--name", "x"], "--clear removes the tags of a whole list"),
        (["--label", "dog", "--origin", "file"], "cannot be the name"),
        (["--xmp", "--xmp-style", "nikon"], "darktable or adobe"),
        (["--labels", "missing.txt"], "missing.txt cannot be read"),
    ],
)
def test_what_cannot_be_is_said(run: Run, indexed: Path, words: list[str], why: str) -> None:
    assert run("tag", "--label", "snow", "--origin", "winter", "--least", 0, "--xmp").exit_code == 0
    before = {path: path.read_bytes() for path in indexed.rglob("*") if path.is_file()}
    done = run("tag", *words)
    assert done.exit_code == 2
    assert {path: path.read_bytes() for path in indexed.rglob("*") if path.is_file()} == before
    assert run("tag").stdout.split()[:2] == ["3", "snow"]
    assert why in " ".join(done.stderr.replace("│", " ").split())


def test_without_a_catalogue(run: Run, tmp_path: Path) -> None:
    done = run("tag", "--catalog", tmp_path / "nowhere", "--label", "dog")
    assert done.exit_code == 2
    assert "there is no catalogue" in done.stderr
