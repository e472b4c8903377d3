"""A model as open_clip keeps it: `open_clip_config.json` and `open_clip_model.safetensors`.

Reading such a folder is `open_clip`'s work. open_clip's own tokenizer has CLIP's full table only: a model
with a shorter one keeps its vectors there, but its texts have to be turned into ids here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diptych.errors import WeightsError
from diptych.inputs.config import PreprocessConfig, TokenizerConfig
from diptych.model.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig
from diptych.weights.disk import saving, write_bytes
from diptych.weights.native import save_safetensors
from diptych.weights.open_clip import CONFIG_FILE, WEIGHTS_FILES
from diptych.weights.spec import Checkpoint


def to_open_clip(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a model as a folder open_clip loads with `local-dir:`.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model; its weights are written bit for bit.
    folder : Path
        Made if it is not there.

    Raises
    ------
    WeightsError
        open_clip has no words for a part of the architecture; the message names it.
    SaveError
        No space, or no permission; nothing half-written stays.
    """
    folder = Path(folder)
    spec = checkpoint.spec
    config = write_config(spec.architecture, spec.preprocess, spec.tokenizer, name=spec.name)
    save_safetensors(folder / WEIGHTS_FILES[0], checkpoint.state)
    copy_tokenizer(checkpoint, folder)
    write_bytes(folder / CONFIG_FILE, json.dumps(config, indent=2).encode())


def copy_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    """Copy the tokenizer's file as `tokenizer.json`, if the model has one."""
    source = checkpoint.tokenizer_file
    target = folder / "tokenizer.json"
    if source is None or not source.is_file() or source.resolve() == target.resolve():
        return
    with saving(target):
        write_bytes(target, source.read_bytes())


def write_config(
    architecture: CLIPConfig, preprocess: PreprocessConfig, tokenizer: TokenizerConfig, *, name: str
) -> dict[str, Any]:
    """`open_clip_config.json`, the inverse of `read_config`.

    Raises
    ------
    WeightsError
        open_clip has no words for a part of the architecture; the message names it.
    """
    model: dict[str, Any] = {"embed_dim": architecture.embed_dim}
    if architecture.activation == "quick_gelu":
        model["quick_gelu"] = True
    if architecture.init_logit_scale != CLIPConfig.init_logit_scale:
        model["init_logit_scale"] = architecture.init_logit_scale
    if architecture.init_logit_bias is not None:
        model["init_logit_bias"] = architecture.init_logit_bias
    vision = architecture.vision
    model["vision_cfg"] = (
        _write_resnet(vision) if isinstance(vision, ResNetConfig) else _write_vit(architecture, vision)
    )
    model["text_cfg"] = _write_text(architecture)
    if tokenizer.kind == "file":
        model["text_cfg"]["hf_tokenizer_name"] = name
        model["text_cfg"]["tokenizer_kwargs"] = {"clean": tokenizer.clean}
    return {
        "model_cfg": model,
        "preprocess_cfg": {
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": preprocess.interpolation,
            "resize_mode": preprocess.resize,
        },
    }


def _write_resnet(tower: ResNetConfig) -> dict[str, Any]:
    if not tower.stem_pool:
        raise _unsaid("a ResNet without the stem's pool")
    return {
        "image_size": tower.image_size,
        "layers": list(tower.layers),
        "width": tower.width,
        "head_width": tower.head_width,
        "patch_size": None,
    }


def _write_vit(architecture: CLIPConfig, tower: ViTConfig) -> dict[str, Any]:
    for wrong, what in (
        (tower.pool == "attention", "SigLIP's pooling head"),
        (not tower.class_token, "a ViT without a class token"),
        (tower.patch_bias, "a bias in the patch convolution"),
        (not tower.projection, "an image tower without a projection"),
    ):
        if wrong:
            raise _unsaid(what)
    values: dict[str, Any] = {
        key: getattr(tower, key)
        for key in ("image_size", "layers", "width", "head_width", "patch_size", "mlp_ratio")
    }
    if tower.pool == "average":
        values |= {"pool_type": "avg", "final_ln_after_pool": tower.post_norm == "after_pool"}
    if not tower.pre_norm:
        values["no_ln_pre"] = True
    if tower.patch_dropout:
        values["patch_dropout"] = tower.patch_dropout
    return values | _write_common(architecture, tower)


def _write_text(architecture: CLIPConfig) -> dict[str, Any]:
    tower = architecture.text
    keys = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pad_id")
    values: dict[str, Any] = {key: getattr(tower, key) for key in keys}
    if not tower.causal:
        values["no_causal_mask"] = True
    if tower.pool == "last":
        values["pool_type"] = "last"
    elif tower.end_id is not None:
        values |= {"pool_type": "eos", "eos_id": tower.end_id}
    if tower.projection_bias:
        values["proj_bias"] = True
    return values | _write_common(architecture, tower)


def _write_common(architecture: CLIPConfig, tower: ViTConfig | TextConfig) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if tower.norm_eps != 1e-5:
        values["norm_kwargs"] = {"eps": tower.norm_eps}
    activation = tower.activation or architecture.activation
    if (activation == "quick_gelu") != (architecture.activation == "quick_gelu"):
        raise _unsaid("QuickGELU in one tower only")
    if activation == "gelu_tanh":
        values["act_kwargs"] = {"approximate": "tanh"}
    return values


def _unsaid(what: str) -> WeightsError:
    return WeightsError(f"open_clip's config has no words for {what}; keep this model in our own format")
