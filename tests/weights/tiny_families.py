"""Tiny models of released families for the tests of this folder: deterministic weights, pictures and texts.

`recorded_families.json` holds the outputs of open_clip, timm and transformers for them, as written by
`recordings/make_families.py`. Weights are generated from their names, so the file has names and shapes only.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from diptych.model.presets.timm_shapes import TIMM_VITS, pe_core_tower, siglip_tower

HERE = Path(__file__).parent
TEXTS = ["a photo of a cat", "A Dog, running!", "two words"]


@cache
def recorded() -> dict[str, Any]:
    """The outputs of the families' own libraries."""
    content: dict[str, Any] = json.loads((HERE / "recorded_families.json").read_text(encoding="utf-8"))
    return content


def drawn(name: str, shape: Sequence[int]) -> NDArray[np.float32]:
    """A weight generated from its name, the same on every machine and in every version."""
    stream = np.random.Generator(np.random.PCG64([ord(letter) for letter in name]))
    numbers = np.asarray(stream.integers(-1000, 1001, size=tuple(shape)) / 1000, np.float32)
    if name.endswith("running_var") or (name.endswith(".weight") and len(shape) == 1):  # weights of norms
        return np.asarray(1 + 0.3 * numbers, np.float32)
    if len(shape) < 2:
        return np.asarray(0.2 * numbers, np.float32)
    fan_in = math.prod(shape[1:])
    return np.asarray(numbers * (1.7 * fan_in**-0.5 if fan_in > 1 else 0.5), np.float32)


def state_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Weights with these names and shapes."""
    return {
        name: torch.zeros((), dtype=torch.int64)
        if name.endswith("num_batches_tracked")
        else torch.from_numpy(drawn(name, shape)).reshape(tuple(shape))
        for name, shape in shapes.items()
    }


def pictures() -> list[Image.Image]:
    """Two pictures that are not square, one landscape and one portrait."""
    shown = []
    for number, (width, height) in enumerate(((91, 57), (40, 75))):
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        waves = [np.sin(x / (3 + c) + number) + np.cos(y / (5 - c) + c) for c in range(3)]
        shown.append(Image.fromarray(np.uint8(127.5 + 60 * np.stack(waves, -1))))
    return shown


def write_folder(folder: Path, case: Mapping[str, Any]) -> Path:
    """Write a model in the format in which its family is released."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in case["files"].items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    save_file(state_of(case["shapes"]), folder / case["weights_file"])
    return folder


def hash_shapes(shapes: Mapping[str, Sequence[int]]) -> str:
    """The first digits of a hash over names and shapes."""
    lines = [f"{name} {list(shape)}" for name, shape in sorted(shapes.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def tiny_towers() -> dict[str, dict[str, Any]]:
    """Register the towers of `recordings/make_families.py`, built by the functions of the released ones."""
    return {
        "tiny_siglip": siglip_tower(64, 2, 4, 32, 8, mlp_ratio=3.7362),
        "tiny_siglip_tanh": siglip_tower(64, 2, 4, 32, 8, mlp_ratio=3.7362, activation="gelu_tanh"),
        "tiny_pe_core": pe_core_tower(64, 2, 32, 8, head_width=16),
        "tiny_pe_core_g": pe_core_tower(
            64, 2, 32, 8, head_width=16, mlp_ratio=35 / 6, class_token=False, rope_offset=0
        ),
        "tiny_mci": {
            **TIMM_VITS["vit_base_mci_224"],
            "image_size": 32,
            "width": 64,
            "layers": 2,
            "head_width": 16,
        },
        "tiny_patch14_clip": {
            **TIMM_VITS["vit_large_patch14_clip_224"],
            "image_size": 32,
            "patch_size": 8,
            "width": 64,
            "layers": 2,
            "head_width": 16,
        },
    }
