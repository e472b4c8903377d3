"""The pickle reader: plain values are restored, and pickles that name code are refused."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.files.pickle_reader import PickledName, PickleReader

LEAVES = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.tuples(),
)


class Plain(PickleReader):
    """A reader of protocol 4 and long texts that knows one name, for a function and for a class."""

    literal_instructions = PickleReader.literal_instructions | {"BINUNICODE8"}
    optional_instructions = frozenset({"STACK_GLOBAL", "MEMOIZE", "FRAME"})

    def is_known_name(self, name: str) -> bool:
        return name == "toys.Thing"

    def on_call(self, name: str, arguments: Any) -> Any:
        return ["called", arguments]


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
    with contextlib.suppress(InputError):
        value = Plain(b"\x80\x02" + data, Path("x")).read()
        assert isinstance(value, str | int | float | list | dict | tuple | PickledName | None)


@given(VALUES, st.data())
def test_cut_short_is_told(value: Any, data: st.DataObject) -> None:
    whole = pickle.dumps(value, 4)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(InputError, match=r"^x: its pickle"):
        Plain(whole[:cut], Path("x")).read()


@pytest.mark.parametrize("name", ["INST", "OBJ", "EXT1", "EXT4", "NEWOBJ_EX", "PERSID", "NEXT_BUFFER"])
def test_other_ways_of_calling_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"the pickle instruction {name}"):
        Plain(b"", Path("x"))._step(name, None)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        (b"ctoys\nThing\n)R.", None),
        (b"ctoys\nThing\n)\x81.", "an object of toys.Thing"),  # calls and objects are distinguished
        (b"cposix\nsystem\n)R.", "holds posix.system"),
        (b"ctoys\nThing\n)R}b.", "the state a dict for a list"),
        (b"K\x01)R.", "a call of 1"),
        (b"K\x01)\x81.", "an object of 1"),
        (b"K\x01Q.", "the storage 1"),
        (b"}(K\x01K\x02u.", "items a list for a dict"),  # a key that is not a string
        (b"}(X\x01\x00\x00\x00au.", "items a list for a dict"),  # a key without a value
        (b"](K\x01e.", None),
        (b"}(K\x01e.", "items for a dict"),
    ],
)
def test_calls_objects_states_and_items(steps: bytes, told: str | None) -> None:
    reader = Plain(b"\x80\x02" + steps, Path("x"))
    if told is None:
        assert reader.read() in (["called", ()], [1])
        return
    with pytest.raises(InputError, match=told):
        reader.read()


def test_protocol_four_is_for_those_that_need_it() -> None:
    with pytest.raises(InputError, match=r"FRAME|MEMOIZE"):
        PickleReader(pickle.dumps(["a"], 4), Path("x")).read()


def test_copies_are_counted() -> None:
    text = b"X" + (1000).to_bytes(4, "little") + b"a" * 1000 + b"q\x00"
    bomb = b"\x80\x02(" + text + b"h\x00h\x00\x93" * 300 + b"t."

    class Any_(Plain):
        def is_known_name(self, name: str) -> bool:
            return True

    with pytest.raises(InputError, match="copies of its own parts"):
        Any_(bomb, Path("x")).read()
