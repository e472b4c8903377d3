"""Language detection: warnings for languages a model does not know; none for English, names, single words."""

from __future__ import annotations

# ruff: noqa: RUF001 (the letters are meant)
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.inputs import (
    Tokenizer,
    TokenizerConfig,
    first_language_mismatch,
    language_mismatch,
    load_tokenizer,
)
from diptych.inputs.languages import ENGLISH, NAMES, STOP_WORDS, latin_languages, script_of


@pytest.fixture(scope="module")
def english() -> Tokenizer:
    return load_tokenizer()


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("ein Hund im Schnee", "German"),
        ("Zwei Kinder und ein Pferd", "German"),
        ("un chien dans la neige", "French"),
        ("une femme avec un enfant", "French"),
        ("un perro en la playa", "Spanish"),
        ("dos niños junto a un árbol", "Spanish"),
        ("un cane sulla spiaggia", "Italian"),
        ("um cachorro na praia", "Portuguese"),
        ("een hond in de sneeuw", "Dutch"),
        ("kobieta z psem na plaży", "Polish"),
        ("två katter och ett hus", "Swedish"),
        ("en hund på stranden", "Danish or Norwegian or Swedish"),
        ("koira lumessa ja kissa", "Finnish"),
        ("pes na sněhu", "Czech"),
        ("egy kutya a hóban", "Hungarian"),
        ("un câine pe plajă", "Romanian"),
        ("karda bir köpek", "Turkish"),
        ("một con chó trên tuyết", "Vietnamese"),
        ("seekor anjing di pantai", "Indonesian"),
    ],
)
def test_languages_in_latin_letters(english: Tokenizer, text: str, language: str) -> None:
    result = language_mismatch(text, english)
    assert result is not None
    assert f"looks {language}, and this model reads English" in result
    assert "ViT-B-16-SigLIP2" in result


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("собака в снегу", "Cyrillic"),
        ("雪の中の犬", "Japanese"),
        ("在雪地里的狗", "Chinese or Japanese"),
        ("猫", "Chinese or Japanese"),
        ("눈 속의 개", "Korean"),
        ("बर्फ में कुत्ता", "Devanagari"),
        ("كلب في الثلج", "Arabic"),
        ("כלב בשלג", "Hebrew"),
        ("σκύλος στο χιόνι", "Greek"),
        ("สุนัขในหิมะ", "Thai"),
    ],
)
def test_scripts(english: Tokenizer, text: str, script: str) -> None:
    result = language_mismatch(text, english)
    assert result is not None
    assert f"is in {script}, which this model will not understand (it reads English" in result


SILENT = [
    *(
        "a dog",
        "",
        "   ",
        "42",
        "!?",
        "🐕🐕",
        "π",
        "the α particle",
        "β-carotene",
        "Perro",
        "Hund",
        "der Hund",
    ),
    *("Los Angeles at night", "El Niño", "Rio de Janeiro", "Charles de Gaulle", "Das Boot", "La La Land"),
    *(
        "pain au chocolat",
        "crème de la crème",
        "coq au vin",
        "salsa con queso",
        "café",
        "jalapeño",
        "São Paulo",
    ),
    *("Van der Waals", "Ludwig van Beethoven", "the UN", "MIT", "im a dog", "candy cane", "apple pies"),
    *(
        "Casa de Campo",
        "Hotel Playa Caballo",
        "Un Chien Andalou",
        "Puerto de la Cruz",
        "Notre Dame de Paris",
        "yin and yang",
    ),
    *("the word 犬 on a red shirt", "a sign that says ein Hund und eine Katze in the street of the old town"),
]


@pytest.mark.parametrize("text", SILENT)
def test_english_names_and_single_words_pass(english: Tokenizer, text: str) -> None:
    assert language_mismatch(text, english) is None


@pytest.mark.shared
def test_english_captions_pass(shared: Any, english: Tokenizer) -> None:
    captions: list[str] = []
    with tarfile.open(shared / "data/flickr8k-test.tar") as tar:
        for member in tar:
            if member.name.endswith(".json") and (file := tar.extractfile(member)) is not None:
                captions += json.load(file)["captions"]
    assert len(captions) == 5000
    assert [caption for caption in captions if language_mismatch(caption, english)] == []


def test_what_is_stated_of_a_model_counts(english: Tokenizer) -> None:
    german = "ein Hund im Schnee"
    assert language_mismatch(german, english, ("mul",)) is None
    assert language_mismatch(german, english, ("de",)) is None
    assert "reads Russian, French" not in (language_mismatch(german, english, ("ru", "fr")) or "")
    assert "this model reads ru, French" in (language_mismatch(german, english, ("ru", "fr")) or "")
    assert language_mismatch("собака в снегу", english, ("ru",)) is None
    assert language_mismatch("собака в снегу", english, ("de",)) is not None
    assert language_mismatch("en hund på stranden", english, ("sv",)) is None
    assert language_mismatch("雪の中の犬", english, ("ja",)) is None


def write_table(folder: Path, letters: str) -> None:
    from tokenizers import Tokenizer as RustTokenizer
    from tokenizers import models, pre_tokenizers

    rust = RustTokenizer(models.Unigram([("<unk>", 0.0), *((letter, -1.0) for letter in letters)], unk_id=0))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.add_special_tokens(["<unk>"])
    rust.save(str(folder / "tokenizer.json"))


def test_a_table_nobody_speaks_for_is_judged_by_its_letters(tmp_path: Path) -> None:
    write_table(tmp_path, "abcdefghijklmnopqrstuvwxyz")
    tokenizer = load_tokenizer(TokenizerConfig(kind="file", vocab_size=27, clean="none"), tmp_path)
    assert "its vocabulary lacks the letters" in (language_mismatch("собака в снегу", tokenizer) or "")
    assert language_mismatch("ein Hund im Schnee", tokenizer) is None
    other = tmp_path / "other"
    other.mkdir()
    write_table(other, "абвгдежзийклмнопрстуфхцчшщъыьэюя")
    tokenizer = load_tokenizer(TokenizerConfig(kind="file", vocab_size=33, clean="none"), other)
    assert language_mismatch("собака в снегу", tokenizer) is None


def test_a_large_table_reads_many_languages(tmp_path: Path) -> None:
    write_table(tmp_path, "abc")
    tokenizer = load_tokenizer(TokenizerConfig(kind="file", vocab_size=250_002), tmp_path)
    for text in ("собака в снегу", "ein Hund im Schnee", "猫"):
        assert language_mismatch(text, tokenizer) is None


def test_several_texts_are_judged_together(english: Tokenizer) -> None:
    assert first_language_mismatch(["Hund"], english) is None
    assert "German" in (first_language_mismatch(["Hund", "Katze", "Pferd"], english) or "")
    assert (first_language_mismatch(["a dog", "собака"], english) or "").startswith("'собака' is in Cyrillic")
    assert first_language_mismatch([], english) is None


@settings(max_examples=300)
@given(
    text=st.one_of(
        st.text(max_size=80),
        st.text(st.characters(categories=["Lo", "Mn", "Cs", "Zs"]), max_size=40),
        st.lists(st.sampled_from([word for table in STOP_WORDS.values() for word in table])).map(" ".join),
    ),
    length=st.sampled_from([4, 77]),
)
def test_any_text_gets_a_sentence_or_none(text: str, length: int) -> None:
    result = language_mismatch(text, load_tokenizer(TokenizerConfig(vocab_size=1024, context_length=length)))
    assert result is None or (result.startswith(("'", '"')) and result.endswith("(laion5b_s13b_b90k)"))
    assert script_of(text) is None or result is not None
    assert set(latin_languages(text)) <= set(STOP_WORDS)


def test_the_table_keeps_its_word() -> None:
    assert set(STOP_WORDS) == set(NAMES) - {"en"}
    for code, table in STOP_WORDS.items():
        assert len(table) >= 25, code
        assert not {word for word, weight in table.items() if weight == 1} & ENGLISH, code
        assert all(word == word.lower() for word in table), code
