"""`diptych evaluate compositional`: tables, JSON, files, a page; missing pictures and samples are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from diptych.backends import TorchEncoder
from tests.compositional_files import write_aro, write_sugar_crepe, write_winoground

Run = Callable[..., Result]
COMMAND = ("evaluate", "compositional")


def test_winoground_table(run: Run, tiny: Path, tmp_path: Path) -> None:
    done = run(*COMMAND, write_winoground(tmp_path / "w"), "-m", tiny)
    assert done.exit_code == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("winoground")]
    assert [row[1:4] for row in rows] == [
        ["selection", "text", "acc"],
        ["selection", "image", "acc"],
        ["selection", "acc", rows[2][3]],
    ]
    assert [row[-2:] for row in rows] == [["0.250", "5"], ["0.250", "5"], ["0.167", "5"]]
    assert all(word in done.stdout for word in ("collapsed", "Relation", "secondary", "Series", "Noun"))
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_sugar_crepe_means(run: Run, tiny: Path, tmp_path: Path) -> None:
    done = run(*COMMAND, write_sugar_crepe(tmp_path / "s", form="zip"), "-m", tiny)
    assert done.exit_code == 0, done.stderr
    words = " ".join(done.stdout.split())  # however the length of the model's path breaks the lines
    assert "SugarCrepe's replace" in words
    assert "SugarCrepe's add" not in words  # one of its two files is missing


def test_json_and_files(run: Run, tiny: Path, tmp_path: Path) -> None:
    write_aro(tmp_path / "a")
    done = run(*COMMAND, "a", "-m", tiny, "--json", "--out", "aro.json")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert [(item["dataset"], item["task"], sorted(item["metrics"])) for item in printed] == [
        ("aro/vg_relation", "image_caption_selection", ["acc", "macro_acc"]),
        ("aro/vg_attribution", "image_caption_selection", ["acc", "macro_acc"]),
    ]
    for item in printed:
        name = item["dataset"].replace("/", "-")
        assert json.loads(Path(f"aro-{name}.json").read_text())["metrics"] == item["metrics"]


def test_compare(run: Run, tiny: Path, tmp_path: Path) -> None:
    write_winoground(tmp_path / "w")
    for name in ("one.json", "two.json"):
        assert run(*COMMAND, "w", "-m", tiny, "-q", "--out", name).exit_code == 0
    done = run("compare", "one.json", "two.json")
    assert done.exit_code == 0, done.stderr
    assert "Not enough to say, fewer than 30 cases in common: winoground." in done.stdout


def test_report(run: Run, tiny: Path, tmp_path: Path) -> None:
    write_aro(tmp_path / "a")
    done = run(*COMMAND, "a", "-m", tiny, "--report", "page")
    assert done.exit_code == 0, done.stderr
    text = Path("page/index.html").read_text()
    assert all(word in text for word in ("vg_relation", "next to", "wet_old", "49 cases"))
    assert len(json.loads(Path("page/report.json").read_text())["results"]) == 2


def test_a_limit_is_a_number_of_cases(run: Run, tiny: Path, tmp_path: Path) -> None:
    write_aro(tmp_path / "a")
    done = run(*COMMAND, "a", "-m", tiny, "--json", "--limit", "4")
    assert [(item["n"], item["sampled_from"]) for item in json.loads(done.stdout)] == [(4, 6), (4, 49)]
    table = run(*COMMAND, "a", "-m", tiny, "--limit", "4")
    assert "Random samples, not whole data sets: aro/vg_relation (4 of 6)" in " ".join(table.stdout.split())


def test_a_cache_is_used(run: Run, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sugar_crepe(tmp_path / "s")
    words = (*COMMAND, "s", "-m", tiny, "--cache", "rows", "--json", "--runtime", "torch")
    first = json.loads(run(*words).stdout)

    def refuse(*_: object) -> None:
        pytest.fail("a picture was encoded again")

    monkeypatch.setattr(TorchEncoder, "encode_images", refuse)
    monkeypatch.setattr(TorchEncoder, "encode_prepared", refuse, raising=False)
    again = run(*words)
    assert again.exit_code == 0, again.stderr
    assert [item["metrics"] for item in json.loads(again.stdout)] == [item["metrics"] for item in first]


def test_missing_pictures_are_told(run: Run, tiny: Path, tmp_path: Path) -> None:
    write_sugar_crepe(tmp_path / "s")
    (tmp_path / "s" / "val2017" / "blue.png").unlink()
    done = run(*COMMAND, "s", "-m", tiny)
    assert done.exit_code == 1
    assert "failed: 2 pictures left out; the first: blue.png: named by a test case" in done.stderr


def test_pictures_by_option(run: Run, tiny: Path, tmp_path: Path) -> None:
    write_sugar_crepe(tmp_path / "s")
    (tmp_path / "s" / "val2017").rename(tmp_path / "coco")
    refused = run(*COMMAND, "s", "-m", tiny)
    assert refused.exit_code == 2
    assert "--images PATH names a folder or archive elsewhere" in refused.stderr
    assert run(*COMMAND, "s", "-m", tiny, "--images", "coco").exit_code == 0


@pytest.mark.parametrize("words", [("gone",), (".",)])
def test_no_data(run: Run, tiny: Path, words: tuple[str, ...]) -> None:
    done = run(*COMMAND, *words, "-m", tiny)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
