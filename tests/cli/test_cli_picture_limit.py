"""Every command that decodes pictures has the option that raises the pixel limit."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from diptych.cli.main import app

# Commands that do not decode pictures of the user.
WITHOUT = {"models", "compare", "evaluate datasets", "evaluate mean", "catalog"}
WITH_ALL_THE_SAME = {"catalog import"}


def commands(command: Any, name: str = "") -> dict[str, Any]:
    """Every command by its words."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return {name: command}
    return {
        key: value
        for word, item in inner.items()
        for key, value in commands(item, f"{name} {word}".strip()).items()
    }


def test_commands_that_decode_have_the_option() -> None:
    for name, command in commands(get_command(app)).items():
        options = {option for parameter in command.params for option in parameter.opts}
        expected = name in WITH_ALL_THE_SAME or not any(name.startswith(word) for word in WITHOUT)
        assert ("--max-pixels" in options) == expected, name


def test_the_option_and_the_variable_hold_for_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.effect_noise((64, 64), 90).save(tmp_path / "a.png")
    run = CliRunner()
    line = ["classify", str(tmp_path / "a.png"), "dog", "cat"]
    refused = run.invoke(app, [*line, "--max-pixels", "1000"])
    assert refused.exit_code == 2  # no picture could be read
    assert "over the limit of 1,000" in refused.output + refused.stderr
    assert "DIPTYCH_MAX_PIXELS" not in os.environ
    assert run.invoke(app, line).exit_code == 0
    monkeypatch.setenv("DIPTYCH_MAX_PIXELS", "1000")
    assert run.invoke(app, line).exit_code == 2
    assert run.invoke(app, [*line, "--max-pixels", "1MP"]).exit_code == 0
    wrong = run.invoke(app, [*line, "--max-pixels", "huge"])
    assert wrong.exit_code == 2
