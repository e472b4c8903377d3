"""Queries on the command line: operators with and without quotes, words that look like options."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import Result

from diptych.catalog import parse_query
from diptych.cli.main import app
from diptych.cli.search.search import split_query
from diptych.errors import InputError

Run = Callable[..., Result]
COMMAND = get_command(app).commands["search"]  # type: ignore[attr-defined]


def split(*args: str) -> tuple[list[str], list[str]]:
    return split_query(args, COMMAND.params)


@pytest.mark.parametrize(
    ("args", "query"),
    [
        (["beach", "-people"], ["beach", "-people"]),
        (["-people", "beach", "-k", "3"], ["-people", "beach"]),
        (
            ["beach", "-cat", "-kids", "-map", "-quiet", "-hat"],
            ["beach", "-cat", "-kids", "-map", "-quiet", "-hat"],
        ),
        (["beach", "-", "people", "-p0"], ["beach", "-", "people"]),
        (["--in", "-people", "beach", "-c./catalog", "-c", "-x", "-k12"], ["beach"]),
        (["beach", "--after=2013", "--", "-k", "--all"], ["beach", "-k", "--all"]),
        (["beach", "-old people", "-5", "-2:sea", "-#3"], ["beach", "-old people", "-5", "-2:sea", "-#3"]),
        (["snow", "-n", "--bogus"], ["snow"]),
        (["snow", "--top"], ["snow"]),
    ],
)
def test_words_and_options(args: list[str], query: list[str]) -> None:
    chosen, words = split(*args)
    assert words == query
    assert sorted(chosen + words) == sorted(arg for arg in args if arg != "--")


@given(st.lists(st.text(min_size=1, max_size=9)))
def test_nothing_is_lost_and_behind_two_dashes_all_is_query(args: list[str]) -> None:
    words = [arg for arg in args if arg != "--"]
    chosen, query = split(*words)
    assert sorted(chosen + query) == sorted(words)
    assert split("--", *args) == ([], args)


_WORDS = st.sampled_from(
    ["+", "-", "beach", "-people", "-cat", "+sea", "-2:red", "#3", "-#4", "a - b", '-"x y"']
)


@given(st.lists(_WORDS, min_size=1, max_size=6))
def test_the_command_reads_what_python_reads(words: list[str]) -> None:
    observed: list[object] = []
    for args in (words, [" ".join(words)], ["--all", "--", *words]):
        context = COMMAND.make_context("search", list(args))
        try:
            observed.append(parse_query(context.params["query"]))
        except InputError as error:
            observed.append(str(error))
    assert observed[0] == observed[2]
    if not any(word[:1] == "-" and " " in word for word in words):
        assert observed[0] == observed[1]


def test_the_whole_way(
    run: Run, tiny: Path, album: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DIPTYCH_CATALOG", str(tmp_path / "catalog"))
    assert run("index", album, "-m", tiny).exit_code == 0
    expected = ['"beach"', '- "people"']
    for words in (["beach - people"], ["beach", "-", "people"], ["beach", "-people"], ["beach -people"]):
        done = run("search", *words, "--all", "--json")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["query"] == expected
    done = run("search", "-people", "#1 + snow", "--all", "-q")
    assert done.exit_code == 0
    assert done.stderr == ""
    refused = run("search", "beach", "-n", "5")
    assert refused.exit_code == 2
    assert "No such option: -n" in refused.stderr
