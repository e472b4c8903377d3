"""`diptych export` and `diptych models runtimes`: a folder, a table, JSON, and refused input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from diptych.backends import runtime_choice
from diptych.backends.exported import fidelity
from diptych.embedding import golden
from diptych.weights import save_checkpoint
from tests.backends.export_toys import checkpoint, trace_once
from tests.cli.cli_tools import paint

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose vectors differ between pictures; those of an untrained model hardly do."""
    home = tmp_path_factory.mktemp("models")
    weights = checkpoint("vit", home)
    save_checkpoint(home / "fit", weights.spec, weights.state)
    return home / "fit"


@pytest.fixture(autouse=True, scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Trace the model once for all exports of it."""
    with pytest.MonkeyPatch.context() as patch:
        trace_once(patch, tmp_path_factory.mktemp("traced"))
        yield


def test_export_writes_what_classify_opens(run: Run, fit: Path, album: Path) -> None:
    done = run("export", fit, "--to", "out", "--json")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["precisions"] == ["float32"]
    assert printed["calibration"] is None
    assert {check["runtime"] for check in printed["checks"]} >= {"onnx"}
    assert Path("out/image.onnx").stat().st_size == printed["files"]["image.onnx"]
    assert "checking onnx in float32" in done.stderr
    answers = [
        json.loads(run("classify", album, "a dog", "a cat", "--model", model, "--exact", "--json").stdout)
        for model in (fit, "out")
    ]
    assert answers[0]["model"] == answers[1]["model"] == printed["identity"]
    first, second = (answer["pictures"][0]["top"] for answer in answers)
    for mine, theirs in zip(first, second, strict=True):
        assert mine["label"] == theirs["label"]
        assert mine["score"] == pytest.approx(theirs["score"], abs=0.01)


def test_export_prints_a_table(run: Run, fit: Path) -> None:
    done = run("export", fit, "--to", "out", "--quiet")
    assert done.exit_code == 0, done.stderr
    assert "onnx" in done.stdout
    assert "1.00000" in done.stdout
    assert "written: out" in done.stdout
    again = run("export", fit, "--to", "out")
    assert again.exit_code == 2
    assert "not an empty folder" in again.stderr


def test_pictures_to_calibrate_with(
    run: Run, fit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Random weights of small width, calibrated on nine pictures, lose more to 8 bits than trained ones.
    monkeypatch.setitem(fidelity.MIN_COSINES, "int8", (0.98, 0.95))
    monkeypatch.setitem(golden.MAX_GOLDEN_ERROR, "int8", 1.0)
    few = paint(tmp_path / "few" / "one.png").parent
    done = run("export", fit, "--to", "out", "--calibrate", few)
    assert done.exit_code == 2
    assert "1 picture to calibrate with: expected 10" in done.stderr
    for number in range(12):
        paint(tmp_path / "many" / f"{number}.png", number)
    (tmp_path / "many" / "broken.png").write_bytes(b"nothing")
    done = run("export", fit, "--to", "out", "--calibrate", tmp_path / "many", "--json", "--int8")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["calibration"] == f"9 pictures of {tmp_path / 'many'}"


def test_runtimes_are_measured_and_kept(run: Run, fit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", "cache")
    monkeypatch.setattr(runtime_choice, "SECONDS", 0.01)
    done = run("models", "runtimes", fit, "--json")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert f"{printed['runtime']} {printed['precision']}" in printed["pictures_per_second"]
    again = run("models", "runtimes", fit)
    assert again.exit_code == 0
    assert "used by --runtime auto" in again.stdout
    assert "timing" not in again.stderr
