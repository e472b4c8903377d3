"""Work grows linearly with the change, not quadratically: operations are counted at n and at 2n."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from diptych.catalog import Store, forget_paths, index_pictures
from diptych.catalog.indexing.watch import folders_to_list
from diptych.catalog.store.folder_rules import FolderRules
from tests.catalog.catalogs import index
from tests.toys import ToyEncoder, picture_bytes

MOST = 2.6  # bound for twice the work; quadratic work gives 4
_STEP = 10  # instructions of SQLite's virtual machine that count as one


class Counter:
    """Count instructions of the database and calls of Python functions, built-in ones included."""

    def __init__(self) -> None:
        self.instructions = self.calls = 0

    def _instruction(self) -> int:
        self.instructions += 1
        return 0

    def _call(self, frame: FrameType, event: str, argument: object) -> None:
        self.calls += event in ("call", "c_call")

    def of(self, connection: sqlite3.Connection, work: Callable[[], object]) -> tuple[int, int]:
        connection.set_progress_handler(self._instruction, _STEP)
        sys.setprofile(self._call)
        try:
            work()
        finally:
            sys.setprofile(None)
            connection.set_progress_handler(None, 0)
        return self.instructions, self.calls


def album(tmp_path: Path, count: int) -> tuple[Store, Path]:
    """A catalogue with this number of files in this number of folders, all of one picture."""
    home = tmp_path / f"album-{count}"
    data = picture_bytes("red")
    for number in range(count):
        (home / f"{number}").mkdir(parents=True)
        (home / f"{number}" / "x.png").write_bytes(data)
    (home / "stays.png").write_bytes(picture_bytes("blue"))
    index(tmp_path / f"catalog-{count}", home)
    return Store.open(tmp_path / f"catalog-{count}"), home


def rename(store: Store, home: Path) -> Callable[[], object]:
    for path in home.glob("*/x.png"):
        path.rename(path.with_name("y.png"))
    return lambda: index_pictures(store, ToyEncoder(), [home])


def rename_folders(store: Store, home: Path) -> Callable[[], object]:
    for path in list(home.glob("*/")):
        path.rename(path.with_name(f"new-{path.name}"))
    return lambda: index_pictures(store, ToyEncoder(), [home])


def delete(store: Store, home: Path) -> Callable[[], object]:
    for path in home.glob("*/x.png"):
        path.unlink()
        path.parent.rmdir()
    return lambda: index_pictures(store, ToyEncoder(), [home])


def empty(store: Store, home: Path) -> Callable[[], object]:
    for path in home.glob("*/x.png"):
        path.unlink()
    return lambda: index_pictures(store, ToyEncoder(), [home])


def watched(store: Store, home: Path) -> Callable[[], object]:
    folders = list(home.glob("*/"))
    for folder in folders:
        (folder / "x.png").rename(folder / "y.png")
    return lambda: index_pictures(store, ToyEncoder(), folders, remember=False)


def unchanged(store: Store, home: Path) -> Callable[[], object]:
    return lambda: index_pictures(store, ToyEncoder(), [home])


def exclude(store: Store, home: Path) -> Callable[[], object]:
    return lambda: index_pictures(store, ToyEncoder(), [home], exclude=["x.png"])


def forget(store: Store, home: Path) -> Callable[[], object]:
    return lambda: forget_paths(store, [home])


def forget_each(store: Store, home: Path) -> Callable[[], object]:
    folders = list(home.glob("*/"))
    return lambda: forget_paths(store, folders)


def touch(store: Store, home: Path) -> Callable[[], object]:
    for path in home.glob("*/x.png"):
        path.chmod(0o600)
    return lambda: index_pictures(store, ToyEncoder(), [home])


def many_roots(store: Store, home: Path) -> Callable[[], object]:
    return lambda: index_pictures(store, ToyEncoder(), list(home.glob("*/")), exclude=["nothing"])


CHANGES = (
    *(rename, rename_folders, delete, empty, watched, unchanged, exclude, forget, forget_each, touch),
    many_roots,
)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_comparing_with_the_disk(
    tmp_path: Path, change: Callable[[Store, Path], Callable[[], object]]
) -> None:
    counts = []
    for count in (150, 300):
        store, home = album(tmp_path, count)
        work = change(store, home)
        counts.append(Counter().of(store.database._connection, work))  # type: ignore[attr-defined]
        store.close()
    (few, few_calls), (many, many_calls) = counts
    assert many < MOST * few
    assert many_calls < MOST * few_calls


def test_events_of_a_watch(tmp_path: Path) -> None:
    rules, calls = {tmp_path: FolderRules(tmp_path, ("thumbs",))}, []
    for count in (200, 400):
        paths = []
        for number in range(count):
            (tmp_path / f"{count}-{number}").mkdir()
            paths.append(str(tmp_path / f"{count}-{number}" / "x.png"))
        connection = sqlite3.connect(":memory:")
        calls.append(Counter().of(connection, lambda paths=paths: folders_to_list(paths, rules))[1])
        connection.close()
    assert calls[1] < MOST * calls[0]


def test_rows_that_only_have_another_device(tmp_path: Path) -> None:
    counts = []
    for count in (200, 400):
        store, home = album(tmp_path, count)
        store.database.run("UPDATE files SET device = device + 1")
        counts.append(Counter().of(store.database._connection, unchanged(store, home))[0])  # type: ignore[attr-defined]
        store.close()
    assert counts[1] < MOST * counts[0]
