"""`diptych index`: messages about excluded, removed, missing and replaced files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.cli_tools import paint

Run = Callable[..., Result]


@pytest.fixture
def indexed(run: Run, tiny: Path, album: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DIPTYCH_CATALOG", str(tmp_path / "catalog"))
    assert run("index", album, "-m", tiny).exit_code == 0
    return album


def test_a_new_place_takes_over_before_the_old_one_goes(run: Run, indexed: Path) -> None:
    assert run("tag", "--add", "mine", indexed / "a.jpg").exit_code == 0
    new = indexed.rename(indexed.with_name("new"))
    done = run("index", new, "--forget", indexed)
    assert done.exit_code == 0, done.stderr
    assert "3 copies" in done.stdout
    assert "3 files removed from the catalogue; 3 pictures left" in done.stdout
    assert (
        Path(run("search", "anything", "--all", "--paths", "--tag", "mine").stdout.strip()) == new / "a.jpg"
    )


def test_a_path_of_which_nothing_is_known(run: Run, indexed: Path) -> None:
    done = run("index", "--forget", indexed.with_name("albun"))
    assert done.exit_code == 2
    assert "the catalogue has nothing there; did you mean" in done.stderr
    done = run("index", indexed, "--forget", indexed)
    assert done.exit_code == 2


def test_patterns(run: Run, indexed: Path) -> None:
    done = run("index", indexed, "--exclude", "inner/*", "--exclude", "none")
    assert done.exit_code == 0
    assert "1 removed" in done.stdout
    assert "note: --exclude 'none' leaves out nothing" in done.stderr
    assert "note: 1 file was removed from the catalogue though on disk" in done.stderr
    assert run("index", indexed, "--exclude", "!x").exit_code == 2
    assert "1 embedded" in run("index", indexed, "--exclude", "").stdout


def test_system_folders_and_archives(run: Run, indexed: Path) -> None:
    for name in ("@eaDir/a.jpg/S.png", "#recycle/x.png"):
        paint(indexed / name, 20 + len(name))
    shutil.make_archive(str(indexed / "some"), "zip", paint(indexed.with_name("z") / "z.png", 40).parent)
    assert "1 embedded" in run("index").stdout
    assert "2 embedded" in run("index", indexed, "--system-folders").stdout
    assert "nothing new" in run("index").stdout
    printed = json.loads(run("index", "--no-archives", "--no-system-folders", "--json").stdout)
    assert (printed["removed"], printed["left_out"]) == (3, 3)
    assert "nothing new" in run("index").stdout


def test_a_file_that_was_replaced_in_secret(run: Run, indexed: Path) -> None:
    state = (indexed / "b.png").stat()
    replaced = paint(indexed.with_name("other.png"), 9).read_bytes()
    size = max(len(replaced), state.st_size)
    for path, data in ((indexed / "b.png", (indexed / "b.png").read_bytes()), (indexed / "b.png", replaced)):
        path.write_bytes(data.ljust(size, b"\0"))
        os.utime(path, ns=(state.st_mtime_ns, state.st_mtime_ns))
        done = run("index")
    assert "1 embedded" in done.stdout
    assert f"note: {indexed / 'b.png'} holds a different picture than before" in done.stderr
    assert "3 checked and unchanged" in run("index", "--verify").stdout


def test_a_catalogue_on_a_network_drive_is_warned_of_once(
    run: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diptych.catalog.network_kind", lambda folder: "nfs4")
    assert "is on a network drive (nfs4): use this catalogue from one computer" in run("index").stderr
    assert "network drive" not in run("index").stderr


def test_help_is_whole(run: Run) -> None:
    text = " ".join(run("index", "--help").stdout.split())
    for option in ("--no-archives", "--system-folders", "--verify", "--forget", "--exclude"):
        assert option in text
