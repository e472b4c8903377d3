"""Read the configs of transformers' `CLIPModel`, `MetaClip2Model` and `SiglipModel`.

A config there omits values that are the class's defaults. `transformers.names` converts the parameter names,
`transformers.write` is the inverse.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diptych.errors import InputError, UnknownModelError, WeightsError
from diptych.inputs.config import PreprocessConfig, TokenizerConfig
from diptych.model.config import Activation, CLIPConfig, TextConfig, ViTConfig
from diptych.model.presets.table import mlp_ratio
from diptych.weights.foreign_configs import ConfigKeys, read_json

CONFIG_FILE = "config.json"
PREPROCESS_FILES = ("preprocessor_config.json", "processor_config.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
WEIGHTS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
FAMILIES = ("clip", "metaclip_2", "siglip", "siglip2")  # values of `model_type`; the last is refused
_MAX_SHARDS = 1000
# SigLIP 2 has Gemma's vocabulary: texts in lower case with punctuation, then `<eos>`, then `<pad>`
# (Siglip2Tokenizer of transformers; big_vision's preprocessing). Neither is in config.json.
GEMMA_VOCABULARY = 256_000
GEMMA_PAD = 0
_GEMMA = ("GemmaTokenizer", "GemmaTokenizerFast", "Siglip2Tokenizer")

ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
# Keys without effect on embeddings that any config may have: bookkeeping, training, text generation.
BOOKKEEPING = frozenset(
    re.findall(
        r"\w+",
        """
_attn_implementation _attn_implementation_autoset _commit_hash _name_or_path add_cross_attention
architectures attention_dropout bad_words_ids begin_suppress_tokens bos_token_id chunk_size_feed_forward
cross_attention_hidden_size decoder_start_token_id diversity_penalty do_sample dropout dtype
early_stopping encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task
forced_bos_token_id forced_eos_token_id gradient_checkpointing id2label initializer_factor
initializer_range is_decoder is_encoder_decoder label2id length_penalty max_length min_length model_type
no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states
output_scores prefix problem_type pruned_heads remove_invalid_values repetition_penalty return_dict
return_dict_in_generate sep_token_id suppress_tokens task_specific_params temperature tf_legacy_loss
tie_encoder_decoder tie_word_embeddings tokenizer_class top_k top_p torch_dtype torchscript
transformers_version typical_p use_bfloat16 use_cache
""",
    )
)


def read_config(
    config: Mapping[str, Any],
    preprocess: Mapping[str, Any] | None = None,
    tokenizer: Mapping[str, Any] | None = None,
) -> tuple[CLIPConfig, PreprocessConfig, TokenizerConfig]:
    """Convert transformers' configs to architecture, preprocessing and tokenizer.

    Parameters
    ----------
    config : mapping
        `config.json`.
    preprocess : mapping, optional
        `preprocessor_config.json`; by default the family's preprocessing.
    tokenizer : mapping, optional
        `tokenizer_config.json`: tells SigLIP from SigLIP 2, if the vocabulary does not.

    Raises
    ------
    UnknownModelError
        The model family is not supported; the message names it.
    WeightsError
        A key or value is not supported; the message names it.

    Examples
    --------
    >>> architecture, preprocess, tokenizer = read_config({"model_type": "siglip"})
    >>> architecture.vision.pool, preprocess.std, tokenizer.context_length
    ('attention', (0.5, 0.5, 0.5), 64)
    """
    family = config.get("model_type")
    if family == "siglip2":
        raise UnknownModelError(
            f"{CONFIG_FILE} is of a SigLIP 2 for images of any shape (NaFlex), which is not supported; "
            "those for square images are, e.g. hf-hub:google/siglip2-base-patch16-224"
        )
    if family not in FAMILIES:
        raise UnknownModelError(
            f"{CONFIG_FILE} is of a model of type {family!r}, which is not supported: "
            "expected 'clip', 'metaclip_2' or 'siglip'"
        )
    keys = ConfigKeys(config, CONFIG_FILE)
    keys.skip(*BOOKKEEPING)
    text = _tower_keys(keys, "text")
    vision = _tower_keys(keys, "vision")
    try:
        architecture, tokenizer_config = (
            _read_clip(keys, vision, text, worldwide=family == "metaclip_2")
            if family != "siglip"
            else _read_siglip(keys, vision, text, named=(tokenizer or {}).get("tokenizer_class"))
        )
        for tower in (vision, text, keys):
            tower.finish()
        transform = read_preprocess(preprocess, architecture.vision.image_size, siglip=family == "siglip")
    except InputError as error:
        raise WeightsError(f"{CONFIG_FILE}: {error}") from error
    return architecture, transform, tokenizer_config


def read_preprocess(config: Mapping[str, Any] | None, size: int, *, siglip: bool) -> PreprocessConfig:
    """Convert `preprocessor_config.json` to our evaluation preprocessing.

    Raises
    ------
    WeightsError
        A value is not supported, or the size is not the image tower's.
    """
    if config is None:
        half = (0.5, 0.5, 0.5)
        return (
            PreprocessConfig(size=size, mean=half, std=half, resize="squash")
            if siglip
            else PreprocessConfig(size=size)
        )
    keys = ConfigKeys(config, "preprocessor_config")
    for step in ("do_resize", "do_normalize", "do_rescale"):
        if not keys.flag(step, True):
            raise WeightsError(f"preprocessor_config.{step} is false: expected true")
    if abs(keys.number("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise WeightsError("preprocessor_config.rescale_factor: expected 1/255")
    crop = keys.flag("do_center_crop", not siglip)
    squash, side = _read_resize(keys, size)
    final_side = _square(keys.take("crop_size", None), size) if crop else side
    if final_side != size or side != size or (not crop and not squash):
        raise WeightsError(
            f"preprocessor_config makes images of {final_side} pixels from a resize to {side}"
            f"{'' if crop or squash else ' with no crop'}; the image tower takes {size}"
        )
    resample = keys.choice("resample", 3, (2, 3))  # Pillow's numbers
    default = PreprocessConfig(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)) if siglip else PreprocessConfig()
    return PreprocessConfig(
        size=size,
        mean=keys.take("image_mean", default.mean),
        std=keys.take("image_std", default.std),
        interpolation="bicubic" if resample == 3 else "bilinear",
        resize="squash" if squash else "shortest",
    )


def read_preprocess_file(folder: Path) -> Mapping[str, Any] | None:
    """Read a folder's preprocessing, under either of the two file names; None if it has none."""
    for name in PREPROCESS_FILES:
        if (folder / name).is_file():
            content = read_json(folder / name)
            inner = content.get("image_processor", content) if name == "processor_config.json" else content
            return inner if isinstance(inner, Mapping) else None
    return None


def read_tokenizer_file(folder: Path) -> Mapping[str, Any] | None:
    """Read a folder's `tokenizer_config.json`; None if it has none."""
    path = folder / TOKENIZER_CONFIG
    return read_json(path) if path.is_file() else None


def weight_map(path: Path) -> Mapping[str, str]:
    """Read the index of a sharded model, `model.safetensors.index.json`: weight -> file.

    Raises
    ------
    WeightsError
        The index has no `weight_map`, or names files outside its folder.
    """
    files_by_weight = read_json(path).get("weight_map")
    if not isinstance(files_by_weight, Mapping) or not all(
        isinstance(file, str) for file in files_by_weight.values()
    ):
        raise WeightsError(f"{path} lacks its weight_map: expected file names by weight")
    files = set(files_by_weight.values())
    if len(files) > _MAX_SHARDS or any(not re.fullmatch(r"\w[\w.-]*", file) for file in files):
        raise WeightsError(f"{path} names files outside its folder, or more than {_MAX_SHARDS}")
    return files_by_weight


def shards(path: Path) -> list[str]:
    """Files of a sharded model, sorted."""
    return sorted(set(weight_map(path).values()))


def _tower_keys(keys: ConfigKeys, name: str) -> ConfigKeys:
    values = keys.take(f"{name}_config", None) or {}
    older = keys.take(f"{name}_config_dict", None) or {}  # takes precedence, as in transformers
    if not isinstance(values, Mapping) or not isinstance(older, Mapping):
        raise WeightsError(f"{CONFIG_FILE}: {name}_config must be a JSON object")
    tower = ConfigKeys({**values, **older}, f"{name}_config")
    tower.skip(*BOOKKEEPING)
    return tower


def _read_clip(
    keys: ConfigKeys, vision: ConfigKeys, text: ConfigKeys, *, worldwide: bool
) -> tuple[CLIPConfig, TokenizerConfig]:
    """CLIP, or MetaCLIP 2 (`worldwide`): the same towers, with a multilingual tokenizer in a file."""
    embed_dim = keys.integer("projection_dim", 512)
    for tower in (vision, text):
        tower.skip("projection_dim")  # applies only when a tower is used alone
    # Padding after the end token has no effect in a causal tower; the ids are the same as theirs anyway.
    pad_id = text.token_id("pad_token_id", 1) if worldwide else 0
    text.skip("pad_token_id")
    # The first configs of CLIP have a wrong end id, 2; transformers then reads the feature at the largest id.
    # In MetaCLIP 2 it is correct.
    end_id = text.token_id("eos_token_id", 49407)
    activation = _activation(vision, "quick_gelu")
    text_activation = _activation(text, "quick_gelu")
    image = _read_vit(vision, patch=32, epsilon=1e-5)
    config = TextConfig(
        **_text_sizes(text, 512, 8, 77, 49408, 1e-5),
        end_id=None if end_id == 2 and not worldwide else end_id,
        pad_id=pad_id,
        activation=None if text_activation == activation else text_activation,
    )
    scale = keys.number("logit_scale_init_value", 2.6592)
    tokenizer = TokenizerConfig(
        kind="file" if worldwide else "clip",
        vocab_size=config.vocab_size,
        context_length=config.context_length,
        pad_id=pad_id,
        clean="none" if worldwide else "lower",  # MetaCLIP 2: only the normaliser in tokenizer.json
    )
    return (
        CLIPConfig(
            embed_dim=embed_dim,
            vision=ViTConfig(**image),
            text=config,
            activation=activation,
            # 2.6592 is the paper's log(1 / 0.07), rounded.
            init_logit_scale=CLIPConfig.init_logit_scale if scale == 2.6592 else scale,
        ),
        tokenizer,
    )


def _read_siglip(
    keys: ConfigKeys, vision: ConfigKeys, text: ConfigKeys, *, named: object
) -> tuple[CLIPConfig, TokenizerConfig]:
    if not vision.flag("vision_use_head", True):
        raise WeightsError("vision_config.vision_use_head is false: expected a SigLIP with its pooling head")
    text.skip("eos_token_id")  # it is in the tokenizer's file
    sizes = _text_sizes(text, 768, 12, 64, 32000, 1e-6)
    siglip2 = named in _GEMMA or (named is None and sizes["vocab_size"] == GEMMA_VOCABULARY)
    stated = text.token_id("pad_token_id", 1)
    pad_id = GEMMA_PAD if siglip2 else stated
    activation = _activation(vision, "gelu_pytorch_tanh")
    text_activation = _activation(text, "gelu_pytorch_tanh")
    projection = text.take("projection_size", None)
    image = _read_vit(vision, patch=16, epsilon=1e-6)
    config = TextConfig(
        **sizes,
        causal=False,
        pool="last",
        pad_id=pad_id,
        projection_bias=True,
        activation=None if text_activation == activation else text_activation,
    )
    if projection is not None and projection != image["width"]:
        raise WeightsError(
            f"text_config.projection_size is {projection}, the image tower's is {image['width']}"
        )
    tower = ViTConfig(
        **image,
        pool="attention",
        class_token=False,
        patch_bias=True,
        pre_norm=False,
        post_norm="before_pool",
        projection=False,
    )
    keys.skip("projection_dim", "logit_scale_init_value")
    tokenizer = TokenizerConfig(
        kind="file",
        vocab_size=config.vocab_size,
        context_length=config.context_length,
        pad_id=pad_id,
        clean="lower" if siglip2 else "canonicalize",
    )
    # The paper's initial values of scale and bias (arXiv 2303.15343, section 3.2).
    return (
        CLIPConfig(
            embed_dim=tower.width,
            vision=tower,
            text=config,
            activation=activation,
            init_logit_scale=math.log(10),
            init_logit_bias=-10.0,
        ),
        tokenizer,
    )


def _activation(tower: ConfigKeys, default: str) -> Activation:
    return ACTIVATIONS[tower.choice("hidden_act", default, ACTIVATIONS)]


def _read_vit(tower: ConfigKeys, *, patch: int, epsilon: float) -> dict[str, Any]:
    tower.only("num_channels", 3)
    width = tower.integer("hidden_size", 768)
    heads = tower.integer("num_attention_heads", 12)
    if width % heads:
        raise WeightsError(f"vision_config.hidden_size {width} is not a multiple of {heads} heads")
    return {
        "image_size": tower.integer("image_size", 224),
        "patch_size": tower.integer("patch_size", patch),
        "width": width,
        "layers": tower.integer("num_hidden_layers", 12),
        "head_width": width // heads,
        "mlp_ratio": mlp_ratio(width, tower.integer("intermediate_size", 3072)),
        "norm_eps": tower.number("layer_norm_eps", epsilon),
    }


def _text_sizes(
    tower: ConfigKeys, width: int, heads: int, length: int, vocabulary: int, epsilon: float
) -> dict[str, Any]:
    hidden = 4 * width
    width = tower.integer("hidden_size", width)
    return {
        "context_length": tower.integer("max_position_embeddings", length),
        "vocab_size": tower.integer("vocab_size", vocabulary),
        "width": width,
        "heads": tower.integer("num_attention_heads", heads),
        "layers": tower.integer("num_hidden_layers", 12),
        "mlp_ratio": mlp_ratio(width, tower.integer("intermediate_size", hidden)),
        "norm_eps": tower.number("layer_norm_eps", epsilon),
    }


def _read_resize(keys: ConfigKeys, size: int) -> tuple[bool, int]:
    """Whether images are resized to a square without a crop, and the side that the resize gives."""
    stated = keys.take("size", size)
    if isinstance(stated, Mapping) and set(stated) == {"shortest_edge"}:
        return False, _square(stated["shortest_edge"], size)
    return isinstance(stated, Mapping), _square(stated, size)


def _square(value: Any, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, Mapping) and set(value) == {"height", "width"} and value["height"] == value["width"]:
        value = value["height"]
    return ConfigKeys({"size": value}, "preprocessor_config").integer("size")
