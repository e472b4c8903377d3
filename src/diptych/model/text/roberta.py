"""A text tower of RoBERTa's kind, which reads a text in both directions: XLM-R of open_clip and M-CLIP.

Parameter names are those of transformers' `XLMRobertaModel` under `transformer`, and open_clip's `proj`
beside it (its `hf_model.py`): a name is a file format. Norms stand after the residual sum (Vaswani et al.
2017), and positions are counted from `pad_id + 1`, a heritage of fairseq. Padding is masked everywhere, so
what is padded beyond a batch's longest text is not computed: the same numbers. Shapes: B batch, L length, D
width, H heads, E embedding.
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
    """A text as one vector, read from all its tokens.

    Parameters
    ----------
    config : RobertaConfig
        The shape.
    embed_dim : int
        Width of the shared space.
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
        """Padded token ids (B, L) in the shared space, (B, E).

        Raises
        ------
        InputError
            The texts are longer than the context, or one is nothing but padding.
        """
        tokens, inside = self._trimmed(tokens)  # (B, L), (B, L)
        # Without padding in the batch no mask is needed, and the quicker way is taken.
        return self._read(tokens, inside, None if bool(inside.all()) else inside[:, None, None, :])

    def encode_ids(self, tokens: Tensor) -> Tensor:
        """`forward` without a look at what is in the ids, (B, L) -> (B, E): what can be traced."""
        inside = tokens != self.config.pad_id
        return self._read(tokens, inside, inside[:, None, None, :])

    def _read(self, tokens: Tensor, inside: Tensor, mask: Tensor | None) -> Tensor:
        """Ids (B, L), which of them are text (B, L), and that as a mask (B, 1, 1, L) -> (B, E)."""
        x = self.transformer["embeddings"](tokens, inside)  # (B, L, D)
        for block in cast(_Encoder, self.transformer["encoder"]).layer:
            if self.grad_checkpointing and torch.is_grad_enabled():
                x = cast(Tensor, checkpoint(block, x, mask, use_reentrant=False))
            else:
                x = block(x, mask)
        features: Tensor = self.proj(self._pool(x, inside))
        return features

    def _trimmed(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens up to the longest text's last, and which of them are text."""
        limit = self.config.context_length
        if tokens.ndim != 2 or tokens.shape[1] > limit:
            raise InputError(f"tokens have shape {tuple(tokens.shape)}, expected (texts, at most {limit})")
        inside = tokens != self.config.pad_id
        if not bool(inside.any(1).all()):
            raise InputError("a text is nothing but padding: it has no tokens to be read from")
        used = int(inside.any(0).nonzero().max()) + 1 if len(tokens) else tokens.shape[1]
        return tokens[:, :used], inside[:, :used]

    def _pool(self, x: Tensor, inside: Tensor) -> Tensor:
        """One vector a text: (B, L, D) -> (B, D)."""
        if self.config.pooler == "mean":
            weight = inside.to(x.dtype)[..., None]  # (B, L, 1)
            return (x * weight).sum(1) / weight.sum(1)
        first = x[:, 0]
        if self.config.pooler == "first":
            return first
        pooler = cast(nn.ModuleDict, self.transformer["pooler"])
        return torch.tanh(pooler["dense"](first))


def _head(config: RobertaConfig, embed_dim: int) -> nn.Module:
    """The way into the shared space, in open_clip's layout."""
    if config.head == "none":
        return nn.Identity()
    if config.head == "mlp":
        hidden = (config.width + embed_dim) // 2
        return nn.Sequential(
            nn.Linear(config.width, hidden, bias=False),
            nn.GELU(),
            nn.Linear(hidden, embed_dim, bias=False),
        )
    return nn.Linear(config.width, embed_dim, bias=config.head == "affine")


class _Embeddings(nn.Module):
    """Tokens, their places and their kind, added and normalised."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.pad_id = config.pad_id
        self.word_embeddings = nn.Embedding(config.vocab_size, config.width)
        self.position_embeddings = nn.Embedding(config.positions, config.width)
        self.token_type_embeddings = nn.Embedding(config.token_types, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, tokens: Tensor, inside: Tensor) -> Tensor:
        """(B, L) -> (B, L, D)."""
        # Counted over text alone; all padding has the place pad_id.
        places = inside.long().cumsum(1) * inside + self.pad_id  # (B, L)
        x = self.word_embeddings(tokens) + self.token_type_embeddings.weight[0]
        return self.LayerNorm(x + self.position_embeddings(places))  # type: ignore[no-any-return]


class _Encoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: RobertaConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(RobertaLayer(config) for _ in range(config.layers))


class RobertaLayer(nn.Module):
    """A post-norm block: attention, then the MLP, each added to what came in and normalised."""

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
    """Multi-head self-attention with its residual sum and norm."""

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
    """A layer, added to what came in, normalised."""

    def __init__(self, inner: int, config: RobertaConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        """(B, L, inner) and (B, L, D) -> (B, L, D)."""
        return self.LayerNorm(self.dense(y) + x)  # type: ignore[no-any-return]
