"""Write transformers' format: `config.json`, `model.safetensors`, `preprocessor_config.json`.

`transformers.read` is the inverse.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diptych.errors import WeightsError
from diptych.inputs.config import CLIP_VOCAB_SIZE, PreprocessConfig
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
from diptych.weights.spec import Checkpoint
from diptych.weights.transformers.names import to_transformers_names
from diptych.weights.transformers.read import (
    ACTIVATIONS,
    CONFIG_FILE,
    PREPROCESS_FILES,
    TOKENIZER_CONFIG,
    WEIGHTS_FILES,
)

# tokenizer_config.json of SigLIP 2: texts in lower case, and their padding.
_GEMMA = {
    "tokenizer_class": "Siglip2Tokenizer",
    "padding_side": "right",
    "model_input_names": ["input_ids"],
    "pad_token": "<pad>",
    "eos_token": "<eos>",
    "bos_token": "<bos>",
    "unk_token": "<unk>",
}


def to_transformers(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a model, its weights unchanged, for transformers' `CLIPModel`, `MetaClip2Model` or `SiglipModel`.

    Raises
    ------
    WeightsError
        transformers has no such model: a ResNet, or a ViT that is neither CLIP's nor SigLIP's.
    SaveError
        No space, or no permission; no incomplete file is left.
    """
    architecture, tokenizer = checkpoint.spec.architecture, checkpoint.spec.tokenizer
    siglip = is_siglip(architecture)
    config = write_config(architecture)
    gemma = siglip and tokenizer.kind == "file" and tokenizer.clean == "lower"
    clean = "none" if is_metaclip2(architecture.text) else "lower"
    warn_of_tokenizer(tokenizer, "transformers", "canonicalize" if siglip and not gemma else clean)
    state = to_transformers_names(checkpoint.state, siglip=siglip)
    configs: dict[str, Any] = {
        PREPROCESS_FILES[0]: write_preprocess(checkpoint.spec.preprocess, siglip=siglip)
    }
    if gemma:
        configs[TOKENIZER_CONFIG] = {**_GEMMA, "model_max_length": tokenizer.context_length}
    configs[CONFIG_FILE] = config
    write_model_folder(checkpoint, Path(folder), (WEIGHTS_FILES[0], state), configs)


def write_config(architecture: CLIPConfig) -> dict[str, Any]:
    """Build `config.json`, the inverse of `transformers.read_config`."""
    vision, text = architecture.vision, architecture.text
    _check_towers(architecture)
    assert isinstance(vision, ViTConfig)
    assert isinstance(text, TextConfig)
    siglip = is_siglip(architecture)
    _check_supported(architecture, vision, siglip=siglip)
    vision_config = {
        "hidden_size": vision.width,
        "intermediate_size": int(vision.width * vision.mlp_ratio),
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        **_common_values(architecture, vision),
    }
    text_config = {
        "hidden_size": text.width,
        "intermediate_size": int(text.width * text.mlp_ratio),
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "max_position_embeddings": text.context_length,
        "vocab_size": text.vocab_size,
        "pad_token_id": text.pad_id,
        **_common_values(architecture, text),
    }
    if siglip:
        text_config["projection_size"] = architecture.embed_dim
        # SigLIP ends and pads with the same id. transformers' defaults are CLIP's ids, which a smaller
        # vocabulary does not have.
        text_config["bos_token_id"] = text_config["eos_token_id"] = text.pad_id
        return {
            "architectures": ["SiglipModel"],
            "model_type": "siglip",
            "text_config": {"model_type": "siglip_text_model", **text_config},
            "vision_config": {"model_type": "siglip_vision_model", **vision_config},
        }
    text_config["eos_token_id"] = 2 if text.end_id is None else text.end_id
    text_config["bos_token_id"] = text.vocab_size - 2
    for tower in (text_config, vision_config):
        tower["projection_dim"] = architecture.embed_dim
    family, model = ("metaclip_2", "MetaClip2Model") if is_metaclip2(text) else ("clip", "CLIPModel")
    return {
        "architectures": [model],
        "model_type": family,
        "projection_dim": architecture.embed_dim,
        "logit_scale_init_value": architecture.init_logit_scale,
        "text_config": {"model_type": f"{family}_text_model", **text_config},
        "vision_config": {"model_type": f"{family}_vision_model", **vision_config},
    }


def _check_towers(architecture: CLIPConfig) -> None:
    """Raise WeightsError for kinds of towers that transformers' CLIPModel does not have."""
    vision, text = architecture.vision, architecture.text
    if isinstance(vision, EfficientNetConfig):
        raise WeightsError("transformers has no CLIP with an EfficientNet; keep this model in our own format")
    if isinstance(vision, ResNetConfig):
        diptych_only = unsupported_resnet_feature(vision) is not None
        remedy = (
            "keep this model in our own format" if diptych_only else "convert to open_clip's format instead"
        )
        raise WeightsError(f"transformers has no CLIP with a ResNet; {remedy}")
    if isinstance(vision, TimmConfig):
        raise WeightsError(
            "transformers' CLIPModel has no image tower of timm; convert to open_clip's format instead, or "
            "keep this model in our own"
        )
    if isinstance(text, RobertaConfig):
        raise WeightsError(
            "transformers' CLIPModel has no RoBERTa text tower; convert to open_clip's format instead, or "
            "keep this model in our own"
        )


def write_preprocess(config: PreprocessConfig, *, siglip: bool) -> dict[str, Any]:
    """Build `preprocessor_config.json`, the inverse of `transformers.read_preprocess`.

    Raises
    ------
    WeightsError
        Images are padded to a square, which CLIP's and SigLIP's processors cannot do.
    """
    if config.resize == "longest":
        raise WeightsError(
            "transformers' processors of CLIP and SigLIP cannot pad an image to a square (resize 'longest'): "
            "write the model in our own format or open_clip's"
        )
    square = {"height": config.size, "width": config.size}
    squash = config.resize == "squash"
    return {
        "image_processor_type": "SiglipImageProcessor" if siglip else "CLIPImageProcessor",
        "do_resize": True,
        "size": square if squash else {"shortest_edge": config.size},
        "resample": 3 if config.interpolation == "bicubic" else 2,
        "do_center_crop": not squash,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.mean),
        "image_std": list(config.std),
        "do_convert_rgb": True,
    }


def is_metaclip2(text: TextConfig) -> bool:
    """Whether a text tower is MetaCLIP 2's: `CLIPModel` would read it at another token."""
    # In a CLIPModel an `eos_token_id` of 2 means the largest id.
    return text.pool == "end" and (text.end_id == 2 or text.vocab_size > CLIP_VOCAB_SIZE)


def is_siglip(architecture: CLIPConfig) -> bool:
    """Whether a model is a SigLIP: it has attention pooling."""
    vision = architecture.vision
    return isinstance(vision, ViTConfig) and vision.pool == "attention"


def _check_supported(architecture: CLIPConfig, vision: ViTConfig, *, siglip: bool) -> None:
    """Refuse features that transformers' class lacks, and models without those that it always has."""
    text = architecture.text
    # Whether the model has a feature, whether the class has it, and its name.
    features = (
        (vision.class_token, not siglip, "a class token"),
        (vision.patch_bias, siglip, "a bias in the patch convolution"),
        (vision.pre_norm, not siglip, "a norm before the first block"),
        (vision.projection, not siglip, "an image projection"),
        (vision.pool == "average", False, "an average pool"),
        (vision.projection_bias, False, "a bias in the image projection"),
        (vision.stem == "convolutions", False, "a convolutional stem"),
        (vision.rope, False, "rotary positions"),
        (not vision.class_position, False, "a class token without a position"),
        (vision.pool_heads is not None, False, "a pooling head of other heads than the blocks'"),
        (vision.pool_mlp_ratio is not None, False, "a pooling head of another MLP than the blocks'"),
        (text.projection, True, "a text projection"),
        (siglip and vision.post_norm == "after_pool", False, "a norm after the pooling head"),
        (text.causal, not siglip, "a causal text tower"),
        (text.pool == "end", not siglip, "reading a text at its end token"),
        (text.projection_bias, siglip, "a bias in the text projection"),
        (architecture.init_logit_bias is not None, siglip, "a logit bias"),
    )
    for present, expected, feature in features:
        if present != expected:
            kind = "SiglipModel" if siglip else "CLIPModel"
            raise WeightsError(
                f"transformers' {kind} is always {'with' if expected else 'without'} {feature}, this model "
                "is not"
            )


def _common_values(architecture: CLIPConfig, tower: ViTConfig | TextConfig) -> dict[str, Any]:
    # Two of transformers' names mean the same activation: reversed, so that the first one wins.
    names = {activation: name for name, activation in reversed(ACTIVATIONS.items())}
    return {
        "hidden_act": names[tower.activation or architecture.activation],
        "layer_norm_eps": tower.norm_eps,
    }
