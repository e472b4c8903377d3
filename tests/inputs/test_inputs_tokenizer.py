"""Tokenizers: token ids equal the recorded ones and those of a simple byte-pair encoder in this file."""

from __future__ import annotations

import gzip
import html
import json
import pickle
import re
import threading
import warnings
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diptych.errors import InputError, TextError, WeightsError
from diptych.inputs import LongTextWarning, TokenizerConfig, counted_long_texts, load_tokenizer
from diptych.inputs.tokenizer import fix_text

SMALL = TokenizerConfig(vocab_size=1024, context_length=16)
ASCII = st.text(st.characters(max_codepoint=127), max_size=40)
# Several scripts, combining marks, entities and mojibake, which exercise all cleaning steps.
MIXED = st.lists(
    st.sampled_from(
        (
            *(
                "a",
                "Dog",
                "'s",
                "\u2019s",
                "é",
                "e\u0301",
                "ß",
                "İ",
                "\u017f",
                "'\u017f",
                "Σ",
                "!",
                "?!",
                "_",
            ),
            *(
                "&amp;",
                "&amp;amp;amp;lt;",
                "&#39;",
                "&lt",
                "<b>",
                "â€™",
                "ﬁ",
                "\uff11",
                "²",
                "7",
                "日本",
                "ไทย",
            ),
            *("🐶", " ", "\t", "\r\n", "\x00", "\x0b", "\x1c", "\x85", "\u200b", "\ufeff", "\u0345"),
            *("<|endoftext|>", "<end_of_text>"),
        )
    ),
    max_size=12,
).map("".join)


@lru_cache
def reference_table(merges: int) -> tuple[dict[str, int], dict[tuple[str, str], int], dict[int, str]]:
    data = (files("diptych.inputs") / "data" / "bpe_simple_vocab_16e6.txt.gz").read_bytes()
    pairs = [tuple(line.split()) for line in gzip.decompress(data).decode().split("\n")[1 : merges + 1]]
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in visible]
    letter = dict(zip([*visible, *hidden], map(chr, [*visible, *range(256, 256 + len(hidden))]), strict=True))
    vocab = [*letter.values(), *(c + "</w>" for c in letter.values()), *(a + b for a, b in pairs)]
    return {v: i for i, v in enumerate(vocab)}, {p: i for i, p in enumerate(pairs)}, letter  # type: ignore[misc]


def reference_words(text: str) -> list[str]:
    """CLIP's pattern written by hand, for characters whose class is the same in Python's tables."""
    words, i = [], 0
    while i < len(text):
        tail = text[i:].replace("\u017f", "s").lower()
        ending = next((e for e in ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d") if tail.startswith(e)), None)
        kind = classify(text[i])
        stop = i + 1
        if ending:
            stop = i + len(ending)
        elif kind in "LP":
            while stop < len(text) and classify(text[stop]) == kind:
                stop += 1
        if ending or kind != "S":
            words.append(text[i:stop])
        i = stop
    return words


def classify(c: str) -> str:
    import unicodedata

    category = unicodedata.category(c)[0]
    if c.isspace() or c == "\u0345":
        return "S"
    return category if category in "LN" else "P"


def reference(text: str, merges: int) -> list[int]:
    vocab, ranks, letter = reference_table(merges)
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    ids = []
    for word in reference_words(" ".join(text.split()).lower()):
        parts = [letter[b] for b in word.encode()]
        parts[-1] += "</w>"
        while len(parts) > 1:
            best = min(pairwise(parts), key=lambda pair: ranks.get(pair, len(ranks)))
            if best not in ranks:
                break
            merged, i = [], 0
            while i < len(parts):
                step = 2 if tuple(parts[i : i + 2]) == best else 1
                merged.append("".join(parts[i : i + step]))
                i += step
            parts = merged
        ids += [vocab[part] for part in parts]
    return [512 + merges, *ids, 513 + merges]


@pytest.mark.shared
def test_ids_are_the_recorded_ones(shared: Any) -> None:
    rows = json.loads((shared / "parity/tokens.json").read_text(encoding="utf-8"))["rows"]
    with pytest.warns(LongTextWarning, match=r"^2 of 30 texts"):
        table = load_tokenizer()([row["text"] for row in rows])
    assert table.dtype == np.int64
    assert table.tolist() == [row["ids"] for row in rows]


@settings(max_examples=200)
@given(st.one_of(ASCII, MIXED))
def test_ids_are_those_of_a_plain_encoder(text: str) -> None:
    whole = load_tokenizer(TokenizerConfig(context_length=4096))
    assert whole.encode([text]) == [reference(text, 48894)]


@settings(max_examples=100)
@given(MIXED)
def test_a_smaller_vocabulary_uses_the_first_merges(text: str) -> None:
    small = load_tokenizer(TokenizerConfig(vocab_size=8192, context_length=4096))
    assert small.encode([text]) == [reference(text, 8192 - 512 - 2)]


@settings(max_examples=300)
@given(st.one_of(ASCII, MIXED, st.text(max_size=20)))
def test_the_short_way_around_ftfy_changes_nothing(text: str) -> None:
    # Line ends may stay unchanged: they are white space in both cases.
    assert fix_text(text).split() == html.unescape(html.unescape(ftfy.fix_text(text))).split()


@example("ŒÀ")  # in lower case it looks like a broken psi
@given(st.text(st.characters(max_codepoint=0x2FF, categories=("L", "N", "P", "Zs")), max_size=30))
def test_decoded_text_has_the_same_ids(text: str) -> None:
    tokenizer = load_tokenizer(TokenizerConfig(context_length=4096))
    text = fix_text(text)
    decoded = tokenizer.decode(tokenizer.encode([text])[0])
    assert re.sub(r"\s", "", decoded) == re.sub(r"\s", "", text.lower())
    if fix_text(decoded) == decoded:  # lower case may look like mojibake where capitals did not
        assert tokenizer.decode(tokenizer([decoded])[0].tolist()) == decoded


@given(st.lists(st.text(max_size=30), max_size=5))
def test_any_text_gives_a_well_formed_row(texts: list[str]) -> None:
    tokenizer = load_tokenizer(SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LongTextWarning)
        rows, table = tokenizer.encode(texts), tokenizer(texts)
    assert table.shape == (len(texts), 16)
    for ids, padded in zip(rows, table.tolist(), strict=True):
        assert ids[0] == 1022
        assert ids[-1] == 1023
        assert len(ids) <= 16
        assert padded == ids + [0] * (16 - len(ids))


def test_special_tokens_written_in_a_text_stay_text() -> None:
    tokenizer = load_tokenizer()
    for written in ("<start_of_text>", "<end_of_text>", "<|startoftext|>", "<|endoftext|>"):
        [ids] = tokenizer.encode([f"a {written} b"])
        assert ids.count(tokenizer.start_id) == 1
        assert ids.count(tokenizer.end_id) == 1
        assert tokenizer.decode(ids).replace(" ", "") == f"a{written}b"


def test_long_texts_are_cut_with_one_warning_that_counts_them() -> None:
    tokenizer = load_tokenizer(SMALL)
    with pytest.warns(LongTextWarning, match="2 of 3 texts are longer than 16 tokens") as caught:
        rows = tokenizer.encode(["x " * 15, "cat", "y " * 100])
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert [len(ids) for ids in rows] == [16, 4, 16]
    assert rows[0][-1] == rows[2][-1] == 1023
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(tokenizer.encode(["x " * 14])[0]) == 16  # the maximal length


def test_long_texts_are_refused_on_request() -> None:
    with pytest.raises(TextError, match=r"text 1 has 17 tokens, over the limit of 16 .*'x x"):
        load_tokenizer(SMALL).encode(["fine", "x " * 15], on_long="refuse")
    with pytest.raises(InputError, match="cut, refuse"):
        load_tokenizer(SMALL).encode(["fine"], on_long="drop")  # type: ignore[arg-type]


def test_a_lone_string_is_one_text_and_nothing_is_no_text() -> None:
    tokenizer = load_tokenizer()
    assert tokenizer("a cat").shape == (1, 77)
    assert tokenizer.encode("a cat") == tokenizer.encode(["a cat"])
    assert tokenizer([]).shape == (0, 77)
    assert tokenizer.encode([]) == []


@pytest.mark.parametrize("bad", [None, 3, b"bytes", ["nested"]])
def test_what_is_no_text_is_refused_by_its_place(bad: object) -> None:
    with pytest.raises(TextError, match=r"text 1 is .*expected a string"):
        load_tokenizer()(["fine", bad])  # type: ignore[list-item]


def test_decode_stops_at_the_end_and_refuses_foreign_ids() -> None:
    tokenizer = load_tokenizer()
    assert tokenizer.decode(tokenizer(["a dog!"])[0].tolist()) == "a dog !"  # 0 is padding and also "!"
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([0, 320]) == "!a"
    with pytest.raises(TextError, match="49408 is outside the vocabulary of 49408"):
        tokenizer.decode([49408])


def test_padding_is_what_the_config_says() -> None:
    tokenizer = load_tokenizer(TokenizerConfig(vocab_size=1024, context_length=4, pad_id=1023))
    assert tokenizer(["a"]).tolist() == [[1022, 320, 1023, 1023]]


def test_one_tokenizer_per_config_and_it_travels_to_other_processes() -> None:
    tokenizer = load_tokenizer(SMALL)
    assert load_tokenizer(TokenizerConfig(vocab_size=1024, context_length=16)) is tokenizer
    assert pickle.loads(pickle.dumps(tokenizer)) is tokenizer


def test_threads_share_a_tokenizer_while_its_memory_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.inputs.vocabulary._MAX_CACHED", 20)
    texts = [f"{word} {i} {word * 20}" for i, word in enumerate(["cat", "dog", "bird", "日本"] * 25)]
    expected = [reference(text, 510) for text in texts]
    tokenizer = load_tokenizer(TokenizerConfig(vocab_size=1024, context_length=500))
    wrong: list[str] = []

    def work(shift: int) -> None:
        for i in range(shift, len(texts) - 3):
            if tokenizer.encode(texts[i : i + 3]) != expected[i : i + 3]:
                wrong.append(texts[i])

    workers = [threading.Thread(target=work, args=(shift,)) for shift in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.fixture
def sentencepiece_like(tmp_path: Path) -> Path:
    """A tokenizer.json with an end token and without a start token, like that of SigLIP."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", "a", "photo", "of", "cat", "s", "under", "score", "Cat", "<", "/", ">"]
    rust = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.add_special_tokens(["<pad>", "</s>"])
    rust.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    rust.enable_truncation(4)
    rust.enable_padding(length=9)
    rust.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_tokenizer_file_is_padded_cut_and_cleaned_by_its_config(sentencepiece_like: Path) -> None:
    config = TokenizerConfig(kind="file", vocab_size=14, context_length=5, pad_id=1, clean="canonicalize")
    tokenizer = load_tokenizer(config, sentencepiece_like)
    assert (tokenizer.start_id, tokenizer.end_id) == (None, 1)
    assert tokenizer(["A photo, of Cat!", "under_score", ""]).tolist() == [
        [3, 4, 5, 6, 1],
        [8, 9, 1, 1, 1],
        [1, 1, 1, 1, 1],
    ]
    with pytest.warns(LongTextWarning, match="1 of 1"):
        assert tokenizer.encode(["a a a a a a a a a a"]) == [[3, 3, 3, 3, 1]]
    assert tokenizer.decode([3, 4, 1, 1]) == "a photo"


def test_a_tokenizer_file_keeps_what_its_config_keeps(sentencepiece_like: Path) -> None:
    config = TokenizerConfig(kind="file", vocab_size=14, context_length=9, clean="none")
    tokenizer = load_tokenizer(config, sentencepiece_like)
    assert tokenizer.encode(["Cat"]) == [[10, 1]]
    assert tokenizer.encode(["a </s> a"])[0].count(1) == 1
    assert tokenizer.encode(["a \ud800 a"]) == [[3, 2, 3, 1]]  # a lone surrogate is not a character


def test_a_tokenizer_file_that_is_not_there_or_broken_is_refused(tmp_path: Path) -> None:
    config = TokenizerConfig(kind="file", vocab_size=14)
    with pytest.raises(WeightsError, match=r"tokenizer\.json is not there"):
        load_tokenizer(config, tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="cannot be read as a tokenizer"):
        load_tokenizer(config, tmp_path)
    with pytest.raises(InputError, match="outside the model's folder"):
        load_tokenizer(TokenizerConfig(kind="file", vocab_size=14, file="../tokenizer.json"), tmp_path)


def test_long_texts_of_a_silent_count_are_not_told_outside() -> None:
    tokenizer = load_tokenizer(TokenizerConfig(context_length=8))
    with counted_long_texts() as outer:
        for silent in (True, False):
            with counted_long_texts(silent=silent) as inner:
                tokenizer(["a cat on a red mat by the door"])
            assert inner.cut == 1
            assert outer.cut == int(not silent)
