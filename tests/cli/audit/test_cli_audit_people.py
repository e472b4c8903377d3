"""`diptych audit bias`, `classes` and `association` from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.cli_tools import noisy_faces

Run = Callable[..., Result]


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    return noisy_faces(tmp_path / "faces")


def test_bias(run: Run, tiny: Path, faces: Path) -> None:
    done = run("audit", "bias", faces, "--minimum", "2", "-m", tiny, "--report", "out")
    assert done.exit_code == 0, done.stderr
    for printed in ("What differs", "(table 6)", "(table 7)", "(tables 3 to 5)", "(figure 18)", "perceived"):
        assert printed in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert Path("out/index.html").is_file()
    assert json.loads(Path("out/report.json").read_text())["minimum"] == 2


def test_bias_as_json_with_other_columns(run: Run, tiny: Path, faces: Path) -> None:
    table = faces / "people.csv"
    table.write_text(table.read_text().replace("file,age,gender,race", "file,years,sex,group"))
    words = ("--gender", "sex", "--threshold", "0.1", "--baseline", "Black", "--seed", "3")
    done = run("audit", "bias", faces, *words, "--json", "-m", tiny)
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["columns"] == {"gender": "sex"}
    assert printed["labels"] is None  # groups of eight are not ranked
    assert printed["seed"] == 3
    assert all(item["p"] is None for item in printed["disparities"])


def test_bias_tells_what_is_wrong_with_the_table(run: Run, tiny: Path, faces: Path) -> None:
    with (faces / "people.csv").open("a") as file:
        file.write("\ngone.png,3-9,Male,White\n")
    done = run("audit", "bias", faces, "-m", tiny)
    assert done.exit_code == 0
    assert "1 rows without a picture: 'gone.png'" in done.stderr
    (faces / "0.png").write_bytes(b"broken")
    assert run("audit", "bias", faces, "-m", tiny).exit_code == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("bias", "faces", "--race", "nation"), "its attributes are 'age', 'gender', 'race'"),
        (("bias", "faces", "--file", "who"), "its columns are 'file', 'age', 'gender', 'race'"),
        (("bias", "gone"), "is not there"),
        (("bias", "faces", "--table", "gone.csv"), "cannot be read"),
        (("bias", "faces", "--words", "gone.json"), "cannot be read"),
        (("bias", "faces", "--level", "2"), "between 0 and 1"),
        (("association", "faces", "--by", "nation"), "its attributes are 'age', 'gender', 'race'"),
        (("association", "--by", "race"), "give DATA"),
        (("association", "--sets", "gone.json"), "cannot be read"),
        (("classes", "gone.txt"), "cannot be read"),
        (("classes", "labels.txt", "--add", "x"), "give a sample"),
        (("classes", "labels.txt", "--sample", "faces", "--remove", "x"), "the labels are 'dog', 'cat'"),
    ],
)
def test_what_cannot_be_done(run: Run, tiny: Path, faces: Path, words: tuple[str, ...], message: str) -> None:
    Path("labels.txt").write_text("dog\ncat\n")
    done = run("audit", *words, "-m", tiny)
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())


def test_classes(run: Run, tiny: Path, faces: Path) -> None:
    Path("labels.txt").write_text("dog\ncat\nsomething else\n")
    done = run("audit", "classes", "labels.txt", "-m", tiny)
    assert done.exit_code == 0, done.stderr
    assert "The labels one by one" in done.stdout
    moved = run("audit", "classes", "labels.txt", "--sample", faces, "--add", "noise", "-m", tiny)
    assert "'noise' added" in moved.stdout
    assert max(map(len, moved.stdout.splitlines())) <= 80


def test_classes_that_harm_change_the_status(run: Run, tiny: Path) -> None:
    Path("labels.json").write_text('{"bad": ["criminal", "thief"], "criminal": null, "other": null}')
    done = run("audit", "classes", "labels.json", "--json", "-m", tiny)
    assert done.exit_code == 1
    assert json.loads(done.stdout)["warned"][0]["kind"] == "harm"


def test_association(run: Run, tiny: Path, faces: Path) -> None:
    alone = run("audit", "association", "-m", tiny, "--json")
    assert alone.exit_code == 0, alone.stderr
    assert {item["kind"] for item in json.loads(alone.stdout)["effects"]} == {"texts"}
    done = run("audit", "association", faces, "--minimum", "4", "-m", tiny, "--report", "out")
    assert done.exit_code == 0, done.stderr
    assert "How far groups lie apart" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert Path("out/effects-pictures.csv").is_file()
