"""Hard negatives from a file: selected by the visit only, never the caption itself; invalid lines named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import DataError
from diptych.training.data import Negatives
from diptych.training.data.order import hash_keys

NUMBERS = hash_keys(str(n) for n in range(300))


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_lines_of_one_caption_add_up_and_all_get_their_turn(tmp_path: Path) -> None:
    single = {"caption": "a man bites a dog", "negatives": ["a dog bites a man", "a man bites a dog"]}
    more = {"caption": "a man bites a dog ", "negatives": [" a man bites a log"] * 3 + ["a man lights a dog"]}
    known = Negatives(write(tmp_path / "n.jsonl", single, "", more, {"caption": "b", "negatives": []}), 2)
    assert len(known) == 1
    chosen = known.of(["a man bites a dog"] * 300, NUMBERS)
    assert {text for pair in chosen for text in pair} == {
        "a dog bites a man",
        "a man bites a log",
        "a man lights a dog",
    }
    assert all(len(set(pair)) == 2 for pair in chosen)
    assert known.of(["a man bites a dog"], NUMBERS[7:8])[0] == chosen[7]  # the visit decides, not its index
    assert known.of(["b", "c"], NUMBERS[:2]) == [["b", "b"], ["c", "c"]]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        '["a"]',
        '{"caption": "a"}',
        '{"caption": 1, "negatives": []}',
        '{"caption": "a", "negatives": [1]}',
    ],
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "n.jsonl", {"caption": "a", "negatives": ["b"]}, line)
    with pytest.raises(DataError, match="line 2 is"):
        Negatives(path, 1)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl"):
        Negatives(tmp_path / "nowhere.jsonl", 1)


@pytest.mark.filterwarnings("ignore::diptych.files.text_files.TextEncodingWarning")
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "n.jsonl"
    path.write_bytes(content)
    try:
        known = Negatives(path, 2)
    except DataError:
        return
    assert known.of(["a"], np.array([1], np.uint64)) == [["a", "a"]]


def test_a_line_ends_where_json_lines_end(tmp_path: Path) -> None:
    line = json.dumps({"caption": "a\u2028b", "negatives": ["c\x85d"]}, ensure_ascii=False)
    assert len(Negatives(write(tmp_path / "n.jsonl", line, line), 1)) == 1


def test_half_of_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "n.jsonl").write_text(r'{"caption": "a", "negatives": ["b\ud800"]}')
    known = Negatives(tmp_path / "n.jsonl", 1)
    assert known.of(["a"], np.array([1], np.uint64)) == [["b\ufffd"]]
