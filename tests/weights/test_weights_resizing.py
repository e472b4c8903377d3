"""Resizing of position tables: equal to open_clip's, only on request, and reported."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from diptych.backends import TorchEncoder, load
from diptych.cli.models.models import app
from diptych.errors import InputError
from diptych.model.config import CLIPConfig, ResNetConfig, RobertaConfig, TimmConfig
from diptych.model.initialise import build
from diptych.model.presets.table import preset
from diptych.weights import Checkpoint, ModelSpec, load_checkpoint, save_checkpoint
from diptych.weights.fitting import expected_shapes
from diptych.weights.resizing import resize_checkpoint, resize_positions, resized_architecture
from tests.weights.tiny_models import TINY

# The results of open_clip 3.3's resize_pos_embed and resize_text_pos_embed for `table`.
RECORDED = json.loads((Path(__file__).parent / "recorded_positions.json").read_text(encoding="utf-8"))


def table(rows: int, width: int = 4) -> Tensor:
    return torch.sin(torch.arange(rows)[:, None] * 0.7 + torch.arange(width)[None] * 1.3)


def sized(grid: int, length: int) -> CLIPConfig:
    vision = dataclasses.replace(TINY.vision, image_size=16 * grid)
    return dataclasses.replace(
        TINY, vision=vision, text=dataclasses.replace(TINY.text, context_length=length)
    )


@pytest.mark.parametrize(("kind", "grid"), [("larger", 5), ("smaller", 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_picture_tables_are_open_clips(kind: str, grid: int, dtype: torch.dtype) -> None:
    name = "visual.positional_embedding"
    resized = resize_positions({name: table(10).to(dtype)}, sized(3, 5), sized(grid, 5))[name]
    assert resized.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 2e-3
    torch.testing.assert_close(resized.float(), torch.tensor(RECORDED[kind]), atol=tolerance, rtol=0)


def test_text_tables_are_cut_or_open_clips() -> None:
    state = {"positional_embedding": table(5)}
    longer = resize_positions(state, sized(3, 5), sized(3, 7))["positional_embedding"]
    torch.testing.assert_close(longer, torch.tensor(RECORDED["text"]), atol=1e-5, rtol=0)
    shorter = resize_positions(state, sized(3, 5), sized(3, 3))["positional_embedding"]
    assert torch.equal(shorter, table(5)[:3])


@pytest.mark.parametrize("kind", ["vit", "resnet", "siglip"])
def test_a_resized_model_encodes(kind: str, tmp_path: Path) -> None:
    config = TINY
    if kind == "resnet":
        config = dataclasses.replace(TINY, vision=ResNetConfig(image_size=64, layers=(1, 1, 1, 1), width=8))
    if kind == "siglip":
        vision = dataclasses.replace(TINY.vision, class_token=False, pool="average", post_norm="before_pool")
        config = dataclasses.replace(TINY, vision=vision)
    spec = ModelSpec(name="toy", architecture=config)
    save_checkpoint(tmp_path, spec, build(config, seed=0).state_dict())
    side = 2 * config.vision.image_size
    encoder = load(tmp_path, runtime="torch", image_size=side, context_length=9)
    assert encoder.input_size == side
    assert encoder.encode_texts(["a dog"]).shape == (1, config.embed_dim)
    checkpoint = load_checkpoint(tmp_path, image_size=side, context_length=9)
    assert encoder.identity == checkpoint.identity != load_checkpoint(tmp_path).identity
    assert "image size" in checkpoint.spec.source
    assert "context length 16 resized to 9" in checkpoint.spec.source


def test_nothing_is_resized_unasked(tmp_path: Path) -> None:
    spec = ModelSpec(name="toy", architecture=TINY)
    save_checkpoint(tmp_path, spec, build(TINY, seed=0).state_dict())
    checkpoint = load_checkpoint(tmp_path)
    assert resize_checkpoint(checkpoint) is checkpoint
    assert resize_checkpoint(checkpoint, image_size=32, context_length=16) is checkpoint


def test_a_roberta_has_no_more_positions_than_its_table() -> None:
    text = RobertaConfig(context_length=12, vocab_size=520, width=32, heads=2, layers=1, positions=20)
    config = dataclasses.replace(TINY, text=text)
    state = build(config, seed=0).state_dict()
    checkpoint = Checkpoint(ModelSpec(name="toy", architecture=config), state, "")
    assert resize_checkpoint(checkpoint, context_length=18).spec.tokenizer.context_length == 18
    with pytest.raises(InputError, match="positions, the table has 20"):
        resize_checkpoint(checkpoint, context_length=19)


@pytest.mark.usefixtures("with_timm")
@pytest.mark.parametrize("name", ["convnext_tiny", "MobileCLIP-S1"])
def test_convolutions_take_any_size(name: str) -> None:
    config = preset(name)
    larger = resized_architecture(config, image_size=320)
    assert larger.vision.image_size == 320
    assert expected_shapes(larger) == expected_shapes(config)
    with pytest.raises(InputError, match="takes 32 pixels or more"):
        resized_architecture(config, image_size=16)


@pytest.mark.parametrize("name", ["EVA02-B-16", "ViTamin-S"])
def test_positions_of_timms_towers_are_not_resized(name: str) -> None:
    config = preset(name)
    assert resized_architecture(config, image_size=config.vision.image_size) == config
    with pytest.raises(InputError, match=r"only ConvNeXt and FastViT, .*take another size"):
        resized_architecture(config, image_size=384)


@pytest.mark.usefixtures("with_timm")
def test_a_convolutional_tower_reads_a_larger_picture() -> None:
    """The smallest ConvNeXt, with one layer per stage and random weights, from 64 to 96 pixels."""
    vision = TimmConfig(model_name="convnext_atto", image_size=64, pool="", projection="linear")
    config = dataclasses.replace(TINY, vision=vision)
    spec = ModelSpec(name="toy", architecture=config)
    spec = dataclasses.replace(spec, preprocess=dataclasses.replace(spec.preprocess, size=64))
    small = Checkpoint(spec=spec, state=build(config, seed=0).state_dict(), identity="x")
    larger = resize_checkpoint(small, image_size=96)
    assert larger.spec.preprocess.size == 96
    assert "image size 64 resized to 96" in larger.spec.source
    assert all(torch.equal(larger.state[name], tensor) for name, tensor in small.state.items())
    rows = TorchEncoder.from_checkpoint(larger, device="cpu").encode_images(
        [Image.new("RGB", (120, 90), "red")]
    )
    assert rows.shape == (1, config.embed_dim)


def test_convert_writes_a_resized_model(tmp_path: Path) -> None:
    save_checkpoint(
        tmp_path / "a", ModelSpec(name="toy", architecture=TINY), build(TINY, seed=0).state_dict()
    )
    words = ["convert", str(tmp_path / "a"), str(tmp_path / "b"), "--image-size", "64"]
    run = CliRunner().invoke(app, [*words, "--context-length", "20"])
    assert run.exit_code == 0, run.output
    assert "measure it before use" in " ".join(run.stderr.split())
    spec = load_checkpoint(tmp_path / "b").spec
    assert (spec.preprocess.size, spec.tokenizer.context_length) == (64, 20)
