"""RoBERTa text tower with bidirectional attention: the XLM-R models of open_clip and M-CLIP.

Parameter names are those of transformers' `XLMRobertaModel` under `transformer`, and open_clip's `proj`
beside it (its `hf_model.py`), because released weights are stored under them. Blocks are post-norm (Vaswani
et al. 2017), and positions are counted from `pad_id + 1`, as in fairseq. Padding is masked everywhere, so
padding beyond the longest text of a batch is not computed; the result is the same. Shapes: B batch, L length,
D width, H heads, E embedding.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diptych.errors import InputError
from diptych.model.blocks import ACTIVATIONS
from diptych.model.config import RobertaConfig


class RobertaTower(nn.Module):
    """RoBERTa text encoder: token ids to one vector per text.

    Parameters
    ----------
    config : RobertaConfig
        Architecture of the text tower.
    embed_dim
        As for `VisionTransformer`.
    """

    def __init__(self, config: RobertaConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.grad_checkpointing = False
        parts: dict[str, nn.Module] = {"embeddings": _Embeddings(config), "encoder": _Encoder(config)}
        if config.pooler == "tanh":
            parts["pooler"] = nn.ModuleDict({"dense": nn.Linear(config.width, config.width)})
        self.transformer = nn.ModuleDict(parts)
        self.proj = _head(config, embed_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Embed padded token ids, (B, L) -> (B, E).

        Raises
        ------
        InputError
            The texts are longer than the context length, or one consists of padding only.
        """
        tokens, inside = self._trim_padding(tokens)  # (B, L), (B, L)
        # A batch without padding needs no mask, and attention without a mask has faster kernels.
        return self._encode(tokens, inside, None if bool(inside.all()) else inside[:, None, None, :])

    def encode_ids(self, tokens: Tensor) -> Tensor:
        """`forward` without control flow that depends on the ids, (B, L) -> (B, E), for tracing."""
        inside = tokens != self.config.pad_id
        return self._encode(tokens, inside, inside[:, None, None, :])

    def _encode(self, tokens: Tensor, inside: Tensor, mask: Tensor | None) -> Tensor:
        """Token ids (B, L), which of them are text (B, L), the attention mask (B, 1, 1, L) -> (B, E)."""
        x = self.transformer["embeddings"](tokens, inside)  # (B, L, D)
        for block in cast(_Encoder, self.transformer["encoder"]).layer:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = cast(Tensor, checkpoint(block, x, mask, use_reentrant=False))
            else:
                x = block(x, mask)
        features: Tensor = self.proj(self._pool(x, inside))
        return features

    def _trim_padding(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens up to the last of the longest text, and which of them are text."""
        limit = self.config.context_length
        if tokens.ndim != 2 or tokens.shape[1] > limit:
            raise InputError(f"tokens have shape {tuple(tokens.shape)}, expected (texts, at most {limit})")
        inside = tokens != self.config.pad_id
        if not bool(inside.any(1).all()):
            raise InputError("a text consists of padding only: expected at least one token in each text")
        # The last column in which any text has a token; an empty batch keeps its width.
        used = int(inside.any(0).nonzero().max()) + 1 if len(tokens) else tokens.shape[1]
        return tokens[:, :used], inside[:, :used]

    def _pool(self, x: Tensor, inside: Tensor) -> Tensor:
        """Pool the tokens of each text: (B, L, D) -> (B, D)."""
        if self.config.pooler == "mean":  # over the text's tokens, without padding
            weight = inside.to(x.dtype)[..., None]  # (B, L, 1)
            return (x * weight).sum(1) / weight.sum(1)
        first = x[:, 0]
        if self.config.pooler == "first":
            return first
        pooler = cast(nn.ModuleDict, self.transformer["pooler"])
        return torch.tanh(pooler["dense"](first))


def _head(config: RobertaConfig, embed_dim: int) -> nn.Module:
    """Projection to the shared space, in open_clip's layout."""
    if config.head == "none":
        return nn.Identity()
    if config.head == "mlp":
        hidden = (config.width + embed_dim) // 2
        return nn.Sequential(
            nn.Linear(config.width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, embed_dim, bias=False)
        )
    return nn.Linear(config.width, embed_dim, bias=config.head == "affine")


class _Embeddings(nn.Module):
    """Sum of token, position and token type embeddings, normalised."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.pad_id = config.pad_id
        self.word_embeddings = nn.Embedding(config.vocab_size, config.width)
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.token_type_embeddings = nn.Embedding(config.token_types, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, tokens: Tensor, inside: Tensor) -> Tensor:
        """(B, L) -> (B, L, D)."""
        # Positions count text only, all padding has position pad_id. E.g. pad_id=1 and three tokens of five:
        # cumsum 1 2 3 3 3 -> times inside 1 2 3 0 0 -> plus pad_id 2 3 4 1 1.
        positions = inside.long().cumsum(1) * inside + self.pad_id  # (B, L)
        x = self.word_embeddings(tokens) + self.token_type_embeddings.weight[0]
        return self.LayerNorm(x + self.position_embeddings(positions))  # type: ignore[no-any-return]


class _Encoder(nn.Module):
    """Stack of blocks; a module of its own for the parameter names (`encoder.layer.0...`)."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(RobertaLayer(config) for _ in range(config.layers))


class RobertaLayer(nn.Module):
    """Post-norm transformer block: attention, then the MLP, each with a residual sum and a norm."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        hidden = int(config.width * config.mlp_ratio)
        self.attention = _Attention(config)
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(config.width, hidden)})
        self.act = ACTIVATIONS[config.activation or "gelu"]()
        self.output = _Residual(hidden, config)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        x = self.attention(x, mask)
        hidden = self.act(self.intermediate["dense"](x))
        return self.output(hidden, x)  # type: ignore[no-any-return]


class _Attention(nn.Module):
    """Multi-head self-attention with its residual sum and norm after it."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.heads = config.heads
        names = ("query", "key", "value")
        self.self = nn.ModuleDict({name: nn.Linear(config.width, config.width) for name in names})
        self.output = _Residual(config.width, config)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        q, k, v = (
            layer(x).view(*x.shape[:2], self.heads, -1).transpose(1, 2)  # (B, H, L, D/H)
            for layer in self.self.values()
        )
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, H, L, D/H)
        return self.output(y.transpose(1, 2).flatten(2), x)  # type: ignore[no-any-return]


class _Residual(nn.Module):
    """Linear layer, residual sum and norm."""

    def __init__(self, inner: int, config: RobertaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """(B, L, inner) and (B, L, D) -> (B, L, D)."""
        return self.LayerNorm(self.dense(y) + x)  # type: ignore[no-any-return]
