"""A model as transformers keeps it: `config.json`, `model.safetensors`, `preprocessor_config.json`.

Reading such a folder is `transformers`' work, here and there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diptych.errors import WeightsError
from diptych.files.disk import write_bytes
from diptych.inputs.config import CLIP_VOCAB_SIZE, PreprocessConfig
from diptych.model.config import CLIPConfig, ResNetConfig, RobertaConfig, TextConfig, TimmConfig, ViTConfig
from diptych.weights.exporting import beyond_the_paper, copy_tokenizer, warn_of_tokenizer
from diptych.weights.native import save_safetensors
from diptych.weights.spec import Checkpoint
from diptych.weights.transformers.names import to_transformers_names
from diptych.weights.transformers.read import (
    ACTIVATIONS,
    CONFIG_FILE,
    PREPROCESS_FILES,
    TOKENIZER_CONFIG,
    WEIGHTS_FILES,
)

# What tells transformers that a SigLIP's texts are put in lower case, and how they are padded (SigLIP 2).
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
    """Write a model as a folder of transformers' `CLIPModel` or `SiglipModel`.

    Parameters
    ----------
    checkpoint : Checkpoint
        The model; its weights are written bit for bit.
    folder : Path
        Made if it is not there.

    Raises
    ------
    WeightsError
        transformers has no such model: a ResNet, or a ViT that is neither CLIP's nor SigLIP's.
    SaveError
        No space, or no permission; nothing half-written stays.
    """
    folder = Path(folder)
    architecture = checkpoint.spec.architecture
    siglip = is_siglip(architecture)
    config = write_config(architecture)
    tokenizer = checkpoint.spec.tokenizer
    gemma = siglip and tokenizer.kind == "file" and tokenizer.clean == "lower"
    clean = "none" if is_worldwide(architecture.text) else "lower"
    warn_of_tokenizer(tokenizer, "transformers", "canonicalize" if siglip and not gemma else clean)
    names = to_transformers_names(checkpoint.state, siglip=siglip)
    save_safetensors(folder / WEIGHTS_FILES[0], names)
    copy_tokenizer(checkpoint, folder)
    if gemma:
        words = {**_GEMMA, "model_max_length": tokenizer.context_length}
        write_bytes(folder / TOKENIZER_CONFIG, json.dumps(words, indent=2).encode())
    transform = write_preprocess(checkpoint.spec.preprocess, siglip=siglip)
    write_bytes(folder / PREPROCESS_FILES[0], json.dumps(transform, indent=2).encode())
    write_bytes(folder / CONFIG_FILE, json.dumps(config, indent=2).encode())


def write_config(architecture: CLIPConfig) -> dict[str, Any]:
    """`config.json`, the inverse of `transformers.read_config`."""
    vision, text = architecture.vision, architecture.text
    if isinstance(vision, ResNetConfig):
        ours = beyond_the_paper(vision) is not None
        way = "keep this model in our own format" if ours else "convert to open_clip's format instead"
        raise WeightsError(f"transformers has no CLIP with a ResNet; {way}")
    if isinstance(vision, TimmConfig):
        raise WeightsError(
            "transformers' CLIPModel has no image tower of timm; convert to open_clip's format instead, or "
            "keep this model in our own"
        )
    if isinstance(text, RobertaConfig):
        raise WeightsError(
            "transformers' CLIPModel has no text tower of RoBERTa's kind; convert to open_clip's format "
            "instead, or keep this model in our own"
        )
    siglip = is_siglip(architecture)
    _check(architecture, vision, siglip=siglip)
    vision_config = {
        "hidden_size": vision.width,
        "intermediate_size": int(vision.width * vision.mlp_ratio),
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        **_common(architecture, vision),
    }
    text_config = {
        "hidden_size": text.width,
        "intermediate_size": int(text.width * text.mlp_ratio),
        "num_hidden_layers": text.layers,
        "num_attention_heads": text.heads,
        "max_position_embeddings": text.context_length,
        "vocab_size": text.vocab_size,
        "pad_token_id": text.pad_id,
        **_common(architecture, text),
    }
    if siglip:
        text_config["projection_size"] = architecture.embed_dim
        # SigLIP's table ends and pads with one id; their defaults are CLIP's, outside of a smaller table.
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
    family, model = ("metaclip_2", "MetaClip2Model") if is_worldwide(text) else ("clip", "CLIPModel")
    return {
        "architectures": [model],
        "model_type": family,
        "projection_dim": architecture.embed_dim,
        "logit_scale_init_value": architecture.init_logit_scale,
        "text_config": {"model_type": f"{family}_text_model", **text_config},
        "vision_config": {"model_type": f"{family}_vision_model", **vision_config},
    }


def write_preprocess(config: PreprocessConfig, *, siglip: bool) -> dict[str, Any]:
    """`preprocessor_config.json`, the inverse of `transformers.read_preprocess`.

    Raises
    ------
    WeightsError
        Pictures get a border, for which CLIP's and SigLIP's processors have no word.
    """
    if config.resize == "longest":
        raise WeightsError(
            "transformers' processors of CLIP and SigLIP cannot put a border around a picture "
            "(resize 'longest'): write the model in our own form or open_clip's"
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


def is_worldwide(text: TextConfig) -> bool:
    """Whether texts are those of MetaCLIP 2: read at an end token that CLIP's classes do not look for."""
    # An `eos_token_id` of 2 means the largest id in a CLIPModel.
    return text.pool == "end" and (text.end_id == 2 or text.vocab_size > CLIP_VOCAB_SIZE)


def is_siglip(architecture: CLIPConfig) -> bool:
    """Whether a model is of SigLIP's kind: its pooling head marks it."""
    vision = architecture.vision
    return isinstance(vision, ViTConfig) and vision.pool == "attention"


def _check(architecture: CLIPConfig, vision: ViTConfig, *, siglip: bool) -> None:
    """Refuse what differs from the one shape each of their two classes has."""
    text = architecture.text
    same = (
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
    for found, wanted, what in same:
        if found != wanted:
            kind = "SiglipModel" if siglip else "CLIPModel"
            raise WeightsError(
                f"transformers' {kind} is always {'with' if wanted else 'without'} {what}, this model is not"
            )


def _common(architecture: CLIPConfig, tower: ViTConfig | TextConfig) -> dict[str, Any]:
    theirs = {ours: name for name, ours in reversed(ACTIVATIONS.items())}
    return {
        "hidden_act": theirs[tower.activation or architecture.activation],
        "layer_norm_eps": tower.norm_eps,
    }
