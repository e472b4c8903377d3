"""Batch norms folded into the convolutions before them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from diptych.model.batch_norm import batch_norms, fuse_batch_norms
from diptych.model.config import CLIPConfig, EfficientNetConfig, ResNetConfig, TextConfig
from diptych.model.initialise import build

RESNET = ResNetConfig(image_size=64, layers=(1, 2, 1, 1), width=16)
TOWERS = {
    "efficientnet": EfficientNetConfig(image_size=64, width=0.5, depth=0.5),
    "resnet": RESNET,
    "average": dataclasses.replace(RESNET, pool="average"),
}


@pytest.mark.parametrize("name", TOWERS)
def test_fused_towers_compute_the_same(name):
    torch.manual_seed(0)
    text = TextConfig(context_length=8, vocab_size=64, width=32, heads=2, layers=1)
    tower = build(CLIPConfig(embed_dim=8, vision=TOWERS[name], text=text), seed=0).visual.eval()
    for norm in batch_norms(tower):
        for tensor, low in (
            (norm.weight, 0.5),
            (norm.bias, -0.5),
            (norm.running_mean, -0.5),
            (norm.running_var, 0.5),
        ):
            torch.nn.init.uniform_(tensor.data, low, low + 1)
    images = torch.randn(3, 3, 64, 64)
    before = tower(images)
    fused = fuse_batch_norms(tower)
    assert batch_norms(fused) == []
    assert len(batch_norms(tower)) > 5  # the tower itself is not changed
    with torch.no_grad():
        after = fused(images)
    scale = before.abs().max()
    assert torch.allclose(after / scale, before / scale, atol=1e-4)
    assert torch.equal(tower(images), before)
