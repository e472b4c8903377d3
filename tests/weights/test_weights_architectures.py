"""Architectures of released families at full size, on the meta device: names, shapes, hidden settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from diptych.model.initialise import build
from diptych.model.presets.family_presets import FAMILY_PRESETS, TIMM_PRESETS
from diptych.model.presets.timm_shapes import TIMM_VITS, timm_shape
from diptych.weights.open_clip.write import rename_for_open_clip
from tests.weights.tiny_families import hash_shapes

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "recorded_architectures.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", FAMILY_PRESETS)
def test_names_and_shapes_are_those_of_open_clip(name: str) -> None:
    config = FAMILY_PRESETS[name]
    named = rename_for_open_clip(config, build(config, device="meta").state_dict())
    shapes = {key: tuple(tensor.shape) for key, tensor in named.items()}
    assert hash_shapes(shapes) == RECORDED["models"][name][0]


@pytest.mark.usefixtures("with_timm")
@pytest.mark.parametrize(
    "name", ["convnext_base", "convnext_large_d", "EVA01-g-14", "EVA02-B-16", "MobileCLIP2-S0", "ViTamin-S"]
)
def test_names_and_shapes_of_towers_that_timm_builds_are_those_of_open_clip(name: str) -> None:
    named = build(TIMM_PRESETS[name], device="meta").state_dict()
    if not name.startswith("convnext"):  # models with a "custom text" tower
        named = {
            key if key.startswith(("visual.", "logit_")) else f"text.{key}": t for key, t in named.items()
        }
    shapes = {key: tuple(tensor.shape) for key, tensor in named.items()}
    assert hash_shapes(shapes) == RECORDED["models"][name][0]


def test_every_tower_of_timm_that_open_clip_names_is_a_preset() -> None:
    assert {name for name in RECORDED["models"] if name in TIMM_PRESETS} == set(TIMM_PRESETS)


@pytest.mark.parametrize("name", RECORDED["timm"])
def test_what_no_shape_shows_is_as_timm_has_it(name: str) -> None:
    shape, facts = timm_shape(name), RECORDED["timm"][name]
    assert shape.activation == facts["activation"] == facts.get("pool_activation", facts["activation"])
    assert shape.norm_eps == facts["norm_eps"] == facts.get("pool_norm_eps", facts["norm_eps"])
    assert shape.heads == facts["heads"]
    assert (shape.class_token and shape.class_position) == facts["class_position"]
    if shape.pool == "attention":
        assert (shape.pool_heads or shape.heads) == facts["pool_heads"]
    assert (shape.rope_offset if shape.rope else None) == facts["rope_offset"]
    assert not facts.get("rope_rescaled")


def test_every_shape_is_recorded() -> None:
    assert set(TIMM_VITS) == set(RECORDED["timm"])
