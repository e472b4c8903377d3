"""Architectures by name, for loading, training and recipes.

The names are open_clip's, and OpenAI's spellings of their own nine. The suffix `-quickgelu` selects OpenAI's
activation, as in open_clip. Sizes are those of open_clip's model configs and, for SigLIP, of Google's
`config.json` files. `diptych.weights.registry` lists the released weights of each name.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable
from typing import Any

from diptych.errors import UnknownModelError
from diptych.model.config import (
    Activation,
    CLIPConfig,
    EfficientNetConfig,
    ResNetConfig,
    RobertaConfig,
    TextConfig,
    ViTConfig,
)
from diptych.model.presets.family_presets import FAMILY_PRESETS, TIMM_PRESETS

QUICK = "-quickgelu"
# OpenAI's spellings. All these models use QuickGELU.
OPENAI_NAMES = {
    "RN50": "RN50",
    "RN101": "RN101",
    "RN50x4": "RN50x4",
    "RN50x16": "RN50x16",
    "RN50x64": "RN50x64",
    "ViT-B/32": "ViT-B-32",
    "ViT-B/16": "ViT-B-16",
    "ViT-L/14": "ViT-L-14",
    "ViT-L/14@336px": "ViT-L-14-336",
}


def _vit(
    width: int,
    layers: int,
    patch: int,
    embed: int,
    text: TextConfig,
    *,
    side: int = 224,
    activation: Activation = "gelu",
    **vision: Any,
) -> CLIPConfig:
    tower = ViTConfig(image_size=side, patch_size=patch, width=width, layers=layers, **vision)
    return CLIPConfig(embed_dim=embed, vision=tower, text=text, activation=activation)


def _resnet(
    layers: tuple[int, int, int, int], width: int, embed: int, text: TextConfig, *, side: int = 224
) -> CLIPConfig:
    return CLIPConfig(
        embed_dim=embed, vision=ResNetConfig(image_size=side, layers=layers, width=width), text=text
    )


# The text towers of the paper's tables 19 and 20: always 12 layers, heads of width 64.
_TEXT_384 = TextConfig(width=384, heads=6)
_TEXT_512 = TextConfig(width=512, heads=8)
_TEXT_640 = TextConfig(width=640, heads=10)
_TEXT_768 = TextConfig(width=768, heads=12)
_TEXT_1024 = TextConfig(width=1024, heads=16)

# Diptych's own, for small data and small machines. Its vocabulary has only the first merges of CLIP's
# byte-pair encoding, so that token embeddings do not hold most of the parameters.
_TEXT_SMALL = TextConfig(context_length=32, vocab_size=8192, width=256, heads=4, layers=4)

# SigLIP's towers: width, layers, heads, hidden width of the MLP (arXiv 2303.15343, 2502.14786).
_SIGLIP_B, _SIGLIP_L = (768, 12, 12, 3072), (1024, 24, 16, 4096)
_SIGLIP_SO400M, _SIGLIP_G = (1152, 27, 16, 4304), (1536, 40, 16, 6144)
_Sizes = tuple[int, int, int, int]


def _siglip(
    vision: _Sizes, side: int, patch: int, vocab: int, *, text: _Sizes | None = None, context: int = 64
) -> CLIPConfig:
    """A SigLIP model: attention pooling; texts padded to the full length and read at the last position."""
    width, layers, heads, hidden = vision
    text_width, text_layers, text_heads, text_hidden = text or vision
    return CLIPConfig(
        embed_dim=width,
        vision=ViTConfig(
            image_size=side,
            patch_size=patch,
            width=width,
            layers=layers,
            head_width=width // heads,
            mlp_ratio=mlp_ratio(width, hidden),
            pool="attention",
            class_token=False,
            patch_bias=True,
            pre_norm=False,
            post_norm="before_pool",
            projection=False,
            norm_eps=1e-6,
        ),
        text=TextConfig(
            context_length=context,
            vocab_size=vocab,
            width=text_width,
            heads=text_heads,
            layers=text_layers,
            mlp_ratio=mlp_ratio(text_width, text_hidden),
            causal=False,
            pool="last",
            pad_id=0 if vocab == _GEMMA else 1,
            projection_bias=True,
            norm_eps=1e-6,
        ),
        activation="gelu_tanh",
        init_logit_scale=math.log(10),
        init_logit_bias=-10.0,
    )


def mlp_ratio(width: int, hidden: int) -> float:
    """The ratio for which `int(width * ratio)` is exactly the hidden width.

    Examples
    --------
    >>> int(1152 * mlp_ratio(1152, 4304))
    4304
    """
    ratio = hidden / width
    # Rounding may put the product just below the whole number; then the next larger float is above it.
    return ratio if int(width * ratio) == hidden else math.nextafter(ratio, math.inf)


# Vocabulary sizes of SigLIP's SentencePiece models: English, multilingual, and Gemma's (SigLIP 2).
_ENGLISH, _MULTILINGUAL, _GEMMA = 32_000, 250_000, 256_000
_XLM_R_LARGE = RobertaConfig(width=1024, heads=16, layers=24)
_M_CLIP = RobertaConfig(width=1024, heads=16, layers=24, head="affine", context_length=512)
_TEXT_H = TextConfig(width=1024, heads=16, layers=24)

PRESETS: dict[str, CLIPConfig] = {
    # The paper's eight models and the one fine-tuned at 336 pixels, by open_clip's names.
    "RN50": _resnet((3, 4, 6, 3), 64, 1024, _TEXT_512),
    "RN101": _resnet((3, 4, 23, 3), 64, 512, _TEXT_512),
    "RN50x4": _resnet((4, 6, 10, 6), 80, 640, _TEXT_640, side=288),
    "RN50x16": _resnet((6, 8, 18, 8), 96, 768, _TEXT_768, side=384),
    "RN50x64": _resnet((3, 15, 36, 10), 128, 1024, _TEXT_1024, side=448),
    "ViT-B-32": _vit(768, 12, 32, 512, _TEXT_512),
    "ViT-B-16": _vit(768, 12, 16, 512, _TEXT_512),
    "ViT-L-14": _vit(1024, 24, 14, 768, _TEXT_768),
    "ViT-L-14-336": _vit(1024, 24, 14, 768, _TEXT_768, side=336),
    # open_clip's larger models (LAION-2B).
    "ViT-H-14": _vit(1280, 32, 14, 1024, _TEXT_H, head_width=80),
    "ViT-g-14": _vit(1408, 40, 14, 1024, _TEXT_H, head_width=88, mlp_ratio=4.3637),
    "ViT-bigG-14": _vit(
        1664, 48, 14, 1280, TextConfig(width=1280, heads=20, layers=32), head_width=104, mlp_ratio=4.9231
    ),
    # Other sizes that open_clip names.
    "ViT-S-32": _vit(384, 12, 32, 384, _TEXT_384),
    "ViT-S-16": _vit(384, 12, 16, 384, _TEXT_384),
    "ViT-S-32-alt": _vit(384, 12, 32, 256, TextConfig(width=256, heads=4, layers=10)),
    "ViT-S-16-alt": _vit(384, 12, 16, 256, TextConfig(width=256, heads=4, layers=10)),
    "ViT-M-32": _vit(512, 12, 32, 512, _TEXT_512),
    "ViT-M-16": _vit(512, 12, 16, 512, _TEXT_512),
    "ViT-M-32-alt": _vit(512, 12, 32, 384, _TEXT_384),
    "ViT-B-32-256": _vit(768, 12, 32, 512, _TEXT_512, side=256),
    "ViT-B-32-plus-256": _vit(896, 12, 32, 640, _TEXT_640, side=256),
    "ViT-B-16-plus": _vit(896, 12, 16, 640, _TEXT_640),
    "ViT-B-16-plus-240": _vit(896, 12, 16, 640, _TEXT_640, side=240),
    "ViT-L-16": _vit(1024, 24, 16, 768, _TEXT_768),
    "ViT-L-16-320": _vit(1024, 24, 16, 768, _TEXT_768, side=320),
    "ViT-L-14-280": _vit(1024, 24, 14, 768, _TEXT_768, side=280),
    "ViT-H-16": _vit(1280, 32, 16, 1024, _TEXT_H, head_width=80),
    "ViT-H-14-378": _vit(1280, 32, 14, 1024, _TEXT_H, side=378, head_width=80),
    "ViT-e-14": _vit(
        1792, 56, 14, 1280, TextConfig(width=1280, heads=20, layers=36), head_width=112, mlp_ratio=8.5715
    ),
    # Multilingual text towers: XLM-R (open_clip), and M-CLIP's with its own head.
    "xlm-roberta-base-ViT-B-32": _vit(768, 12, 32, 512, RobertaConfig()),
    "xlm-roberta-large-ViT-H-14": _vit(1280, 32, 14, 1024, _XLM_R_LARGE, head_width=80),
    "XLM-Roberta-Large-Vit-B-32": _vit(768, 12, 32, 512, _M_CLIP, activation="quick_gelu"),
    "XLM-Roberta-Large-Vit-L-14": _vit(1024, 24, 14, 768, _M_CLIP, activation="quick_gelu"),
    "XLM-Roberta-Large-Vit-B-16Plus": _vit(896, 12, 16, 640, _M_CLIP, side=240),
    # SigLIP and SigLIP 2. SigLIP 2's "378" has images of 384 pixels, as in Google's config; both give 27
    # patches a side.
    "ViT-B-16-SigLIP": _siglip(_SIGLIP_B, 224, 16, _ENGLISH),
    "ViT-B-16-SigLIP-256": _siglip(_SIGLIP_B, 256, 16, _ENGLISH),
    "ViT-B-16-SigLIP-384": _siglip(_SIGLIP_B, 384, 16, _ENGLISH),
    "ViT-B-16-SigLIP-512": _siglip(_SIGLIP_B, 512, 16, _ENGLISH),
    "ViT-B-16-SigLIP-i18n-256": _siglip(_SIGLIP_B, 256, 16, _MULTILINGUAL),
    "ViT-L-16-SigLIP-256": _siglip(_SIGLIP_L, 256, 16, _ENGLISH),
    "ViT-L-16-SigLIP-384": _siglip(_SIGLIP_L, 384, 16, _ENGLISH),
    "ViT-SO400M-14-SigLIP": _siglip(_SIGLIP_SO400M, 224, 14, _ENGLISH, context=16),
    "ViT-SO400M-14-SigLIP-384": _siglip(_SIGLIP_SO400M, 384, 14, _ENGLISH),
    "ViT-SO400M-16-SigLIP-i18n-256": _siglip(_SIGLIP_SO400M, 256, 16, _MULTILINGUAL),
    "ViT-B-32-SigLIP2-256": _siglip(_SIGLIP_B, 256, 32, _GEMMA),
    "ViT-B-16-SigLIP2": _siglip(_SIGLIP_B, 224, 16, _GEMMA),
    "ViT-B-16-SigLIP2-256": _siglip(_SIGLIP_B, 256, 16, _GEMMA),
    "ViT-B-16-SigLIP2-384": _siglip(_SIGLIP_B, 384, 16, _GEMMA),
    "ViT-B-16-SigLIP2-512": _siglip(_SIGLIP_B, 512, 16, _GEMMA),
    "ViT-L-16-SigLIP2-256": _siglip(_SIGLIP_L, 256, 16, _GEMMA),
    "ViT-L-16-SigLIP2-384": _siglip(_SIGLIP_L, 384, 16, _GEMMA),
    "ViT-L-16-SigLIP2-512": _siglip(_SIGLIP_L, 512, 16, _GEMMA),
    "ViT-SO400M-14-SigLIP2": _siglip(_SIGLIP_SO400M, 224, 14, _GEMMA),
    "ViT-SO400M-14-SigLIP2-378": _siglip(_SIGLIP_SO400M, 384, 14, _GEMMA),
    "ViT-SO400M-16-SigLIP2-256": _siglip(_SIGLIP_SO400M, 256, 16, _GEMMA),
    "ViT-SO400M-16-SigLIP2-384": _siglip(_SIGLIP_SO400M, 384, 16, _GEMMA),
    "ViT-SO400M-16-SigLIP2-512": _siglip(_SIGLIP_SO400M, 512, 16, _GEMMA),
    "ViT-gopt-16-SigLIP2-256": _siglip(_SIGLIP_G, 256, 16, _GEMMA, text=_SIGLIP_SO400M),
    "ViT-gopt-16-SigLIP2-384": _siglip(_SIGLIP_G, 384, 16, _GEMMA, text=_SIGLIP_SO400M),
    **FAMILY_PRESETS,
    **TIMM_PRESETS,
    # Diptych's own small models.
    "diptych-tiny": CLIPConfig(
        embed_dim=128,
        vision=ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=16, stem_pool=False),
        text=TextConfig(context_length=32, vocab_size=8192, width=128, heads=2, layers=2),
    ),
    "diptych-small": CLIPConfig(
        embed_dim=256,
        vision=ResNetConfig(image_size=64, layers=(2, 2, 2, 2), width=32, stem_pool=False),
        text=_TEXT_SMALL,
    ),
    "diptych-lite": CLIPConfig(embed_dim=256, vision=EfficientNetConfig(hidden=512), text=_TEXT_SMALL),
    "diptych-small-vit": CLIPConfig(
        embed_dim=256,
        vision=ViTConfig(image_size=64, patch_size=8, width=256, layers=6),
        text=_TEXT_SMALL,
    ),
}


def preset(name: str) -> CLIPConfig:
    """Look up an architecture by name.

    Parameters
    ----------
    name : str
        open_clip's name, with the suffix `-quickgelu` for OpenAI's activation, or OpenAI's spelling
        (`ViT-B/32`), which implies that activation.

    Raises
    ------
    UnknownModelError
        No architecture has that name; the message lists the nearest ones.

    Examples
    --------
    >>> preset("ViT-B-32-quickgelu").activation
    'quick_gelu'
    >>> preset("ViT-B/32") == preset("ViT-B-32-quickgelu")
    True
    >>> preset("ViT-B-32-256").vision.image_size
    256
    """
    spelled = f"{OPENAI_NAMES[name]}{QUICK}" if "/" in name and name in OPENAI_NAMES else name
    base = spelled.removesuffix(QUICK)
    if base not in PRESETS:
        raise UnknownModelError(
            f"unknown architecture {name!r}. {nearest_names(name, [*PRESETS, *OPENAI_NAMES])}"
        )
    config = PRESETS[base]
    return config if base == spelled else dataclasses.replace(config, activation="quick_gelu")


def is_architecture(name: str) -> bool:
    """Whether an architecture has this name.

    Examples
    --------
    >>> is_architecture("ViT-L/14@336px"), is_architecture("ViT-B-23")
    (True, False)
    """
    return name in OPENAI_NAMES or name.removesuffix(QUICK) in PRESETS


def nearest_names(name: str, candidates: Iterable[str]) -> str:
    """Sentence that suggests the known names most similar to a wrong one.

    Examples
    --------
    >>> nearest_names("ViT-B23", ["ViT-B-32", "RN50"])
    'Did you mean ViT-B-32?'
    """
    candidates = list(dict.fromkeys(candidates))
    lowered = {candidate.lower(): candidate for candidate in candidates}  # compared without case
    nearest = [lowered[m] for m in difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.5)]
    if not nearest:
        return f"Known {'is' if len(candidates) == 1 else 'are'}: {', '.join(candidates[:40])}."
    return f"Did you mean {' or '.join(filter(None, [', '.join(nearest[:-1]), nearest[-1]]))}?"
