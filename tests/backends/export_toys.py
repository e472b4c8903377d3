"""Tiny models of every kind and their exported folders, shared by the tests of the backends."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diptych.backends.conversion import converting, tracing
from diptych.inputs import PreprocessConfig, TokenizerConfig
from diptych.model.clip import CLIP
from diptych.model.config import CLIPConfig, ResNetConfig, RobertaConfig, TextConfig, ViTConfig
from diptych.model.initialise import build
from diptych.model.resnet import ModifiedResNet
from diptych.weights import Checkpoint, ModelSpec, identity_of

TEXT = TextConfig(context_length=16, vocab_size=1024, width=32, heads=2, layers=2)
RESNET = CLIPConfig(
    embed_dim=24, vision=ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=16), text=TEXT
)
VIT = dataclasses.replace(
    RESNET, vision=ViTConfig(image_size=32, patch_size=8, width=32, layers=2, head_width=16)
)
# As in SigLIP: attention pooling of patches, bidirectional text read at the last position, a logit bias.
SIGLIP = CLIPConfig(
    embed_dim=32,
    vision=ViTConfig(
        image_size=32,
        patch_size=8,
        width=32,
        layers=2,
        head_width=16,
        pool="attention",
        class_token=False,
        patch_bias=True,
        pre_norm=False,
        post_norm="before_pool",
        projection=False,
    ),
    text=dataclasses.replace(TEXT, causal=False, pool="last", projection_bias=True, context_length=12),
    activation="gelu_tanh",
    init_logit_scale=2.3,
    init_logit_bias=-10.0,
)
# As in XLM-R: bidirectional text with masked padding, mean pooling of tokens.
ROBERTA = dataclasses.replace(
    VIT,
    text=RobertaConfig(
        context_length=12, vocab_size=1024, width=32, heads=2, layers=2, positions=20, pooler="mean"
    ),
)
MODELS = {"resnet": RESNET, "vit": VIT, "siglip": SIGLIP, "roberta": ROBERTA}
WORDS = ("a", "the", "cat", "dog", "on", "red", "mat", "two", "house", "sea")


def checkpoint(kind: str, folder: Path) -> Checkpoint:
    """An initialised model whose vectors differ between pictures; the SigLIP kind has its own tokenizer."""
    shape = MODELS[kind]
    model = build(shape, seed=0)
    _spread(model)
    tokenizer = None
    if kind in ("siglip", "roberta"):
        write_tokenizer(folder / "tokenizer.json")
        tokenizer = TokenizerConfig(
            kind="file", vocab_size=1024, context_length=12, pad_id=1, clean="canonicalize"
        )
    spec = ModelSpec(
        name=f"toy-{kind}",
        architecture=shape,
        tokenizer=tokenizer,  # type: ignore[arg-type]
        preprocess=PreprocessConfig(size=32, resize="squash" if kind == "siglip" else "shortest"),
        licence="MIT",
    )
    state = model.state_dict()
    return Checkpoint(spec, state, identity_of(spec, state, folder), folder)


def _spread(model: CLIP) -> None:
    """Scale the weights up: with initial weights all texts have nearly the same vector."""
    generator = torch.Generator().manual_seed(1)
    if isinstance(model.visual, ModifiedResNet):  # running statistics from noise, not 0 and 1
        model.train()
        for _ in range(20):
            model.visual(torch.randn(16, 3, 32, 32, generator=generator))
        model.eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and ("embedding" in name or "mlp" in name):
                weight += torch.randn(weight.shape, generator=generator) * 0.3
            elif name.endswith("bn3.weight"):  # 0 at initialisation
                weight.fill_(0.5)


def write_tokenizer(path: Path) -> None:
    """Write a tokenizer.json with ten words and an end token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocab = {"<unk>": 0, "<pad>": 1, "</s>": 2} | {word: i + 3 for i, word in enumerate(WORDS)}
    rust = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    rust.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rust.to_str(), encoding="utf-8")


def trace_once(patch: pytest.MonkeyPatch, kept: Path) -> None:
    """Let an export reuse the traced graphs of a model from a cache folder: tracing takes seconds.

    The rest of the export is unchanged. Other inputs of the graph, such as `forked`, are part of its name.
    """
    write_towers = converting.write_towers

    def write(model: CLIP, folder: Path) -> None:
        digest = hashlib.sha256(f"{model} {tracing.l2_normalize.__qualname__}".encode())
        for name, value in model.state_dict().items():
            digest.update(name.encode() + value.numpy().tobytes())
        towers = kept / digest.hexdigest()
        if not towers.exists():
            making = kept / "making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            write_towers(model, making)
            making.rename(towers)
        shutil.copytree(towers, folder, dirs_exist_ok=True)

    patch.setattr(converting, "write_towers", write)


def forked(rows: torch.Tensor) -> torch.Tensor:
    """Compute rows with data-dependent control flow, which cannot be traced into a graph."""
    return rows / rows.norm(dim=1, keepdim=True) if rows.sum() > 0 else rows * 0


def pictures(count: int, size: tuple[int, int] = (50, 40)) -> list[Image.Image]:
    """Noise pictures of different brightness."""
    noise = np.random.default_rng(0)
    return [
        Image.fromarray((noise.integers(0, 256, (size[1], size[0], 3)) // (1 + i % 4)).astype(np.uint8))
        for i in range(count)
    ]


def edit(folder: Path, **changes: object) -> None:
    """Change keys of the JSON description of a folder."""
    path = folder / "exported.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def drop(folder: Path, *keys: str) -> None:
    """Remove keys from the JSON description of a folder."""
    path = folder / "exported.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in values.items() if key not in keys}))
