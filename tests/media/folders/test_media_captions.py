"""Captions in sidecar files: any content gives text that can be stored."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.media.folders.captions import captions_of_fields, captions_of_text, parse_json

ANY = st.text(st.characters(exclude_categories=())) | st.just("\ud800 dog")  # lone surrogates included
JSON = st.dictionaries(ANY, st.recursive(ANY | st.none() | st.floats(), st.lists, max_leaves=9))


@given(JSON)
def test_any_fields_can_be_written(fields: dict[str, object]) -> None:
    result = parse_json(json.dumps(fields).encode())
    json.dumps(result, ensure_ascii=False).encode()
    assert parse_json(json.dumps(result).encode()) == result or "NaN" in json.dumps(result)


def test_half_of_a_pair_is_replaced_and_whole_ones_stay() -> None:
    data = rb'{"captions": ["\ud800 dog", "a \ud83d\udc36"], "url": "http://x/\udc00", "\ud800": {"n": 3}}'
    result = parse_json(data)
    assert captions_of_fields(result) == ("\ufffd dog", "a \U0001f436")
    assert (result["url"], result["\ufffd"]) == ("http://x/\ufffd", {"n": 3})


@pytest.mark.filterwarnings("ignore::UserWarning")  # of bytes that are not UTF-8
def test_what_is_no_object_has_no_fields() -> None:
    for data in (b"", b"[1]", b"{", b"\xff", b"[" * 10_000, b'{"a": ' * 700 + b"1" + b"}" * 700):
        assert isinstance(parse_json(data), dict)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of bytes that are not UTF-8
@given(st.binary())
def test_any_text_can_be_written(data: bytes) -> None:
    for caption in captions_of_text(data):
        assert caption.encode().decode().strip() == caption
