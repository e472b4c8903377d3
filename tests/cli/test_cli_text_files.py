"""Text encodings of input and output: guessed encodings are reported, output is UTF-8."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from diptych.cli.classify.pictures import gather
from diptych.cli.shared.console import fit_width, json_text
from tests.cli.cli_tools import paint

Run = Callable[..., Result]
TOLD = pytest.mark.filterwarnings("always::diptych.files.text_files.TextEncodingWarning")
CONSOLES = [{"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}]


def diptych(*words: object, env: dict[str, str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the command in a separate process with this environment."""
    return subprocess.run(
        [sys.executable, "-m", "diptych", *map(str, words)],
        input=stdin,
        capture_output=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **env},
        check=False,
    )


@pytest.fixture
def odd_album(tmp_path: Path) -> Path:
    """A picture with a Chinese name, and one whose name is not valid UTF-8."""
    first = paint(tmp_path / "album" / "猫.png", 0)
    with open(os.fsencode(first.parent) + b"/caf\xe9.png", "wb") as file:  # noqa: PTH123 - a name of bytes
        file.write(first.read_bytes())
    return first.parent


@pytest.mark.parametrize("env", CONSOLES, ids=lambda env: " ".join(env.values()))
def test_redirected_output_is_utf8_whatever_the_console(
    tiny: Path, odd_album: Path, env: dict[str, str]
) -> None:
    done = diptych("classify", odd_album, "dog", "cat", "--csv", "-m", tiny, env=env)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode("utf-8", "surrogateescape"))))
    paths = [row["path"] for row in rows]
    assert sorted(map(os.path.basename, paths)) == ["caf\udce9.png", "猫.png"]
    assert all(map(os.path.exists, paths))  # names keep their bytes, so that other programs can open them


def test_json_is_valid_and_its_names_can_be_opened(tiny: Path, odd_album: Path) -> None:
    done = diptych("classify", odd_album, "dog", "cat", "--json", "-m", tiny, env=CONSOLES[1])
    paths = [picture["path"] for picture in json.loads(done.stdout.decode("utf-8"))["pictures"]]
    assert sorted(map(os.path.basename, paths)) == ["caf\udce9.png", "猫.png"]
    assert all(map(os.path.exists, paths))
    assert json.loads(json_text(json.dumps({"a": "\udce9猫"}, ensure_ascii=False))) == {"a": "\udce9猫"}


def test_names_on_standard_input_are_bytes_of_the_file_system(tiny: Path, odd_album: Path) -> None:
    for listed in (b"\n", b"\0", b"\r\n"):
        names = listed.join(os.fsencode(path) for path in sorted(odd_album.iterdir())) + listed
        done = diptych("classify", "-", "dog", "cat", "--csv", "-m", tiny, env=CONSOLES[0], stdin=names)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 3
    names = str(odd_album / "猫.png").encode("utf-16")  # as PowerShell pipes text
    done = diptych("classify", "-", "dog", "cat", "--csv", "-m", tiny, env={}, stdin=names)
    assert "猫.png" in done.stdout.decode()


def test_a_terminal_of_few_letters_shows_what_it_can(tiny: Path, odd_album: Path) -> None:
    """On an ASCII pseudo-terminal nothing crashes, and the mark of a shortened line is ASCII."""
    pty = pytest.importorskip("pty")
    master, slave = pty.openpty()
    words = ["classify", odd_album, "dog", "cat", "--top", "1", "-m", tiny]
    process = subprocess.Popen(
        [sys.executable, "-m", "diptych", *map(str, words)],
        stdout=slave,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={
            **os.environ,
            "PYTHONIOENCODING": "ascii",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "50",
            "TERM": "dumb",
        },
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            data = os.read(master, 4096)
        except OSError:  # how Linux reports the end
            break
        if not data:
            break
        shown += data
    os.close(master)
    error = process.communicate()[1]
    assert process.returncode == 0, error
    assert shown.isascii()
    assert b"~" in shown


def test_lines_are_cut_by_a_letter_that_the_output_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fit_width("a cat on a mat", 6) == "a cat…"
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp437"))
    assert (fit_width("a cat on a mat", 6), fit_width("a/b/c.jpg", 6, tail=True)) == ("a cat~", "~c.jpg")


@TOLD
def test_files_read_in_a_guess_are_told(run: Run, tiny: Path, album: Path) -> None:
    Path("labels.txt").write_bytes("café\nforêt\n".encode("cp1252"))
    done = run("classify", album, "--labels", "labels.txt", "--json", "-m", tiny)
    assert "labels.txt is not UTF-8 and was read as Windows-1252" in done.stderr
    assert {top["label"] for picture in json.loads(done.stdout)["pictures"] for top in picture["top"]} == {
        "café",
        "forêt",
    }


@TOLD
def test_of_many_files_a_few_are_named_and_the_rest_counted(run: Run, tiny: Path) -> None:
    for number in range(9):
        paint(Path("album") / f"{number}.png", number)
        (Path("album") / f"{number}.txt").write_bytes(f"café {number}".encode("cp1252"))
    done = run("embed", "album", "--to", "vectors", "-m", tiny)
    assert done.exit_code == 0, done.stderr
    assert done.stderr.count("was read as Windows-1252") == 3
    assert "6 more files are not UTF-8 and were read as Windows-1252" in " ".join(done.stderr.split())


def test_words_name_pictures_in_either_normal_form(tmp_path: Path) -> None:
    picture = paint(
        tmp_path / unicodedata.normalize("NFD", "Möbel") / unicodedata.normalize("NFD", "Tür.png")
    )
    for word in (tmp_path / "Möbel", tmp_path / "Möbel" / "Tür.png"):
        assert gather([str(word)], allow_urls=False, stdin=io.StringIO()) == [str(picture)]


@pytest.mark.parametrize("name", ["captions.txt", "coco.json"])
def test_training_on_no_kind_of_pairs(run: Run, name: str) -> None:
    Path(name).write_text("image,caption\na.jpg,a dog\n" if name.endswith("txt") else '{"annotations": []}')
    done = run("train", "--pairs", name, "--out", "run")
    assert done.exit_code == 2
    message = " ".join(done.stderr.split())
    assert "no known kind of pairs: expected tar, CSV, TSV, Parquet or a folder" in message
