"""Autotuning: small jobs run on torch, large jobs on the fastest runtime; a failure changes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.backends import (
    ExportedEncoder,
    TorchEncoder,
    autotune,
    autotuning,
    choose_runtime,
    runtime_choice,
)
from diptych.backends.conversion import tracing
from diptych.backends.runtime_choice import RuntimeChoice, read_choice, write_choice
from diptych.errors import SaveError, WeightsError
from diptych.weights import save_checkpoint
from tests.backends.export_toys import checkpoint, forked, pictures


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model in a folder, an empty cache, and openvino set to be the fastest."""
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    # The name of torch's precision depends on the machine.
    monkeypatch.setattr(
        runtime_choice, "_rates", lambda ways, drawn: {way: 1.0 + 99 * (way == BEST) for way in ways}
    )
    toy = checkpoint("vit", tmp_path / "toy")
    save_checkpoint(tmp_path / "saved", toy.spec, toy.state)
    return tmp_path / "saved"


BEST = ("openvino", "float32")


def opened(folder: Path, messages: list[str]) -> Any:
    encoder = diptych.load(folder, runtime="auto", device="cpu", precision="float32", batch_size=7)
    return autotune(encoder, folder, note=messages.append, batch_size=7, precision="float32")


def test_little_work_is_done_without_measuring(saved: Path, tmp_path: Path) -> None:
    messages: list[str] = []
    encoder = opened(saved, messages)
    encoder.encode_images(pictures(5))
    assert isinstance(encoder.encoder, TorchEncoder)
    assert not messages
    assert not (tmp_path / "cache").exists()


def test_much_work_goes_over_to_what_is_fastest_and_the_rows_stay(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(autotuning, "AFTER", 1e-9)
    messages: list[str] = []
    encoder = opened(saved, messages)
    before = encoder.encode_images(pictures(9))
    assert isinstance(encoder.encoder, ExportedEncoder)
    assert (encoder.encoder.runtime, encoder.encoder.batch_size) == ("openvino", 7)
    np.testing.assert_allclose(encoder.encode_images(pictures(9)), before, atol=1e-4)
    prepared = [encoder.prepare(picture) for picture in pictures(9)]
    np.testing.assert_allclose(encoder.encode_prepared(prepared), before, atol=1e-4)
    assert len(messages) == 2
    assert "going on with openvino float32 (pictures/s: openvino float32 100" in messages[1]
    # The result is cached: nothing is left to measure.
    again = opened(saved, messages)
    assert isinstance(again, ExportedEncoder)
    assert len(messages) == 2


def test_texts_alone_do_not_start_autotuning(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotuning, "AFTER", 1e-9)
    encoder = opened(saved, [])
    encoder.encode_texts(["a cat"])
    assert isinstance(encoder.encoder, TorchEncoder)


def test_where_torch_is_known_to_be_fastest_nothing_is_tried(saved: Path) -> None:
    encoder = diptych.load(saved, device="cpu", runtime="torch")
    write_choice(encoder.identity, RuntimeChoice("torch", "float32", {"torch float32": 9.0}))
    assert autotune(encoder, saved) is encoder


def test_without_runtimes_nothing_is_tried(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autotuning, "measurable", lambda: False)
    encoder = diptych.load(saved, device="cpu", runtime="torch")
    assert autotune(encoder, saved) is encoder


def test_what_goes_wrong_in_measuring_stops_nothing(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise SaveError("the device is full")

    monkeypatch.setattr(autotuning, "choose_runtime", full)
    monkeypatch.setattr(autotuning, "AFTER", 1e-9)
    messages: list[str] = []
    encoder = opened(saved, messages)
    assert encoder.encode_images(pictures(3)).shape == (3, encoder.dim)
    assert messages[1:] == ["going on with torch: the device is full"]
    encoder.encode_images(pictures(3))
    assert len(messages) == 2  # the failed measurement is not repeated


def test_a_model_that_cannot_be_converted_stays_with_torch_and_is_tried_once(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "l2_normalize", forked)
    monkeypatch.setattr(autotuning, "AFTER", 1e-9)
    messages: list[str] = []
    encoder = opened(saved, messages)
    assert encoder.encode_images(pictures(3)).shape == (3, encoder.dim)
    assert "going on with torch: the model cannot be written as image.onnx" in messages[1]
    assert isinstance(opened(saved, messages), TorchEncoder)
    with pytest.raises(WeightsError, match="cannot be written"):  # an explicit request gets the reason
        choose_runtime(saved)


def test_what_a_library_raises_in_measuring_stops_nothing(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise RuntimeError("out of streams")

    monkeypatch.setattr(runtime_choice, "_rates", broken)
    monkeypatch.setattr(autotuning, "AFTER", 1e-9)
    messages: list[str] = []
    encoder = opened(saved, messages)
    assert encoder.encode_images(pictures(3)).shape == (3, encoder.dim)
    assert messages[1:] == ["going on with torch: out of streams"]
    assert read_choice(encoder.identity) is None


@pytest.mark.filterwarnings("ignore::diptych.inputs.LongTextWarning")  # a toy of 16 tokens
@pytest.mark.parametrize("command", ["index", "embed"])
def test_the_commands_autotune(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    from typer.testing import CliRunner

    from diptych.cli.main import app

    monkeypatch.setattr(autotuning, "AFTER", 1e-9)
    for number, picture in enumerate(pictures(6)):
        (tmp_path / "album").mkdir(exist_ok=True)
        picture.save(tmp_path / "album" / f"{number}.png")
    to = ["--catalog", "c"] if command == "index" else ["--to", "v"]
    monkeypatch.chdir(tmp_path)
    words = [command, "album", *to, "--model", os.fspath(saved), "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["embedded"] == 6
    assert "going on with openvino" in done.stderr
    # An explicit choice of the user is not changed.
    messages = CliRunner().invoke(app, [*words, "--runtime", "torch"]).stderr
    assert "measuring" not in messages
