"""Read open_clip's format: `open_clip_config.json` and weights.

The parameter names are the same as ours, except for the prefix `text.` of open_clip's "custom text" models
(with a text tower of transformers, ours have that prefix too). The meaning of the config's keys is from
open_clip's `model.py`, `transformer.py` and `hf_model.py`. `open_clip.write` is the inverse.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.errors import InputError, UnknownModelError, WeightsError
from diptych.inputs.config import PreprocessConfig, TokenizerConfig
from diptych.model.config import Activation, CLIPConfig, ResNetConfig, TextConfig, TimmConfig, ViTConfig
from diptych.model.presets.timm_shapes import TIMM_VITS
from diptych.weights.foreign_configs import ConfigKeys
from diptych.weights.open_clip.timm_vit import read_trunk, read_vit
from diptych.weights.open_clip.tokenizer_pad import find_pad_id
from diptych.weights.spec import State
from diptych.weights.transformers.roberta import (
    Head,
    Pooler,
    base_config,
    drop_position_ids,
    is_roberta,
    read_tower,
)

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_Configs = tuple[CLIPConfig, PreprocessConfig, TokenizerConfig]
# Options of open_clip's transformers that no model of this package has.
_SWITCHES = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")


# Pooling of a text tower of transformers, open_clip's names and ours. Its "max_pooler" cannot run: it masks
# with integers, which torch refuses.
POOLERS: dict[str, Pooler] = {
    "mean_pooler": "mean",
    "cls_pooler": "tanh",
    "cls_last_hidden_state_pooler": "first",
}
HEADS: dict[str | None, Head] = {"mlp": "mlp", "linear": "linear", None: "none"}


def read_config(config: Mapping[str, Any], folder: Path | None = None) -> _Configs:
    """Convert open_clip's config to architecture, preprocessing and tokenizer.

    Parameters
    ----------
    config : mapping
        `open_clip_config.json` (`model_cfg` and `preprocess_cfg`), or a `model_cfg` alone.
    folder : Path, optional
        Folder of the config; a text tower of transformers may have its own config there.

    Raises
    ------
    UnknownModelError
        The model family is not supported; the message names it.
    WeightsError
        A key or value is not supported; the message names it.

    Examples
    --------
    >>> model = {"embed_dim": 512, "vision_cfg": {"patch_size": 32}, "text_cfg": {}, "quick_gelu": True}
    >>> architecture, preprocess, tokenizer = read_config(model)
    >>> architecture.activation, architecture.vision.grid, preprocess.size
    ('quick_gelu', 7, 224)
    """
    keys = ConfigKeys(config, CONFIG_FILE)
    bare = "model_cfg" not in config
    model = config if bare else keys.take("model_cfg")
    try:
        architecture, tokenizer = _read_model(ConfigKeys(model, "model_cfg"), folder)
        preprocess = read_preprocess(
            ConfigKeys({} if bare else keys.take("preprocess_cfg", {}), "preprocess_cfg"),
            architecture.vision.image_size,
        )
    except InputError as error:
        raise WeightsError(f"{CONFIG_FILE}: {error}") from error
    if not bare:
        keys.skip("hf_hub_id", "version")
        keys.finish()
    return architecture, preprocess, tokenizer


def from_open_clip(state: State) -> State:
    """Weights of a "custom text" model without the prefix `text.`; others as they are."""
    if is_roberta(state):
        return drop_position_ids(state)
    if not any(name.startswith("text.") for name in state):
        return state
    return {name.removeprefix("text."): tensor for name, tensor in state.items()}


def _read_model(keys: ConfigKeys, folder: Path | None) -> tuple[CLIPConfig, TokenizerConfig]:
    if keys.take("multimodal_cfg", None) is not None:
        raise _unsupported("CoCa (multimodal_cfg)")
    embed_dim = keys.integer("embed_dim")
    activation: Activation = "quick_gelu" if keys.flag("quick_gelu", False) else "gelu"
    vision = _read_vision(ConfigKeys(keys.take("vision_cfg"), "vision_cfg"), activation)
    text, tokenizer = _read_text(ConfigKeys(keys.take("text_cfg"), "text_cfg"), activation, folder)
    bias = keys.take("init_logit_bias", None)
    architecture = CLIPConfig(
        embed_dim=embed_dim,
        vision=vision,
        text=text,
        activation=activation,
        init_logit_scale=keys.number("init_logit_scale", CLIPConfig.init_logit_scale),
        init_logit_bias=None if bias is None else ConfigKeys({"b": bias}, "init_logit_bias").number("b"),
    )
    # Layout and storage of the module, without effect on embeddings.
    keys.skip("custom_text", "output_dict", "cast_dtype", "nonscalar_logit_scale")
    keys.finish()
    return architecture, tokenizer


def _read_vision(keys: ConfigKeys, activation: Activation) -> ViTConfig | ResNetConfig | TimmConfig:
    name = keys.take("timm_model_name", None)
    if keys.take("eva_model_name", None):
        raise _unsupported("EVA")
    keys.skip("timm_model_pretrained", "timm_drop", "timm_drop_path", "output_tokens")
    if name:
        dropout = keys.number("patch_dropout", 0.0)
        keys.skip("layers", "width", "head_width", "mlp_ratio", "patch_size")  # open_clip ignores them here
        if name not in TIMM_VITS:
            return read_trunk(keys, name)
        tower = dataclasses.replace(read_vit(keys, name), patch_dropout=dropout)
        keys.finish()
        return tower
    keys.skip("timm_pool", "timm_proj", "timm_proj_bias")
    layers = keys.take("layers", 12)
    if isinstance(layers, list | tuple):  # four stages: a ResNet
        keys.only("patch_size", None)
        keys.skip("mlp_ratio", "patch_dropout")
        resnet = ResNetConfig(
            image_size=keys.integer("image_size", 224),
            layers=tuple(layers),
            width=keys.integer("width", 64),
            head_width=keys.integer("head_width", 64),
        )
        _check_stages(resnet)
        keys.finish()
        return resnet
    return _read_vit(keys, layers, activation)


def _check_stages(tower: ResNetConfig) -> None:
    if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in tower.layers):
        raise WeightsError(f"vision_cfg.layers is {tower.layers!r}: expected four whole numbers above 0")


def _read_vit(keys: ConfigKeys, layers: Any, activation: Activation) -> ViTConfig:
    _check_switches(keys)
    keys.only("attentional_pool", False, None)
    keys.skip("attn_pooler_queries", "attn_pooler_heads")
    # Sinusoidal positions are stored among the weights like learned ones.
    keys.choice("pos_embed_type", "learnable", ("learnable", "sin_cos_2d"))
    pool = keys.choice("pool_type", "tok", ("tok", "avg"))
    norm_after_pool = keys.flag("final_ln_after_pool", False)
    dropout = keys.number("patch_dropout", 0.0)
    tower = ViTConfig(
        image_size=keys.integer("image_size", 224),
        patch_size=keys.integer("patch_size", 16),
        width=keys.integer("width", 768),
        layers=ConfigKeys({"layers": layers}, "vision_cfg").integer("layers"),
        head_width=keys.integer("head_width", 64),
        mlp_ratio=keys.number("mlp_ratio", 4.0),
        pool="token" if pool == "tok" else "average",
        pre_norm=not keys.flag("no_ln_pre", False),
        # A layer norm acts on each token alone, so with "tok" both orders give the same result.
        post_norm="after_pool" if norm_after_pool or pool == "tok" else "before_pool",
        norm_eps=_epsilon(keys),
        activation=_tower_activation(keys, activation),
        patch_dropout=dropout,
    )
    keys.finish()
    return tower


def _read_text(
    keys: ConfigKeys, activation: Activation, folder: Path | None
) -> tuple[TextConfig, TokenizerConfig]:
    if name := keys.take("hf_model_name", None):
        return _read_roberta(keys, base_config(name, folder))
    keys.skip("hf_model_pretrained", "hf_proj_type", "hf_pooler_type", "output_tokens")
    keys.skip("final_ln_after_pool")  # in open_clip's config, but not used by its text tower
    _check_switches(keys)
    keys.only("embed_cls", False)
    stated = keys.token_id("pad_id") if keys.has("pad_id") else None
    projected = keys.choice("proj_type", "linear", ("linear", "none")) == "linear"
    end_id = keys.token_id("eos_id", 2)
    pool = keys.choice("pool_type", "argmax", ("argmax", "eos", "last"))
    text = TextConfig(
        context_length=keys.integer("context_length", 77),
        vocab_size=keys.integer("vocab_size", 49408),
        width=keys.integer("width", 512),
        heads=keys.integer("heads", 8),
        layers=keys.integer("layers", 12),
        mlp_ratio=keys.number("mlp_ratio", 4.0),
        causal=not keys.flag("no_causal_mask", False),
        pool="last" if pool == "last" else "end",
        end_id=end_id if pool == "eos" else None,
        pad_id=0 if stated is None else stated,
        projection=projected,
        projection_bias=keys.flag("proj_bias", False) and projected,
        norm_eps=_epsilon(keys),
        activation=_tower_activation(keys, activation),
    )
    tokenizer = _read_tokenizer(keys, text, keys.take("hf_tokenizer_name", None), folder, stated)
    keys.finish()
    return dataclasses.replace(text, pad_id=tokenizer.pad_id), tokenizer


def _read_roberta(keys: ConfigKeys, base: Mapping[str, Any]) -> tuple[TextConfig, TokenizerConfig]:
    # Sizes and tokens are those of the named model: open_clip ignores its own keys for them.
    keys.skip("hf_model_pretrained", "output_tokens", "vocab_size", "width", "heads", "layers", "pad_id")
    keys.skip("mlp_ratio", "eos_id", "pool_type", "no_causal_mask", "proj_bias", "final_ln_after_pool")
    # Older names of the two keys.
    pooler = keys.take("pooler_type", "mean_pooler")
    head = keys.take("proj", "mlp")
    text = read_tower(
        base,
        pooler=POOLERS[keys.choice("hf_pooler_type", pooler, POOLERS)],
        head=HEADS[keys.choice("hf_proj_type", head, HEADS)],
        context_length=keys.integer("context_length", 77),
    )
    name = keys.take("hf_tokenizer_name", None) or "xlm-roberta-base"
    tokenizer = _read_tokenizer(keys, text, name, None, text.pad_id)  # the tower masks that id
    keys.finish()
    return text, tokenizer


def _read_tokenizer(
    keys: ConfigKeys, text: TextConfig, name: Any, folder: Path | None, stated: int | None
) -> TokenizerConfig:
    keys.only("tokenizer_mode", None, "clip")
    options = ConfigKeys(keys.take("tokenizer_kwargs", None) or {}, "text_cfg.tokenizer_kwargs")
    named = name is not None
    default = "whitespace" if named else "lower"
    clean = options.choice("clean", default, ("lower", "canonicalize", "whitespace"))
    strip = options.flag("strip_sep_token", False)
    options.finish()
    return TokenizerConfig(
        kind="file" if named else "clip",
        vocab_size=text.vocab_size,
        context_length=text.context_length,
        # open_clip's tokenizers pad with the id in their own files; the config's `pad_id` is another matter.
        pad_id=text.pad_id if not named else find_pad_id(str(name), folder, stated=stated),
        clean=clean,
        strip_sep_token=strip and named,
    )


def read_preprocess(keys: ConfigKeys, size: int) -> PreprocessConfig:
    """Convert a `preprocess_cfg` to our evaluation preprocessing.

    Raises
    ------
    WeightsError
        A key or value is not supported, or the size is not the image tower's.
    """
    stated = keys.integer("size", size)
    keys.only("mode", "RGB")
    # "random" chooses one per image in training; for evaluation open_clip takes bicubic.
    interpolation = keys.choice("interpolation", "bicubic", ("bicubic", "bilinear", "random"))
    resize = keys.choice("resize_mode", "shortest", ("shortest", "squash", "longest"))
    border = keys.take("fill_color", 0)  # padding to a square with "longest"
    preprocess = PreprocessConfig(
        size=stated,
        mean=keys.take("mean", PreprocessConfig.mean),
        std=keys.take("std", PreprocessConfig.std),
        interpolation="bicubic" if interpolation == "random" else interpolation,
        resize=resize,
        fill_color=border if resize == "longest" else 0,
    )
    if stated != size:
        raise WeightsError(f"preprocess_cfg.size is {stated}, the image tower takes {size}")
    keys.finish()
    return preprocess


def _check_switches(keys: ConfigKeys) -> None:
    keys.only("ls_init_value", None)
    keys.only("block_type", None, "default")
    for switch in _SWITCHES:
        keys.only(switch, False, None)


def _epsilon(keys: ConfigKeys) -> float:
    options = ConfigKeys(keys.take("norm_kwargs", None) or {}, "norm_kwargs")
    epsilon = options.number("eps", 1e-5)
    options.finish()
    return epsilon


def _tower_activation(keys: ConfigKeys, activation: Activation) -> Activation | None:
    options = ConfigKeys(keys.take("act_kwargs", None) or {}, "act_kwargs")
    kind = options.choice("approximate", "none", ("none", "tanh"))
    options.finish()
    if kind == "tanh" and activation == "quick_gelu":
        raise WeightsError("act_kwargs.approximate is 'tanh' and quick_gelu is set: expected one of the two")
    return "gelu_tanh" if kind == "tanh" else None


def _unsupported(family: str) -> UnknownModelError:
    return UnknownModelError(
        f"this model is {family}, a family that is not supported. Supported are ViT and ResNet image towers, "
        "SigLIP's, PE-Core's and MobileCLIP's, with CLIP's text transformer or XLM-R"
    )
