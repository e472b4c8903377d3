"""`diptych models`: list, show, convert, verify."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from diptych.cli.models.models import _lines, describe
from diptych.weights import load_checkpoint

Run = Callable[..., Result]


def test_list(run: Run) -> None:
    done = run("models", "list", "ViT-B-32")
    assert done.exit_code == 0, done.stderr
    assert "openai" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    rows = json.loads(run("models", "list", "ViT-B-32", "--json").stdout)
    assert {"openai", "laion2b_s34b_b79k"} <= {row["tag"] for row in rows}


def test_list_of_nothing(run: Run) -> None:
    done = run("models", "list", "no such model")
    assert done.exit_code == 2
    assert "no model contains" in done.stderr


def test_show(run: Run, tiny: Path) -> None:
    done = run("models", "show", tiny)
    assert done.exit_code == 0, done.stderr
    for word in ("tiny", "sha256:", "MIT", "architecture", "resnet", "preprocess", "tokenizer", "parameters"):
        assert word in done.stdout
    printed = json.loads(run("models", "show", tiny, "--json").stdout)
    assert printed["parameters"]["all"] == printed["parameters"]["picture"] + printed["parameters"]["text"]


def test_the_parameters_shown_are_the_model_s(run: Run, tiny: Path) -> None:
    from diptych.model.initialise import build
    from diptych.model.presets.table import preset

    model = build(preset("diptych-tiny"), device="meta")
    printed = json.loads(run("models", "show", tiny, "--json").stdout)
    assert printed["parameters"]["all"] == sum(weight.numel() for weight in model.parameters())
    assert printed["parameters"]["picture"] == sum(weight.numel() for weight in model.visual.parameters())


def test_verify(run: Run, tiny: Path) -> None:
    done = run("models", "verify", tiny)
    assert done.exit_code == 0, done.stderr
    assert "every hash matches" in done.stdout
    printed = json.loads(run("models", "verify", tiny, "--json").stdout)
    assert printed["verified"] is True
    assert printed["identity"] in done.stdout


def test_verify_says_where_no_hash_is_stated(run: Run, small_vit: Path) -> None:
    run("models", "convert", small_vit, "theirs", "--to", "open_clip")
    done = run("models", "verify", "theirs")
    assert done.exit_code == 0, done.stderr
    assert "no hash is stated; all" in done.stdout
    assert "holds" not in done.stdout
    printed = json.loads(run("models", "verify", "theirs", "--json").stdout)
    assert (printed["verified"], printed["checked_against"]) == (False, None)
    ours = json.loads(run("models", "verify", small_vit, "--json").stdout)
    assert (ours["verified"], ours["identity"]) == (True, printed["identity"])
    weights = small_vit / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    done = run("models", "verify", small_vit)
    assert done.exit_code != 0
    assert "weights changed since the model was saved" in done.stderr


def test_list_has_the_default(run: Run) -> None:
    rows = json.loads(run("models", "list", "--json").stdout)
    assert rows[0]["architecture"] == "default"
    assert rows[0]["parameters"] > 0


@pytest.mark.parametrize("name", ["runs/none", "./none", ".none"])
def test_a_path_that_is_not_there(run: Run, name: str) -> None:
    done = run("models", "verify", name)
    assert done.exit_code == 2
    assert "there is no such folder or file" in done.stderr


@pytest.fixture
def small_vit(tmp_path: Path) -> Path:
    """A model that the other formats can describe."""
    from diptych.inputs import PreprocessConfig
    from diptych.model.config import CLIPConfig, TextConfig, ViTConfig
    from diptych.model.initialise import build
    from diptych.weights import ModelSpec, save_checkpoint

    vision = ViTConfig(image_size=32, patch_size=16, width=64, layers=2)
    shape = CLIPConfig(embed_dim=64, vision=vision, text=TextConfig(width=64, heads=1, layers=2))
    spec = ModelSpec(name="vit", architecture=shape, preprocess=PreprocessConfig(size=32))
    save_checkpoint(tmp_path / "vit", spec, build(shape, seed=0).state_dict())
    return tmp_path / "vit"


@pytest.mark.parametrize(
    ("form", "expected"),
    [("diptych", "diptych.json"), ("open_clip", "open_clip_config.json"), ("transformers", "config.json")],
)
def test_convert_and_back(run: Run, small_vit: Path, form: str, expected: str) -> None:
    done = run("models", "convert", small_vit, "out", "--to", form)
    assert done.exit_code == 0, done.stderr
    assert Path("out", expected).is_file()
    assert run("models", "convert", "out", "back").exit_code == 0
    first, back = (json.loads(run("models", "verify", name, "--json").stdout) for name in ("vit", "back"))
    assert first["identity"] == back["identity"]


def test_a_model_that_a_form_has_no_words_for(run: Run, tiny: Path) -> None:
    done = run("models", "convert", tiny, "out", "--to", "open_clip")
    assert done.exit_code == 2
    assert "keep this model in our own format" in done.stderr
    assert not Path("out").exists()


def test_convert_refuses(run: Run, tiny: Path) -> None:
    Path("full").mkdir()
    Path("full", "file").touch()
    assert "not an empty folder" in run("models", "convert", tiny, "full").stderr
    done = run("models", "convert", tiny, "out", "--to", "onnx")
    assert done.exit_code == 2
    assert "diptych, open_clip, transformers" in done.stderr


def test_a_mean_of_models_is_shown_model_by_model(run: Run, tiny: Path) -> None:
    printed = {
        "mean_of": [{"identity": f"sha256:{n}", "share": 0.5, "recipe": {"epochs": n}} for n in (1, 2)]
    }
    checkpoint = load_checkpoint(tiny)
    mean = dataclasses.replace(checkpoint, spec=dataclasses.replace(checkpoint.spec, training=printed))
    lines = _lines(describe(mean)["training"], "  ")
    assert [line.strip() for line in lines if line.startswith("  mean")] == [
        "mean of, 1 of 2",
        "mean of, 2 of 2",
    ]
    assert "{" not in "\n".join(lines)
    assert "sha256:2" in "\n".join(lines)
