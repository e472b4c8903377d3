"""A pickle stepped through: plain values come back as they were, and whatever names code is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.pickle_reader import PickleReader

LEAVES = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.tuples(),
)


class Plain(PickleReader):
    """Long texts and numbers besides; errors of ours."""

    plain = PickleReader.plain | {"BINUNICODE8"}

    def refuse(self, what: str) -> Any:
        raise InputError(what)


@given(VALUES, st.integers(2, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_back(value: Any, protocol: int) -> None:
    assert Plain(pickle.dumps(value, protocol), Path("x")).read() == value


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("code", [os.system, Path("x"), {1, 2}, object(), eval, ValueError("x")])
def test_what_names_code_is_refused(code: object, protocol: int) -> None:
    with pytest.raises(InputError):
        Plain(pickle.dumps([code], protocol), Path("x")).read()


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_an_error_of_its_own(data: bytes) -> None:
    try:
        value = PickleReader(b"\x80\x02" + data, Path("x")).read()
    except ValueError:
        return
    assert "__reduce__" not in str(value)


@given(VALUES, st.data())
def test_cut_short_is_told(value: Any, data: st.DataObject) -> None:
    whole = pickle.dumps(value, 4)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(ValueError, match="x"):
        Plain(whole[:cut], Path("x")).read()


@pytest.mark.parametrize("name", ["INST", "OBJ", "EXT1", "EXT4", "NEWOBJ_EX", "PERSID", "NEXT_BUFFER"])
def test_other_ways_of_calling_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"the pickle instruction {name}"):
        Plain(b"", Path("x"))._step(name, None)
