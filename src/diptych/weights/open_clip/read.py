"""open_clip's folders: `open_clip_config.json` and weights, read.

Parameter names are ours already. What is left is the config, key by key, and the `text.` before the names of
its "custom text" models (where the text tower is a model of transformers, ours has that `text.` too). Writing
is `write_open_clip`'s work. What each key means was read in open_clip's `model.py`, `transformer.py` and
`hf_model.py`.
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
from diptych.weights.foreign import Keys
from diptych.weights.open_clip.timm_vit import read_trunk, read_vit
from diptych.weights.open_clip.tokenizer_pad import find_pad_id
from diptych.weights.spec import State
from diptych.weights.transformers.roberta import (
    Head,
    Pooler,
    base_config,
    is_roberta,
    read_tower,
    without_counters,
)

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")

_Parts = tuple[CLIPConfig, PreprocessConfig, TokenizerConfig]
# Parts of its transformers that are switched off in every model this package builds.
_SWITCHES = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")


# How a text tower of transformers' is read, in open_clip's words and ours. Its "max_pooler" cannot run: it
# masks by whole numbers, which torch refuses.
POOLERS: dict[str, Pooler] = {
    "mean_pooler": "mean",
    "cls_pooler": "tanh",
    "cls_last_hidden_state_pooler": "first",
}
HEADS: dict[str | None, Head] = {"mlp": "mlp", "linear": "linear", None: "none"}


def read_config(config: Mapping[str, Any], folder: Path | None = None) -> _Parts:
    """Architecture, preprocessing and tokenizer from open_clip's words.

    Parameters
    ----------
    config : mapping
        `open_clip_config.json` (`model_cfg` and `preprocess_cfg`), or a `model_cfg` alone.
    folder : Path, optional
        Where it lies; a text tower of transformers' may have its own config there.

    Raises
    ------
    UnknownModelError
        A family this package does not build; the message names it.
    WeightsError
        A key or value that is not understood; the message names it.

    Examples
    --------
    >>> model = {"embed_dim": 512, "vision_cfg": {"patch_size": 32}, "text_cfg": {}, "quick_gelu": True}
    >>> architecture, preprocess, tokenizer = read_config(model)
    >>> architecture.activation, architecture.vision.grid, preprocess.size
    ('quick_gelu', 7, 224)
    """
    keys = Keys(config, CONFIG_FILE)
    bare = "model_cfg" not in config
    model = config if bare else keys.take("model_cfg")
    try:
        architecture, tokenizer = _read_model(Keys(model, "model_cfg"), folder)
        preprocess = read_preprocess(
            Keys({} if bare else keys.take("preprocess_cfg", {}), "preprocess_cfg"),
            architecture.vision.image_size,
        )
    except InputError as error:
        raise WeightsError(f"{CONFIG_FILE}: {error}") from error
    if not bare:
        keys.skip("hf_hub_id", "version")
        keys.finish()
    return architecture, preprocess, tokenizer


def read_names(state: State) -> State:
    """Weights of a "custom text" model under plain names; others as they are."""
    if is_roberta(state):
        return without_counters(state)
    if not any(name.startswith("text.") for name in state):
        return state
    return {name.removeprefix("text."): tensor for name, tensor in state.items()}


def _read_model(keys: Keys, folder: Path | None) -> tuple[CLIPConfig, TokenizerConfig]:
    if keys.take("multimodal_cfg", None) is not None:
        raise _unbuilt("CoCa (multimodal_cfg)")
    embed_dim = keys.whole("embed_dim")
    activation: Activation = "quick_gelu" if keys.flag("quick_gelu", False) else "gelu"
    vision = _read_vision(Keys(keys.take("vision_cfg"), "vision_cfg"), activation)
    text, tokenizer = _read_text(Keys(keys.take("text_cfg"), "text_cfg"), activation, folder)
    bias = keys.take("init_logit_bias", None)
    architecture = CLIPConfig(
        embed_dim=embed_dim,
        vision=vision,
        text=text,
        activation=activation,
        init_logit_scale=keys.number("init_logit_scale", CLIPConfig.init_logit_scale),
        init_logit_bias=None if bias is None else Keys({"b": bias}, "init_logit_bias").number("b"),
    )
    # How the module is laid out, stored or called; nothing a vector depends on.
    keys.skip("custom_text", "output_dict", "cast_dtype", "nonscalar_logit_scale")
    keys.finish()
    return architecture, tokenizer


def _read_vision(keys: Keys, activation: Activation) -> ViTConfig | ResNetConfig | TimmConfig:
    name = keys.take("timm_model_name", None)
    if keys.take("eva_model_name", None):
        raise _unbuilt("EVA")
    keys.skip("timm_model_pretrained", "timm_drop", "timm_drop_path", "output_tokens")
    if name:
        dropout = keys.number("patch_dropout", 0.0)
        keys.skip("layers", "width", "head_width", "mlp_ratio", "patch_size")  # of towers that are not timm's
        if name not in TIMM_VITS:
            return read_trunk(keys, name)
        tower = dataclasses.replace(read_vit(keys, name), patch_dropout=dropout)
        keys.finish()
        return tower
    keys.skip("timm_pool", "timm_proj", "timm_proj_bias")
    layers = keys.take("layers", 12)
    if isinstance(layers, list | tuple):
        keys.only("patch_size", None)
        keys.skip("mlp_ratio", "patch_dropout")
        resnet = ResNetConfig(
            image_size=keys.whole("image_size", 224),
            layers=tuple(layers),
            width=keys.whole("width", 64),
            head_width=keys.whole("head_width", 64),
        )
        _whole_stages(resnet)
        keys.finish()
        return resnet
    return _read_vit(keys, layers, activation)


def _whole_stages(tower: ResNetConfig) -> None:
    if not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in tower.layers):
        raise WeightsError(f"vision_cfg.layers is {tower.layers!r}: expected four whole numbers above 0")


def _read_vit(keys: Keys, layers: Any, activation: Activation) -> ViTConfig:
    _switched_off(keys)
    keys.only("attentional_pool", False, None)
    keys.skip("attn_pooler_queries", "attn_pooler_heads")
    # Sine tables are stored among the weights like learned ones.
    keys.choice("pos_embed_type", "learnable", ("learnable", "sin_cos_2d"))
    pool = keys.choice("pool_type", "tok", ("tok", "avg"))
    late = keys.flag("final_ln_after_pool", False)
    dropout = keys.number("patch_dropout", 0.0)
    tower = ViTConfig(
        image_size=keys.whole("image_size", 224),
        patch_size=keys.whole("patch_size", 16),
        width=keys.whole("width", 768),
        layers=Keys({"layers": layers}, "vision_cfg").whole("layers"),
        head_width=keys.whole("head_width", 64),
        mlp_ratio=keys.number("mlp_ratio", 4.0),
        pool="token" if pool == "tok" else "average",
        pre_norm=not keys.flag("no_ln_pre", False),
        # The norm of one token is the token of the norm: with "tok" both orders are the same numbers.
        post_norm="after_pool" if late or pool == "tok" else "before_pool",
        norm_eps=_epsilon(keys),
        activation=_tower_activation(keys, activation),
        patch_dropout=dropout,
    )
    keys.finish()
    return tower


def _read_text(keys: Keys, activation: Activation, folder: Path | None) -> tuple[TextConfig, TokenizerConfig]:
    if name := keys.take("hf_model_name", None):
        return _read_roberta(keys, base_config(name, folder))
    keys.skip("hf_model_pretrained", "hf_proj_type", "hf_pooler_type", "output_tokens")
    keys.skip("final_ln_after_pool")  # read by open_clip's config, used nowhere in its text tower
    _switched_off(keys)
    keys.only("embed_cls", False)
    stated = keys.identifier("pad_id") if keys.has("pad_id") else None
    projected = keys.choice("proj_type", "linear", ("linear", "none")) == "linear"
    end_id = keys.identifier("eos_id", 2)
    pool = keys.choice("pool_type", "argmax", ("argmax", "eos", "last"))
    text = TextConfig(
        context_length=keys.whole("context_length", 77),
        vocab_size=keys.whole("vocab_size", 49408),
        width=keys.whole("width", 512),
        heads=keys.whole("heads", 8),
        layers=keys.whole("layers", 12),
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


def _read_roberta(keys: Keys, base: Mapping[str, Any]) -> tuple[TextConfig, TokenizerConfig]:
    # Sizes and tokens are those of the model that is named: open_clip reads its own keys for them nowhere.
    keys.skip("hf_model_pretrained", "output_tokens", "vocab_size", "width", "heads", "layers", "pad_id")
    keys.skip("mlp_ratio", "eos_id", "pool_type", "no_causal_mask", "proj_bias", "final_ln_after_pool")
    pooler = keys.take("pooler_type", "mean_pooler")  # an older name of the key
    head = keys.take("proj", "mlp")
    text = read_tower(
        base,
        pooler=POOLERS[keys.choice("hf_pooler_type", pooler, POOLERS)],
        head=HEADS[keys.choice("hf_proj_type", head, HEADS)],
        context_length=keys.whole("context_length", 77),
    )
    name = keys.take("hf_tokenizer_name", None) or "xlm-roberta-base"
    tokenizer = _read_tokenizer(keys, text, name, None, text.pad_id)  # the tower masks that id
    keys.finish()
    return text, tokenizer


def _read_tokenizer(
    keys: Keys, text: TextConfig, name: Any, folder: Path | None, stated: int | None
) -> TokenizerConfig:
    keys.only("tokenizer_mode", None, "clip")
    options = Keys(keys.take("tokenizer_kwargs", None) or {}, "text_cfg.tokenizer_kwargs")
    named = name is not None
    default = "whitespace" if named else "lower"
    clean = options.choice("clean", default, ("lower", "canonicalize", "whitespace"))
    strip = options.flag("strip_sep_token", False)
    options.finish()
    return TokenizerConfig(
        kind="file" if named else "clip",
        vocab_size=text.vocab_size,
        context_length=text.context_length,
        # Its tokenizers pad with the id their own files name; `pad_id` is another matter, of the text tower.
        pad_id=text.pad_id if not named else find_pad_id(str(name), folder, stated=stated),
        clean=clean,
        strip_sep_token=strip and named,
    )


def read_preprocess(keys: Keys, size: int) -> PreprocessConfig:
    """The evaluation transform from a `preprocess_cfg`.

    Raises
    ------
    WeightsError
        A key or value that our transform cannot follow, or a size that the image tower does not see.
    """
    stated = keys.whole("size", size)
    keys.only("mode", "RGB")
    # "random" draws one per picture in training; for evaluation open_clip takes bicubic.
    interpolation = keys.choice("interpolation", "bicubic", ("bicubic", "bilinear", "random"))
    resize = keys.choice("resize_mode", "shortest", ("shortest", "squash", "longest"))
    border = keys.take("fill_color", 0)  # around a picture that "longest" leaves oblong
    preprocess = PreprocessConfig(
        size=stated,
        mean=keys.take("mean", PreprocessConfig.mean),
        std=keys.take("std", PreprocessConfig.std),
        interpolation="bicubic" if interpolation == "random" else interpolation,
        resize=resize,
        fill_color=border if resize == "longest" else 0,
    )
    if stated != size:
        raise WeightsError(f"preprocess_cfg.size is {stated}, the image tower sees {size}")
    keys.finish()
    return preprocess


def _switched_off(keys: Keys) -> None:
    keys.only("ls_init_value", None)
    keys.only("block_type", None, "default")
    for switch in _SWITCHES:
        keys.only(switch, False, None)


def _epsilon(keys: Keys) -> float:
    options = Keys(keys.take("norm_kwargs", None) or {}, "norm_kwargs")
    epsilon = options.number("eps", 1e-5)
    options.finish()
    return epsilon


def _tower_activation(keys: Keys, activation: Activation) -> Activation | None:
    options = Keys(keys.take("act_kwargs", None) or {}, "act_kwargs")
    kind = options.choice("approximate", "none", ("none", "tanh"))
    options.finish()
    if kind == "tanh" and activation == "quick_gelu":
        raise WeightsError("act_kwargs.approximate is 'tanh' beside quick_gelu: expected one of the two")
    return "gelu_tanh" if kind == "tanh" else None


def _unbuilt(family: str) -> UnknownModelError:
    return UnknownModelError(
        f"this model is {family}, a family that is not built here. Built are ViT and ResNet image towers, "
        "SigLIP's, PE-Core's and MobileCLIP's, with CLIP's text transformer or XLM-R"
    )
