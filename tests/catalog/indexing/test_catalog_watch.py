"""Watching folders: which folders are listed again after a change, with the exclusions of a normal run."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import watchfiles

from diptych.catalog import changed_folders
from diptych.catalog.indexing import watch
from diptych.catalog.indexing.watch import folders_to_list
from diptych.catalog.store.folder_rules import FolderRules


def rules(*roots: Path, exclude: tuple[str, ...] = ()) -> dict[Path, FolderRules]:
    return {root: FolderRules(root, exclude) for root in roots}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("sub/deep", ".thumbnails", "thumbs/deep", "catalog/space-1", "elsewhere"):
        (tmp_path / "home" / name).mkdir(parents=True)
    for name in ("photo.jpg", "other.jpg"):
        (tmp_path / "home" / name).touch()
    return tmp_path / "home"


CHANGES = {
    "a picture": ("sub/deep/a.jpg", ["sub/deep"]),
    "a picture that is gone": ("sub/gone.jpg", ["sub"]),
    "a folder that is gone": ("sub/gone/too/a.jpg", ["sub"]),
    "a hidden file": ("sub/.a.jpg", []),
    "in a hidden folder": (".thumbnails/t.png", []),
    "in a hidden folder that is gone": (".gone/t.png", []),
    "in an excluded folder": ("thumbs/deep/u.png", []),
    "in the catalogue": ("catalog/catalog.sqlite-wal", []),
    "deep in the catalogue": ("catalog/space-1/000000.f16", []),
    "the catalogue": ("catalog", []),
    "outside": ("../outside.jpg", []),
    "the root": ("", ["."]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_change_makes_of_a_folder(home: Path, what: str) -> None:
    name, expected = CHANGES[what]
    again = folders_to_list(
        [os.path.normpath(home / name)], rules(home, exclude=("thumb*",)), [home / "catalog"]
    )
    assert again == [home / item for item in expected]


def test_folders_inside_others_are_listed_with_them(home: Path) -> None:
    paths = [str(home / name) for name in ("sub/deep/a.jpg", "sub/b.jpg", "elsewhere/c.jpg")]
    assert folders_to_list(paths, rules(home)) == [home / "elsewhere", home / "sub"]


def test_a_hidden_root_is_watched_when_it_was_named(home: Path) -> None:
    changed = [str(home / ".thumbnails" / "t.png")]
    assert folders_to_list(changed, rules(home, home / ".thumbnails")) == [home / ".thumbnails"]


def test_links_to_folders_are_not_followed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "far" / "in").mkdir(parents=True)
    (home / "link").symlink_to(tmp_path / "far")
    assert folders_to_list([str(home / "link" / "in" / "a.jpg")], rules(home)) == []
    assert folders_to_list([str(home / "link")], rules(home)) == [home]
    (tmp_path / "way").symlink_to(home)  # a root that is a link was named on purpose
    assert folders_to_list([str(tmp_path / "way" / "sub" / "a.jpg")], rules(tmp_path / "way")) == [
        tmp_path / "way" / "sub"
    ]


def test_a_file_is_watched_alone(home: Path) -> None:
    photo = home / "photo.jpg"
    assert folders_to_list([str(home / "other.jpg"), str(home / "sub" / "a.jpg")], rules(photo)) == []
    for changed in (photo, home / "photo.txt", home / "photo.json"):
        assert folders_to_list([str(changed)], rules(photo)) == [photo]
    photo.unlink()
    assert folders_to_list([str(photo)], rules(photo)) == []


class Told:
    """Replacement of `watchfiles.watch` that reports these changes; an exception among them is raised."""

    def __init__(self, *told: set[tuple[int, str]] | Exception) -> None:
        self.told = iter(told)
        self.homes: list[set[Path]] = []

    def __call__(self, *homes: Path, **_: object) -> Iterator[set[tuple[int, str]]]:
        self.homes.append(set(homes))
        for item in self.told:
            if isinstance(item, Exception):
                raise item
            yield item
        raise KeyboardInterrupt


def listed(*roots: Path, **options: float) -> list[list[Path]]:
    results: list[list[Path]] = []
    with contextlib.suppress(KeyboardInterrupt):
        results.extend(changed_folders(rules(*roots), **options))  # type: ignore[arg-type]
    return results


def test_each_root_has_its_own_patterns(home: Path) -> None:
    paths = [str(home / name / "thumbs" / "a.jpg") for name in ("sub", "elsewhere")]
    roots = {**rules(home / "sub", exclude=("thumbs",)), **rules(home / "elsewhere")}
    assert folders_to_list(paths, roots) == [home / "elsewhere"]


def test_only_what_matters_is_told_of(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = Told({(1, str(home / ".thumbnails" / "t.png"))}, set(), {(1, str(home / "sub" / "a.jpg"))})
    monkeypatch.setattr(watchfiles, "watch", message)
    assert listed(home, home / "sub" / "photo.jpg") == [[home / "sub"]]


def test_all_roots_that_are_there_when_a_rescan_is_due(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = Told(set(), set())
    monkeypatch.setattr(watchfiles, "watch", result)
    roots = [home / "photo.jpg", home.parent / "unplugged", home / "sub"]
    assert listed(*roots, rescan=0) == [[home / "photo.jpg", home / "sub"]] * 2
    assert result.homes == [{home, home / "sub"}]


def test_after_an_error_everything_is_compared(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "DEBOUNCE", 0)
    error = watchfiles._rust_notify.WatchfilesRustInternalError("Unable to decode path")
    changed = {(1, str(home / "sub" / "a.jpg"))}
    message = Told(error, set(), changed, error, error, changed, changed)
    monkeypatch.setattr(watchfiles, "watch", message)
    assert listed(home) == [[home], [home / "sub"], [home], [home], [home / "sub"]]
    assert message.homes == [{home}] * 4


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no UTF-8")
def test_a_name_that_is_no_utf8(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real library and its real events."""
    monkeypatch.setattr(watch, "DEBOUNCE", 100)
    monkeypatch.setattr(watch, "_STEP", 100)
    seen = threading.Event()

    def write() -> None:
        number = 0
        while not seen.wait(0.05):  # the watch may not have started yet
            number += 1
            (home / os.fsdecode(b"caf\xe9%d.png" % number)).touch()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert next(changed_folders(rules(home))) == [home]
    finally:
        seen.set()
        writer.join()
