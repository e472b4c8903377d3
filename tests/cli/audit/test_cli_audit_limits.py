"""`diptych audit`: every command on a tiny model prints a report, writes a page, and names failed files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.cli_tools import paint

Run = Callable[..., Result]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two domains of three classes of two pictures."""
    for number in range(12):
        domain, kind = ("photo", "sketch")[number // 6], ("dog", "guitar", "horse")[number // 2 % 3]
        paint(tmp_path / "pack" / domain / kind / f"{number}.png", number)
    return tmp_path / "pack"


@pytest.mark.parametrize(
    ("words", "title", "file"),
    [
        (["counting", "--each", "2", "--most", "3"], "Counting", "confusion.png"),
        (["relations", "--each", "2", "--kind", "left"], "Relations", "relations.csv"),
        (["abstract", "--each", "2"], "Abstract", "abstract.svg"),
        (["distance", "--each", "2"], "Distance", "confusion.svg"),
        (["fine", "pack", "--count", "2"], "Near", "groups.csv"),
        (["wording", "pack", "--misspellings", "1"], "Wording", "phrasings.png"),
        (["domains", "pack", "--limit", "4"], "Domains", "classes.png"),
        (["typographic", "pack", "--limit", "4", "--size", "0.2"], "Typographic", "attacks.svg"),
    ],
)
def test_every_audit(run: Run, tiny: Path, data: Path, words: list[str], title: str, file: str) -> None:
    done = run("audit", *words, "--report", "told", "-m", tiny)
    assert done.exit_code == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert (Path("told") / file).stat().st_size > 0
    printed = json.loads((Path("told") / "report.json").read_text())
    assert printed["title"].startswith(title)
    assert printed["facts"]["Command"].startswith("diptych")
    assert f"told/{file}".split("/")[-1].rsplit(".", 1)[0] in (Path("told") / "index.html").read_text()
    assert "--report DIR" not in done.stdout
    again = run("audit", *words, "--json", "-q", "-m", tiny)
    assert again.exit_code == 0, again.stderr
    assert {key: value for key, value in json.loads(again.stdout).items() if key != "facts"} == {
        key: value for key, value in printed.items() if key != "facts"
    }


def test_digits(run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diptych.audits.limits import digits

    monkeypatch.setattr(digits, "_FONTS", ())
    for number in range(4):
        paint(tmp_path / "mnist" / str(number) / "x.png", number, (28, 28))
    done = run("audit", "digits", "mnist", "-m", tiny)
    assert done.exit_code == 0, done.stderr
    assert "Handwritten digits (mnist)" in done.stdout
    # A matrix or a picture has no table form: the terminal output says what is missing.
    assert done.stdout.count("(--report DIR writes the plot.)") == 2
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_a_picture_that_cannot_be_read_is_told(run: Run, tiny: Path, data: Path) -> None:
    (data / "photo" / "dog" / "broken.png").write_bytes(b"broken")
    for words in (["wording", "pack"], ["typographic", "pack", "--size", "0.2"], ["domains", "pack"]):
        done = run("audit", *words, "-m", tiny)
        assert done.exit_code == 1, words
        assert "broken.png" in done.stderr
        assert "Left out" in done.stdout


def test_groups_are_kept_for_another_model(run: Run, tiny: Path, data: Path) -> None:
    first = run("audit", "fine", "pack", "--count", "2", "--save-groups", "g.json", "-m", tiny)
    assert first.exit_code == 0, first.stderr
    again = run("audit", "fine", "pack", "--groups", "g.json", "--json", "-m", tiny)
    assert json.loads(again.stdout)["groups"] == json.loads(Path("g.json").read_text())
    assert json.loads(again.stdout)["by_texts"] is False


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["counting", "pack"], "is not a number"),
        (["counting", "pack", "--clevr", "x"], "exclude each other"),
        (["counting", "--clevr", "gone"], "CLEVR_v1.0"),
        (["distance", "--kitti", "gone"], "KITTI"),
        (["relations", "--kind", "beside"], "left"),
        (["fine", "pack", "--groups", "gone.json"], "gone.json"),
        (["wording", "pack", "--synonyms", "pack"], "cannot be read as JSON"),
        (["wording", "pack", "--templates", "no such"], "no template set"),
        (["domains", "pack/photo"], "at least two"),
        (["typographic", "pack", "--size", "16"], "between 0 and 1"),
        (["digits", "--font", "gone.ttf"], "gone.ttf"),
        (["digits", "pack"], "is not a number"),
        (
            ["counting", "--limit", "3"],
            "--limit needs DATA or --clevr; --each",
        ),
        (["distance", "--limit", "3"], "--limit needs --clevr or --kitti; --each"),
        (["fine", "pack", "--report", "afile/x"], "--report afile/x: afile is a file; expected a folder"),
        (["fine", "pack", "--cache", "afile"], "--cache afile: afile is a file; expected a folder"),
    ],
)
def test_refusals(run: Run, tiny: Path, data: Path, words: list[str], message: str) -> None:
    Path("afile").touch()
    done = run("audit", *words, "-m", tiny)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_help_lists_every_audit(run: Run) -> None:
    printed = run("audit", "--help").stdout
    for name in ("counting", "relations", "distance", "abstract", "digits", "fine", "wording", "domains"):
        assert name in printed
    assert "typographic" in printed
