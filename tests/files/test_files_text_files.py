"""Text files of users in all common encodings, and file names in another Unicode normal form."""

from __future__ import annotations

import codecs
import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diptych.errors import DataError
from diptych.files import text_files
from diptych.files.text_files import (
    TextEncodingWarning,
    decode_text,
    encoding_of,
    lines_of,
    read_text_file,
    text_lines,
)
from diptych.files.unicode_text import caseless, composed, existing_path
from diptych.media import find_images
from diptych.media.folders.captions import captions_of_text, parse_json

FRENCH = "un café à côté, n° 0 … “beau”"
MARKED = {
    "utf-8-sig": FRENCH.encode("utf-8-sig"),
    "utf-16-le": codecs.BOM_UTF16_LE + FRENCH.encode("utf-16-le"),
    "utf-16-be": codecs.BOM_UTF16_BE + FRENCH.encode("utf-16-be"),
    "utf-32-le": codecs.BOM_UTF32_LE + FRENCH.encode("utf-32-le"),
    "utf-32-be": codecs.BOM_UTF32_BE + FRENCH.encode("utf-32-be"),
    "no mark": FRENCH.encode(),
}


@pytest.mark.parametrize("encoding", MARKED)
def test_a_mark_decides_without_a_word(encoding: str) -> None:
    assert decode_text(MARKED[encoding], "a.txt") == FRENCH


def test_what_is_no_utf8_is_windows_1252_and_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(FRENCH.encode("cp1252"))
    with pytest.warns(TextEncodingWarning, match=r"notes\.txt is not UTF-8 and was read as Windows-1252"):
        assert read_text_file(path) == FRENCH


def test_one_wrong_byte_does_not_spoil_the_rest() -> None:
    """A table written by two programs: the valid UTF-8 in it is unchanged."""
    with pytest.warns(TextEncodingWarning):
        assert decode_text("猫, café, ".encode() + b"caf\xe9", "t.csv") == "猫, café, café"


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["a dog", "un café\nune forêt\n", "это дом\n", "猫と犬\n犬と猫\n", "a"])
def test_utf16_without_a_mark_is_known_by_its_zeros(text: str, encoding: str) -> None:
    assert decode_text(text.encode(encoding), "a.txt") == text


@pytest.mark.parametrize("text", [b"a dog\0", b"\0a dog on a mat", b"one\0two\0three"])
def test_a_stray_zero_makes_no_utf16(text: bytes) -> None:
    assert decode_text(text, "a.txt") == text.decode()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01",
        b"PK\x03\x04\x14\x00\xff\x81",
        b"\xff\xfea",
        b"\x89PNG\r\n\x1a\n",
    ],
)
def test_what_is_no_text_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(DataError, match=r"labels\.txt"):
        decode_text(data, "labels.txt")


def test_a_text_cut_in_the_middle_of_a_letter_is_still_utf8() -> None:
    """Captions are read up to a limit, which may split a character."""
    data = ("é" * 100).encode()[:-1]
    assert decode_text(data, "a.txt", cut=True) == "é" * 99
    assert captions_of_text(data, cut=True) == ("é" * 99,)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])), st.sampled_from(list(MARKED)))
@example("\ufeff", "no mark")
def test_any_text_comes_back(text: str, encoding: str) -> None:
    mark, codec = {
        "utf-8-sig": (codecs.BOM_UTF8, "utf-8"),
        "utf-16-le": (codecs.BOM_UTF16_LE, "utf-16-le"),
        "utf-16-be": (codecs.BOM_UTF16_BE, "utf-16-be"),
        "utf-32-le": (codecs.BOM_UTF32_LE, "utf-32-le"),
        "utf-32-be": (codecs.BOM_UTF32_BE, "utf-32-be"),
        "no mark": (b"", "utf-8"),
    }[encoding]
    got = decode_text(mark + text.encode(codec), "a.txt")
    assert got == (text if mark else text.removeprefix("\ufeff"))


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.binary(max_size=60))
def test_any_bytes_are_a_text_or_refused(data: bytes) -> None:
    try:
        text = decode_text(data, "a.txt")
    except DataError:
        return
    text.encode()  # no lone surrogates


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(
    st.lists(st.text(st.sampled_from("aé猫\U0001f600 ,"), max_size=5), max_size=8),
    st.sampled_from(["\n", "\r", "\r\n"]),
    st.sampled_from(
        [("", "utf-8"), ("utf-8-sig", "utf-8"), ("utf-16-le", "utf-16-le"), ("utf-32-be", "utf-32-be")]
    ),
    st.integers(0, 8),
)
def test_lines_say_where_they_lie(lines: list[str], end: str, mark: tuple[str, str], skip: int) -> None:
    """Reading from the offset of any line gives that line and all later ones."""
    name, codec = mark
    bom = {"": b"", "utf-8-sig": codecs.BOM_UTF8, "utf-16-le": codecs.BOM_UTF16_LE}.get(
        name, codecs.BOM_UTF32_BE
    )
    data = bom + "".join(line + end for line in lines).encode(codec)
    whole = list(text_lines(io.BytesIO(data), "t.txt"))
    assert [line for line, _ in whole] == [line + end for line in lines]
    assert sum(size for _, size in whole) == (len(data) if lines else 0)
    file = io.BytesIO(data)
    file.seek(sum(size for _, size in whole[:skip]))
    assert (
        list(text_lines(file, "t.txt"))[:1] == [(line, size) for line, size in whole[skip : skip + 1]]
        or skip == 0
    )


def test_lines_end_in_any_of_three_ways() -> None:
    assert lines_of("a dog\ra cat\ra red car\r") == ["a dog", "a cat", "a red car"]
    assert [line for line, _ in text_lines(io.BytesIO(b"ab\rc"), "t.txt")] == ["ab\r", "c"]
    assert lines_of("a\u2028b\x85c\n") == ["a\u2028b\x85c"]  # separators at which str.splitlines would split


def test_a_text_of_no_bytes_is_utf8() -> None:
    assert encoding_of(b"") == ("utf-8", 0)


def test_captions_in_any_encoding_and_no_word_where_they_are_no_text() -> None:
    with pytest.warns(TextEncodingWarning, match="a.json"):
        assert parse_json('{"caption": "café"}'.encode("cp1252"), "a.json") == {"caption": "café"}
    assert parse_json('{"caption": "café"}'.encode("utf-16"), "a.json") == {"caption": "café"}
    with pytest.warns(UserWarning, match=r"a\.txt is not a text.*its captions are left out"):
        assert captions_of_text(b"\xff\xd8\xff\xe0\x00\x10JFIF", "a.txt") == ()


NFD = unicodedata.normalize("NFD", "Müller Ångström")


def test_normal_forms_and_case() -> None:
    assert composed(NFD) == "Müller Ångström" != NFD
    assert caseless(NFD) == caseless("MÜLLER ÅNGSTRÖM")
    assert caseless("ᾳ") == caseless(unicodedata.normalize("NFD", "ᾼ"))  # case folding gives two letters


@pytest.mark.parametrize(("stored", "asked"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_files_are_found_under_the_other_normal_form(tmp_path: Path, stored: str, asked: str) -> None:
    form = unicodedata.normalize
    folder = tmp_path / form(stored, "Möbel")
    folder.mkdir()
    (folder / form(stored, "Müller.png")).write_bytes(b"")
    wanted = tmp_path / form(asked, "Möbel") / form(asked, "Müller.png")
    assert existing_path(wanted) == folder / form(stored, "Müller.png")
    assert find_images([wanted]) == find_images([wanted.parent]) == [folder / form(stored, "Müller.png")]
    assert existing_path(tmp_path / form(asked, "Küche")) == tmp_path / form(asked, "Küche")


def test_of_both_forms_the_one_that_is_written_is_meant(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "ü.txt")).write_text(form)
    assert existing_path(tmp_path / "ü.txt").read_text() == "NFC"


@pytest.mark.parametrize("end", ["", "\r", "\n"])
def test_a_line_of_utf16_is_searched_a_bounded_number_of_times(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched = []

    class Counting:
        def findall(self, text: str) -> list[str]:
            searched.append(len(text))
            return pattern.findall(text)

    pattern = text_files._WIDE_LINE
    monkeypatch.setattr(text_files, "_WIDE_LINE", Counting())
    for size in (2**20, 2**21):
        searched.clear()
        data = codecs.BOM_UTF16_LE + (f"first{end}" + "x" * size).encode("utf-16-le")
        lines = [line for line, _ in text_lines(io.BytesIO(data), "t.csv")]
        assert lines == ([f"first{end}", "x" * size] if end else ["first" + "x" * size])
        assert sum(searched) <= size + 2**17


@pytest.mark.parametrize("before", range(2**15 - 3, 2**15 + 2))
def test_line_ends_at_the_end_of_a_piece(before: int) -> None:
    text = "x" * before + "\r\n" + "y" * 2**15 + "\rz\n"
    lines = list(text_lines(io.BytesIO(codecs.BOM_UTF16_LE + text.encode("utf-16-le")), "t.csv"))
    assert [line for line, _ in lines] == ["x" * before + "\r\n", "y" * 2**15 + "\r", "z\n"]
    assert sum(size for _, size in lines) == 2 * len(text) + 2
