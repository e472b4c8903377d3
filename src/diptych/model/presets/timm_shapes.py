"""Architectures of timm's vision transformers that are built here without timm, by timm's name.

The numbers are from timm's `vision_transformer.py`, `vision_transformer_hybrid.py` and `eva.py`, with the
pooling and the projection that open_clip's released models have.
"""

from __future__ import annotations

from typing import Any

from diptych.model.config import ViTConfig


def siglip_tower(width: int, layers: int, heads: int, side: int, patch: int, **more: Any) -> dict[str, Any]:
    """SigLIP image tower (arXiv 2303.15343): no class token, attention pooling, no projection."""
    # Values of a ViTConfig, as a dictionary, so that open_clip's config files can override some.
    return {
        "image_size": side,
        "patch_size": patch,
        "width": width,
        "layers": layers,
        "head_width": width // heads,
        "norm_eps": 1e-6,
        "activation": "gelu",
        "pool": "attention",
        "class_token": False,
        "patch_bias": True,
        "pre_norm": False,
        "post_norm": "before_pool",
        "projection": False,
        **more,
    }


def pe_core_tower(width: int, layers: int, side: int, patch: int, **more: Any) -> dict[str, Any]:
    """PE-Core image tower (arXiv 2504.13181): rotary and learned positions, attention pooling."""
    return {
        "image_size": side,
        "patch_size": patch,
        "width": width,
        "layers": layers,
        "head_width": 64,
        "activation": "gelu",
        "pool": "attention",
        "pool_heads": 8,
        "pool_mlp_ratio": 4.0,
        "post_norm": "before_pool",
        "projection_bias": True,
        "rope": True,  # besides the table of learned positions
        "rope_offset": 1,
        **more,
    }


# In SigLIP's code every GELU is the tanh approximation. open_clip computes most of the first SigLIP's models
# with the exact GELU nevertheless, and a folder in its layout has to give the same embeddings as there.
_TANH: dict[str, Any] = {"activation": "gelu_tanh"}
_SO400M: dict[str, Any] = {"mlp_ratio": 3.7362}

TIMM_VITS: dict[str, dict[str, Any]] = {
    "vit_base_patch32_siglip_256": siglip_tower(768, 12, 12, 256, 32, **_TANH),
    **{
        f"vit_base_patch16_siglip_{side}": siglip_tower(768, 12, 12, side, 16)
        for side in (224, 256, 384, 512)
    },
    **{f"vit_large_patch16_siglip_{side}": siglip_tower(1024, 24, 16, side, 16) for side in (256, 384)},
    "vit_large_patch16_siglip_512": siglip_tower(1024, 24, 16, 512, 16, **_TANH),
    **{
        f"vit_so400m_patch14_siglip_{side}": siglip_tower(1152, 27, 16, side, 14, **_SO400M)
        for side in (224, 378, 384)
    },
    **{
        f"vit_so400m_patch16_siglip_{side}": siglip_tower(1152, 27, 16, side, 16, **_SO400M, **_TANH)
        for side in (256, 384, 512)
    },
    **{
        f"vit_giantopt_patch16_siglip_{side}": siglip_tower(1536, 40, 16, side, 16, **_TANH)
        for side in (256, 384)
    },
    "vit_pe_core_tiny_patch16_384": pe_core_tower(192, 12, 384, 16),
    "vit_pe_core_small_patch16_384": pe_core_tower(384, 12, 384, 16),
    "vit_pe_core_base_patch16_224": pe_core_tower(768, 12, 224, 16),
    "vit_pe_core_large_patch14_336": pe_core_tower(1024, 24, 336, 14),
    "vit_pe_core_gigantic_patch14_448": pe_core_tower(
        1536, 50, 448, 14, head_width=96, mlp_ratio=8960 / 1536, class_token=False, rope_offset=0
    ),
    # MobileCLIP B and MobileCLIP2 B (arXiv 2311.17049, 2508.20691).
    "vit_base_mci_224": {
        "width": 768,
        "activation": "gelu",
        "norm_eps": 1e-6,
        "pre_norm": False,
        "projection_bias": True,
        "stem": "convolutions",
        "class_position": False,
    },
    # MobileCLIP2 L/14; everything else is CLIP's.
    "vit_large_patch14_clip_224": {
        "patch_size": 14,
        "width": 1024,
        "layers": 24,
        "activation": "gelu",
        "projection_bias": True,
    },
}


def timm_shape(name: str) -> ViTConfig:
    """Look up one of `TIMM_VITS`.

    Examples
    --------
    >>> timm_shape("vit_pe_core_tiny_patch16_384").grid
    24
    """
    return ViTConfig(**TIMM_VITS[name])
