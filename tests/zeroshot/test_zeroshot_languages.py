"""Class names and prompts in other languages: shipped files are complete, others are validated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diptych.errors import DataError, TextError
from diptych.inputs.languages import script_of
from diptych.zeroshot import class_names
from diptych.zeroshot.languages import languages, load_language

SCRIPTS = {"ru": "CYRILLIC", "zh": "CJK", "ja": "HIRAGANA", "ko": "HANGUL", "ar": "ARABIC"}


def test_what_is_shipped() -> None:
    wanted = {"de", "es", "fr", "it", "nl", "pt", "pl", "ru", "tr", "zh", "ja", "ko", "ar", "vi"}
    assert wanted <= set(languages())


@pytest.mark.parametrize("code", languages())
def test_each_language_is_whole(code: str) -> None:
    language = load_language(code)
    texts = language.class_texts(class_names("cifar10"), "cifar10")
    assert len(texts) == 10
    assert len(language.templates) >= 3
    assert len(set(language.templates)) == len(language.templates)
    assert not {*texts} & {*class_names("cifar10")}
    if code in SCRIPTS:
        assert (
            script_of(" ".join(item.replace("{}", next(iter(texts))) for item in language.templates))
            is not None
        )


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "swedish.json"
    value = {
        "language": "sv",
        "templates": ["ett foto av {}."],
        "names": {"Dog": ["en hund", "en vovve"], "cat": "en katt"},
    }
    path.write_text(json.dumps(value), encoding="utf-8")
    language = load_language(path)
    assert language.code == "sv"
    assert language.class_texts(["cat", "dog"], "toy") == {
        "en katt": ["en katt"],
        "en hund": ["en hund", "en vovve"],
    }
    with pytest.raises(
        DataError, match=r"toy has 2 classes without a name in sv: 'horse', 'ship'. Give them in"
    ):
        language.class_texts(["dog", "horse", "ship"], "toy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "is not an object"),
        ("{", "is not a JSON file"),
        ('{"templates": ["x"], "names": {}}', "not a list of texts with {}"),
        ('{"templates": [], "names": {}}', "not a list of texts with {}"),
        ('{"templates": ["{}"], "names": []}', "names are not an object"),
        ('{"templates": ["{}"], "names": {"dog": [""]}}', "words of 'dog'"),
        ('{"templates": ["{}"], "names": {"dog": 3}}', "words of 'dog'"),
    ],
)
def test_files_of_another_form(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(TextError, match=message):
        load_language(path)


def test_no_such_language() -> None:
    with pytest.raises(TextError, match=r"no language 'tlh': there are en, de, es"):
        load_language("tlh")
