"""Recorded models of other projects through our loaders: the same numbers, and bit-exact conversion back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from diptych.model.clip import CLIP
from diptych.model.initialise import build
from diptych.weights import Checkpoint, load_checkpoint, save_checkpoint, to_open_clip, to_transformers

OPEN_CLIP = ["vit-quickgelu", "vit-gelu", "resnet"]
TRANSFORMERS = ["hf-clip", "hf-clip-eos2", "hf-siglip"]
# The recorded models have a reduced vocabulary, about which every export warns.
pytestmark = [
    pytest.mark.shared,
    pytest.mark.filterwarnings("ignore:.* has no tokenizer for this model:UserWarning"),
]


def model_of(checkpoint: Checkpoint) -> CLIP:
    model = build(checkpoint.spec.architecture).eval()
    model.load_state_dict(checkpoint.state)
    return model


def hub_folder(shared: Any, name: str, folder: Path) -> Path:
    """A recorded model in open_clip's layout."""
    folder.mkdir(exist_ok=True)
    shutil.copy(shared / f"parity/{name}.json", folder / "open_clip_config.json")
    shutil.copy(shared / f"parity/{name}.safetensors", folder / "open_clip_model.safetensors")
    return folder


def transformers_folder(shared: Any, name: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    shutil.copy(shared / f"parity/{name}/config.json", folder)
    weights = "hf-clip" if name == "hf-clip-eos2" else name  # tied weights are stored once
    shutil.copy(shared / f"parity/{weights}/model.safetensors", folder)
    return folder


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_open_clip(shared: Any, name: str, tmp_path: Path) -> None:
    recorded = np.load(shared / f"parity/{name}.npz")
    model = model_of(load_checkpoint(hub_folder(shared, name, tmp_path / name)))
    images, tokens = torch.from_numpy(recorded["images"]), torch.from_numpy(recorded["tokens"])
    with torch.no_grad():
        pictures, texts, logits = (
            model.encode_image(images),
            model.encode_text(tokens),
            model.logits(images, tokens),
        )
    np.testing.assert_allclose(pictures, recorded["image_features"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(texts, recorded["text_features"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(logits, recorded["logits_per_image"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(logits.T, recorded["logits_per_text"], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(shared: Any, name: str, tmp_path: Path) -> None:
    recorded = np.load(shared / f"parity/{name}/expected.npz")
    model = model_of(load_checkpoint(f"local-dir:{transformers_folder(shared, name, tmp_path / name)}"))
    images, tokens = torch.from_numpy(recorded["images"]), torch.from_numpy(recorded["tokens"])
    with torch.no_grad():
        pictures, texts = (
            model.encode_image(images, normalize=True),
            model.encode_text(tokens, normalize=True),
        )
        logits = model.logits(images, tokens)
    np.testing.assert_allclose(pictures, recorded["image_embeds"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(texts, recorded["text_embeds"], atol=1e-4, rtol=0)
    np.testing.assert_allclose(logits, recorded["logits_per_image"], atol=1e-4, rtol=0)


def test_with_end_token_2_ids_after_the_largest_do_not_matter(shared: Any, tmp_path: Path) -> None:
    model = model_of(load_checkpoint(transformers_folder(shared, "hf-clip-eos2", tmp_path / "m")))
    tokens = torch.tensor([[1022, 5, 6, 1023, 0, 0], [1022, 5, 6, 1023, 9, 2]])
    with torch.no_grad():
        first, second = model.encode_text(tokens)
    assert torch.allclose(first, second, atol=1e-6)


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_open_clip_and_back_is_bit_exact(shared: Any, name: str, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(hub_folder(shared, name, tmp_path / name))
    to_open_clip(checkpoint, tmp_path / "back")
    same_tensors(tmp_path / "back/open_clip_model.safetensors", shared / f"parity/{name}.safetensors")
    again = load_checkpoint(tmp_path / "back")
    assert again.identity == checkpoint.identity
    assert again.spec.architecture == checkpoint.spec.architecture


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_and_back_is_bit_exact(shared: Any, name: str, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(transformers_folder(shared, name, tmp_path / name))
    to_transformers(checkpoint, tmp_path / "back")
    same_tensors(tmp_path / "back/model.safetensors", tmp_path / name / "model.safetensors")
    again = load_checkpoint(tmp_path / "back")
    assert again.identity == checkpoint.identity
    assert again.spec.architecture == checkpoint.spec.architecture
    written = json.loads((tmp_path / "back/config.json").read_text())
    recorded = json.loads((tmp_path / name / "config.json").read_text())
    for tower in ("text_config", "vision_config"):
        for key, value in written[tower].items():
            if key in recorded[tower]:
                assert value == recorded[tower][key], key


def test_across_formats_is_bit_exact(shared: Any, tmp_path: Path) -> None:
    """open_clip -> ours -> transformers -> ours: the same model throughout."""
    first = load_checkpoint(hub_folder(shared, "vit-quickgelu", tmp_path / "a"))
    assert save_checkpoint(tmp_path / "b", first.spec, first.state) == first.identity
    to_transformers(load_checkpoint(tmp_path / "b"), tmp_path / "c")
    second = load_checkpoint(tmp_path / "c")
    assert second.identity == first.identity
    assert all(torch.equal(second.state[name], first.state[name]) for name in first.state)
    assert second.state["visual.proj"].dtype == torch.float16


def same_tensors(left: Path, right: Path) -> None:
    ours, theirs = load_file(left), load_file(right)
    assert set(ours) == set(theirs)
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype, name
        assert tensor.shape == theirs[name].shape, name
        assert torch.equal(tensor, theirs[name]), name
