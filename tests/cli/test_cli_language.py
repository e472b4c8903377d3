"""The option `--language` of `diptych evaluate zero-shot` and `retrieval`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from typer.testing import Result

from diptych.backends import ExportedEncoder
from tests.backends.released_models import add_language_tokens, unpack
from tests.cli.cli_tools import paint

Run = Callable[..., Result]


def test_names_and_prompts_in_another_language(run: Run, tiny: Path, tmp_path: Path) -> None:
    for number in range(4):
        paint(tmp_path / "pets" / ("dog", "cat")[number % 2] / f"{number}.png", number)
    done = run("evaluate", "zero-shot", "pets", "--language", "es", "-m", tiny, "--json")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["language"] == "es"
    assert "una foto de {}." in printed["templates"]
    assert set(printed["per_class"]) == {"dog", "cat"}  # results use the English names for comparison
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
    for number in range(3):  # an additional field; the main captions are used where it is missing
        (tmp_path / "pairs" / f"{number}.json").write_text(json.dumps({"caption": f"picture {number}"}))
    other = run("evaluate", "retrieval", "pairs", "--language", "fr", "-m", tiny)
    assert other.exit_code == 2
    assert "has no field 'captions_fr'" in other.stderr
    message = run("evaluate", "retrieval", "pairs", "--language", "fr", "--field", "captions", "-m", tiny)
    assert message.exit_code == 0


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


@pytest.fixture
def read_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The language set on the tokenizer at each call of `encode_texts`; the model is in "siglip"."""
    add_language_tokens(unpack(tmp_path) / "siglip")
    languages: list[str | None] = []
    encode = ExportedEncoder.encode_texts

    def recorded(self: ExportedEncoder, texts: Sequence[str]) -> object:
        languages.append(self.tokenizer.config.language)
        return encode(self, texts)

    monkeypatch.setattr(ExportedEncoder, "encode_texts", recorded)
    return languages


def test_a_tokenizer_that_takes_a_language_is_set_to_it(
    run: Run, tmp_path: Path, read_languages: list[str | None]
) -> None:
    for number in range(4):
        name = ("dog", "cat")[number % 2]
        paint(tmp_path / "pets" / name / f"{number}.png", number)
        paint(tmp_path / "pairs" / f"{number}.png", number)
        captions = {f"captions{ending}": [f"{name} {number}{ending}"] for ending in ("", "_de", "_fr")}
        (tmp_path / "pairs" / f"{number}.json").write_text(json.dumps(captions))
    for words in (("zero-shot", "pets"), ("retrieval", "pairs")):
        read_languages.clear()
        done = run("evaluate", *words, "--language", "de", "-m", "siglip")
        assert done.exit_code == 0, done.stderr
        assert set(read_languages) == {"deu_Latn"}
        assert "this model reads" not in done.stderr
        absent = run("evaluate", *words, "--language", "fr", "-m", "siglip")
        assert absent.exit_code == 2
        assert "no token of a language 'fra_Latn'" in absent.stderr
        read_languages.clear()
        assert run("evaluate", *words, "-m", "siglip").exit_code == 0
        assert set(read_languages) == {None}  # English, the default of its tokenizer


def test_a_model_whose_language_cannot_be_set_is_refused(
    run: Run, tmp_path: Path, read_languages: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        paint(tmp_path / "pets" / ("dog", "cat")[number % 2] / f"{number}.png", number)
    monkeypatch.delattr(ExportedEncoder, "with_language")
    done = run("evaluate", "zero-shot", "pets", "--language", "de", "-m", "siglip")
    assert done.exit_code == 2
    assert "cannot set it to 'de'" in " ".join(done.stderr.split())
    assert read_languages == []
