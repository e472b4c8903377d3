"""`diptych index --watch`: reactions to file system events."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import watchfiles
from typer.testing import Result

from tests.cli.cli_tools import paint

Run = Callable[..., Result]
Changes = set[tuple[int, str]]


def test_a_watch_indexes_what_a_run_would(
    run: Run, tiny: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = album / "catalog"

    def told(*homes: Path, **_: object) -> Iterator[Changes]:
        assert homes == (album,)
        yield {(1, str(paint(album / "thumbs" / "u.png", 7)))}
        yield {(1, str(paint(album / ".hidden" / "t.png", 8)))}
        yield {(2, str(catalog / "catalog.sqlite-wal"))}
        yield {(1, str(paint(album / "new" / "d.png", 9)))}
        raise KeyboardInterrupt

    monkeypatch.setattr(watchfiles, "watch", told)
    words = ("index", album, "--catalog", catalog, "-m", tiny, "--exclude", "thumb*", "--watch", "--json")
    done = run(*words)
    assert done.exit_code == 130, done.stderr
    assert [json.loads(line)["embedded"] for line in done.stdout.splitlines()] == [3, 1]
    again = run("index", "--catalog", catalog, "--watch", "--json")  # the exclusion is remembered
    assert again.exit_code == 130, again.stderr
    assert [json.loads(line)["embedded"] for line in again.stdout.splitlines()] == [0, 0]


def test_a_folder_that_goes_at_once_does_not_end_the_watch(
    run: Run, tiny: Path, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*_: object, **__: object) -> Iterator[list[Path]]:
        yield [album / "gone"]
        paint(album / "d.png", 9)
        yield [album]
        raise KeyboardInterrupt

    monkeypatch.setattr("diptych.catalog.changed_folders", told)
    done = run("index", album, "--catalog", tmp_path / "catalog", "-m", tiny, "--watch")
    assert done.exit_code == 130
    assert "failed: " in done.stderr
    assert "there is no such file or folder" in done.stderr
    assert "1 embedded" in done.stdout.splitlines()[1]
