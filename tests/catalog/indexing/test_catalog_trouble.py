"""Problems of real disks: odd files, a full device, a read-only folder, a damaged catalogue."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych.catalog import Searcher, Store, check, failures
from diptych.catalog.database.database import Sqlite
from diptych.catalog.indexing import intake, reading
from diptych.errors import CatalogError, SaveError
from tests.catalog.catalogs import colours, content, index, paint, search, set_time
from tests.media.odd_files import make_odd_files
from tests.toys import ToyEncoder


def test_odd_files_are_indexed_or_listed_with_a_reason(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    expected = make_odd_files(folder)
    index(tmp_path / "catalog", folder)
    store = Store.open(tmp_path / "catalog")
    assert check(store) == []
    reasons = {os.path.relpath(path, folder): reason for path, _, reason in failures(store.database)}
    known = {
        os.path.relpath(os.fsdecode(row[0]), folder): row[1:]
        for row in store.database.all(
            "SELECT f.path, c.width, c.height, c.error FROM files f LEFT JOIN contents c ON c.id = f.content"
        )
    }
    store.close()
    for name, item in expected.items():
        if not item.found:
            assert name not in known, name
        elif item.size is None:
            assert re.search(item.refused, reasons[name]), (name, reasons[name])
        else:
            assert name not in reasons, (name, reasons[name])
            assert known[name] == (*item.size, None), name
    assert set(known) <= set(expected)
    index(tmp_path / "catalog", folder)  # a second run changes nothing either
    assert index(tmp_path / "catalog", folder).embedded == 0


@pytest.mark.parametrize("returns", [False, True])
def test_new_files_whose_folder_is_renamed_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, returns: bool
) -> None:
    folder, elsewhere = tmp_path / "pictures", tmp_path / "pictures" / "elsewhere"
    paint(folder / "first" / "a.png", "red")
    paint(folder / "kept.png", "blue")

    def read_files(*arguments: Any) -> Iterator[Any]:
        (folder / "first").rename(elsewhere)
        yield from reading.read_files(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(intake, "read_files", read_files)
        assert (outcome := index(tmp_path / "catalog", folder)).failed == 1
        assert outcome.embedded == 1
    if returns:
        elsewhere.rename(folder / "first")
    # Inode, times and size are those of the first listing, whether the folder has its old name or a new one.
    outcome = index(tmp_path / "catalog", folder)
    assert (outcome.embedded, outcome.failed) == (1, 0)


def test_eight_orientations_give_one_vector(tmp_path: Path) -> None:
    import diptych

    folder = tmp_path / "odd"
    folder.mkdir()
    make_odd_files(folder)
    for path in folder.iterdir():
        if not path.name.startswith("orientation-"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    index(tmp_path / "catalog", folder, encoder=diptych.load(exact=True))
    store = Store.open(tmp_path / "catalog")
    assert store.active is not None
    rows = store.active.sample(100)[1]
    store.close()
    assert len(rows) == 8
    assert float((rows @ rows.T).min()) > 1 - 1e-3


class Full:
    """Replacement of `os.write` for a device that is full after `room` bytes."""

    def __init__(self, room: int) -> None:
        self.room, self.write = room, os.write

    def __call__(self, descriptor: int, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = self.write(descriptor, data[: max(1, min(len(data), self.room))])
        self.room -= done
        return done


def test_a_device_that_fills_up_under_the_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colours(tmp_path / "pictures")
    index(tmp_path / "catalog", tmp_path / "pictures")
    for n in range(30):
        paint(tmp_path / "pictures" / f"{n}.png", "red", shade=n + 1)
    monkeypatch.setattr("diptych.catalog.indexing.intake.COMMIT_IMAGES", 5)
    with monkeypatch.context() as full:
        full.setattr("os.write", Full(room=100))
        with pytest.raises(SaveError, match="No space left on device"):
            index(tmp_path / "catalog", tmp_path / "pictures")
    store = Store.open(tmp_path / "catalog")
    assert check(store) == []
    assert 6 <= len(store) < 36
    store.close()
    index(tmp_path / "catalog", tmp_path / "pictures")
    index(tmp_path / "fresh", tmp_path / "pictures")
    assert content(tmp_path / "catalog") == content(tmp_path / "fresh")


def test_a_device_that_fills_up_under_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colours(tmp_path / "pictures")
    index(tmp_path / "catalog", tmp_path / "pictures")
    for n in range(600):
        paint(tmp_path / "pictures" / f"a-long-name-{'x' * 100}-{n}.png", "red", shade=n + 1)
    opened = Sqlite.__init__

    def small(self: Sqlite, path: Path, *, create: bool = False) -> None:
        opened(self, path, create=create)
        pages = self.all("PRAGMA page_count")[0][0]
        self.all(f"PRAGMA max_page_count = {pages + 12}")

    with monkeypatch.context() as full:
        full.setattr(Sqlite, "__init__", small)
        with pytest.raises(SaveError, match=r"full.*run the same command again"):
            index(tmp_path / "catalog", tmp_path / "pictures")
    store = Store.open(tmp_path / "catalog")
    assert check(store) == []
    store.close()
    assert index(tmp_path / "catalog", tmp_path / "pictures").failed == 0
    assert len(content(tmp_path / "catalog")) == 606


def test_a_catalogue_that_may_not_be_written_to_can_be_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours(tmp_path / "pictures")
    index(tmp_path / "catalog", tmp_path / "pictures")
    access = os.access
    monkeypatch.setattr(
        "os.access", lambda path, mode: Path(path) != tmp_path / "catalog" and access(path, mode)
    )
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "catalog").rglob("*")}
    assert search(tmp_path / "catalog", "red")[0] == "red.png"
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "catalog").rglob("*")}
    store = Store.open(tmp_path / "catalog")
    with pytest.raises(SaveError, match="may not be written to"):
        store.forget([(os.fsencode(tmp_path / "pictures" / "red.png"), "")])
    store.close()


def test_pictures_on_a_drive_that_goes_away_while_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network drive fails from the fourth read on: nothing is lost, and the next run reads the rest."""
    from diptych.catalog.indexing import reading

    colours(tmp_path / "pictures")
    read, count = reading.read_source, 0

    def goes_away(source: Path, limits: object) -> bytes:
        nonlocal count
        count += 1
        if count > 3:
            error = OSError(errno.EHOSTDOWN, "Host is down")
            raise reading.ImageError(f"{source}: cannot be read: Host is down") from error
        return read(source, limits)  # type: ignore[arg-type]

    with monkeypatch.context() as away:
        away.setattr(reading, "read_source", goes_away)
        outcome = index(tmp_path / "catalog", tmp_path / "pictures")
    assert (outcome.embedded, outcome.failed) == (3, 3)
    # The files are unchanged, but what failed was the system: they are tried again without --retry.
    again = index(tmp_path / "catalog", tmp_path / "pictures")
    assert (again.embedded, again.failed, again.same) == (3, 0, 3)


def test_a_segment_that_was_cut_is_told_of(tmp_path: Path) -> None:
    colours(tmp_path / "pictures")
    index(tmp_path / "catalog", tmp_path / "pictures")
    segment = next((tmp_path / "catalog").glob("space-*/*.f16"))
    segment.write_bytes(segment.read_bytes()[:-4])
    with pytest.raises(CatalogError, match="truncated or copied in part"):
        Store.open(tmp_path / "catalog")
    segment.unlink()
    with pytest.raises(CatalogError, match="cannot be read"):
        Store.open(tmp_path / "catalog")


def test_a_database_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "catalog").mkdir()
    (tmp_path / "catalog" / "catalog.sqlite").write_bytes(b"something else " * 1000)
    with pytest.raises(CatalogError, match="not a catalogue's database"):
        Store.open(tmp_path / "catalog")


def test_a_catalogue_of_a_later_version(tmp_path: Path) -> None:
    Store.create(tmp_path / "catalog").close()
    with sqlite3.connect(tmp_path / "catalog" / "catalog.sqlite") as database:
        database.execute("UPDATE meta SET value = '99'")
    database.close()
    with pytest.raises(CatalogError, match=r"format 99.*update diptych"):
        Store.open(tmp_path / "catalog")


def test_rows_behind_the_last_that_counts_are_written_over(tmp_path: Path) -> None:
    colours(tmp_path / "pictures")
    index(tmp_path / "catalog", tmp_path / "pictures")
    segment = next((tmp_path / "catalog").glob("space-*/*.f16"))
    with segment.open("ab") as file:
        file.write(np.full(4 * 5 + 3, 7, "<f2").tobytes())  # a killed writer may leave such rows
    paint(tmp_path / "pictures" / "new.png", "red", shade=9)
    set_time(tmp_path / "pictures" / "new.png", 10**9)
    index(tmp_path / "catalog", tmp_path / "pictures")
    index(tmp_path / "fresh", tmp_path / "pictures")
    assert content(tmp_path / "catalog") == content(tmp_path / "fresh")


def test_a_searcher_goes_on_while_others_write(tmp_path: Path) -> None:
    colours(tmp_path / "pictures")
    index(tmp_path / "catalog", tmp_path / "pictures")
    store = Store.open(tmp_path / "catalog")
    asking = Searcher(store, ToyEncoder())
    with Store.create(tmp_path / "catalog").database.writing():
        assert asking.search("red").searched == 6
    store.close()
