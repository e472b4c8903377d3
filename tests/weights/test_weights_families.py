"""Released families, read from folders in their own form: ids and vectors that their own libraries give."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_families import TEXTS, pictures, recorded, write_folder

from diptych.encoders import TorchEncoder
from diptych.encoders.towers import open_tower
from diptych.encoders.tracing import write_towers
from diptych.errors import InputError, MissingExtraError, WeightsError
from diptych.model import timm_shapes, timm_trunk
from diptych.model.config import CLIPConfig, TextConfig, TimmConfig, ViTConfig
from diptych.model.cost import cost
from diptych.model.initialise import build
from diptych.model.timm_shapes import pe_core_tower, siglip_tower
from diptych.model.vit import VisionTransformer
from diptych.training.gradients import cached_gradients
from diptych.training.objective import Contrastive
from diptych.training.tuning import depth, gentle
from diptych.weights import load_checkpoint, to_diptych, to_open_clip, to_transformers

TRUNKS = ("convnext", "eva02", "fastvit", "vitamin")  # towers that timm builds
ALL_CASES = recorded()["cases"]
CASES = {family: case for family, case in ALL_CASES.items() if family not in TRUNKS}


@pytest.fixture(autouse=True)
def tiny_towers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The towers of `recordings/make_families.py`, made of the same functions as the released ones."""
    towers = {
        "tiny_siglip": siglip_tower(64, 2, 4, 32, 8, mlp_ratio=3.7362),
        "tiny_siglip_tanh": siglip_tower(64, 2, 4, 32, 8, mlp_ratio=3.7362, activation="gelu_tanh"),
        "tiny_pe_core": pe_core_tower(64, 2, 32, 8, head_width=16),
        "tiny_pe_core_g": pe_core_tower(
            64, 2, 32, 8, head_width=16, mlp_ratio=35 / 6, class_token=False, rope_offset=0
        ),
        "tiny_mci": {
            **timm_shapes.TIMM_VITS["vit_base_mci_224"],
            "image_size": 32,
            "width": 64,
            "layers": 2,
            "head_width": 16,
        },
        "tiny_patch14_clip": {
            **timm_shapes.TIMM_VITS["vit_large_patch14_clip_224"],
            "image_size": 32,
            "patch_size": 8,
            "width": 64,
            "layers": 2,
            "head_width": 16,
        },
    }
    for name, tower in towers.items():
        monkeypatch.setitem(timm_shapes.TIMM_VITS, name, tower)


def encoder_of(folder: Path) -> TorchEncoder:
    return TorchEncoder.from_checkpoint(load_checkpoint(folder), device="cpu", precision="float32")


@pytest.mark.parametrize("family", CASES)
def test_a_released_folder_gives_the_vectors_of_its_own_library(family: str, tmp_path: Path) -> None:
    case = CASES[family]
    encoder = encoder_of(write_folder(tmp_path / family, case))
    assert encoder.tokenizer(TEXTS).tolist() == case["ids"]
    assert isinstance(encoder.spec.architecture.vision, ViTConfig)
    np.testing.assert_allclose(encoder.encode_images(pictures()), case["image"], atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), case["text"], atol=1e-5)


@pytest.mark.parametrize("family", CASES)
def test_a_family_is_kept_in_our_form_and_in_open_clips(family: str, tmp_path: Path) -> None:
    read = load_checkpoint(write_folder(tmp_path / family, CASES[family]))
    to_diptych(read, tmp_path / "ours")
    ours = load_checkpoint(tmp_path / "ours")
    assert (ours.identity, ours.spec.architecture) == (read.identity, read.spec.architecture)
    if family == "metaclip2_transformers":  # whose tokenizer does nothing to a text before its table
        with pytest.warns(UserWarning, match="cleaning texts by 'none'"):
            to_open_clip(read, tmp_path / "theirs")
        return
    to_open_clip(read, tmp_path / "theirs")
    stored = load_file(tmp_path / "theirs/open_clip_model.safetensors")
    assert {name: list(tensor.shape) for name, tensor in stored.items()} == CASES[family]["shapes"]
    assert load_checkpoint(tmp_path / "theirs").identity == read.identity


@pytest.mark.parametrize("family", ["clipa", "pe_core", "mobileclip_b", "siglip_unprojected"])
def test_what_transformers_has_no_class_for_is_refused(family: str, tmp_path: Path) -> None:
    read = load_checkpoint(write_folder(tmp_path / family, CASES[family]))
    with pytest.raises(WeightsError, match=r"transformers' (CLIP|Siglip)Model is always"):
        to_transformers(read, tmp_path / "theirs")


def test_metaclip2_is_kept_in_transformers_form(tmp_path: Path) -> None:
    read = load_checkpoint(write_folder(tmp_path / "read", CASES["metaclip2_transformers"]))
    to_transformers(read, tmp_path / "theirs")
    stored = load_file(tmp_path / "theirs/model.safetensors")
    shapes = {name: list(tensor.shape) for name, tensor in stored.items()}
    assert shapes == CASES["metaclip2_transformers"]["shapes"]
    assert load_checkpoint(tmp_path / "theirs").identity == read.identity


@pytest.mark.parametrize("family", ["siglip", "siglip_tanh"])
def test_siglip_goes_from_open_clips_form_to_transformers(family: str, tmp_path: Path) -> None:
    read = load_checkpoint(write_folder(tmp_path / family, CASES[family]))
    to_transformers(read, tmp_path / "theirs")
    encoder = encoder_of(tmp_path / "theirs")
    np.testing.assert_allclose(encoder.encode_images(pictures()), CASES[family]["image"], atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), CASES[family]["text"], atol=1e-5)


@pytest.mark.parametrize("family", ["pe_core", "pe_core_g", "mobileclip_b", "mobileclip2_l"])
def test_a_family_is_exported(family: str, tmp_path: Path) -> None:
    encoder = encoder_of(write_folder(tmp_path / family, CASES[family]))
    write_towers(encoder.model, tmp_path)
    pixels = np.stack([encoder.prepare(picture) for picture in pictures()])
    ids = np.asarray(CASES[family]["ids"], np.int64)
    for tower, taken, expected in (("image", pixels, "image"), ("text", ids, "text")):
        run = open_tower(tmp_path / f"{tower}.onnx", "onnx", "float32", threads=1)
        np.testing.assert_allclose(run(taken), CASES[family][expected], atol=2e-5)


@pytest.mark.parametrize("family", CASES)
def test_a_family_is_trained_on(family: str, tmp_path: Path) -> None:
    read = load_checkpoint(write_folder(tmp_path / family, CASES[family]))
    shape = read.spec.architecture
    model = build(shape, seed=0)
    model.load_state_dict(read.state)
    rates = gentle(shape)
    deepest = max(depth(name, model) for name, _ in model.named_parameters())
    assert rates["layer_decay"] > 0
    assert deepest == 1 + max(shape.text.layers, shape.vision.layers)
    assert cost(shape, 12).pair > 0
    batch = torch.randn(3, 3, 32, 32), torch.tensor(CASES[family]["ids"])
    loss = cached_gradients(Contrastive(model), [lambda: batch], seeds=[0])
    assert torch.isfinite(loss)
    still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert still <= {"logit_bias"}  # which InfoNCE does not use


def test_dropped_patches_keep_their_rotary_positions(tmp_path: Path) -> None:
    read = load_checkpoint(write_folder(tmp_path / "pe", CASES["pe_core"]))
    vision = dataclasses.replace(read.spec.architecture.vision, patch_dropout=0.5)
    model = build(dataclasses.replace(read.spec.architecture, vision=vision), seed=0)
    model.load_state_dict(read.state)
    tower = cast(VisionTransformer, model.visual)
    shown, everything = torch.randn(2, 3, 32, 32), torch.arange(17).flip(0).expand(2, -1)
    tower.train()
    with pytest.MonkeyPatch.context() as patch:  # all are kept, in another order: the same vector
        patch.setattr(tower, "_kept", lambda x: everything)
        turned = tower(shown)
    torch.testing.assert_close(turned, tower.eval()(shown), atol=1e-5, rtol=0)


@pytest.mark.usefixtures("with_timm")
@pytest.mark.parametrize("family", TRUNKS)
def test_a_tower_of_timm_gives_the_vectors_of_open_clip(family: str, tmp_path: Path) -> None:
    case = ALL_CASES[family]
    read = load_checkpoint(write_folder(tmp_path / family, case))
    encoder = TorchEncoder.from_checkpoint(read, device="cpu", precision="float32")
    assert encoder.tokenizer(TEXTS).tolist() == case["ids"]
    np.testing.assert_allclose(encoder.encode_images(pictures()), case["image"], atol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), case["text"], atol=1e-5)
    assert encoder.image_features(pictures()).shape == (2, encoder.model.visual.feature_width)
    with pytest.raises(InputError, match="built by timm"):
        encoder.encode_patches(pictures())


@pytest.mark.usefixtures("with_timm")
def test_a_tower_of_timm_is_kept_converted_exported_and_trained(tmp_path: Path) -> None:
    case = ALL_CASES["convnext"]
    read = load_checkpoint(write_folder(tmp_path / "convnext", case))
    shape = read.spec.architecture
    to_diptych(read, tmp_path / "ours")
    to_open_clip(read, tmp_path / "theirs")
    for kept in ("ours", "theirs"):
        assert load_checkpoint(tmp_path / kept).identity == read.identity
    with pytest.raises(WeightsError, match="no image tower of timm"):
        to_transformers(read, tmp_path / "transformers")
    encoder = TorchEncoder.from_checkpoint(read, device="cpu", precision="float32")
    write_towers(encoder.model, tmp_path)
    pixels = np.stack([encoder.prepare(picture) for picture in pictures()])
    run = open_tower(tmp_path / "image.onnx", "onnx", "float32", threads=1)
    np.testing.assert_allclose(run(pixels), case["image"], atol=2e-5)
    model = build(shape, seed=0)  # timm's own start: every parameter is set
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())
    again = build(shape, seed=0).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())
    model.set_grad_checkpointing()
    loss = cached_gradients(
        Contrastive(model), [lambda: (torch.from_numpy(pixels), torch.tensor(case["ids"][:2]))], seeds=[0]
    )
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in model.parameters())
    assert {depth(name, model) for name, _ in model.named_parameters()} > {0, 1, 2}
    assert cost(shape, 12).pair > 0


def test_what_timm_cannot_build_is_said(monkeypatch: pytest.MonkeyPatch, with_timm: None) -> None:
    with pytest.raises(InputError, match="cannot build 'no_such_tower'"):
        build(CLIPConfig(embed_dim=8, vision=TimmConfig(model_name="no_such_tower"), text=TextConfig()))
    broken = ImportError("operator torchvision::nms does not exist")
    monkeypatch.setattr(timm_trunk, "require", lambda *args, **options: (_ for _ in ()).throw(broken))
    with pytest.raises(MissingExtraError, match="torchvision beside it is not made for torch"):
        timm_trunk.import_timm()
