"""What both transformers are built of: activation, attention, residual block, stack.

Parameter names are those of the released checkpoints (`attn.in_proj_weight`, `mlp.c_fc`, ...): a name is a
file format. Shapes: B batch, L length, D width, H heads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diptych.model.config import Activation
from diptych.model.rope import Rotation, rotate


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x): the approximation of GELU that OpenAI's models were trained with.

    Weights trained with it lose some points under the exact GELU and the other way round, which is why the
    activation is part of a model's identity.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise, any shape."""
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[Activation, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "quick_gelu": QuickGELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
}


def unit_rows(x: Tensor) -> Tensor:
    """Rows of length one, in float32 at least: the length of a bfloat16 row is off by up to 0.4 percent."""
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1)


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
        """Attend to what `mask` (True: may attend) or `causal` allows, (B, L, D) -> (B, L, D)."""
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
        """One query looks at all positions: (B, 1, D) and (B, L, D) -> (B, 1, D)."""
        wq, wk, wv = self.in_proj_weight.chunk(3)
        bq, bk, bv = self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(y, w, b).view(*y.shape[:2], self.heads, -1).transpose(1, 2)
            for y, w, b in ((query, wq, bq), (x, wk, bk), (x, wv, bv))
        )
        y = F.scaled_dot_product_attention(q, k, v)  # (B, H, 1, D/H)
        return self.out_proj(y.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def own_value(self, x: Tensor) -> Tensor:
        """What each position would say if it looked at itself alone, (B, L, D); for heat maps."""
        values = F.linear(x, *(p.chunk(3)[2] for p in (self.in_proj_weight, self.in_proj_bias)))
        return self.out_proj(values)  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two layers with the activation between."""

    def __init__(self, width: int, ratio: float, activation: Activation) -> None:
        super().__init__()
        # int(): open_clip truncates, and g/14's ratio of 4.3637 gives 6,144 only so.
        hidden = int(width * ratio)
        self.c_fc = nn.Linear(width, hidden)
        self.gelu = ACTIVATIONS[activation]()
        self.c_proj = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.c_proj(self.gelu(self.c_fc(x)))  # type: ignore[no-any-return]


class ResidualAttentionBlock(nn.Module):
    """A pre-norm transformer block: attention, then the MLP, each added to what came in."""

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
        """The block with every position looking at itself alone (MaskCLIP, arXiv 2112.01071, section 3.2)."""
        x = x + self.attn.own_value(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """A stack of blocks; `grad_checkpointing` trades one more forward pass for the memory of activations."""

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
