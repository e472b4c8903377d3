"""A config beside weights is used with or without a named architecture; contradictions are refused."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from diptych.backends.export_cache import LazyCheckpoint
from diptych.errors import UnknownModelError, WeightsError
from diptych.inputs.config import PreprocessConfig
from diptych.model.initialise import build
from diptych.model.presets.table import PRESETS
from diptych.weights import (
    Checkpoint,
    ModelSpec,
    load_checkpoint,
    save_checkpoint,
    to_open_clip,
    to_transformers,
)
from diptych.weights.transformers.names import to_transformers_names
from tests.weights.test_weights_archive import CONFIGS, archive_of
from tests.weights.tiny_models import TINY

# The small models here have a reduced vocabulary, about which every export warns.
pytestmark = pytest.mark.filterwarnings("ignore:.* has no tokenizer for this model:UserWarning")

HALF = (0.5, 0.5, 0.5)
# Settings that only the config states: mean and deviation of 0.5.
PREPROCESS = PreprocessConfig(size=32, mean=HALF, std=HALF)
STATE = {name: tensor.detach() for name, tensor in build(TINY, seed=0).state_dict().items()}
TOY = Checkpoint(
    spec=ModelSpec(name="toy", architecture=TINY, preprocess=PREPROCESS), state=STATE, identity=""
)


def _save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def _open_clip(folder: Path, weights: str) -> Path:
    to_open_clip(TOY, folder)
    if not (folder / weights).is_file():
        (folder / "open_clip_model.safetensors").unlink()
        _save(folder / weights, STATE)
    return folder / weights


def _transformers(folder: Path, weights: str) -> Path:
    to_transformers(TOY, folder)
    if not (folder / weights).is_file():
        (folder / "model.safetensors").unlink()
        _save(folder / weights, to_transformers_names(STATE, siglip=False))
    return folder / weights


def _native(folder: Path, weights: str) -> Path:
    save_checkpoint(folder, TOY.spec, STATE)
    return folder / weights if (folder / weights).is_file() else _save(folder / weights, STATE)


# Each function writes a folder with a config and weights, and returns the path of the weights.
WITH_CONFIG: dict[str, Callable[[Path], Path]] = {
    "open_clip safetensors": lambda f: _open_clip(f, "open_clip_model.safetensors"),
    "open_clip bin": lambda f: _open_clip(f, "open_clip_pytorch_model.bin"),
    "open_clip other file": lambda f: _open_clip(f, "epoch_3.pt"),
    "transformers safetensors": lambda f: _transformers(f, "model.safetensors"),
    "transformers bin": lambda f: _transformers(f, "pytorch_model.bin"),
    "ours": lambda f: _native(f, "model.safetensors"),
    "ours, other file": lambda f: _native(f, "epoch_3.pt"),
}
BARE: dict[str, Callable[[Path], Path]] = {
    ".pt": lambda f: _save(f / "a.pt", STATE),
    ".bin": lambda f: _save(f / "a.bin", {"state_dict": STATE}),  # type: ignore[dict-item]
    ".safetensors": lambda f: _save(f / "a.safetensors", STATE),
    "transformers' names": lambda f: _save(f / "a.pt", to_transformers_names(STATE, siglip=False)),
    "unrelated config.json": lambda f: _unrelated(_save(f / "a.pt", STATE)),
}


def _unrelated(path: Path) -> Path:
    (path.parent / "config.json").write_text(json.dumps({"model_type": "bert", "seed": 3}))
    return path


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    larger = dataclasses.replace(TINY, vision=dataclasses.replace(TINY.vision, image_size=48))
    longer = dataclasses.replace(TINY, text=dataclasses.replace(TINY.text, context_length=20))
    for name, config in (("toy", TINY), ("toy-larger", larger), ("toy-longer", longer)):
        monkeypatch.setitem(PRESETS, name, config)


@pytest.mark.parametrize("kind", WITH_CONFIG)
def test_a_config_beside_is_followed_with_and_without_a_name(kind: str, tmp_path: Path) -> None:
    path = WITH_CONFIG[kind](tmp_path / "m")
    for loaded in (load_checkpoint(path), load_checkpoint("toy", path), load_checkpoint("toy", str(path))):
        assert loaded.spec.architecture == TINY
        assert loaded.spec.preprocess == PREPROCESS
        assert torch.equal(loaded.state["visual.proj"], STATE["visual.proj"])
    if "other file" not in kind:
        by_folder = load_checkpoint("toy", path.parent)
        assert by_folder.spec.preprocess == PREPROCESS
        assert by_folder.identity == load_checkpoint(path.parent).identity


@pytest.mark.parametrize("kind", WITH_CONFIG)
@pytest.mark.parametrize(
    ("name", "both"),
    [
        ("toy-quickgelu", "activation is 'quick_gelu' and 'gelu'"),
        ("toy-larger", "image size is 48 and 32"),
        ("toy-longer", "context length is 20 and 16"),
        ("ViT-B-32", "vocabulary is 49408 and 520"),
    ],
)
def test_a_name_that_contradicts_the_config_is_refused(
    kind: str, name: str, both: str, tmp_path: Path
) -> None:
    path = WITH_CONFIG[kind](tmp_path / "m")
    with pytest.raises(WeightsError, match=re.escape(both)):
        load_checkpoint(name, path)
    if "other file" not in kind:
        with pytest.raises(WeightsError, match=re.escape(both)):
            load_checkpoint(name, path.parent)


@pytest.mark.parametrize("kind", BARE)
def test_without_a_config_the_name_says_what_it_is(kind: str, tmp_path: Path) -> None:
    path = BARE[kind](tmp_path / "m")
    with pytest.raises(WeightsError, match="toy, toy-quickgelu"):
        load_checkpoint(path)
    assert load_checkpoint("toy", path).spec.preprocess == PreprocessConfig(size=32)
    assert load_checkpoint("toy-quickgelu", path).spec.architecture.activation == "quick_gelu"
    with pytest.raises(WeightsError, match="does not fit"):
        load_checkpoint("toy-larger", path)


def test_a_siglip_by_name_gets_its_own_preprocessing_and_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vision = dataclasses.replace(
        PRESETS["ViT-B-16-SigLIP"].vision, image_size=32, width=64, layers=1, head_width=64
    )
    text = dataclasses.replace(TINY.text, causal=False, pool="last", projection_bias=True)
    tiny = dataclasses.replace(
        PRESETS["ViT-B-16-SigLIP"], embed_dim=64, vision=vision, text=dataclasses.replace(text, width=64)
    )
    monkeypatch.setitem(PRESETS, "tiny-siglip", tiny)
    state = {name: tensor.detach() for name, tensor in build(tiny, seed=0).state_dict().items()}
    spec = load_checkpoint("tiny-siglip", _save(tmp_path / "a.pt", state)).spec
    assert (spec.preprocess.mean, spec.preprocess.resize) == (HALF, "squash")
    assert (spec.tokenizer.kind, spec.tokenizer.clean) == ("file", "canonicalize")


def test_an_archive_follows_the_config_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "toy", dataclasses.replace(CONFIGS["vit"], activation="gelu"))
    path = tmp_path / "archive.pt"
    archive_of("vit", path)
    assert load_checkpoint(path).spec.architecture.activation == "quick_gelu"
    assert load_checkpoint("toy-quickgelu", path).spec.architecture.activation == "quick_gelu"
    with pytest.warns(UserWarning, match="those have quick_gelu.*'toy' has gelu"):
        load_checkpoint("toy", path)


def test_two_configs_of_a_folder_that_disagree_are_said(tmp_path: Path) -> None:
    path = _open_clip(tmp_path, "open_clip_model.safetensors")
    to_transformers(TOY, tmp_path / "hf")
    for name in ("config.json", "preprocessor_config.json"):
        content = json.loads((tmp_path / "hf" / name).read_text())
        if name == "config.json":
            content["vision_config"]["hidden_act"] = content["text_config"]["hidden_act"] = "quick_gelu"
        else:
            content["image_mean"] = [0.1, 0.2, 0.3]
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.warns(UserWarning, match=r"config\.json contradicts it") as caught:
        assert load_checkpoint(path.parent).spec.preprocess == PREPROCESS
    said = str(caught[0].message)
    assert "activation is 'gelu' and 'quick_gelu'" in said
    assert "mean is (0.5, 0.5, 0.5) and (0.1, 0.2, 0.3)" in said
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_base_patch32_clip_224"}))
    load_checkpoint(path.parent)  # a config.json of timm is not the config of a CLIP


def test_weights_that_a_name_brings_along_take_no_others(tmp_path: Path) -> None:
    path = _open_clip(tmp_path, "open_clip_model.safetensors")
    for name in (path.parent, path, str(path)):
        with pytest.raises(UnknownModelError, match="has weights already"):
            load_checkpoint(name, "openai")


def test_a_name_comes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _open_clip(Path("toy"), "open_clip_model.safetensors")
    with pytest.raises(UnknownModelError, match="no weights are released for 'toy'"):
        load_checkpoint("toy")
    for spelling in ("./toy", "local-dir:toy", Path("toy")):
        assert load_checkpoint(spelling).spec.architecture == TINY
    # The identity under which exports are cached is that of the named model, not of the folder.
    _native(Path("RN50"), "model.safetensors")
    assert LazyCheckpoint("./RN50").identity == load_checkpoint("./RN50").identity
    assert LazyCheckpoint("RN50")._stated() is None
