"""Watching continues in spite of unreadable folders, system limits, and drives that come and go."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import watchfiles

from diptych.catalog import changed_folders
from diptych.catalog.files.mounts import Mount
from diptych.catalog.indexing import watch
from diptych.catalog.store.folder_rules import FolderRules

Event = tuple[int, str]


class System:
    """Replacement of `watchfiles.watch`: one list of events per call; an exception in it is raised."""

    def __init__(self, *calls: list[set[Event] | Exception]) -> None:
        self.calls = iter(calls)
        self.watched: list[tuple[set[Path], bool]] = []

    def __call__(self, *homes: Path, recursive: bool, **_: object) -> Iterator[set[Event]]:
        self.watched.append((set(homes), recursive))
        try:
            events = next(self.calls)
        except StopIteration:
            raise KeyboardInterrupt from None
        for event in events:
            if isinstance(event, Exception):
                raise event
            yield event


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("sub/deep", "lost+found", "thumbs", ".hidden", "elsewhere"):
        (tmp_path / "home" / name).mkdir(parents=True)
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: None)
    return tmp_path / "home"


def listed(
    monkeypatch: pytest.MonkeyPatch, system: System, *roots: Path, **options: float
) -> tuple[list[list[Path]], list[str]]:
    monkeypatch.setattr(watchfiles, "watch", system)
    results: list[list[Path]] = []
    notes: list[str] = []
    rules = {root: FolderRules(root, ("thumbs",)) for root in roots}
    with contextlib.suppress(KeyboardInterrupt):
        results.extend(changed_folders(rules, note=notes.append, **options))  # type: ignore[arg-type]
    return results, notes


def changed(*paths: Path) -> set[Event]:
    return {(1, str(path)) for path in paths}


def test_a_folder_nobody_may_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = PermissionError(13, "Permission denied", "lost+found")
    system = System([denied], [changed(home / "sub" / "a.jpg")] * 2)
    result, notes = listed(monkeypatch, system, home)
    assert result == [[home], [home / "sub"]]  # first whatever the failed call missed, then the change
    assert notes == []
    assert system.watched[:2] == [
        ({home}, True),
        ({home, home / "sub", home / "sub" / "deep", home / "elsewhere"}, False),
    ]


def test_a_new_folder_is_watched_too_where_folders_are_watched_one_by_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = PermissionError(13, "Permission denied")

    def new() -> Iterator[set[Event]]:
        (home / "new").mkdir()
        yield changed(home / "new")
        raise AssertionError("the old watch goes on")

    system = System([denied], new(), [])  # type: ignore[arg-type]
    listed(monkeypatch, system, home)
    assert home / "new" in system.watched[2][0]


LIMITS = {
    "no watches left": OSError(28, "No space left on device"),
    "no instances left": OSError(24, "Too many open files"),
    "as the library says it": RuntimeError("OS file watch limit reached. about [...]"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_system_that_watches_no_more_folders(
    home: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(watch.time, "sleep", pauses.append)
    result, notes = listed(monkeypatch, System(*[[LIMITS[limit]]] * 4), home)
    assert result == [[home]] * 3
    assert pauses == [watch.RESCAN_WITHOUT_EVENTS] * 4
    assert len(notes) == 1
    assert "max_user_watches" in notes[0]
    assert "everything is compared every 60 seconds" in notes[0]


def test_another_error_of_the_system(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result, notes = listed(monkeypatch, System(*[[OSError(5, "Input/output error")]] * 3), home)
    assert result == [[home]] * 2
    assert notes == [
        "the system cannot watch these folders ([Errno 5] Input/output error): everything is compared every "
        "60 seconds instead"
    ]


def test_a_folder_that_goes_while_the_watch_begins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = System([FileNotFoundError(2, "No such file")], [changed(home / "sub" / "a.jpg")])
    result, notes = listed(monkeypatch, system, home)
    assert (result, notes) == ([[home]], [])


def test_a_path_that_comes_back(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = tmp_path / "drive"

    def events() -> Iterator[set[Event]]:
        yield set()
        drive.mkdir()
        yield set()
        raise AssertionError("the old watch goes on")

    system = System(events(), [set(), set()])  # type: ignore[arg-type]
    result, _ = listed(monkeypatch, system, home, drive)
    assert result == [[home, drive]] * 2  # at the return of the path, and at the start of its watch
    assert [homes for homes, _ in system.watched[:2]] == [{home}, {home, drive}]


def test_a_drive_that_is_mounted_below(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = [frozenset[Mount](), frozenset({Mount("1", str(home / "sub"), "exfat")})]
    monkeypatch.setattr(watch, "mounts_below", lambda homes: mounted[0])

    def events() -> Iterator[set[Event]]:
        yield set()
        del mounted[0]
        yield set()
        raise AssertionError("the old watch goes on")

    system = System(events(), [set(), set()])  # type: ignore[arg-type]
    result, _ = listed(monkeypatch, system, home)
    assert result == [[home]] * 2


def test_a_network_drive_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "network_kind", lambda folder: "nfs4")
    _, notes = listed(monkeypatch, System([set()], [set()]), home)
    assert notes == [
        f"{home} is on a network drive (nfs4): changes by other computers are noticed when everything "
        "is compared, every 10 minutes"
    ]


def test_nothing_to_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drive = tmp_path / "drive"
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: drive.mkdir(exist_ok=True))
    result, _ = listed(monkeypatch, System([set()]), drive)
    assert result[0] == [drive]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may watch every folder")
def test_a_folder_that_really_may_not_be_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "sub" / "deep").chmod(0)
    monkeypatch.setattr(watch, "_STEP", 100)
    try:
        assert next(changed_folders({home: FolderRules(home)})) == [home]
    finally:
        (home / "sub" / "deep").chmod(0o755)
