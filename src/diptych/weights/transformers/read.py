"""transformers' folders: `CLIPModel`, `MetaClip2Model`, `SiglipModel`; their config and names read into ours.

Their attention keeps query, key and value apart, their projections lie the other way round, and their
defaults are left out of the config. Writing is `write_transformers`' work.
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
from diptych.weights.foreign import Keys, read_json

CONFIG_FILE = "config.json"
PREPROCESS_FILES = ("preprocessor_config.json", "processor_config.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
WEIGHTS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
FAMILIES = ("clip", "metaclip_2", "siglip", "siglip2")  # of `model_type`; the last is refused with its reason
_MOST_SHARDS = 1000
# SigLIP 2 reads Gemma's table: texts in lower case with their punctuation, `<eos>` after them, then `<pad>`
# (Siglip2Tokenizer of transformers; big_vision's own preprocessing). Neither stands in config.json.
GEMMA_VOCABULARY = 256_000
GEMMA_PAD = 0
_GEMMA = ("GemmaTokenizer", "GemmaTokenizerFast", "Siglip2Tokenizer")

ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
# What any config of theirs may hold and no vector depends on: bookkeeping, training, text generation.
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
    """Architecture, preprocessing and tokenizer from transformers' words.

    Parameters
    ----------
    config : mapping
        `config.json`.
    preprocess : mapping, optional
        `preprocessor_config.json`; by default what the family was trained with.
    tokenizer : mapping, optional
        `tokenizer_config.json`: whether a SigLIP is of the second kind, if the vocabulary does not say it.

    Raises
    ------
    UnknownModelError
        A family this package does not build; the message names it.
    WeightsError
        A key or value that is not understood; the message names it.

    Examples
    --------
    >>> architecture, preprocess, tokenizer = read_config({"model_type": "siglip"})
    >>> architecture.vision.pool, preprocess.std, tokenizer.context_length
    ('attention', (0.5, 0.5, 0.5), 64)
    """
    family = config.get("model_type")
    if family == "siglip2":
        raise UnknownModelError(
            f"{CONFIG_FILE} is of a SigLIP 2 for pictures of any shape (NaFlex), which is not built here; "
            "its siblings for squares are, e.g. hf-hub:google/siglip2-base-patch16-224"
        )
    if family not in FAMILIES:
        raise UnknownModelError(
            f"{CONFIG_FILE} is of a model of type {family!r}, which is not built here: "
            "expected 'clip', 'metaclip_2' or 'siglip'"
        )
    keys = Keys(config, CONFIG_FILE)
    keys.skip(*BOOKKEEPING)
    text = _tower(keys, "text")
    vision = _tower(keys, "vision")
    try:
        architecture, table = (
            _read_clip(keys, vision, text, worldwide=family == "metaclip_2")
            if family != "siglip"
            else _read_siglip(keys, vision, text, named=(tokenizer or {}).get("tokenizer_class"))
        )
        for tower in (vision, text, keys):
            tower.finish()
        ready = read_preprocess(preprocess, architecture.vision.image_size, siglip=family == "siglip")
    except InputError as error:
        raise WeightsError(f"{CONFIG_FILE}: {error}") from error
    return architecture, ready, table


def read_preprocess(config: Mapping[str, Any] | None, size: int, *, siglip: bool) -> PreprocessConfig:
    """The evaluation transform from `preprocessor_config.json`.

    Raises
    ------
    WeightsError
        A value that our transform cannot follow, or a size the image tower does not see.
    """
    if config is None:
        half = (0.5, 0.5, 0.5)
        return (
            PreprocessConfig(size=size, mean=half, std=half, resize="squash")
            if siglip
            else PreprocessConfig(size=size)
        )
    keys = Keys(config, "preprocessor_config")
    for step in ("do_resize", "do_normalize", "do_rescale"):
        if not keys.flag(step, True):
            raise WeightsError(f"preprocessor_config.{step} is false: this version reads true")
    if abs(keys.number("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
        raise WeightsError("preprocessor_config.rescale_factor is not 1/255")
    crop = keys.flag("do_center_crop", not siglip)
    squash, side = _resize(keys, size)
    seen = _square(keys.take("crop_size", None), size) if crop else side
    if seen != size or side != size or (not crop and not squash):
        raise WeightsError(
            f"preprocessor_config makes pictures of {seen} pixels from a resize to {side}"
            f"{'' if crop or squash else ' with no crop'}; the image tower sees {size}"
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
    """The preprocessing a folder states, under either of its file names."""
    for name in PREPROCESS_FILES:
        if (folder / name).is_file():
            content = read_json(folder / name)
            inner = content.get("image_processor", content) if name == "processor_config.json" else content
            return inner if isinstance(inner, Mapping) else None
    return None


def read_tokenizer_file(folder: Path) -> Mapping[str, Any] | None:
    """What a folder says of its tokenizer beside the table itself."""
    path = folder / TOKENIZER_CONFIG
    return read_json(path) if path.is_file() else None


def weight_map(path: Path) -> Mapping[str, str]:
    """Which file of a model in several holds which weight, from `model.safetensors.index.json`.

    Raises
    ------
    WeightsError
        The table is missing, or names files outside its folder.
    """
    table = read_json(path).get("weight_map")
    if not isinstance(table, Mapping) or not all(isinstance(file, str) for file in table.values()):
        raise WeightsError(f"{path} lacks its weight_map: expected file names by weight")
    files = set(table.values())
    if len(files) > _MOST_SHARDS or any(not re.fullmatch(r"\w[\w.-]*", file) for file in files):
        raise WeightsError(f"{path} names files outside its folder, or more than {_MOST_SHARDS}")
    return table


def shards(path: Path) -> list[str]:
    """The files of a model in several, sorted."""
    return sorted(set(weight_map(path).values()))


def _tower(keys: Keys, name: str) -> Keys:
    values = keys.take(f"{name}_config", None) or {}
    older = keys.take(f"{name}_config_dict", None) or {}  # wins over the other, as in their code
    if not isinstance(values, Mapping) or not isinstance(older, Mapping):
        raise WeightsError(f"{CONFIG_FILE}: {name}_config must be a JSON object")
    tower = Keys({**values, **older}, f"{name}_config")
    tower.skip(*BOOKKEEPING)
    return tower


def _read_clip(
    keys: Keys, vision: Keys, text: Keys, *, worldwide: bool
) -> tuple[CLIPConfig, TokenizerConfig]:
    """CLIP, or MetaCLIP 2 (`worldwide`): the same towers, with a token table of 300 languages in a file."""
    embed_dim = keys.whole("projection_dim", 512)
    for tower in (vision, text):
        tower.skip("projection_dim")  # each tower's own counts only when it is used alone
    # What stands after the end token cannot matter in a causal tower; the ids are to be theirs all the same.
    pad_id = text.identifier("pad_token_id", 1) if worldwide else 0
    text.skip("pad_token_id")
    # 2 is the wrong number in CLIP's configs first released: the feature is read at the largest id then.
    # MetaCLIP 2 means it.
    end_id = text.identifier("eos_token_id", 49407)
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
        clean="none" if worldwide else "lower",  # the file's own normaliser is all that theirs does
    )
    return (
        CLIPConfig(
            embed_dim=embed_dim,
            vision=ViTConfig(**image),
            text=config,
            activation=activation,
            # Their 2.6592 is the paper's log(1 / 0.07), rounded.
            init_logit_scale=CLIPConfig.init_logit_scale if scale == 2.6592 else scale,
        ),
        tokenizer,
    )


def _read_siglip(
    keys: Keys, vision: Keys, text: Keys, *, named: object
) -> tuple[CLIPConfig, TokenizerConfig]:
    if not vision.flag("vision_use_head", True):
        raise WeightsError("vision_config.vision_use_head is false: this version reads SigLIP with its head")
    text.skip("eos_token_id")  # the tokenizer's file knows it
    sizes = _text_sizes(text, 768, 12, 64, 32000, 1e-6)
    second = named in _GEMMA or (named is None and sizes["vocab_size"] == GEMMA_VOCABULARY)
    stated = text.identifier("pad_token_id", 1)
    pad_id = GEMMA_PAD if second else stated
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
        clean="lower" if second else "canonicalize",
    )
    # The paper's starting values (arXiv 2303.15343, section 3.2).
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


def _activation(tower: Keys, default: str) -> Activation:
    return ACTIVATIONS[tower.choice("hidden_act", default, ACTIVATIONS)]


def _read_vit(tower: Keys, *, patch: int, epsilon: float) -> dict[str, Any]:
    tower.only("num_channels", 3)
    width = tower.whole("hidden_size", 768)
    heads = tower.whole("num_attention_heads", 12)
    if width % heads:
        raise WeightsError(f"vision_config.hidden_size {width} is not a multiple of {heads} heads")
    return {
        "image_size": tower.whole("image_size", 224),
        "patch_size": tower.whole("patch_size", patch),
        "width": width,
        "layers": tower.whole("num_hidden_layers", 12),
        "head_width": width // heads,
        "mlp_ratio": mlp_ratio(width, tower.whole("intermediate_size", 3072)),
        "norm_eps": tower.number("layer_norm_eps", epsilon),
    }


def _text_sizes(
    tower: Keys, width: int, heads: int, length: int, vocabulary: int, epsilon: float
) -> dict[str, Any]:
    hidden = 4 * width
    width = tower.whole("hidden_size", width)
    return {
        "context_length": tower.whole("max_position_embeddings", length),
        "vocab_size": tower.whole("vocab_size", vocabulary),
        "width": width,
        "heads": tower.whole("num_attention_heads", heads),
        "layers": tower.whole("num_hidden_layers", 12),
        "mlp_ratio": mlp_ratio(width, tower.whole("intermediate_size", hidden)),
        "norm_eps": tower.number("layer_norm_eps", epsilon),
    }


def _resize(keys: Keys, size: int) -> tuple[bool, int]:
    """Whether a picture is squashed, and to what side the resize goes."""
    stated = keys.take("size", size)
    if isinstance(stated, Mapping) and set(stated) == {"shortest_edge"}:
        return False, _square(stated["shortest_edge"], size)
    return isinstance(stated, Mapping), _square(stated, size)


def _square(value: Any, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, Mapping) and set(value) == {"height", "width"} and value["height"] == value["width"]:
        value = value["height"]
    return Keys({"size": value}, "preprocessor_config").whole("size")
