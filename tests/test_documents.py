"""Code in the README, tutorials and first pages of the docs: all blocks marked `<!-- run -->` run offline."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import diptych
from diptych.cli.main import app
from tests.cli.cli_tools import noisy_faces, noisy_flowers, paint
from tests.toys import tar_bytes
from tests.waiting import HANG

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = Path(diptych.__file__).parent / "weights" / "default" / "diptych.json"
BLOCK = re.compile(r"<!-- run -->\n```(console|python)\n(.*?)```", re.DOTALL)
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "docs" / "getting-started.md",
    *sorted((ROOT / "docs" / "tutorials").glob("*.md")),
]


def steps(text: str) -> list[str]:
    """The marked blocks in order: commands without prompt and comments, and whole blocks of Python."""
    results = []
    for language, block in BLOCK.findall(text):
        lines = block.splitlines() if language == "console" else []
        results += [line[2:].partition("  # ")[0].strip() for line in lines if line.startswith("$ ")]
        results += [block] if language == "python" else []
    return results


STEPS = [(path.stem, step) for path in DOCUMENTS for step in steps(path.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def desks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that returns a separate folder for each document, with the files it mentions."""
    original = furnished(tmp_path_factory.mktemp("desk"))

    @functools.cache
    def desk(document: str) -> Path:
        return Path(shutil.copytree(original, tmp_path_factory.mktemp(document) / "desk"))

    return desk


def furnished(folder: Path) -> Path:
    """Fill a folder with photographs from a library and with generated data sets."""
    skimage = pytest.importorskip("skimage")
    samples = Path(skimage.__file__).parent / "data"
    (folder / "Pictures").mkdir()
    shutil.copy(samples / "chelsea.png", folder / "cat.jpg")  # the content decides, not the suffix
    for name in ("chelsea.png", "coffee.png", "rocket.jpg"):
        shutil.copy(samples / name, folder / "Pictures")
    cat, coffee, rocket = (
        (samples / name).read_bytes() for name in ("chelsea.png", "coffee.png", "rocket.jpg")
    )
    classes = {"pack/cat/1.png": cat, "pack/cup/1.png": coffee, "pack/airplane/1.jpg": rocket}
    (folder / "cifar10-test.tar.gz").write_bytes(tar_bytes(classes, "w:gz"))
    for number, kind in enumerate(("rose", "tulip") * 45):
        home = folder / ("flowers" if number < 80 else "flowers-test") / kind
        home.mkdir(exist_ok=True, parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).save(home / f"{number}.png")
    result = b'{"captions": ["a cat", "a ginger cat looks up"]}'
    pairs = {"1.png": cat, "1.json": result, "2.png": coffee, "2.txt": b"a cup of coffee"}
    (folder / "flickr8k-test.tar").write_bytes(tar_bytes(pairs))
    noise(folder)
    return folder


def noise(folder: Path) -> None:
    """Noise data sets: flowers in a layout that the suite detects, faces with a table, labels and photos."""
    noisy_flowers(folder / "data")
    noisy_faces(folder / "faces")
    with tarfile.open(folder / "fairface-val.tar", "w") as tar:
        for path in sorted((folder / "faces").iterdir()):
            tar.add(path, path.name)
    (folder / "labels.txt").write_text("a dog\na cat\na house\na tree\nsomething else\n")
    for number in range(6):
        paint(folder / "photos" / f"{number}.png", number)


@pytest.mark.parametrize(("document", "step"), STEPS)
def test_step_runs(
    document: str, step: str, desks: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not DEFAULT.is_file():
        pytest.skip("the default model is not in this checkout")
    monkeypatch.chdir(desks(document))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(desks(document)))
    if "\n" in step:
        exec(compile(step, document, "exec"), {})
        return
    command = step
    # Commands that need a shell run in one, with the installed command; the others run in this process, since
    # each new process takes seconds to load its libraries.
    if set(command) & set("|<>&;$*"):
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=HANG)
        status, output = done.returncode, done.stdout + done.stderr
    else:
        words = [str(Path(word).expanduser()) if word[:1] == "~" else word for word in shlex.split(command)]
        assert words[0] == "diptych"
        result = CliRunner().invoke(app, words[1:])
        status, output = result.exit_code, result.output
    assert status == 0, f"{command}\n{output}"


def test_every_document_has_steps() -> None:
    assert {document for document, _ in STEPS} == {path.stem for path in DOCUMENTS}


def test_only_marked_blocks_are_run() -> None:
    text = "```console\n$ no\n```\n<!-- run -->\n```console\n$ yes one  # why\noutput\n$ yes two\n```\n"
    text += "<!-- run -->\n```python\nx = 1\n```\n"
    assert steps(text) == ["yes one", "yes two", "x = 1\n"]


def test_files_that_the_readme_names_are_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    missing = [link for link in links if not (ROOT / link).exists()]
    assert missing == []
