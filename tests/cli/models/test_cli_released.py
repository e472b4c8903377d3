"""Released ONNX folders on the command line: show, verify, classify, index and search."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.paths import ROOT

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("released")
    with zipfile.ZipFile(ROOT / "tests" / "backends" / "released_onnx.zip") as archive:
        archive.extractall(home)
    return home


@pytest.mark.parametrize(("name", "layout"), [("clip", "Immich"), ("jina", "transformers.js")])
def test_show_and_verify(run: Run, folders: Path, name: str, layout: str) -> None:
    printed = json.loads(run("models", "show", folders / name, "--json").stdout)
    assert (printed["layout"], printed["dim"], printed["logit_scale"]) == (layout, 8, 100.0)
    assert all(size > 0 for size in printed["files"].values())
    shown = run("models", "show", folders / name)
    assert shown.exit_code == 0, shown.stderr
    for word in (printed["identity"], "preprocess", "tokenizer", "graphs", "float32"):
        assert word in shown.stdout
    done = run("models", "verify", folders / name)
    assert done.exit_code == 0, done.stderr
    assert "both graphs run on onnx" in done.stdout
    assert printed["identity"] in done.stdout
    assert (
        json.loads(run("models", "verify", folders / name, "--json").stdout)["identity"]
        == printed["identity"]
    )


def test_classify_index_and_search(
    run: Run, folders: Path, album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIPTYCH_CATALOG", str(tmp_path / "catalog"))
    done = run("classify", album, "a cat", "a dog", "--model", folders / "siglip", "--json")
    assert done.exit_code == 0, done.stderr
    assert run("index", album, "--model", folders / "m_clip", "--quiet").exit_code == 0
    results = run("search", "a cat", "--all", "--json")
    assert results.exit_code == 0, results.stderr
    assert len(json.loads(results.stdout)["hits"]) == 3


def test_list_of_immich(run: Run) -> None:
    rows = json.loads(run("models", "list", "--immich", "SigLIP2", "--json").stdout)
    expected = {"name": "ViT-B-16-SigLIP2__webli", "dim": 768, "image_size": 224, "languages": "mul"}
    assert any(expected.items() <= row.items() for row in rows)
    assert len(rows) == 12
    table = run("models", "list", "--immich")
    assert table.exit_code == 0
    assert "nllb-clip-large-siglip__v1" in table.stdout
    assert max(map(len, table.stdout.splitlines())) <= 80
    assert run("models", "list", "--immich", "--open-clip").exit_code == 2


def test_what_needs_weights_says_so(run: Run, folders: Path) -> None:
    for words in (
        ("models", "convert", folders / "clip", "out"),
        ("export", folders / "clip", "--to", "out"),
    ):
        done = run(*words)
        assert done.exit_code == 2
        assert "holds ONNX graphs" in " ".join(done.stderr.split())
    done = run("models", "verify", folders)
    assert done.exit_code == 2
