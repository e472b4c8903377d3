"""The picture encoder as a vision transformer (Dosovitskiy et al. 2021; paper, section 2.4).

Cut a picture into patches, make each a vector, let them talk, read one vector. Covers the variants of
CLIP, open_clip and SigLIP that `ViTConfig` can say. Shapes: B batch, S side in pixels, G side of the grid
of patches, L = G * G (+ 1 with a class token), D width, E embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.model.blocks import MLP, Attention, Transformer
from diptych.model.config import Activation, ViTConfig


class VisionTransformer(nn.Module):
    """A picture as one vector.

    Parameters
    ----------
    config : ViTConfig
        The shape.
    embed_dim : int
        Width of the shared space.
    activation : {"gelu", "quick_gelu", "gelu_tanh"}
        The model's, used unless the config names its own.

    Examples
    --------
    >>> config = ViTConfig(image_size=32, patch_size=8, width=64, layers=1)
    >>> VisionTransformer(config, 48, "gelu")(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 48])
    """

    def __init__(self, config: ViTConfig, embed_dim: int, activation: Activation) -> None:
        super().__init__()
        self.config = config
        width, patch = config.width, config.patch_size
        act = config.activation or activation
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=config.patch_bias)
        self.class_embedding = nn.Parameter(torch.empty(width)) if config.class_token else None
        length = config.grid**2 + int(config.class_token)
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.ln_pre = nn.LayerNorm(width, eps=config.norm_eps) if config.pre_norm else nn.Identity()
        self.transformer = Transformer(
            width, config.layers, config.heads, config.mlp_ratio, act, config.norm_eps
        )
        self.ln_post = nn.LayerNorm(width, eps=config.norm_eps)
        self.pool_head = PoolHead(config, act) if config.pool == "attention" else None
        self.proj = nn.Parameter(torch.empty(width, embed_dim)) if config.projection else None

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in the shared space, (B, E), not normalised."""
        return self.project(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) before the projection, (B, D): what a linear probe reads."""
        x = self._embed(images)  # (B, L, D)
        if self.training and self.config.patch_dropout:
            x = self._drop_patches(x)
        x = self.transformer(x)
        if self.config.post_norm == "after_pool":
            return self.ln_post(self._pool(x))  # type: ignore[no-any-return]
        return self._pool(self.ln_post(x))

    def patches(self, images: Tensor) -> Tensor:
        """Every patch in the shared space, (B, G, G, E): the last block without talk between patches."""
        x = self._embed(images)
        *blocks, last = self.transformer.blocks
        for block in blocks:
            x = block(x)
        x = self.ln_post(last.own_value(x))[:, int(self.config.class_token) :]  # (B, G*G, D)
        if self.pool_head is not None:
            x = self.pool_head.own_value(x)
        return self.project(x).view(len(x), self.config.grid, self.config.grid, -1)

    def cells(self, images: Tensor) -> Tensor:
        """Every patch after the last norm, (B, G * G, D): what a caption decoder reads."""
        x = self._embed(images)
        if self.training and self.config.patch_dropout:
            x = self._drop_patches(x)
        return self.ln_post(self.transformer(x))[:, int(self.config.class_token) :]  # type: ignore[no-any-return]

    def unused(self, *, by_cells: bool) -> list[nn.Parameter]:
        """Parameters that `features` does not use, or `cells`."""
        unused = [] if self.proj is None else [self.proj]
        return [*unused, *self.pool_head.parameters()] if by_cells and self.pool_head is not None else unused

    def project(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., E)."""
        return x if self.proj is None else x @ self.proj

    def _embed(self, images: Tensor) -> Tensor:
        x = self.conv1(images).flatten(2).transpose(1, 2)  # (B, G*G, D)
        if self.class_embedding is not None:
            # x.shape[0], as len(x) is a plain number that a traced graph would keep.
            token = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
            x = torch.cat([token, x], dim=1)  # (B, G*G + 1, D)
        return self.ln_pre(x + self.positional_embedding.to(x.dtype))  # type: ignore[no-any-return]

    def _pool(self, x: Tensor) -> Tensor:
        if self.config.pool == "token":
            return x[:, 0]
        if self.pool_head is not None:
            return self.pool_head(x)  # type: ignore[no-any-return]
        return x[:, int(self.config.class_token) :].mean(1)

    def _drop_patches(self, x: Tensor) -> Tensor:
        """Keep a random share of the patches, and the class token always (FLIP, arXiv 2212.00794)."""
        first = int(self.config.class_token)
        token, x = x[:, :first], x[:, first:]
        keep = max(1, round(x.shape[1] * (1 - self.config.patch_dropout)))
        chosen = torch.rand(x.shape[:2], device=x.device).topk(keep).indices  # (B, keep)
        x = x.gather(1, chosen[..., None].expand(-1, -1, x.shape[-1]))
        return torch.cat([token, x], dim=1)


class PoolHead(nn.Module):
    """SigLIP's way to read one vector: a learned query looks at all patches, then an MLP.

    (Zhai et al. 2022, "Scaling vision transformers", section 3.2; SigLIP, arXiv 2303.15343.)
    """

    def __init__(self, config: ViTConfig, activation: Activation) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, config.width))
        self.attn = Attention(config.width, config.heads)
        self.ln = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config.width, config.mlp_ratio, activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, D)."""
        return self._refine(self.attn.pool(self.probe.expand(x.shape[0], -1, -1), x))[:, 0]

    def own_value(self, x: Tensor) -> Tensor:
        """The head on each patch alone, (B, L, D) -> (B, L, D)."""
        return self._refine(self.attn.own_value(x))

    def _refine(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.ln(x))  # type: ignore[no-any-return]
