"""Building blocks of both transformers: activations, attention, residual block, stack of blocks.

Parameter names are those of the released checkpoints (`attn.in_proj_weight`, `mlp.c_fc`, ...), so that these
load strictly. Shapes: B batch, L length, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diptych.model.config import Activation, TextConfig, ViTConfig
from diptych.model.rope import Rotation, rotate


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the approximation of GELU that OpenAI's models were trained with.

    Weights trained with one lose accuracy under the other, so the activation is part of a model's identity.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "quick_gelu": QuickGELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
}


def l2_normalize(x: Tensor) -> Tensor:
    """Scale vectors along the last axis to length one, in float32 or more."""
    # In bfloat16 the length would be off by up to 0.4 percent.
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


def projection(config: ViTConfig | TextConfig, embed_dim: int) -> nn.Parameter | nn.Linear | None:
    """A tower's layer to the shared space, unset: a matrix (CLIP), a linear layer (SigLIP, timm) or none."""
    if not config.projection:
        return None
    if config.projection_bias:
        return nn.Linear(config.width, embed_dim)
    return nn.Parameter(torch.empty(config.width, embed_dim))


def project(x: Tensor, layer: nn.Parameter | nn.Linear | None) -> Tensor:
    """Apply the layer of `projection`, (..., D) -> (..., E)."""
    if isinstance(layer, nn.Linear):
        return layer(x)  # type: ignore[no-any-return]
    return x if layer is None else x @ layer


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017) with one matrix for queries, keys and values."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, rotation: Rotation | None = None
    ) -> Tensor:
        """Self-attention, limited by `mask` (True: may attend) or `causal`, (B, L, D) -> (B, L, D)."""
        # One product for q, k and v; its output is ordered (q, k, v), then head, then channel.
        q, k, v = (
            F.linear(x, self.in_proj_weight, self.in_proj_bias)  # (B, L, 3D)
            .view(*x.shape[:2], 3, self.heads, -1)  # (B, L, 3, H, D/H)
            .permute(2, 0, 3, 1, 4)  # (3, B, H, L, D/H)
        )
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)  # (B, H, L, D/H)
        return self.out_proj(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def pool(self, query: Tensor, x: Tensor) -> Tensor:
        """Cross-attention of one query over all positions: (B, 1, D) and (B, L, D) -> (B, 1, D)."""
        # Thirds of the joint matrix: the query has one position, so the products cannot be joined.
        wq, wk, wv = self.in_proj_weight.chunk(3)
        bq, bk, bv = self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(y, w, b).view(*y.shape[:2], self.heads, -1).transpose(1, 2)  # (B, H, 1 or L, D/H)
            for y, w, b in ((query, wq, bq), (x, wk, bk), (x, wv, bv))
        )
        y = F.scaled_dot_product_attention(q, k, v)  # (B, H, 1, D/H)
        return self.out_proj(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def own_value(self, x: Tensor) -> Tensor:
        """Output if each position attended to itself only, (B, L, D) -> (B, L, D); for heat maps."""
        # The softmax over one position is 1, so attention returns the value vector.
        values = F.linear(x, *(p.chunk(3)[2] for p in (self.in_proj_weight, self.in_proj_bias)))
        return self.out_proj(values)  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers with the activation between them."""

    def __init__(self, width: int, ratio: float, activation: Activation) -> None:
        super().__init__()
        # Truncated as in open_clip: ViT-g-14's ratio of 4.3637 gives 6,144 only then.
        hidden = int(width * ratio)
        self.c_fc = nn.Linear(width, hidden)
        self.gelu = ACTIVATIONS[activation]()
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.c_proj(self.gelu(self.c_fc(x)))  # type: ignore[no-any-return]


class ResidualAttentionBlock(nn.Module):
    """Pre-norm transformer block: attention, then the MLP, each in a residual sum."""

    def __init__(self, width: int, heads: int, ratio: float, activation: Activation, eps: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, ratio, activation)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, rotation: Rotation | None = None
    ) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = x + self.attn(self.ln_1(x), mask, causal, rotation)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]

    def own_value(self, x: Tensor) -> Tensor:
        """The block with every position attending to itself only (MaskCLIP, arXiv 2112.01071, 3.2)."""
        x = x + self.attn.own_value(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Stack of blocks; `grad_checkpointing` recomputes activations instead of keeping them."""

    def __init__(
        self, width: int, layers: int, heads: int, ratio: float, activation: Activation, eps: float
    ) -> None:
        super().__init__()
        self.grad_checkpointing = False
        self.resblocks = nn.ModuleList(
            ResidualAttentionBlock(width, heads, ratio, activation, eps) for _ in range(layers)
        )

    @property
    def blocks(self) -> list[ResidualAttentionBlock]:
        """The blocks, first to last."""
        return [cast(ResidualAttentionBlock, block) for block in self.resblocks]

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, rotation: Rotation | None = None
    ) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        for block in self.blocks:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = cast(Tensor, checkpoint(block, x, mask, causal, rotation, use_reentrant=False))
            else:
                x = block(x, mask, causal, rotation)
        return x
