"""A model of a few thousand weights and its open_clip config, for the tests of this folder."""

from __future__ import annotations

import json
from typing import Any

from diptych.model.config import CLIPConfig, TextConfig, ViTConfig

TINY = CLIPConfig(
    embed_dim=32,
    vision=ViTConfig(image_size=32, patch_size=16, width=64, layers=1),
    text=TextConfig(context_length=16, vocab_size=520, width=64, heads=1, layers=1),
)
MODEL: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 16, "width": 64, "layers": 1},
    "text_cfg": {"context_length": 16, "vocab_size": 520, "width": 64, "heads": 1, "layers": 1},
}


def changed(**keys: Any) -> dict[str, Any]:
    """The small config with changed keys: `vision_pool_type="avg"` changes `vision_cfg`."""
    config = json.loads(json.dumps(MODEL))
    for key, value in keys.items():
        tower, _, inner = key.partition("__")
        if inner:
            config[f"{tower}_cfg"][inner] = value
        else:
            config[key] = value
    return dict(config)
