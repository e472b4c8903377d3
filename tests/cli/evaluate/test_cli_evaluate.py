"""`diptych evaluate zero-shot` and `retrieval`: tables and the JSON of CLIP_benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from diptych.encoder import Encoder
from tests.cli.cli_tools import paint

Run = Callable[..., Result]


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Two domains of two classes of two pictures."""
    for number in range(8):
        domain, kind = ("photo", "sketch")[number // 4], ("dog", "guitar")[number // 2 % 2]
        paint(tmp_path / "pack" / domain / kind / f"{number}.png", number)
    return tmp_path / "pack"


def test_zero_shot_table(run: Run, tiny: Path, classes: Path) -> None:
    done = run("evaluate", "zero-shot", classes, "--domain", "each", "-m", tiny)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("data set"))
    assert lines[header].split() == ["data", "set", "protocol", "metric", "value", "chance", "n"]
    rows = lines[header + 1 : header + 3]
    assert [row.split()[:3] for row in rows] == [
        ["pack/photo", "zero-shot", "acc1"],
        ["pack/sketch", "zero-shot", "acc1"],
    ]
    assert {row.split()[-2] for row in rows} == {"0.500"}  # chance level of two classes
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_zero_shot_json(run: Run, tiny: Path, classes: Path) -> None:
    done = run("evaluate", "zero-shot", classes, "--json", "-m", tiny)
    printed = json.loads(done.stdout)
    assert printed["task"] == "zeroshot_classification"
    assert 0 <= printed["metrics"]["acc1"] <= 1
    assert printed["n"] == 8
    assert run("evaluate", "zero-shot", classes, "--out", "x.json", "-q", "-m", tiny).exit_code == 0
    assert json.loads(Path("x.json").read_text())["metrics"] == printed["metrics"]


def test_zero_shot_among_some_classes(run: Run, tiny: Path, classes: Path) -> None:
    paint(classes / "photo" / "horse" / "8.png")
    Path("only.txt").write_text("guitar\nhorse\n")
    done = run("evaluate", "zero-shot", classes, "--only", "only.txt", "--json", "-m", tiny)
    assert json.loads(done.stdout)["n"] == 5
    assert json.loads(done.stdout)["chance"]["acc1"] == 0.5
    Path("only.txt").write_text("violin\n")
    refused = run("evaluate", "zero-shot", classes, "--only", "only.txt", "-m", tiny)
    assert refused.exit_code == 2
    assert "violin" in refused.stderr


def test_other_words_for_the_classes(run: Run, tiny: Path, classes: Path) -> None:
    Path("names.json").write_text('{"dog": "a hound", "guitar": "a lute"}')
    done = run("evaluate", "zero-shot", classes, "--names", "names.json", "-m", tiny)
    assert done.exit_code == 0, done.stderr


def test_several_texts_for_a_class(
    run: Run, tiny: Path, classes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diptych import evaluation
    from diptych.evaluation.protocols import measures

    observed: list[object] = []
    measure = evaluation.evaluate_zero_shot

    def watched(encoder: Encoder, dataset: evaluation.ImageDataset, names: Any, **settings: Any) -> Any:
        observed.append(names)
        return measure(encoder, dataset, names, **settings)

    monkeypatch.setattr(measures, "evaluate_zero_shot", watched)
    Path("names.json").write_text('{"guitar": null, "dog": ["a hound", "a puppy"]}')
    done = run("evaluate", "zero-shot", classes, "--names", "names.json", "--json", "-m", tiny)
    assert done.exit_code == 0, done.stderr
    assert observed == [{"guitar": ["guitar"], "a hound": ["a hound", "a puppy"]}]
    assert json.loads(done.stdout)["per_class"].keys() == {"a hound", "guitar"}
    for names, message in (
        ('{"pet": {"dog": null}, "guitar": null}', "is a hierarchy"),
        ('{"dog": ["it", "a hound"], "guitar": "it"}', "begin with the same text"),
    ):
        Path("names.json").write_text(names)
        refused = run("evaluate", "zero-shot", classes, "--names", "names.json", "-m", tiny)
        assert refused.exit_code == 2
        assert message in refused.stderr


def test_retrieval(run: Run, tiny: Path, tmp_path: Path) -> None:
    for number in range(3):
        paint(tmp_path / "pairs" / f"{number}.png", number)
        (tmp_path / "pairs" / f"{number}.txt").write_text(f"picture {number}\n")
    done = run("evaluate", "retrieval", "pairs", "-m", tiny)
    assert done.exit_code == 0, done.stderr
    assert "image R@10" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(
    "words", [("zero-shot", "gone"), ("retrieval", "gone"), ("zero-shot", "."), ("retrieval", ".")]
)
def test_no_data(run: Run, tiny: Path, words: tuple[str, ...]) -> None:
    done = run("evaluate", *words, "-m", tiny)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")


def test_a_picture_that_cannot_be_read_is_told(run: Run, tiny: Path, classes: Path) -> None:
    (classes / "photo" / "dog" / "broken.png").write_bytes(b"broken")
    done = run("evaluate", "zero-shot", classes, "-m", tiny)
    assert done.exit_code == 1
    assert "broken.png" in done.stderr
    assert "acc1" in done.stdout


@pytest.mark.parametrize("more", [(), ("--json")])
def test_each_domain_of_data_without_domains(run: Run, classes: Path, more: tuple[str, ...]) -> None:
    done = run("evaluate", "zero-shot", classes / "photo", "--domain", "each", "-m", "unused", *more)
    assert done.exit_code == 2
    assert "leave out --domain" in done.stderr


def test_data_sets_of_one_name_get_a_file_each(run: Run, tiny: Path, classes: Path) -> None:
    first, second = classes / "photo", classes / "more" / "photo"
    second.parent.mkdir()
    (classes / "sketch").rename(second)
    done = run("evaluate", "zero-shot", first, second, "--out", "x.json", "-m", tiny)
    assert done.exit_code == 0, done.stderr
    printed = [json.loads(Path(name).read_text()) for name in ("x-photo.json", "x-photo-2.json")]
    assert printed[0]["data_fingerprint"] != printed[1]["data_fingerprint"]


def test_what_is_measured_is_kept_when_a_later_set_fails(run: Run, tiny: Path, classes: Path) -> None:
    for path in (classes / "sketch").rglob("*.png"):
        path.write_bytes(b"broken")
    done = run("evaluate", "zero-shot", classes, "--domain", "each", "--out", "x.json", "-m", tiny)
    assert done.exit_code == 2
    assert "none of the 4 pictures" in done.stderr
    assert json.loads(Path("x-pack-photo.json").read_text())["n"] == 4
    assert "pack/photo" in done.stdout
