"""Search queries: words, pictures, weights and minus signs; texts longer than the context length."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from diptych.catalog.search.query import Term, encode_long, encode_query, missing_pictures, parse_query
from diptych.errors import InputError
from diptych.inputs.long_texts import LongTextWarning, report_long
from tests.catalog.catalogs import paint
from tests.toys import ToyEncoder


@pytest.mark.parametrize(
    ("words", "terms"),
    [
        ("a dog in the snow", [("text", "a dog in the snow", 1)]),
        (["a", "dog"], [("text", "a dog", 1)]),
        ('"beach" + "sea" - "people"', [("text", "beach", 1), ("text", "sea", 1), ("text", "people", -1)]),
        (
            ["beach", "+", "2:sea", "-", "0.5:people"],
            [("text", "beach", 1), ("text", "sea", 2), ("text", "people", -0.5)],
        ),
        ("#17", [("stored", "17", 1)]),
        (["a dog", "+", "#3"], [("text", "a dog", 1), ("stored", "3", 1)]),
        ("black-and-white cat", [("text", "black-and-white cat", 1)]),
        ("12:30 or 2:red", [("text", "12:30 or 2:red", 1)]),
        ('"yellow" - 0.5:"green"', [("text", "yellow", 1), ("text", "green", -0.5)]),
        ("3:red car + 2:blue", [("text", "red car", 3), ("text", "blue", 2)]),
        ('"2:cat"', [("text", "2:cat", 1)]),
        ("nothing.jpg", [("text", "nothing.jpg", 1)]),
        ('"+" "-"', [("text", "+ -", 1)]),
        ("beach - people", [("text", "beach", 1), ("text", "people", -1)]),
        (["beach - people"], [("text", "beach", 1), ("text", "people", -1)]),
        (["#3 + snow"], [("stored", "3", 1), ("text", "snow", 1)]),
        (["beach", "-people"], [("text", "beach", 1), ("text", "people", -1)]),
        ("a dog -people in the snow", [("text", "a dog in the snow", 1), ("text", "people", -1)]),
        ("-people beach", [("text", "beach", 1), ("text", "people", -1)]),
        (["beach", "-old people"], [("text", "beach", 1), ("text", "old people", -1)]),
        (["-old people", "beach"], [("text", "beach", 1), ("text", "old people", -1)]),
        (
            'beach -0.5:"old people" +2:sea',
            [("text", "beach", 1), ("text", "old people", -0.5), ("text", "sea", 2)],
        ),
        ("beach -#3 +#4", [("text", "beach", 1), ("stored", "3", -1), ("stored", "4", 1)]),
        ("beach + -people", [("text", "beach", 1), ("text", "people", -1)]),
        ("a -> b -- c", [("text", "a -> b -- c", 1)]),
        (["t-shirt", "C++", ":-)"], [("text", "t-shirt C++ :-)", 1)]),
        (["red car + 2:blue sky", "at night"], [("text", "red car", 1), ("text", "blue sky at night", 2)]),
    ],
)
def test_words_are_read(words: str | list[str], terms: list[tuple[str, str, float]]) -> None:
    assert [(term.kind, term.value, term.weight) for term in parse_query(words)] == terms


def test_what_is_there_as_a_picture_is_one(tmp_path: Path) -> None:
    path = paint(tmp_path / "red cat.png", "red")
    terms = parse_query(["beach", str(path), "-", f"3:{path}"])
    assert terms == [Term("text", "beach"), Term("picture", str(path)), Term("picture", str(path), -3.0)]
    folder = tmp_path / "folder.png"
    folder.mkdir()
    for path, why in ((folder, "it is not a picture"), (folder / "no.png", "there is no such picture")):
        with pytest.raises(InputError, match=why):
            parse_query([str(path)])


def test_names_of_pictures_with_spaces_and_signs(tmp_path: Path) -> None:
    path = paint(tmp_path / "Beach - Sunset 2.jpg", "red")
    wanted = [Term("text", "a dog"), Term("picture", str(path)), Term("text", "snow", -1.0)]
    assert parse_query(["a", "dog", "+", str(path), "-", "snow"]) == wanted
    assert parse_query(f"a dog + {path} - snow") == parse_query([f"a dog + {path} -snow"]) == wanted
    assert parse_query(f'"{path}"') == [Term("text", str(path))]
    with pytest.raises(InputError, match=r"Beach - Dawn\.jpg: there is no such picture"):
        parse_query([str(tmp_path / "Beach - Dawn.jpg")])


_PIECES = st.sampled_from(
    [
        *(
            "+",
            "-",
            "beach",
            "-people",
            "+sea",
            "2:red",
            "-0.5:car",
            "#3",
            "-#4",
            "12:30",
            "->",
            "--",
            "t-shirt",
        ),
        *("é", '5"', "#", "cat.jpg", ":", "-2", "1:2:3", '"a dog"', '-"old people"', '2:"x - y"', '"'),
    ]
)


def terms_or_error(words: str | list[str]) -> list[Term] | str:
    try:
        return parse_query(words)
    except InputError as error:
        return str(error)


@given(st.lists(_PIECES, min_size=1, max_size=7), st.data())
def test_a_query_is_the_same_however_it_is_cut(pieces: list[str], data: st.DataObject) -> None:
    whole = terms_or_error(" ".join(pieces))
    assert terms_or_error([" ".join(pieces)]) == whole
    assert terms_or_error(" ".join(pieces).split()) == whole
    cut = data.draw(st.integers(0, len(pieces)))
    parts = [" ".join(part) for part in (pieces[:cut], pieces[cut:]) if part]
    if not any(part[:1] in "+-" and " " in part for part in parts):  # the shell may remove quotes
        assert terms_or_error(parts) == whole


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip)))
def test_any_words_are_the_same_as_one_string(words: list[str]) -> None:
    words = [part for word in words for part in word.split()]
    assert terms_or_error(words) == terms_or_error(" ".join(words))


@pytest.mark.parametrize(
    "words", ["", [], " ", ["+"], ["a", "+"], ["-", "a"], '"a" + - "b"', ["-", "2:a", "-", "b"]]
)
def test_queries_that_say_nothing(words: str | list[str]) -> None:
    with pytest.raises(InputError, match=r"query"):
        parse_query(words)


@pytest.mark.parametrize("words", ["dog + 0:cat", "0:cat", '0.0:"cat"', "dog - 0:cat", f"{'9' * 400}:cat"])
def test_weights_that_say_nothing(words: str) -> None:
    with pytest.raises(InputError, match=r"the weight of 'cat' is (0|inf): expected one from 0.001 to 1,000"):
        parse_query(words)


@pytest.mark.parametrize("number", ["9" * 19, "9" * 5000])
def test_numbers_that_no_picture_has(number: str) -> None:
    with pytest.raises(InputError, match=r"there is no picture #9+"):
        encode_query(
            ToyEncoder(), parse_query(f"#{number}"), stored=lambda number: np.eye(4, dtype=np.float32)[0]
        )


def test_a_mistyped_name_is_a_text_that_is_told_of(tmp_path: Path) -> None:
    path = paint(tmp_path / "cat.png", "red")
    words = ["a", "dog", "+", str(path), "-", "phto.JPG in it", "+", "~nobody-of-that-name/a.jpg"]
    terms = parse_query(words)
    assert [term.kind for term in terms] == ["text", "picture", "text", "text"]
    assert missing_pictures(terms) == ["phto.JPG", "~nobody-of-that-name/a.jpg"]


@given(st.text(max_size=60))
def test_any_text_is_a_query_or_is_refused(text: str) -> None:
    try:
        terms = parse_query(text)
    except InputError:
        return
    assert any(term.weight > 0 for term in terms)
    assert all(term.value for term in terms)


@given(
    st.lists(
        st.tuples(st.text("abc xyz", min_size=1).filter(str.strip), st.sampled_from("+-")),
        min_size=1,
        max_size=4,
    )
)
def test_what_is_shown_of_a_query_reads_as_the_same_query(parts: list[tuple[str, str]]) -> None:
    terms = [Term("text", text, -2.5 if sign == "-" else 1.0) for text, sign in parts]
    terms[0] = Term("text", parts[0][0])
    shown = " + ".join(map(str, terms)).replace("+ -", "-")
    assert parse_query(shown) == terms


class FiveWords(ToyEncoder):
    """An encoder that reads five words and reports longer texts."""

    def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        report_long(texts, [len(text.split()) for text in texts], 5, "cut")
        return super().encode_texts([" ".join(text.split()[:5]) for text in texts])


def test_long_texts_are_read_to_their_end() -> None:
    encoder = FiveWords()
    text = "a plain wall at home and far behind it something all in red"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row, parts = encode_long(encoder.encode_texts, text)
        assert parts > 1
        assert np.linalg.norm(row) == pytest.approx(1)
        grey, red = ToyEncoder().encode_texts(["wall", "red"])
        assert row @ red > grey @ red + 0.05
        assert encode_long(encoder.encode_texts, "a red wall")[1] == 1
        query = encode_query(encoder, parse_query(text), stored=lambda number: red)
    assert query.long_texts == (text,)


def test_one_word_that_is_too_long_is_cut() -> None:
    class OneLetter(ToyEncoder):
        def encode_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
            report_long(texts, [len(text) for text in texts], 1, "cut")
            return super().encode_texts(texts)

    with pytest.warns(LongTextWarning, match="1 of 1"):
        assert encode_long(OneLetter().encode_texts, "redredred")[1] == 1
    with pytest.warns(LongTextWarning, match="3 of 3"):
        assert encode_long(OneLetter().encode_texts, "red red red")[1] == 3


def test_terms_are_weighed_by_how_far_they_spread() -> None:
    rng = np.random.default_rng(0)
    sample = rng.standard_normal((500, 4)).astype(np.float32)
    sample[:, 3] *= 0.05  # the cosines of the second term hardly vary
    rows = {1: np.eye(4, dtype=np.float32)[0], 2: np.eye(4, dtype=np.float32)[3]}
    terms = [Term("stored", "1"), Term("stored", "2")]
    plain = encode_query(ToyEncoder(), terms, stored=rows.__getitem__)
    weighed = encode_query(ToyEncoder(), terms, stored=rows.__getitem__, sample=sample)
    assert plain.embedding[0] == pytest.approx(plain.embedding[3])
    scores = sample @ np.diag(weighed.embedding)
    assert scores[:, 0].std() == pytest.approx(scores[:, 3].std(), rel=0.01)
