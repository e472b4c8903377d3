"""Pickles parsed as data: the batches of CIFAR are read, calls are refused and never executed."""

from __future__ import annotations

import contextlib
import os
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.datasets import load_labelled
from diptych.datasets.formats.records import Array, read_pickle
from diptych.errors import DataError
from tests.layout_files import noise, python2_batch, write_cifar10


class Harm:
    """An object whose pickle requests a function call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("function", [os.system, eval, getattr, np.load, os.mkdir])
def test_a_call_of_anything_is_refused_and_not_made(tmp_path: Path, protocol: int, function: Any) -> None:
    mark = tmp_path / "it ran"
    argument = f"__import__('os').mkdir({str(mark)!r})" if function is eval else f"mkdir '{mark}'"
    argument = str(mark) if function is os.mkdir else argument
    data = pickle.dumps({"data": Harm(function, argument), "labels": []}, protocol)
    with pytest.raises(DataError, match="nothing in it was run"):
        read_pickle(written(tmp_path / "x", data))
    assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps(np.array([{}, os.system], dtype=object), 2),  # an array of objects
        b"\x80\x02cos\nsystem\nU\x04true\x85R.",
        b"\x80\x02cbuiltins\neval\n.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.",
        b"\x80\x02(U\x04truecos\nsystem\no.",  # OBJ
        b"\x80\x02(U\x04trueios\nsystem\n.",  # INST
        b"\x80\x02c__main__\nX\n)\x81.",  # NEWOBJ
        b"\x80\x02Pexternal\n.",  # PERSID
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",  # STACK_GLOBAL
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aU\x06base64\x86R.",  # another codec
    ],
)
def test_hostile_pickles_are_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match="nothing in it was run"):
        read_pickle(written(tmp_path / "x", data))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02r\xff\xff\xff\xff.",  # a memo of four billion entries
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00abc.",  # BINBYTES8 of 2 ** 56 bytes
        b"\x80\x02T\xff\xff\xff\x7fabc.",
        b"\x80\x02J\xff\xff\xff\x7f",
        b"",
        b"\x80\x02}",
        b"no pickle at all",
    ],
)
def test_no_instruction_takes_more_memory_than_the_file_has(tmp_path: Path, data: bytes) -> None:
    path = written(tmp_path / "x", data)
    tracemalloc.start()
    try:
        with contextlib.suppress(DataError):
            read_pickle(path)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_a_list_that_holds_itself_does_no_harm(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    path = written(tmp_path / "x", pickle.dumps({"data": endless, "labels": endless}, 2))
    result = read_pickle(path)
    assert result["data"] is result["data"][0]
    folder = write_cifar10(tmp_path / "c", noise(2, 3072), [0, 1], 2)
    (folder / "test_batch").write_bytes(path.read_bytes())
    with pytest.raises(DataError, match="no array of bytes called 'data'"):
        load_labelled(folder)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"labels": [0]}, "no array of bytes called 'data'"),
        ({"data": noise(1, 3072)}, "no list of numbers called 'labels'"),
        ({"data": noise(1, 3072), "labels": [-1]}, "no list of numbers"),
        ({"data": noise(1, 3072), "labels": ["a"]}, "no list of numbers"),
        ({"data": noise(1, 3071), "labels": [0]}, r"expected \(N, 3072\)"),
        ({"data": noise(1, 3072).astype(np.int64), "labels": [0]}, "no array of bytes"),
        ([1, 2], "is not a dictionary"),
    ],
)
def test_what_is_no_batch_is_told(tmp_path: Path, values: Any, told: str) -> None:
    folder = write_cifar10(tmp_path, noise(2, 3072), [0, 1], 2)
    (folder / "test_batch").write_bytes(pickle.dumps(values, 2))
    with pytest.raises(DataError, match=told):
        load_labelled(folder)


def test_an_array_that_lies_about_its_shape_is_told(tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path, noise(2, 3072), [0, 1])
    whole = python2_batch({"data": noise(2, 3072), "labels": [0, 1]})
    lie = whole.replace(b"J\x02\x00\x00\x00J\x00\x0c", b"J\x09\x00\x00\x00J\x00\x0c")
    assert lie != whole
    (folder / "test_batch").write_bytes(lie)
    with pytest.raises(DataError, match="6,144 bytes in an array of shape"):
        load_labelled(folder)


def test_a_batch_of_full_size_is_read(tmp_path: Path) -> None:
    names = [f"leptodactylus_pentadactylus_s_{i:06d}.png" for i in range(10_000)]
    values = {"data": noise(10_000, 3072), "labels": list(range(10)) * 1000, "filenames": names}
    path = written(tmp_path / "x", pickle.dumps(values, 2))
    result = read_pickle(path)
    assert isinstance(result["data"], Array)
    assert result["data"].data == values["data"].tobytes()
    assert result["filenames"][-1] == names[-1]


LEAVES = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False)
PLAIN = st.recursive(
    LEAVES | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=5), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=80)
@given(PLAIN, st.integers(3, 5))
def test_plain_values_come_back(tmp_path_factory: pytest.TempPathFactory, value: Any, protocol: int) -> None:
    path = written(tmp_path_factory.mktemp("p") / "x", pickle.dumps(value, protocol))
    assert read_pickle(path) == value


@settings(max_examples=150)
@given(st.data())
def test_a_damaged_pickle_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    protocol = data.draw(st.sampled_from([2, 4, 5]))
    whole = bytearray(pickle.dumps({"data": noise(1, 30), "labels": [0, 300, -5], "n": b"x"}, protocol))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = written(tmp_path_factory.mktemp("p") / "x", bytes(whole[: data.draw(st.integers(0, len(whole)))]))
    with contextlib.suppress(DataError):
        read_pickle(path)
