"""A model as open_clip keeps it: `open_clip_config.json` and `open_clip_model.safetensors`.

Reading such a folder is `open_clip`'s work. open_clip's own tokenizer has CLIP's full table only: a model
with a shorter one keeps its vectors there, but its texts have to be turned into ids here.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from diptych.errors import WeightsError
from diptych.files.disk import write_bytes
from diptych.inputs.config import PreprocessConfig, TokenizerConfig
from diptych.model.config import CLIPConfig, ResNetConfig, RobertaConfig, TextConfig, TimmConfig, ViTConfig
from diptych.weights.exporting import beyond_the_paper, copy_tokenizer, warn_of_tokenizer
from diptych.weights.native import save_safetensors
from diptych.weights.open_clip.read import CONFIG_FILE, HEADS, POOLERS, WEIGHTS_FILES, read_config
from diptych.weights.open_clip.timm_vit import to_timm, write_trunk, write_vit
from diptych.weights.spec import Checkpoint, State
from diptych.weights.transformers.roberta import BASES, base_of


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
    warn_of_tokenizer(spec.tokenizer, "open_clip", *_cleans(spec.tokenizer))
    save_safetensors(folder / WEIGHTS_FILES[0], open_clip_names_of(spec.architecture, checkpoint.state))
    copy_tokenizer(checkpoint, folder)
    write_bytes(folder / CONFIG_FILE, json.dumps(config, indent=2).encode())


def open_clip_names_of(architecture: CLIPConfig, state: State) -> State:
    """Weights under open_clip's names: a "custom text" model where the image tower is one of timm's."""
    if not (isinstance(architecture.vision, ViTConfig) and _write_timm(architecture, architecture.vision)):
        return state
    apart = ("visual.", "logit_")
    named = {name if name.startswith(apart) else f"text.{name}": tensor for name, tensor in state.items()}
    return to_timm(named)


def _cleans(tokenizer: TokenizerConfig) -> tuple[str, ...]:
    """The ways of cleaning that a config can name for open_clip."""
    return ("lower", "canonicalize", "whitespace") if tokenizer.kind == "file" else ("lower",)


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
    model["text_cfg"] = _write_text(architecture)
    if isinstance(vision, ResNetConfig):
        model["vision_cfg"] = _write_resnet(vision)
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
    # Before a byte is written: what is said must be read back as the same architecture.
    if _plain(read_config(model)[0]) != _plain(architecture):
        raise _unsaid("a part of this architecture, which it reads back as another")
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
    if (what := beyond_the_paper(tower)) is not None:
        raise _unsaid(what)
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
    for wrong, what in (
        (tower.pool == "attention", "a pooling head, unless the tower has one of timm's shapes"),
        (not tower.class_token, "a ViT without a class token"),
        (tower.patch_bias, "a bias in the patch convolution"),
        (not tower.projection, "an image tower without a projection"),
        (tower.projection_bias, "a bias in the image projection"),
        (tower.stem == "convolutions", "a convolutional stem"),
        (not tower.class_position, "a class token without a position"),
        (tower.rope, "rotary positions"),
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


def _write_timm(architecture: CLIPConfig, tower: ViTConfig) -> dict[str, Any] | None:
    """The tower by timm's name of its shape, where it has one."""
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
    """A tower of transformers' is told by the name of the model whose shape it has, and by nothing else."""
    base, heads = base_of(tower), {ours: theirs for theirs, ours in HEADS.items()}
    if base is None:
        raise _unsaid(f"a text tower of another shape than {' and '.join(BASES)}")
    if tower.head not in heads:
        raise _unsaid("M-CLIP's text head, a matrix with a bias")
    return {
        "context_length": tower.context_length,
        "hf_model_name": base,
        "hf_pooler_type": {ours: theirs for theirs, ours in POOLERS.items()}[tower.pooler],
        "hf_proj_type": heads[tower.head],
    }


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


def _plain(config: CLIPConfig) -> CLIPConfig:
    """Two spellings of one architecture made the same: what no vector depends on is dropped."""
    text, vision = config.text, config.vision
    end_id = text.end_id if text.pool == "end" else None
    text = dataclasses.replace(text, activation=text.activation or config.activation, end_id=end_id)
    if isinstance(vision, ViTConfig):
        late = "after_pool" if vision.pool == "token" else vision.post_norm
        own = vision.activation or config.activation
        vision = dataclasses.replace(vision, activation=own, post_norm=late)
    return dataclasses.replace(config, text=text, vision=vision, activation="gelu")


def _unsaid(what: str) -> WeightsError:
    return WeightsError(f"open_clip's config has no words for {what}; keep this model in our own format")
