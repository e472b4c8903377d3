"""File patterns: brace ranges, lists and globs, errors, and no access to network or shell."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diptych.errors import DataError
from diptych.files.patterns import expand_braces, find_files

plain = st.text(st.characters(exclude_characters="{},"), max_size=6)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("{0..3}", ["0", "1", "2", "3"]),
        ("{3..0..2}", ["3", "1"]),
        ("{098..101}", ["098", "099", "100", "101"]),
        ("{-1..1}", ["-1", "0", "1"]),
        ("{a,b}{1..2}", ["a1", "a2", "b1", "b2"]),
        ("x{a,{b,c}d}y", ["xay", "xbdy", "xcdy"]),
        ("{}", ["{}"]),
        ("{a", ["{a"]),
        ("a}{1,2}", ["a}1", "a}2"]),
        ("{x}{1,2}", ["{x}1", "{x}2"]),
        ("{,a}b", ["b", "ab"]),
    ],
)
def test_braces_as_in_bash(pattern, expected):
    assert expand_braces(pattern) == expected


@given(plain, st.lists(plain, min_size=2, max_size=4), plain)
def test_a_list_in_braces_gives_every_choice(head, choices, tail):
    assert expand_braces(f"{head}{{{','.join(choices)}}}{tail}") == [f"{head}{c}{tail}" for c in choices]


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 5))
def test_ranges_keep_their_width(low, length, width):
    names = expand_braces(f"s-{{{low:0{width}d}..{low + length:0{width}d}}}")
    assert [int(name[2:]) for name in names] == list(range(low, low + length + 1))
    assert all(len(name) - 2 >= min(width, len(name)) - 2 for name in names)


@given(st.text("{}.,0129a-", max_size=14))
def test_any_text_expands_or_is_refused(text):
    try:
        names = expand_braces(text)
    except DataError:
        return
    assert names


def test_a_slip_of_the_pen_is_refused():
    with pytest.raises(DataError, match="more than"):
        expand_braces("{0..99999999999}.tar")


def test_files_by_range_glob_join_and_list(tmp_path):
    for n in range(4):
        (tmp_path / f"s{n}.tar").touch()
    paths = [tmp_path / f"s{n}.tar" for n in range(4)]
    assert find_files(f"{tmp_path}/s{{0..3}}.tar") == paths
    assert find_files(f"{tmp_path}/*.tar") == paths
    assert find_files(f"{paths[2]}::{paths[0]}") == [paths[2], paths[0]]
    assert find_files([paths[1], f"{tmp_path}/s[01].tar"]) == [paths[1], paths[0]]


@pytest.mark.parametrize("name", ["https://x.org/a.tar", "s3://bucket/{0..3}.tar", "pipe:cat a.tar"])
def test_nothing_reaches_for_the_network_or_a_shell(name):
    with pytest.raises(DataError, match="local files only"):
        find_files(name)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(DataError, match=r"b\.tar does not exist"):
        find_files(f"{tmp_path}/b.tar")
    with pytest.raises(DataError, match="matches no file"):
        find_files(f"{tmp_path}/*.tar")
    with pytest.raises(DataError, match="names no file"):
        find_files([])
