"""Embedding runs killed by SIGKILL, locally and on Ray: the resumed run gives the same folder."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diptych.embedding import read_parts
from tests.paths import python_path
from tests.toys import COLOURS, picture, picture_bytes, tar_bytes
from tests.waiting import HANG, kill_within, wait_until

PICTURES = 240


def start(folder: Path, source: Path | str, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": python_path(), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.embedding.embedder", str(folder), str(source), *more]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    """Wait for the process to succeed, and return its last line of output."""
    result, _ = process.communicate(timeout=HANG)
    assert process.returncode == 0
    return result.splitlines()[-1]


def held(folder: Path) -> dict[str, bytes]:
    """The content of every file in a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def album(tmp_path: Path) -> Path:
    album = tmp_path / "album"
    album.mkdir()
    for number in range(PICTURES):
        image = picture(list(COLOURS)[number % len(COLOURS)])
        image.putpixel((0, 0), (number, 0, 0))
        image.save(album / f"{number:04d}.png")
    (album / "0017.png").write_bytes(b"broken")
    return album


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.soak)])
def test_killed_at_any_instant_the_same_command_goes_on(album: Path, tmp_path: Path, kills: int) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert ended(start(whole, album)) == "239 239"
    chance = random.Random(kills)
    length = PICTURES / 500 + 0.3  # seconds of a whole run
    killed = 0
    while killed < kills:
        process = start(torn, album)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        killed += kill_within(process, chance.random() * length / kills * 2) is None
        process.communicate()
        if (torn / "manifest.json").exists() and (torn / "metadata").exists():
            assert all(len(part) in (19, 20) for part in read_parts(torn))  # only complete parts count
    assert ended(start(torn, album)).startswith("239 ")
    assert held(torn) == held(whole)


def test_killed_between_the_files_of_a_part(album: Path, tmp_path: Path) -> None:
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    assert ended(start(whole, album)) == "239 239"
    for number in (3, 2, 3, 5):  # 1: manifest; then each part's metadata, vectors and record
        process = start(torn, album, "--die", str(number))
        process.communicate(timeout=HANG)
        assert process.returncode == -signal.SIGKILL
        assert all(len(part) in (19, 20) for part in read_parts(torn))
    assert ended(start(torn, album)) == "239 220"  # the first part was complete
    assert held(torn) == held(whole)


def test_a_ray_worker_is_killed_and_nothing_is_missing(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    colours = list(COLOURS)
    for shard in range(6):
        files = {f"{number}.png": picture_bytes(colours[(number + shard) % 6]) for number in range(12)}
        (tmp_path / f"{shard}.tar").write_bytes(tar_bytes(files))
    source, pids = str(tmp_path / "{0..5}.tar"), tmp_path / "pids"
    pids.mkdir()
    release = pids.with_name("release")
    assert ended(start(tmp_path / "local", source)) == "72 72"
    process = start(tmp_path / "ray", source, "--ray", str(pids))
    wait_until(lambda: any(pids.iterdir()) or process.poll() is not None, "a worker has begun")
    victim = int(next(pids.iterdir()).name)
    os.kill(victim, signal.SIGKILL)  # the worker waits at its first pictures
    release.touch()
    assert ended(process) == "72 72"
    others = {path.name for path in pids.iterdir()} - {str(victim)}
    assert others, "somebody else has done the work"
    assert held(tmp_path / "ray") == held(tmp_path / "local")
