"""Fixtures of the command line tests: a tiny model, an album, and a function that runs a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from diptych.cli.main import app
from tests.cli.cli_tools import paint

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder: an initialised, untrained model of the smallest preset."""
    from diptych.inputs import PreprocessConfig, TokenizerConfig
    from diptych.model.initialise import build
    from diptych.model.presets.table import preset
    from diptych.weights import ModelSpec, save_checkpoint

    shape = preset("diptych-tiny")
    spec = ModelSpec(
        name="tiny",
        architecture=shape,
        preprocess=PreprocessConfig(size=shape.vision.image_size),
        tokenizer=TokenizerConfig(
            kind="clip", vocab_size=shape.text.vocab_size, context_length=shape.text.context_length
        ),
        licence="MIT",
    )
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_checkpoint(folder, spec, build(shape, seed=0).state_dict())
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `diptych` in an empty folder: `run("classify", ...)` gives exit_code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "80")

    def invoke(*words: object, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, [str(word) for word in words], input=stdin)

    return invoke


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder of three valid pictures."""
    for number, name in enumerate(("a.jpg", "b.png", "inner/c.webp")):
        paint(tmp_path / "album" / name, number)
    return tmp_path / "album"
