"""The RoBERTa text tower: compared with a NumPy reference, and independent of padding."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.model.clip import CLIP, RobertaCLIP
from diptych.model.config import CLIPConfig, RobertaConfig, TextConfig, ViTConfig
from diptych.model.initialise import build
from diptych.model.text.prefix_tree import supports_prefix_trees

TEXT = RobertaConfig(
    context_length=12,
    vocab_size=40,
    width=16,
    heads=2,
    layers=2,
    mlp_ratio=2.0,
    positions=14,
    token_types=2,
)
VISION = ViTConfig(image_size=32, patch_size=16, width=64, layers=1)


def model_of(**changes: Any) -> RobertaCLIP:
    text = dataclasses.replace(TEXT, **changes)
    dim = text.width if text.head == "none" else 8
    model = build(CLIPConfig(embed_dim=dim, vision=VISION, text=text), seed=0).double().eval()
    assert isinstance(model, RobertaCLIP)
    with torch.no_grad():  # larger than initial weights, so that no value is near zero
        for name, parameter in model.text.named_parameters():
            draw = torch.Generator().manual_seed(len(name))
            parameter += 0.3 * torch.randn(parameter.shape, generator=draw)
    return model


def reference(state: Mapping[str, torch.Tensor], config: RobertaConfig, tokens: list[int]) -> np.ndarray:
    """The tower for one text without padding, written position by position as in the papers."""
    w = {name.removeprefix("text."): tensor.double().numpy() for name, tensor in state.items()}

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + config.norm_eps)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def gelu(x: np.ndarray) -> np.ndarray:
        return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2

    e = "transformer.embeddings"
    x = w[f"{e}.word_embeddings.weight"][tokens] + w[f"{e}.token_type_embeddings.weight"][0]
    x = norm(x + w[f"{e}.position_embeddings.weight"][2 : 2 + len(tokens)], f"{e}.LayerNorm")  # pad_id + 1
    for i in range(config.layers):
        layer = f"transformer.encoder.layer.{i}"
        q, k, v = (linear(x, f"{layer}.attention.self.{part}") for part in ("query", "key", "value"))
        heads = []
        for part in np.split(np.arange(config.width), config.heads):
            scores = q[:, part] @ k[:, part].T / math.sqrt(len(part))
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            heads.append(scores / scores.sum(-1, keepdims=True) @ v[:, part])
        y = linear(np.concatenate(heads, -1), f"{layer}.attention.output.dense")
        x = norm(x + y, f"{layer}.attention.output.LayerNorm")
        y = linear(gelu(linear(x, f"{layer}.intermediate.dense")), f"{layer}.output.dense")
        x = norm(x + y, f"{layer}.output.LayerNorm")
    pooled = x.mean(0) if config.pooler == "mean" else x[0]
    if config.pooler == "tanh":
        pooled = np.tanh(linear(pooled, "transformer.pooler.dense"))
    if config.head == "mlp":
        return linear(gelu(linear(pooled, "proj.0")), "proj.2")
    return pooled if config.head == "none" else linear(pooled, "proj")


@pytest.mark.parametrize(
    ("pooler", "head"),
    list(itertools.product(["mean", "first", "tanh"], ["none", "linear", "mlp", "affine"])),
)
def test_the_numbers_are_the_references(pooler: str, head: str) -> None:
    model = model_of(pooler=pooler, head=head)
    texts = [[0, 5, 6, 7, 2], [0, 9, 2], [0, 30, 31, 32, 33, 34, 35, 2]]
    padded = torch.tensor([text + [1] * (12 - len(text)) for text in texts])
    with torch.no_grad():
        result = model.encode_text(padded).numpy()
    assert isinstance(model.text_config, RobertaConfig)
    wanted = np.stack([reference(model.state_dict(), model.text_config, text) for text in texts])
    np.testing.assert_allclose(result, wanted, atol=1e-9)


@settings(max_examples=30)
@given(texts=st.lists(st.lists(st.integers(3, 39), max_size=8), min_size=1, max_size=5))
def test_padding_and_company_change_nothing(texts: list[list[int]]) -> None:
    model = model_of()
    rows = [[0, *text, 2] for text in texts]
    longest = max(map(len, rows))
    narrow = torch.tensor([row + [1] * (longest - len(row)) for row in rows])
    wide = torch.tensor([row + [1] * (12 - len(row)) for row in rows])
    with torch.no_grad():
        together = model.encode_text(wide, normalize=True)
        assert torch.allclose(together, model.encode_text(narrow, normalize=True), atol=1e-12)
        alone = torch.cat([model.encode_text(torch.tensor([row]), normalize=True) for row in rows])
    assert torch.allclose(together, alone, atol=1e-12)


def test_what_is_padded_beyond_the_longest_text_is_not_computed() -> None:
    model = model_of()
    widths = []
    encoder: Any = model.text.transformer["encoder"]
    encoder.layer[0].register_forward_pre_hook(lambda module, given: widths.append(given[0].shape[1]))
    model.encode_text(torch.tensor([[0, 5, 6, 2, 1, 1, 1], [0, 2, 1, 1, 1, 1, 1]]))
    assert widths == [4]


def test_a_padding_token_inside_a_text_is_passed_over() -> None:
    """As in transformers: the token is masked, and positions continue after it."""
    model = model_of()
    with torch.no_grad():
        inside = model.encode_text(torch.tensor([[0, 5, 1, 6, 2]]))
        without = model.encode_text(torch.tensor([[0, 5, 6, 2]]))
    assert torch.allclose(inside, without, atol=1e-12)


def test_refusals() -> None:
    model = model_of()
    with pytest.raises(InputError, match="at most 12"):
        model.encode_text(torch.ones(1, 13, dtype=torch.long))
    with pytest.raises(InputError, match="padding only"):
        model.encode_text(torch.tensor([[0, 2], [1, 1]]))
    with pytest.raises(InputError, match="no prefix trees"):
        model.encode_prefix_trees(*(torch.zeros(1),) * 4)
    assert not supports_prefix_trees(model.text_config)
    assert not supports_prefix_trees(TextConfig(causal=False, pool="last"))
    with pytest.raises(InputError, match="build"):
        RobertaCLIP(CLIPConfig(embed_dim=8, vision=VISION, text=TextConfig()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context_length": 13}, "15 positions, the table has 14"),
        ({"pooler": "max"}, "expected one of 'mean'"),
        ({"head": "deep"}, "expected one of 'none'"),
        ({"causal": True}, "takes no causal"),
        ({"activation": None}, "names its own activation"),
        ({"positions": 0}, "whole number above 0"),
    ],
)
def test_configs_that_hold_no_tower(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataclasses.replace(TEXT, **changes)


def test_configs_to_json_and_back() -> None:
    config = CLIPConfig(embed_dim=8, vision=VISION, text=TEXT)
    assert config.to_dict()["text"]["kind"] == "roberta"
    assert CLIPConfig.from_dict(config.to_dict()) == config
    plain = CLIPConfig(embed_dim=8, vision=VISION, text=TextConfig()).to_dict()
    assert "kind" not in plain["text"]  # keys that earlier versions wrote, and that are still read
    with pytest.raises(InputError, match="unknown text tower kind 'bert'"):
        CLIPConfig.from_dict({**plain, "text": {"kind": "bert"}})
    with pytest.raises(InputError, match="without a head"):
        CLIPConfig(embed_dim=8, vision=VISION, text=dataclasses.replace(TEXT, head="none"))


def test_a_start_from_a_seed_and_recomputed_gradients() -> None:
    config = CLIPConfig(embed_dim=8, vision=VISION, text=TEXT)
    single, two = build(config, seed=3), build(config, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(single.parameters(), two.parameters(), strict=True))
    assert all(bool(parameter.isfinite().all()) for parameter in single.parameters())
    two.set_grad_checkpointing()
    tokens, pictures = torch.tensor([[0, 5, 2, 1], [0, 5, 6, 2]]), torch.ones(2, 3, 32, 32)
    for model in (single, two):
        model.logits(pictures, tokens).square().sum().backward()
    for (name, a), b in zip(single.named_parameters(), two.parameters(), strict=True):
        if a.grad is None:  # token types are one row of a table
            assert b.grad is None, name
        else:
            assert b.grad is not None
            assert torch.allclose(a.grad, b.grad, atol=1e-5), name
    assert isinstance(single, CLIP)
