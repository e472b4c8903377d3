"""Existing output files: those written by Diptych are overwritten, others only with --force."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from diptych.cli.shared.own_files import check_overwrite
from diptych.errors import InputError

Run = Callable[..., Result]
NOTES = "<h1>My own page</h1>"


@pytest.fixture
def indexed(run: Run, tiny: Path, album: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The album and one more picture in the default catalogue."""
    monkeypatch.setenv("DIPTYCH_CATALOG", str(tmp_path / "catalog"))
    (album / "d.png").write_bytes((album / "b.png").read_bytes() + b"more")
    assert run("index", album, "-m", tiny).exit_code == 0
    return album


def test_what_may_be_written_over(tmp_path: Path) -> None:
    other, empty = tmp_path / "other.html", tmp_path / "empty.html"
    other.write_text(NOTES)
    empty.touch()
    check_overwrite(None, empty, tmp_path / "new.html")
    with pytest.raises(InputError, match=r"other\.html exists already .* --force"):
        check_overwrite(empty, other)
    check_overwrite(other, force=True)
    with pytest.raises(InputError):
        check_overwrite(tmp_path)  # a folder
    assert other.read_text() == NOTES


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (("map", "--no-thumbnails"), "map.html"),
        (("search", "--html", "sheet.html"), "sheet.html"),
        (("search", "a dog", "--all", "--html", "sheet.html"), "sheet.html"),
        (("duplicates", "--tiers", "bytes", "--html", "copies.html"), "copies.html"),
    ],
)
def test_commands(run: Run, indexed: Path, command: tuple[str, ...], file: str) -> None:
    path = Path(file)
    path.write_text(NOTES)
    refused = run(*command)
    assert refused.exit_code == 2
    assert f"{file} exists already" in " ".join(refused.stderr.split())
    assert path.read_text() == NOTES
    assert run(*command, "--force").exit_code == 0
    os.utime(path, (1, 1))
    assert run(*command).exit_code == 0  # the page that it wrote before
    assert path.stat().st_mtime > 1


def test_the_sheet_of_the_demo(run: Run, tiny: Path, album: Path) -> None:
    command = ("demo", album, "-m", tiny, "--label", "a", "--label", "b")
    assert run(*command).exit_code == 0
    assert run(*command).exit_code == 0
    for name in ("contact-sheet.png", "contact-sheet.html"):
        path = Path("out") / name
        before = path.read_bytes()
        path.write_bytes(b"somebody else's")
        refused = run(*command)
        assert refused.exit_code == 2
        assert path.read_bytes() == b"somebody else's"
        path.write_bytes(before)


def test_a_report_is_not_written_over_another_page(run: Run, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text(NOTES)
    refused = run("evaluate", "zero-shot", "nowhere", "-m", tiny, "--report", "site")
    assert refused.exit_code == 2
    assert "was not written by diptych" in " ".join(refused.stderr.split())
