"""Unreadable pictures and samples in every measurement: named in the output, with exit status 1."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.cli_tools import noisy_faces, noisy_flowers, paint

Run = Callable[..., Result]

TRAIN, TEST = "root/tfflowers/train", "root/tfflowers/test"
BROKEN = f"{TEST}/daisy/broken.png"

# Command line -> the file that is broken; the fixture `data` creates its folder.
COMMANDS = {
    f"evaluate zero-shot {TEST}": BROKEN,
    "evaluate retrieval pairs": "pairs/broken.png",
    f"evaluate probe {TRAIN} {TEST} --strength 1": f"{TRAIN}/daisy/broken.png",
    f"evaluate knn {TRAIN} {TEST}": BROKEN,
    f"evaluate few-shot {TRAIN} {TEST} --shots 1 --seeds 1 --no-full": f"{TRAIN}/daisy/broken.png",
    f"evaluate robustness {TRAIN} --shift {TEST}": BROKEN,
    "evaluate suite --data root --skip robustness --skip probes": BROKEN,
    "audit counting numbers": "numbers/1/broken.png",
    "audit digits digits": "digits/1/broken.png",
    "audit fine digits --count 3": "digits/1/broken.png",
    f"audit wording {TEST} --misspellings 0": BROKEN,
    "audit domains styles": "styles/sketch/dog/broken.png",
    f"audit typographic {TEST} --size 0.2": BROKEN,
    "audit bias faces": "faces/0.png",
    "audit association faces": "faces/0.png",
    "audit classes labels.txt --sample faces": "faces/0.png",
    "audit classes labels.txt --background faces": "faces/0.png",
}


@pytest.fixture
def data(tmp_path: Path, run: Run) -> Path:
    noisy_flowers(tmp_path / "root")
    noisy_faces(tmp_path / "faces")
    for number in range(12):
        paint(tmp_path / "numbers" / str(number % 3 + 1) / f"{number}.png", number)
        paint(tmp_path / "digits" / str(number % 10) / f"{number}.png", number)
    for number in range(40):
        style, kind = ("photo", "sketch")[number % 2], ("dog", "horse")[number // 2 % 2]
        paint(tmp_path / "styles" / style / kind / f"{number}.png", number)
    for number in range(4):
        paint(tmp_path / "pairs" / f"{number}.png", number)
        (tmp_path / "pairs" / f"{number}.txt").write_text(f"picture {number}")
    (tmp_path / "pairs" / "broken.txt").write_text("a broken picture")
    (tmp_path / "labels.txt").write_text("dog\ncat\nsomething else\n")
    return tmp_path


@pytest.mark.parametrize("line", COMMANDS)
def test_a_broken_picture_is_named_and_the_status_is_1(run: Run, tiny: Path, data: Path, line: str) -> None:
    (data / COMMANDS[line]).write_bytes(b"broken")
    done = run(*line.split(), "-m", tiny)
    assert "1 picture left out; the first: " in done.stderr, done.stderr
    assert done.exit_code == 1


@pytest.mark.parametrize("line", [line for line in COMMANDS if "association" not in line])
def test_a_limit_is_kept_and_said(run: Run, tiny: Path, data: Path, line: str) -> None:
    limit = "3" if "numbers" in line else "10" if "digits" in line else "2" if "pairs" in line else "8"
    done = run(*line.split(), "-m", tiny, "--limit", limit, "--json", "--cache", "kept", "-q")
    assert done.exit_code in (0, 1), done.stderr
    printed = json.loads(done.stdout)
    results = printed.get("results", [printed] if "metrics" in printed else [])
    for item in results:
        assert item["n"] <= int(limit)
        assert item["sampled_from"] > item["n"]
    if not results:
        assert f"a random sample of {limit} of " in done.stdout
    assert list(Path("kept").glob("*.npz"))
