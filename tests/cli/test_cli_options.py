"""Consistent option names over the whole command line, and shared options in every measurement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from diptych.cli.main import app

SHARED = {
    *("--report", "--json", "--quiet", "--fast", "--runtime", "--device", "--precision", "--threads"),
    *("--batch-size", "--cache", "--pretrained", "--limit", "--model"),
}
DRAWN_ONLY = ("audit relations", "audit abstract")  # --each is the number of drawn pictures
BETWEEN_MODELS = ("evaluate interpolate",)  # its two models are arguments
NO_MEASUREMENT = ("evaluate datasets", "evaluate mean")  # of files

# Options with one name and several meanings. This list may get shorter, not longer.
DIFFERENT = {
    "--add",  # classes of a classifier; tags set by hand
    "--baseline",  # a model; a race
    "--batch-size",  # pictures per step; pairs per training step
    "--copies",
    "--groups",  # a file of groups; a switch to show groups of a hierarchy
    "--keep",  # which duplicate is kept; which interpolated model is saved
    "--model",  # of training: a preset
    "--remove",  # as above
    "--out",  # a file or a folder
    "--templates",  # "auto" for typed labels
    "--to",  # output path; target format
    "--val",
}


def commands() -> Iterator[tuple[str, Any]]:
    """Every command of the application by its full name."""

    def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield name, command
            return
        for word, child in inner.items():
            yield from walk(child, f"{name} {word}".strip())

    return walk(typer.main.get_command(app), "")


def options(command: Any) -> Iterator[tuple[str, Any]]:
    """(long name, option) of a command."""
    for item in command.params:
        if item.param_type_name == "option":
            yield next(name for name in item.opts if name.startswith("--")), item


MEASUREMENTS = {
    name: command
    for name, command in commands()
    if name.split()[0] in ("evaluate", "audit") and name not in NO_MEASUREMENT
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_every_measurement_takes_the_shared_options(name: str) -> None:
    expected = SHARED - ({"--limit"} if name in DRAWN_ONLY else set())
    expected -= {"--model"} if name in BETWEEN_MODELS else set()
    assert expected <= {option for option, _ in options(MEASUREMENTS[name])}


def test_one_name_has_one_form_and_one_explanation() -> None:
    forms: dict[str, set[str]] = defaultdict(set)
    places: dict[str, list[str]] = defaultdict(list)
    for name, command in commands():
        for option, item in options(command):
            forms[option].add(item.metavar or "")
            places[option].append(name)
    differing = {option: places[option] for option, results in forms.items() if len(results) > 1}
    assert set(differing) == DIFFERENT, differing


def test_one_explanation_has_one_name() -> None:
    names: dict[str, set[str]] = defaultdict(set)
    for _, command in commands():
        for option, item in options(command):
            if item.help:
                names[item.help].add(option)
    columns = {"--age", "--gender", "--race"}
    assert [results for results in names.values() if len(results) > 1] == [columns]


def test_a_number_of_pictures_at_most_is_a_limit() -> None:
    """It once had four names: `--sample`, `--most`, `--train-pictures` and `--limit`."""
    for name, command in commands():
        for option, item in options(command):
            text = (item.help or "").lower()
            if item.metavar == "N" and "drawn at random" in text:
                assert option.endswith("limit"), (name, option)
            assert option not in ("--train-pictures", "--corrupt-pictures", "--picture-column"), name


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_progress_is_open_before_a_measurement_begins(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is open before the first slow step of a measurement (reading, hashing, loading a model)."""
    from diptych.cli.shared import measuring

    opened: list[tuple[str, bool]] = []

    class Opened(Exception):
        pass

    def progress(description: str, total: int | None, *, unit: str, quiet: bool) -> None:
        opened.append((description, quiet))
        raise Opened

    monkeypatch.setattr(measuring, "progress", progress)
    required = [item.name for item in MEASUREMENTS[name].params if item.required]
    with pytest.raises(Opened):
        MEASUREMENTS[name].callback(**dict.fromkeys(required), quiet=True)
    assert opened == [(name.split()[-1].replace("-", " "), True)]
