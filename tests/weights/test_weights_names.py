"""Names of weights: models and tags, files and folders, and suggestions for unknown names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from diptych.errors import UnknownModelError, WeightsError
from diptych.inputs.config import PreprocessConfig
from diptych.model.presets.table import OPENAI_NAMES, PRESETS, preset
from diptych.weights import (
    Checkpoint,
    identity_of,
    list_models,
    load_checkpoint,
    save_checkpoint,
    suggest,
    to_open_clip,
    to_transformers,
)
from diptych.weights.registry import OPENAI_ARCHIVES, find_release
from tests.weights.tiny_models import TINY, changed

# The small models here have a reduced vocabulary, about which every export warns.
pytestmark = pytest.mark.filterwarnings("ignore:.* has no tokenizer for this model:UserWarning")


def test_activation_and_preprocessing_follow_the_tag() -> None:
    assert find_release("ViT-B-32", "openai").spec().architecture == preset("ViT-B-32-quickgelu")
    assert find_release("ViT-B-32", "laion2b_s34b_b79k").spec().architecture == preset("ViT-B-32")
    assert find_release("ViT-B-32", "datacomp_xl_s13b_b90k").activation == "gelu"
    assert find_release("ViT-B-16", "METACLIP-400M").activation == "quick_gelu"
    assert find_release("ViT-L-14", "laion2b_s32b_b82k").spec().preprocess.mean == (0.5, 0.5, 0.5)
    assert find_release("ViT-H-14-378", "dfn5b").spec().preprocess == PreprocessConfig(
        size=378, resize="squash"
    )
    assert find_release("ViT-B-16-SigLIP", "webli").repository == "google/siglip-base-patch16-224"


@pytest.mark.parametrize(("spelling", "name"), list(OPENAI_NAMES.items()))
def test_openais_spellings(spelling: str, name: str) -> None:
    release = find_release(spelling, None)
    assert (release.architecture, release.tag) == (name, "openai")
    assert release.repository.startswith("timm/")


def test_every_release_can_be_described() -> None:
    for release in list_models():
        assert release.parameters > 10**7
        assert release.licence
        if release.layout == "open_clip":
            assert release.spec().architecture.activation == release.activation
    assert set(OPENAI_ARCHIVES.values()) == set(OPENAI_NAMES.values())


@pytest.mark.parametrize(
    ("name", "tag", "message"),
    [
        ("ViT-B-23", None, "Did you mean .*ViT-B-32"),
        ("vit-b-32", None, "Did you mean .*ViT-B-32"),
        ("ViT-B-32", None, r"also name weights \(--pretrained TAG\), one of: openai"),
        ("ViT-B-32", "laion2b", "Did you mean laion2b_"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "no weights tagged"),
        ("diptych-small", None, "no weights are released"),
        ("coca_ViT-B-32", "laion2b_s13b_b90k", "not loaded here: CoCa"),
        ("coca_ViT-B-32", None, "not loaded here: CoCa"),
        ("default", "openai", "leave out 'openai'"),
        ("zzz", None, "Known are"),
    ],
)
def test_unknown_names_list_near_ones(name: str, tag: str | None, message: str) -> None:
    with pytest.raises(UnknownModelError, match=message):
        load_checkpoint(name, tag)


def test_suggest() -> None:
    assert "ViT-L-14" in suggest("VitL14")


# --------------------------------------------------------------------------------- files and folders


def test_a_file_for_a_named_architecture(tmp_path: Path, checkpoint: Checkpoint, monkeypatch: Any) -> None:
    monkeypatch.setitem(PRESETS, "toy", TINY)
    torch.save(
        {"state_dict": {f"module.{n}": t for n, t in checkpoint.state.items()}}, tmp_path / "epoch_3.pt"
    )
    loaded = load_checkpoint("toy", str(tmp_path / "epoch_3.pt"))
    assert loaded.spec.architecture == TINY
    assert torch.equal(loaded.state["visual.proj"], checkpoint.state["visual.proj"])
    quick = load_checkpoint("toy-quickgelu", tmp_path / "epoch_3.pt")
    assert quick.spec.architecture.activation == "quick_gelu"
    assert quick.identity != loaded.identity
    with pytest.raises(WeightsError, match="toy, toy-quickgelu"):
        load_checkpoint(tmp_path / "epoch_3.pt")
    with pytest.raises(WeightsError, match="fits toy"):
        load_checkpoint("RN50", tmp_path / "epoch_3.pt")
    with pytest.raises(UnknownModelError, match=r"unknown model 'RN51'\. Did you mean RN50"):
        load_checkpoint("RN51", tmp_path / "epoch_3.pt")
    with pytest.raises(WeightsError, match="not a file"):
        load_checkpoint("toy", tmp_path / "epoch_4.pt")


def test_custom_text_names(tmp_path: Path, checkpoint: Checkpoint) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": changed(custom_text=True)}))
    image = ("visual.", "logit_")
    names = {n if n.startswith(image) else f"text.{n}": t for n, t in checkpoint.state.items()}
    torch.save(names, tmp_path / "open_clip_pytorch_model.bin")
    loaded = load_checkpoint(tmp_path)
    assert set(loaded.state) == set(checkpoint.state)


def test_weights_beside_their_config(tmp_path: Path, checkpoint: Checkpoint) -> None:
    identity = save_checkpoint(tmp_path / "a", checkpoint.spec, checkpoint.state)
    assert load_checkpoint(tmp_path / "a" / "model.safetensors").identity == identity
    to_open_clip(checkpoint, tmp_path / "b")
    assert load_checkpoint(tmp_path / "b" / "open_clip_model.safetensors").identity == identity


def test_a_named_file_is_the_one_read(tmp_path: Path, checkpoint: Checkpoint) -> None:
    """A config beside it gives the architecture; weights and identity come from the named file."""
    stated = save_checkpoint(tmp_path / "a", checkpoint.spec, checkpoint.state)
    to_open_clip(checkpoint, tmp_path / "b")
    other = {name: tensor + 1 for name, tensor in checkpoint.state.items()}
    for folder in (tmp_path / "a", tmp_path / "b"):
        torch.save({"state_dict": other}, folder / "epoch_3.pt")
        loaded = load_checkpoint(folder / "epoch_3.pt")
        assert loaded.spec.architecture == TINY
        assert torch.equal(loaded.state["visual.proj"], other["visual.proj"])
        assert loaded.identity == identity_of(checkpoint.spec, other) != stated
        with pytest.raises(WeightsError, match=r"epoch_4\.pt is not a file"):
            load_checkpoint("ViT-B-32", folder / "epoch_4.pt")
    torch.save({"logit_scale": torch.tensor(1.0)}, tmp_path / "a" / "part.pt")
    with pytest.raises(WeightsError, match="too few"):
        load_checkpoint(tmp_path / "a" / "part.pt")


def test_folders_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"diptych\.json.*found nothing"):
        load_checkpoint(tmp_path)
    (tmp_path / "cat.jpg").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"found cat\.jpg"):
        load_checkpoint(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(WeightsError, match="a config but no weights"):
        load_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="not JSON"):
        load_checkpoint(tmp_path)
    with pytest.raises(WeightsError, match="neither a folder nor a file"):
        load_checkpoint("local-dir:nowhere")
    with pytest.raises(WeightsError, match="neither a folder nor a file"):
        load_checkpoint(tmp_path / "nowhere")


def test_weights_of_another_architecture_than_the_config(tmp_path: Path, checkpoint: Checkpoint) -> None:
    to_transformers(checkpoint, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["vision_config"]["patch_size"] = 8
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"of another shape: visual\.positional_embedding"):
        load_checkpoint(tmp_path)
