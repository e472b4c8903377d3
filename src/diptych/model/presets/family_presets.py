"""Architectures of model families other than CLIP, LAION and SigLIP, by open_clip's names.

CLIPA (arXiv 2305.07017), MetaCLIP 2 (2507.22062), PE-Core (2504.13181), MobileCLIP (2311.17049),
MobileCLIP2 (2508.20691), towers of timm, and one size of SigLIP. The numbers are from open_clip's configs.
"""

from __future__ import annotations

import dataclasses
import math

from diptych.model.config import CLIPConfig, Projection, TextConfig, TimmConfig, ViTConfig
from diptych.model.presets.timm_shapes import timm_shape

_BERT, _XLM_V, _MT5 = 32_000, 901_629, 250_100  # vocabulary sizes

# Image towers with patches of 14 pixels, without the image size: L, H, bigG.
_L_14 = {"patch_size": 14, "width": 1024, "layers": 24}
_H_14 = {"patch_size": 14, "width": 1280, "layers": 32, "head_width": 80}
_BIG_G_14 = {"patch_size": 14, "width": 1664, "layers": 48, "head_width": 104}
_BIG_G_MLP = 4.9231  # hidden width 8192 = int(1664 * 4.9231)


def _clipa(embed: int, vision: dict[str, int], heads: int, layers: int, side: int) -> CLIPConfig:
    """CLIPA: patches averaged before the norm; bidirectional text attention, read at the last position."""
    return CLIPConfig(
        embed_dim=embed,
        vision=ViTConfig(
            image_size=side,
            mlp_ratio=_BIG_G_MLP if vision is _BIG_G_14 else 4.0,
            pre_norm=False,
            pool="average",
            **vision,  # type: ignore[arg-type]
        ),
        text=TextConfig(
            context_length=32,
            vocab_size=_BERT,
            width=embed,
            heads=heads,
            layers=layers,
            causal=False,
            pool="last",
        ),
    )


def _worldwide(embed: int, vision: dict[str, int], text: TextConfig, side: int = 224) -> CLIPConfig:
    """MetaCLIP 2: CLIP's towers with a multilingual vocabulary."""
    ratio = _BIG_G_MLP if vision is _BIG_G_14 else 4.0
    tower = ViTConfig(image_size=side, mlp_ratio=ratio, **vision)  # type: ignore[arg-type]
    return CLIPConfig(embed_dim=embed, vision=tower, text=text)


def _timm(embed: int, tower: str, text: TextConfig) -> CLIPConfig:
    """A tower by timm's name that is built here, without timm."""
    return CLIPConfig(embed_dim=embed, vision=timm_shape(tower), text=text)


# The end token of these vocabularies is not the largest id, so `end_id` names it.
_XLM_V_H = TextConfig(vocab_size=_XLM_V, width=1024, heads=16, layers=24, end_id=2, pad_id=1)
_XLM_V_BIG_G = TextConfig(vocab_size=_XLM_V, width=1280, heads=20, layers=32, end_id=2, pad_id=1)
_MT5_L = TextConfig(vocab_size=_MT5, width=768, heads=12, end_id=1)
_PE_SMALL = TextConfig(context_length=32, width=512, heads=8)
_PE_LARGE = TextConfig(context_length=32, width=1024, heads=16, layers=24)
_PE_BIG_G = TextConfig(context_length=72, width=1280, heads=20, layers=24)

# CLIP's text tower by width; 12 layers unless the name has another number or the width is above 1,000.
_TEXT_384 = TextConfig(width=384, heads=6)
_TEXT_512 = TextConfig(width=512, heads=8)
_TEXT_640 = TextConfig(width=640, heads=10)
_TEXT_768 = TextConfig(width=768, heads=12)
_TEXT_768_16 = TextConfig(width=768, heads=12, layers=16)
_TEXT_1024 = TextConfig(width=1024, heads=16, layers=24)
_TEXT_1024_20 = TextConfig(width=1024, heads=16, layers=20)
_TEXT_1152 = TextConfig(width=1152, heads=16, layers=27)
_TEXT_1280 = TextConfig(width=1280, heads=20, layers=32)


def _trunk(
    embed: int, side: int, name: str, text: TextConfig, projection: Projection = "linear"
) -> CLIPConfig:
    """An image tower that timm builds, with a projection of open_clip's after it."""
    return CLIPConfig(
        embed_dim=embed,
        vision=TimmConfig(image_size=side, model_name=name, projection=projection),
        text=text,
    )


def _eva(embed: int, name: str, text: TextConfig, side: int = 224) -> CLIPConfig:
    """EVA-CLIP (arXiv 2303.15389): the class token is the feature, timm's classifier the projection."""
    tower = TimmConfig(image_size=side, model_name=name, pool="token", projection="classifier")
    return CLIPConfig(embed_dim=embed, vision=tower, text=text)


def _fastvit(size: int, text: TextConfig) -> CLIPConfig:
    """MobileCLIP S: a convolutional image tower; bidirectional text attention, read at the end token."""
    tower = TimmConfig(image_size=256, model_name=f"fastvit_mci{size}", pool="avg", projection="classifier")
    return CLIPConfig(embed_dim=text.width, vision=tower, text=dataclasses.replace(text, causal=False))


def _vitamin(size: str, embed: int, side: int, text: TextConfig) -> CLIPConfig:
    return _trunk(embed, side, f"vitamin_{size}_{side}", text)


# Image towers that timm builds. "ViTamin-XL-384" has images of 384 pixels, not the 256 of open_clip's config.
TIMM_PRESETS: dict[str, CLIPConfig] = {
    "convnext_tiny": _trunk(1024, 224, "convnext_tiny", _TEXT_512),
    "convnext_small": _trunk(512, 224, "convnext_small", _TEXT_512),
    "convnext_base": _trunk(512, 224, "convnext_base", _TEXT_512),
    "convnext_base_w": _trunk(640, 256, "convnext_base", _TEXT_640),
    "convnext_base_w_320": _trunk(640, 320, "convnext_base", _TEXT_640),
    "convnext_large": _trunk(768, 224, "convnext_large", _TEXT_768),
    "convnext_large_d": _trunk(768, 256, "convnext_large", _TEXT_768_16, "mlp"),
    "convnext_large_d_320": _trunk(768, 320, "convnext_large", _TEXT_768_16, "mlp"),
    "convnext_xlarge": _trunk(1024, 256, "convnext_xlarge", _TEXT_1024_20),
    "convnext_xxlarge": _trunk(1024, 256, "convnext_xxlarge", _TEXT_1024),
    "convnext_xxlarge_320": _trunk(1024, 320, "convnext_xxlarge", _TEXT_1024),
    "EVA01-g-14": _eva(1024, "eva_giant_patch14_224", _TEXT_768),
    "EVA01-g-14-plus": _eva(1024, "eva_giant_patch14_224", _TEXT_1024),
    "EVA02-B-16": _eva(512, "eva02_base_patch16_clip_224", _TEXT_512),
    "EVA02-L-14": _eva(768, "eva02_large_patch14_clip_224", _TEXT_768),
    "EVA02-L-14-336": _eva(768, "eva02_large_patch14_clip_336", _TEXT_768, 336),
    "EVA02-E-14": _eva(1024, "eva02_enormous_patch14_clip_224", _TEXT_1024),
    "EVA02-E-14-plus": _eva(1024, "eva02_enormous_patch14_clip_224", _TEXT_1280),
    "MobileCLIP-S1": _fastvit(1, _TEXT_512),
    "MobileCLIP-S2": _fastvit(2, _TEXT_512),
    "MobileCLIP2-S0": _fastvit(0, _TEXT_512),
    "MobileCLIP2-S2": _fastvit(2, _TEXT_512),
    "MobileCLIP2-S3": _fastvit(3, _TEXT_768),
    "MobileCLIP2-S4": _fastvit(4, _TEXT_768),
    "ViTamin-S": _vitamin("small", 384, 224, _TEXT_384),
    "ViTamin-S-LTT": _vitamin("small", 768, 224, _TEXT_768),
    "ViTamin-B": _vitamin("base", 512, 224, _TEXT_512),
    "ViTamin-B-LTT": _vitamin("base", 768, 224, _TEXT_768),
    "ViTamin-L": _vitamin("large", 768, 224, _TEXT_768),
    **{f"ViTamin-L-{side}": _vitamin("large", 768, side, _TEXT_768) for side in (256, 336, 384)},
    "ViTamin-L2": _vitamin("large2", 1024, 224, _TEXT_1024),
    **{f"ViTamin-L2-{side}": _vitamin("large2", 1024, side, _TEXT_1024) for side in (256, 336, 384)},
    **{f"ViTamin-XL-{side}": _vitamin("xlarge", 1152, side, _TEXT_1152) for side in (256, 336, 384)},
    "swin_base_patch4_window7_224": _trunk(640, 224, "swin_base_patch4_window7_224", _TEXT_640),
    "vit_medium_patch16_gap_256": _trunk(512, 256, "vit_medium_patch16_gap_256", _TEXT_512),
    "vit_relpos_medium_patch16_cls_224": _trunk(512, 224, "vit_relpos_medium_patch16_cls_224", _TEXT_512),
}

FAMILY_PRESETS: dict[str, CLIPConfig] = {
    **{
        f"ViT-{name}-14-CLIPA{suffix}": _clipa(embed, vision, heads, layers, side)
        for name, embed, vision, heads, layers in (
            ("L", 768, _L_14, 12, 12),
            ("H", 1024, _H_14, 16, 24),
            ("bigG", 1280, _BIG_G_14, 20, 32),
        )
        for suffix, side in (("", 224), ("-336", 336))
    },
    "ViT-L-14-worldwide": _worldwide(768, _L_14, _MT5_L),
    "ViT-H-14-worldwide": _worldwide(1024, _H_14, _XLM_V_H),
    "ViT-H-14-worldwide-378": _worldwide(1024, _H_14, _XLM_V_H, 378),
    "ViT-bigG-14-worldwide": _worldwide(1280, _BIG_G_14, _XLM_V_BIG_G),
    "ViT-bigG-14-worldwide-378": _worldwide(1280, _BIG_G_14, _XLM_V_BIG_G, 378),
    "PE-Core-T-16-384": _timm(512, "vit_pe_core_tiny_patch16_384", _PE_SMALL),
    "PE-Core-S-16-384": _timm(512, "vit_pe_core_small_patch16_384", _PE_SMALL),
    "PE-Core-B-16": _timm(1024, "vit_pe_core_base_patch16_224", _PE_LARGE),
    "PE-Core-L-14-336": _timm(1024, "vit_pe_core_large_patch14_336", _PE_LARGE),
    "PE-Core-bigG-14-448": _timm(1280, "vit_pe_core_gigantic_patch14_448", _PE_BIG_G),
    "MobileCLIP-B": _timm(512, "vit_base_mci_224", TextConfig()),
    "MobileCLIP2-B": _timm(512, "vit_base_mci_224", TextConfig()),
    "MobileCLIP2-L-14": _timm(
        768, "vit_large_patch14_clip_224", TextConfig(width=768, heads=12, causal=False)
    ),
    # The weights are those of "384": 378 and 384 pixels both give 27 patches a side. open_clip computes
    # it with exact GELUs.
    "ViT-SO400M-14-SigLIP-378": CLIPConfig(
        embed_dim=1152,
        vision=timm_shape("vit_so400m_patch14_siglip_378"),
        text=TextConfig(
            context_length=64,
            vocab_size=32_000,
            width=1152,
            heads=16,
            layers=27,
            mlp_ratio=3.7362,
            causal=False,
            pool="last",
            pad_id=1,
            projection_bias=True,
            norm_eps=1e-6,
        ),
        init_logit_scale=math.log(1 / 0.07),
        init_logit_bias=-10.0,
    ),
}
