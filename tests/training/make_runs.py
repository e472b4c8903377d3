"""Small runs for the tests of training: single-colour pictures of four colours and a tiny model."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from diptych.model.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.training import TrainConfig
from diptych.training.checkpoints import checkpoint
from diptych.training.data import AugmentConfig, Mixture, TarPairs
from diptych.weights import load_checkpoint

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "white": (240, 240, 240)}
TINY = CLIPConfig(
    embed_dim=16,
    vision=ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8, pool="average", stem_pool=False),
    text=TextConfig(context_length=16, vocab_size=1024, width=32, heads=2, layers=1),
)
TINY_VIT = dataclasses.replace(
    TINY, vision=ViTConfig(image_size=32, patch_size=8, width=32, layers=1, head_width=16, patch_dropout=0.25)
)


def write_pairs(path: Path, count: int, *, corrupt: int = 0) -> Path:
    """Write single-colour pictures with captions; every `corrupt`-th additional record is broken."""
    noise = np.random.default_rng(0)
    with tarfile.open(path, "w") as tar:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        for number in range(count):
            name, colour = list(COLOURS.items())[number % 4]
            pixels = np.clip(np.array(colour) + noise.normal(0, 12, (32, 32, 3)), 0, 255).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            add(f"{number:04}.png", buffer.getvalue())
            add(f"{number:04}.txt", f"a {name} square, number {number}".encode())
            if corrupt and number % corrupt == 0:
                add(f"bad{number:04}.png", buffer.getvalue()[: 40 + number])
                add(f"bad{number:04}.txt", b"a broken picture")
    return path


def config_of(pairs: Path, out: Path, **changes: object) -> TrainConfig:
    config = TrainConfig(
        data=Mixture(((TarPairs(str(pairs)), 1.0),)),
        model=TINY,
        out=str(out),
        epochs=3,
        batch_size=16,
        warmup=2,
        ema=0.9,
        threads=1,
        precision="float32",  # auto would depend on the machine
        log_every=1,
        checkpoint_every=1,
        augment=AugmentConfig(scale=(0.5, 1.0), flip=0.5),
    )
    return dataclasses.replace(config, **changes)  # type: ignore[arg-type]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(out).state


def moved(one: Path, other: Path) -> set[str]:
    """Names of the weights that differ between two runs."""
    first, second = weights(one), weights(other)
    return {name for name in first if not torch.equal(first[name], second[name])}


def logged(out: Path) -> list[tuple[int, float, float]]:
    """Step, loss and gradient of every step in a run's log, which show where two runs diverge."""
    lines = map(json.loads, (out / checkpoint.LOG).read_text("utf-8").splitlines())
    return [(line["step"], line["loss"], line["gradient"]) for line in lines if "loss" in line]


def same(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
