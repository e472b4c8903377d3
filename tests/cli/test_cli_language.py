"""`--language` of zero-shot and retrieval."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from cli_tools import paint
from typer.testing import Result

Run = Callable[..., Result]


def test_names_and_prompts_in_another_language(run: Run, tiny: Path, tmp_path: Path) -> None:
    for number in range(4):
        paint(tmp_path / "pets" / ("dog", "cat")[number % 2] / f"{number}.png", number)
    done = run("evaluate", "zero-shot", "pets", "--language", "es", "-m", tiny, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["language"] == "es"
    assert "una foto de {}." in told["templates"]
    assert set(told["per_class"]) == {"dog", "cat"}  # results keep the English names, to be compared by
    assert "not es" in done.stderr
    assert "note" not in run("evaluate", "zero-shot", "pets", "-m", tiny).stderr
    own = run(
        "evaluate", "zero-shot", "pets", "--language", "es", "--templates", "bare", "-m", tiny, "--json"
    )
    assert json.loads(own.stdout)["templates"] == ["{}"]


def test_classes_without_names_are_refused(run: Run, tiny: Path, tmp_path: Path) -> None:
    for number, name in enumerate(("dog", "teapot")):
        paint(tmp_path / "things" / name / f"{number}.png", number)
    done = run("evaluate", "zero-shot", "things", "--language", "de", "-m", tiny)
    assert done.exit_code == 2
    assert "1 class without a name in German: 'teapot'" in done.stderr
    words = {
        "language": "de",
        "templates": ["Foto: {}."],
        "names": {"dog": "ein Hund", "teapot": "eine Teekanne"},
    }
    (tmp_path / "mine.json").write_text(json.dumps(words))
    assert run("evaluate", "zero-shot", "things", "--language", "mine.json", "-m", tiny).exit_code == 0


def test_captions_in_another_language(run: Run, tiny: Path, tmp_path: Path) -> None:
    for number in range(3):
        paint(tmp_path / "pairs" / f"{number}.png", number)
        captions = {"captions": [f"picture {number}"], "captions_de": [f"Bild {number}"]}
        (tmp_path / "pairs" / f"{number}.json").write_text(json.dumps(captions))
    done = run("evaluate", "retrieval", "pairs", "--language", "de", "-m", tiny, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["language"] == "de"
    absent = run("evaluate", "retrieval", "pairs", "--language", "fr", "-m", tiny)
    assert absent.exit_code == 2
    assert "(field 'captions_fr')" in absent.stderr
    for number in range(3):  # a field of another name, which is read where the wanted one lacks
        (tmp_path / "pairs" / f"{number}.json").write_text(json.dumps({"caption": f"picture {number}"}))
    other = run("evaluate", "retrieval", "pairs", "--language", "fr", "-m", tiny)
    assert other.exit_code == 2
    assert "has no field 'captions_fr'" in other.stderr
    said = run("evaluate", "retrieval", "pairs", "--language", "fr", "--field", "captions", "-m", tiny)
    assert said.exit_code == 0


def test_captions_in_that_language_alone_are_enough(run: Run, tiny: Path, tmp_path: Path) -> None:
    for number in range(3):
        paint(tmp_path / "pairs" / f"{number}.png", number)
        (tmp_path / "pairs" / f"{number}.json").write_text(json.dumps({"captions_de": [f"Bild {number}"]}))
    done = run("evaluate", "retrieval", "pairs", "--language", "de", "-m", tiny, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["language"] == "de"


def test_captions_of_a_known_data_set_are_not_called_translated(run: Run, tiny: Path, tmp_path: Path) -> None:
    for number in range(3):
        paint(tmp_path / "data" / "flickr8k-test" / f"{number}.png", number)
        (tmp_path / "data" / "flickr8k-test" / f"{number}.txt").write_text(f"picture {number}")
    done = run("evaluate", "zero-shot", "data", "--dataset", "flickr8k", "--language", "de", "-m", tiny)
    assert done.exit_code == 2
    assert "has captions, which --language does not translate" in " ".join(done.stderr.split())
