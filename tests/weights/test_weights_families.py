"""Released families read from folders in their own formats: token ids and vectors of their own libraries."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from diptych.backends import TorchEncoder
from diptych.backends.conversion.tracing import write_towers
from diptych.backends.exported.towers import open_tower
from diptych.cli.main import app
from diptych.errors import InputError, MissingExtraError, WeightsError
from diptych.model import timm_trunk
from diptych.model.config import CLIPConfig, TextConfig, TimmConfig, ViTConfig
from diptych.model.cost import cost
from diptych.model.initialise import build
from diptych.model.presets import timm_shapes
from diptych.model.timm_trunk import TimmTrunk
from diptych.model.vit import VisionTransformer
from diptych.training.loop.gradients import cached_gradients
from diptych.training.objectives.objective import Contrastive
from diptych.training.objectives.tuning import add_low_rank, depth, fine_tuning_defaults
from diptych.weights import load_checkpoint, to_diptych, to_open_clip, to_transformers
from tests.training.make_runs import write_pairs
from tests.weights.tiny_families import TEXTS, pictures, recorded, tiny_towers, write_folder

TRUNKS = ("convnext", "eva02", "fastvit", "vitamin")  # towers built by timm
ALL_CASES = recorded()["cases"]
CASES = {family: case for family, case in ALL_CASES.items() if family not in TRUNKS}


@pytest.fixture(autouse=True)
def released_towers_are_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the towers of `recordings/make_families.py` under their names."""
    for name, tower in tiny_towers().items():
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
    if family == "metaclip2_transformers":  # whose tokenizer has no text cleaning before its table
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
    rates = fine_tuning_defaults(shape)
    deepest = max(depth(name, model) for name, _ in model.named_parameters())
    assert rates["layer_decay"] > 0
    assert deepest == 1 + max(shape.text.layers, shape.vision.layers)
    assert cost(shape, 12).pair > 0
    batch = torch.randn(3, 3, 32, 32), torch.tensor(CASES[family]["ids"])
    loss = cached_gradients(Contrastive(model), [lambda: batch], seeds=[0])
    assert torch.isfinite(loss)
    still = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert still <= {"logit_bias"}  # InfoNCE does not use it


CHANGES = ("lora=2", "lock=image", "layer_decay=0.5")


@pytest.mark.filterwarnings("ignore:.* longer than 12 tokens")
@pytest.mark.parametrize("family", [*CASES, "convnext"])
def test_the_command_line_trains_from_a_family_and_resumes(
    family: str, tmp_path: Path, with_timm: None
) -> None:
    """Two steps, then two more from the checkpoint; every tuning method is tried on several families."""
    start = write_folder(tmp_path / "start", ALL_CASES[family])
    change = CHANGES[list(ALL_CASES).index(family) % len(CHANGES)]
    words = ["train", "--pairs", str(write_pairs(tmp_path / "pairs.tar", 8)), "--from", str(start), "-q"]
    words += ["--out", str(tmp_path / "run"), "--batch-size", "4", "--hold-out", "0.25", "--json"]
    words += [part for field in ("threads=1", "schedule=constant", change) for part in ("--set", field)]
    for epochs, more in (("1", []), ("2", ["--resume"])):
        run = CliRunner().invoke(app, [*words, "--epochs", epochs, *more])
        assert run.exit_code == 0, run.output
        assert json.loads(run.stdout)["step"] == 2 * int(epochs)
    before, after = load_checkpoint(start), load_checkpoint(tmp_path / "run")
    assert after.spec.architecture == before.spec.architecture
    moved = {name for name, tensor in before.state.items() if not torch.equal(after.state[name], tensor)}
    moved -= {"logit_scale", "logit_bias"}
    assert any(name.startswith("visual.") for name in moved) == (change != "lock=image")
    assert any(not name.startswith("visual.") for name in moved)
    picture = pictures()[0]
    picture.save(tmp_path / "cat.png")
    words = ["classify", str(tmp_path / "cat.png"), "cat", "dog", "--model", str(tmp_path / "run"), "--json"]
    run = CliRunner().invoke(app, [*words, "--runtime", "torch"])
    assert run.exit_code == 0, run.output


@pytest.mark.usefixtures("with_timm")
def test_depths_of_towers_that_timm_builds_follow_the_order_of_computing() -> None:
    """A norm before the blocks is early in a ViT and late in a ConvNeXt, under the same name."""
    text = TextConfig(width=32, heads=2, layers=2)
    for name, blocks, early, late in (
        ("vit_tiny_patch16_224", 12, "trunk.pos_embed", "trunk.norm.weight"),
        ("vit_base_patch32_clip_224", 12, "trunk.norm_pre.weight", "trunk.norm.weight"),
        ("test_convnext", 4, "trunk.stem.0.weight", "trunk.head.norm.weight"),
        ("fastvit_mci0", 4, "trunk.stem.0.conv_kxk.0.conv.weight", "trunk.final_conv.conv_scale.conv.weight"),
        ("resnet18", 4, "trunk.conv1.weight", "head.proj.weight"),
    ):
        shape = CLIPConfig(embed_dim=32, vision=TimmConfig(model_name=name), text=text)
        model = build(shape, device="meta")
        depths = [depth(name, model) for name, _ in model.named_parameters() if name.startswith("visual.")]
        assert set(depths) == set(range(blocks + 2)), name
        assert (depth(f"visual.{early}", model), depth(f"visual.{late}", model)) == (blocks + 1, 0), name


@pytest.mark.usefixtures("with_timm")
def test_low_rank_changes_reach_the_convolutions_of_a_tower_of_timm() -> None:
    """Three quarters of a FastViT are convolutions."""
    shape = CLIPConfig(
        embed_dim=32,
        vision=TimmConfig(model_name="fastvit_mci0"),
        text=TextConfig(width=32, heads=2, layers=2),
    )
    model = build(shape, device="meta")
    add_low_rank(model, 2, 4.0)
    tower = cast(TimmTrunk, model.visual)
    plain = sum(weight.numel() for weight in tower.parameters())
    changed = [p for name, p in tower.named_parameters() if name.endswith(".original")]
    assert all(p.ndim in (2, 4) for p in changed)
    assert sum(p.numel() for p in changed) > 0.9 * plain


def test_dropped_patches_keep_their_rotary_positions(tmp_path: Path) -> None:
    read = load_checkpoint(write_folder(tmp_path / "pe", CASES["pe_core"]))
    vision = dataclasses.replace(read.spec.architecture.vision, patch_dropout=0.5)
    model = build(dataclasses.replace(read.spec.architecture, vision=vision), seed=0)
    model.load_state_dict(read.state)
    tower = cast(VisionTransformer, model.visual)
    shown, everything = torch.randn(2, 3, 32, 32), torch.arange(17).flip(0).expand(2, -1)
    tower.train()
    with pytest.MonkeyPatch.context() as patch:  # all patches are kept, in another order: the same vector
        patch.setattr(tower, "_sample_positions", lambda x: everything)
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
    half = TorchEncoder.from_checkpoint(read, device="cpu", precision="bfloat16").encode_images(pictures())
    assert (half * case["image"]).sum(1).min() > 0.999
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
    model = build(shape, seed=0)  # timm's own initialisation: all parameters are set
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
    other_size = TimmConfig(image_size=48, model_name="vit_tiny_patch16_224")
    with pytest.raises(InputError, match=r"for images of 224 pixels, got image_size 48: .* keep 224"):
        build(CLIPConfig(embed_dim=8, vision=other_size, text=TextConfig()), device="meta")
    any_size = TimmConfig(image_size=48, model_name="test_convnext")  # a convolutional tower
    build(CLIPConfig(embed_dim=8, vision=any_size, text=TextConfig()), device="meta")
    broken = ImportError("operator torchvision::nms does not exist")
    monkeypatch.setattr(timm_trunk, "require", lambda *args, **options: (_ for _ in ()).throw(broken))
    with pytest.raises(MissingExtraError, match="torchvision beside it is not made for torch"):
        timm_trunk.import_timm()
