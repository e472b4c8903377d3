"""Write open_clip's format: `open_clip_config.json` and `open_clip_model.safetensors`.

`open_clip.read` is the inverse. open_clip's own tokenizer has CLIP's full vocabulary only: a model with a
smaller one gives the same embeddings there, but its texts have to be tokenized with diptych.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from diptych.errors import WeightsError
from diptych.inputs.config import PreprocessConfig, TokenizerConfig
from diptych.model.config import (
    CLIPConfig,
    EfficientNetConfig,
    ResNetConfig,
    RobertaConfig,
    TextConfig,
    TimmConfig,
    ViTConfig,
)
from diptych.weights.exporting import unsupported_resnet_feature, warn_of_tokenizer, write_model_folder
from diptych.weights.open_clip.read import CONFIG_FILE, HEADS, POOLERS, WEIGHTS_FILES, read_config
from diptych.weights.open_clip.timm_vit import to_timm, write_trunk, write_vit
from diptych.weights.spec import Checkpoint, State
from diptych.weights.transformers.roberta import BASES, base_model_name


def to_open_clip(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a model, its weights unchanged, as a folder that open_clip loads with `local-dir:`.

    Raises
    ------
    WeightsError
        open_clip's config cannot express a part of the architecture; the message names it.
    SaveError
        No space, or no permission; no incomplete file is left.
    """
    spec = checkpoint.spec
    config = write_config(spec.architecture, spec.preprocess, spec.tokenizer, name=spec.name)
    warn_of_tokenizer(spec.tokenizer, "open_clip", *_cleans(spec.tokenizer))
    state = rename_for_open_clip(spec.architecture, checkpoint.state)
    write_model_folder(checkpoint, Path(folder), (WEIGHTS_FILES[0], state), {CONFIG_FILE: config})


def rename_for_open_clip(architecture: CLIPConfig, state: State) -> State:
    """Weights under open_clip's names: a "custom text" model if the image tower is one of timm's."""
    if not (isinstance(architecture.vision, ViTConfig) and _write_timm(architecture, architecture.vision)):
        return state
    without_prefix = ("visual.", "logit_")
    renamed = {
        name if name.startswith(without_prefix) else f"text.{name}": tensor for name, tensor in state.items()
    }
    return to_timm(renamed)


def _cleans(tokenizer: TokenizerConfig) -> tuple[str, ...]:
    """Ways of cleaning a text that open_clip's config can name."""
    return ("lower", "canonicalize", "whitespace") if tokenizer.kind == "file" else ("lower",)


def write_config(
    architecture: CLIPConfig, preprocess: PreprocessConfig, tokenizer: TokenizerConfig, *, name: str
) -> dict[str, Any]:
    """Build `open_clip_config.json`, the inverse of `read_config`.

    Raises
    ------
    WeightsError
        open_clip's config cannot express a part of the architecture; the message names it.
    """
    model: dict[str, Any] = {"embed_dim": architecture.embed_dim}
    if architecture.activation == "quick_gelu":
        model["quick_gelu"] = True
    if architecture.init_logit_scale != CLIPConfig.init_logit_scale:
        model["init_logit_scale"] = architecture.init_logit_scale
    if architecture.init_logit_bias is not None:
        model["init_logit_bias"] = architecture.init_logit_bias
    vision = architecture.vision
    model["text_cfg"] = _write_text(architecture)
    if isinstance(vision, ResNetConfig):
        model["vision_cfg"] = _write_resnet(vision)
    elif isinstance(vision, EfficientNetConfig):
        raise _inexpressible("an EfficientNet-Lite with our projection")
    elif isinstance(vision, TimmConfig):
        model["vision_cfg"] = write_trunk(vision)
    else:
        model["vision_cfg"] = _write_vit(architecture, vision)
        if "timm_model_name" in model["vision_cfg"]:
            model["custom_text"] = True
    if tokenizer.kind == "file":
        model["text_cfg"]["hf_tokenizer_name"] = model["text_cfg"].get("hf_model_name", name)
        if tokenizer.clean in _cleans(tokenizer):
            model["text_cfg"]["tokenizer_kwargs"] = {"clean": tokenizer.clean}
        if tokenizer.strip_sep_token:
            model["text_cfg"].setdefault("tokenizer_kwargs", {})["strip_sep_token"] = True
    # Checked before anything is written: reading the config must give the same architecture.
    if _canonical(read_config(model)[0]) != _canonical(architecture):
        raise _inexpressible("a part of this architecture: reading the config gives another one")
    return {
        "model_cfg": model,
        "preprocess_cfg": {
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "interpolation": preprocess.interpolation,
            "resize_mode": preprocess.resize,
            **({"fill_color": preprocess.fill_color} if preprocess.resize == "longest" else {}),
        },
    }


def _write_resnet(tower: ResNetConfig) -> dict[str, Any]:
    if (feature := unsupported_resnet_feature(tower)) is not None:
        raise _inexpressible(feature)
    return {
        "image_size": tower.image_size,
        "layers": list(tower.layers),
        "width": tower.width,
        "head_width": tower.head_width,
        "patch_size": None,
    }


def _write_vit(architecture: CLIPConfig, tower: ViTConfig) -> dict[str, Any]:
    if (timm := _write_timm(architecture, tower)) is not None:
        return timm | ({"patch_dropout": tower.patch_dropout} if tower.patch_dropout else {})
    for present, feature in (
        (tower.pool == "attention", "a pooling head, except in towers of timm"),
        (not tower.class_token, "a ViT without a class token"),
        (tower.patch_bias, "a bias in the patch convolution"),
        (not tower.projection, "an image tower without a projection"),
        (tower.projection_bias, "a bias in the image projection"),
        (tower.stem == "convolutions", "a convolutional stem"),
        (not tower.class_position, "a class token without a position"),
        (tower.rope, "rotary positions"),
    ):
        if present:
            raise _inexpressible(feature)
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


def _write_timm(architecture: CLIPConfig, tower: ViTConfig) -> dict[str, Any] | None:
    """`vision_cfg` of a tower with timm's name, if timm has this architecture."""
    activation = tower.activation or architecture.activation
    return write_vit(dataclasses.replace(tower, activation=activation, patch_dropout=0.0))


def _write_text(architecture: CLIPConfig) -> dict[str, Any]:
    tower = architecture.text
    if isinstance(tower, RobertaConfig):
        return _write_roberta(tower)
    keys = ("context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio", "pad_id")
    values: dict[str, Any] = {key: getattr(tower, key) for key in keys}
    if not tower.causal:
        values["no_causal_mask"] = True
    if tower.pool == "last":
        values["pool_type"] = "last"
    elif tower.end_id is not None:
        values |= {"pool_type": "eos", "eos_id": tower.end_id}
    if not tower.projection:
        values["proj_type"] = "none"
    if tower.projection_bias:
        values["proj_bias"] = True
    return values | _write_common(architecture, tower)


def _write_roberta(tower: RobertaConfig) -> dict[str, Any]:
    """`text_cfg` of a tower of transformers, which open_clip describes only by a model's name."""
    base, heads = base_model_name(tower), {native: foreign for foreign, native in HEADS.items()}
    if base is None:
        raise _inexpressible(f"a text tower of another shape than {' and '.join(BASES)}")
    if tower.head not in heads:
        raise _inexpressible("M-CLIP's text head, a matrix with a bias")
    return {
        "context_length": tower.context_length,
        "hf_model_name": base,
        "hf_pooler_type": {native: foreign for foreign, native in POOLERS.items()}[tower.pooler],
        "hf_proj_type": heads[tower.head],
    }


def _write_common(architecture: CLIPConfig, tower: ViTConfig | TextConfig) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if tower.norm_eps != 1e-5:
        values["norm_kwargs"] = {"eps": tower.norm_eps}
    activation = tower.activation or architecture.activation
    if (activation == "quick_gelu") != (architecture.activation == "quick_gelu"):
        raise _inexpressible("QuickGELU in one tower only")
    if activation == "gelu_tanh":
        values["act_kwargs"] = {"approximate": "tanh"}
    return values


def _canonical(config: CLIPConfig) -> CLIPConfig:
    """Canonical form of an architecture: without differences that do not affect embeddings."""
    text, vision = config.text, config.vision
    end_id = text.end_id if text.pool == "end" else None
    text = dataclasses.replace(text, activation=text.activation or config.activation, end_id=end_id)
    if isinstance(vision, ViTConfig):
        # With the class token both positions of the norm give the same result.
        post_norm = "after_pool" if vision.pool == "token" else vision.post_norm
        activation = vision.activation or config.activation
        vision = dataclasses.replace(vision, activation=activation, post_norm=post_norm)
    # Each tower has its own activation now, so the model's is not compared.
    return dataclasses.replace(config, text=text, vision=vision, activation="gelu")


def _inexpressible(feature: str) -> WeightsError:
    return WeightsError(f"open_clip's config cannot express {feature}; keep this model in our own format")
