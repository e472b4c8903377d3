"""`diptych tag --add` and `--remove`, `diptych catalog move`, `backup` and `restore`."""

from __future__ import annotations

import json
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def indexed(run: Run, tiny: Path, album: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The album, indexed with a tiny model into the default catalogue."""
    monkeypatch.setenv("DIPTYCH_CATALOG", str(tmp_path / "catalog"))
    assert run("index", album, "-m", tiny).exit_code == 0
    return album


def hits(run: Run, *words: object) -> list[dict[str, object]]:
    results: list[dict[str, object]] = json.loads(run("search", "x", "--all", "--json", *words).stdout)[
        "hits"
    ]
    return results


def message(done: Result) -> str:
    return " ".join(done.stderr.replace("│", " ").split())


def test_tags_by_hand_come_and_go(run: Run, indexed: Path) -> None:
    done = run("tag", "--add", "grandma", "--add", "beach", "--rate", 5, indexed / "a.jpg", indexed / "inner")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == "2 pictures chosen, 2 newly tagged, 2 newly rated\n"
    assert run("tag", "--add", "beach", indexed).stdout == "3 pictures chosen, 1 newly tagged\n"
    assert {Path(str(hit["path"])).name for hit in hits(run, "--tag", "grandma")} == {"a.jpg", "c.webp"}
    done = run("tag", "--remove", "grandma", indexed / "a.jpg", "--json")
    assert json.loads(done.stdout) == {"by_hand": {"pictures": 1, "unknown": [], "untagged": 1}}
    assert len(hits(run, "--tag", "grandma")) == 1
    assert [line.split() for line in run("tag").stdout.splitlines()] == [
        *(["3", "beach", "hand"], ["1", "grandma", "hand"])
    ]
    assert run("tag", "--clear", "hand").exit_code == 0
    assert run("tag").stdout.startswith("no picture has a tag yet")


def test_pictures_are_chosen_by_filters_too(run: Run, indexed: Path) -> None:
    assert run("tag", "--add", "flat", "--name", ".PNG").stdout.startswith("1 picture chosen")
    assert run("tag", "--add", "flat", "--in", indexed / "inner", indexed).stdout.startswith(
        "1 picture chosen"
    )
    assert run("tag", "--rate", "reject", "--in", indexed).stdout == "3 pictures chosen, 3 newly rated\n"
    assert run("tag", "--rate", "none", "--in", indexed).stdout == "3 pictures chosen, 3 newly rated\n"
    assert run("tag", "--rate", "none", "--in", indexed).stdout == "3 pictures chosen, 0 newly rated\n"


def test_a_picture_has_several_spellings(run: Run, indexed: Path, tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "café.png") for form in ("NFC", "NFD")]
    shutil.copy(indexed / "b.png", indexed / names[1])
    (tmp_path / "link").symlink_to(indexed)
    (tmp_path / "one.jpg").symlink_to(indexed / "a.jpg")
    assert run("index").exit_code == 0
    for spelling in (*names, "../link/" + names[0], "../one.jpg"):
        done = run("tag", "--rate", "5", indexed / spelling)
        assert done.stdout.startswith("1 picture chosen"), (spelling, done.stderr)


def test_nothing_chosen_is_said(run: Run, indexed: Path) -> None:
    done = run("tag", "--add", "flat", "--name", "nothing like it")
    assert (done.exit_code, done.stdout) == (1, "0 pictures chosen, 0 newly tagged\n")
    assert "no picture of the catalogue passes the filters" in done.stderr


def test_unknown_pictures_are_named(run: Run, indexed: Path, tmp_path: Path) -> None:
    done = run("tag", "--add", "x", indexed / "a.jpg", tmp_path / "nowhere.jpg")
    assert done.exit_code == 1
    assert done.stdout == "1 picture chosen, 1 newly tagged\n"
    assert f"{tmp_path / 'nowhere.jpg'} is not in the catalogue: run diptych index on it first" in done.stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--add", "x"], "name pictures or give filters"),
        (["picture.jpg"], "say what to do with the pictures"),
        (["--add", " ", "--name", "*"], "cannot be a tag"),
        (["--add", "x", "--remove", "x", "--name", "*"], "--add and --remove both name"),
        (["--rate", "six", "--name", "*"], "'six' is not a rating: expected 0 to 5, reject or none"),
        (["--add", "x", "--label", "dog", "--name", "*"], "by hand: give labels, --clear and --dry-run in"),
        (["--label", "dog", "--origin", "hand"], "or given by hand"),
    ],
)
def test_what_cannot_be_is_said(run: Run, indexed: Path, words: list[str], why: str) -> None:
    done = run("tag", *words)
    assert done.exit_code == 2
    assert why in message(done)


def test_a_folder_is_moved(run: Run, indexed: Path, tmp_path: Path) -> None:
    run("tag", "--add", "mine", indexed)
    assert "is still there: these are copies" in message(
        run("catalog", "move", indexed, tmp_path / "catalog")
    )
    assert "there is no such file or folder" in message(run("catalog", "move", indexed, tmp_path / "new"))
    indexed.rename(tmp_path / "new")
    done = run("catalog", "move", indexed, tmp_path / "new", "--dry-run", "--json")
    assert json.loads(done.stdout)["files"] == 3
    (tmp_path / "new" / "a.jpg").unlink()
    done = run("catalog", "move", indexed, tmp_path / "new")
    assert done.exit_code == 1
    assert done.stdout == f"3 files have a new path in {tmp_path / 'new'}\n"
    assert "1 of 3 files not in" in message(done)
    assert "2 pictures in" in run("index").stdout
    assert len(hits(run, "--tag", "mine")) == 2
    assert "knows no picture in" in message(run("catalog", "move", indexed, tmp_path / "new"))


def test_backup_and_restore(run: Run, indexed: Path, tmp_path: Path) -> None:
    run("tag", "--add", "mine", indexed / "a.jpg")
    done = run("catalog", "backup", tmp_path / "copy", "--json")
    assert json.loads(done.stdout) == {"backup": str(tmp_path / "copy"), "pictures": 3}
    assert "choose a new folder" in message(run("catalog", "backup", tmp_path / "copy"))
    assert len(hits(run, "--tag", "mine", "--catalog", tmp_path / "copy")) == 1
    run("tag", "--clear", "hand")
    assert "is there already: --replace keeps it" in message(run("catalog", "restore", tmp_path / "copy"))
    done = run("catalog", "restore", tmp_path / "copy", "--replace")
    assert done.exit_code == 0, done.stderr
    assert "the previous catalogue is in" in done.stderr
    assert len(hits(run, "--tag", "mine")) == 1
    assert run("catalog", "check").exit_code == 0
    shutil.rmtree(tmp_path / "catalog")
    assert run("catalog", "restore", tmp_path / "copy").stdout == f"3 pictures in {tmp_path / 'catalog'}\n"
    assert run("catalog", "restore", indexed).exit_code == 2


def test_what_waits_for_its_picture_is_counted(run: Run, indexed: Path, tmp_path: Path) -> None:
    run("tag", "--add", "mine", indexed / "a.jpg")
    shutil.move(indexed / "a.jpg", tmp_path / "away.jpg")
    done = run("index")
    assert "tags and ratings of 1 picture that left the catalogue are kept, and restored when" in " ".join(
        done.stderr.split()
    )
    assert "tags and ratings of 1 picture that left" in run("catalog", "info").stdout
    shutil.move(tmp_path / "away.jpg", indexed / "renamed.jpg")
    done = run("index", "--json")
    assert json.loads(done.stdout)["annotations"] == {"carried": 0, "brought_back": 1, "set_aside": []}
    assert len(hits(run, "--tag", "mine")) == 1
