"""Prefix trees of texts: the same embeddings and gradients as for separate texts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import InputError
from diptych.model.clip import CLIP
from diptych.model.config import CLIPConfig, ResNetConfig, TextConfig
from diptych.model.initialise import build
from diptych.model.text.prefix_tree import build_prefix_trees, encode_with_prefix_trees, supports_prefix_trees

TEXT = TextConfig(vocab_size=20, context_length=10, width=32, heads=2, layers=2)
CONFIG = CLIPConfig(
    embed_dim=16, vision=ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8, pool="average"), text=TEXT
)


@pytest.fixture(scope="module")
def model() -> CLIP:
    return build(CONFIG, seed=0).eval()


# Few different tokens, so that prefixes are often shared and whole texts repeat.
bodies = st.lists(st.lists(st.integers(1, 3), max_size=8), min_size=1, max_size=30)


def padded(texts: list[list[int]]) -> np.ndarray:
    return np.array([[18, *text, 19] + [0] * (8 - len(text)) for text in texts], np.int64)


@settings(max_examples=60)
@given(texts=bodies, nodes=st.integers(1, 40), batch_size=st.sampled_from([None, 1, 3]))
def test_shared_prefixes_give_the_same_vectors(
    model: CLIP, texts: list[list[int]], nodes: int, batch_size: int | None
) -> None:
    tokens = torch.from_numpy(padded(texts))
    with torch.no_grad():
        alone = model.encode_text(tokens, normalize=True)
        shared = encode_with_prefix_trees(model, tokens, nodes=nodes, batch_size=batch_size)
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=0)


@given(texts=bodies, nodes=st.integers(1, 40))
def test_a_tree_holds_each_prefix_once(texts: list[list[int]], nodes: int) -> None:
    trees = build_prefix_trees(padded(texts), TEXT, nodes=nodes)
    whole = build_prefix_trees(padded(texts), TEXT, nodes=10_000)
    prefixes = {tuple(row[: n + 1]) for row in padded(texts).tolist() for n in range(row.index(19) + 1)}
    assert len(whole) == 1
    assert whole.tokens.shape[1] == len(prefixes)
    assert trees.tokens.shape[1] <= max(nodes, 10)


def test_gradients_are_those_of_texts_alone(model: CLIP) -> None:
    tokens = torch.from_numpy(padded([[1, 2], [1, 2, 3], [1, 2], [3], []]))
    weights = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    gradients = []
    for encode in (
        lambda: model.encode_text(tokens, normalize=True),
        lambda: encode_with_prefix_trees(model, tokens, nodes=6),
    ):
        model.zero_grad()
        (encode() * weights).sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for alone, shared in zip(*gradients, strict=True):
        torch.testing.assert_close(shared, alone, atol=1e-5, rtol=1e-4)


def test_a_named_end_token_ends_a_text(model: CLIP) -> None:
    config = dataclasses.replace(TEXT, end_id=2)
    assert build_prefix_trees(np.array([[18, 1, 2, 19]]), config).tokens.tolist() == [[18, 1, 2]]


def test_only_causal_towers_can_share() -> None:
    assert supports_prefix_trees(TEXT)
    assert not supports_prefix_trees(dataclasses.replace(TEXT, causal=False, pool="last"))


@pytest.mark.parametrize("shape", [(0, 10), (3, 11), (4,)], ids=str)
def test_token_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="expected"):
        build_prefix_trees(np.ones(shape, np.int64), TEXT)
