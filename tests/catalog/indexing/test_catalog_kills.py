"""SIGKILL at random instants: the catalogue opens, is consistent, and ends as if never killed."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from diptych.catalog import Store, check
from tests.catalog.catalogs import content, paint
from tests.paths import python_path
from tests.toys import COLOURS
from tests.waiting import HANG, kill_within

PICTURES = 240


def start(catalog: str | Path, folder: Path, identity: str, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.catalog.indexer", str(catalog), str(folder), identity, *more]
    environment = {**os.environ, "PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)


def ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process to end and return its status."""
    process.communicate(timeout=HANG)
    return process.returncode


def holds_together(catalog: Path) -> None:
    if (catalog / "catalog.sqlite").exists():
        store = Store.create(catalog)  # the next run would open it in this way
        faults = check(store)
        store.close()
        assert faults == []


class Killer:
    """Run commands to their end, after killing them at random instants."""

    def __init__(self, catalog: Path, folder: Path, seed: int) -> None:
        self.catalog, self.folder = catalog, folder
        self.random = random.Random(seed)
        self.killed = 0

    def run(self, identity: str, *more: str, kills: int) -> None:
        """Kill the command at `kills` random instants of its run time, then let one run finish."""
        length = 0.5  # seconds of a whole run, measured
        while True:
            process = start(self.catalog, self.folder, identity, *more)
            if kills == 0:
                assert ended(process) == 0
                break
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            whole = kill_within(process, self.random.random() * length)
            if whole is None:
                kills, self.killed = kills - 1, self.killed + 1
            else:
                length = whole
            process.communicate()
            holds_together(self.catalog)
        holds_together(self.catalog)


def change(folder: Path, seed: int) -> None:
    """Add, delete, rename and overwrite some pictures, some of them inside an archive."""
    chance = random.Random(seed)
    names = sorted(path for path in folder.rglob("*") if path.suffix in (".png", ".jpg"))
    chance.shuffle(names)
    for path in names[:30]:
        path.unlink()
    (folder / f"moved-{seed}").mkdir()
    for path in names[30:60]:
        path.rename(folder / f"moved-{seed}" / path.name)
    for number, path in enumerate(names[60:80]):
        paint(path, "white", shade=10_000 * seed + number)  # a PNG despite its suffix
        os.utime(path, (10**9 + seed, 10**9 + seed))
    for path in names[80:90]:
        shutil.copy(path, path.with_name(f"copy-{seed}-{path.name}"))
    fill(folder / f"new-{seed}", 40, 20_000 + 1000 * seed)
    with zipfile.ZipFile(folder / "shelf.zip", "w") as shelf:
        for number in range(12):  # half of the names stay, but their pictures change
            name = f"{number + 6 * seed}.png"
            picture = paint(folder.with_name("packing.png"), "blue", shade=30_000 + 100 * seed + number)
            shelf.write(picture, name)


def fill(folder: Path, count: int, first: int) -> None:
    for number in range(first, first + count):
        paint(folder / f"{number}.png", list(COLOURS)[number % len(COLOURS)], shade=number)


def life(tmp_path: Path, kills: int, seed: int) -> int:
    """Index, change, embed again, change again: kills in each step; compared with an undisturbed run."""
    folder, catalog = tmp_path / "pictures", tmp_path / "catalog"
    (folder / "broken.png").write_bytes(b"broken")
    killer = Killer(catalog, folder, seed)
    for number, command in enumerate((("toy:0",), ("toy:0",), ("toy:1", "reembed"), ("toy:1",))):
        if number:
            change(folder, number)
        killer.run(*command, kills=kills // 4 + (number < kills % 4))
    undisturbed = tmp_path / "undisturbed"
    assert ended(start(undisturbed, folder, "toy:1")) == 0
    assert content(catalog) == content(undisturbed)
    assert len([item for item in catalog.iterdir() if item.name.startswith("space-")]) == 1
    return killer.killed


def test_killed_a_few_times_ends_as_if_never_killed(tmp_path: Path) -> None:
    fill(tmp_path / "pictures", PICTURES, 0)
    assert life(tmp_path, kills=4, seed=os.getpid()) == 4


@pytest.mark.soak
@pytest.mark.shared
def test_killed_fifty_times_ends_as_if_never_killed(tmp_path: Path, shared: Path) -> None:
    with tarfile.open(shared / "data" / "flickr8k-test.tar") as pack:
        pack.extractall(tmp_path / "pictures", filter="data")
    assert life(tmp_path, kills=52, seed=os.getpid()) == 52


def test_two_at_once_share_the_work(tmp_path: Path) -> None:
    folder, catalog = tmp_path / "pictures", tmp_path / "catalog"
    fill(folder, PICTURES, 0)
    both = [start(catalog, folder, "toy:0") for _ in range(2)]
    assert [ended(item) for item in both] == [0, 0]
    holds_together(catalog)
    assert ended(start(tmp_path / "alone", folder, "toy:0")) == 0
    assert content(catalog) == content(tmp_path / "alone")
    store = Store.open(catalog)
    assert store.active is not None
    assert store.active.segments.rows == PICTURES  # no picture has two vectors
    store.close()
