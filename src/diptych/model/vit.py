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
from diptych.model.rope import Rotation, grid_rotation, select_rotation


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
        self.conv1: nn.Module = (
            ConvolutionalStem(width)
            if config.stem == "convolutions"
            else nn.Conv2d(3, width, patch, stride=patch, bias=config.patch_bias)
        )
        self.class_embedding = nn.Parameter(torch.empty(width)) if config.class_token else None
        length = config.grid**2 + int(config.class_token and config.class_position)
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.ln_pre = nn.LayerNorm(width, eps=config.norm_eps) if config.pre_norm else nn.Identity()
        self.transformer = Transformer(
            width, config.layers, config.heads, config.mlp_ratio, act, config.norm_eps
        )
        self.ln_post = nn.LayerNorm(width, eps=config.norm_eps)
        self.pool_head = PoolHead(config, act) if config.pool == "attention" else None
        self.proj: nn.Parameter | nn.Linear | None = None
        if config.projection:
            # A plain matrix in CLIP's files, a linear layer with a bias in those of timm's towers.
            self.proj = (
                nn.Linear(width, embed_dim)
                if config.projection_bias
                else nn.Parameter(torch.empty(width, embed_dim))
            )

    @property
    def feature_width(self) -> int:
        """Width of `features`."""
        return self.config.width

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in the shared space, (B, E), not normalised."""
        return self.project(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) before the projection, (B, D): what a linear probe reads."""
        x = self._transformed(images)  # (B, L, D)
        if self.config.post_norm == "after_pool":
            return self.ln_post(self._pool(x))  # type: ignore[no-any-return]
        return self._pool(self.ln_post(x))

    def patches(self, images: Tensor) -> Tensor:
        """Every patch in the shared space, (B, G, G, E): the last block without talk between patches."""
        x, rotation = self._embed(images), self._rotation(images.device)
        *blocks, last = self.transformer.blocks
        for block in blocks:
            x = block(x, rotation=rotation)
        x = self.ln_post(last.own_value(x))[:, int(self.config.class_token) :]  # (B, G*G, D)
        if self.pool_head is not None:
            x = self.pool_head.own_value(x)
        return self.project(x).view(len(x), self.config.grid, self.config.grid, -1)

    def cells(self, images: Tensor) -> Tensor:
        """Every patch after the last norm, (B, G * G, D): what a caption decoder reads."""
        x = self._transformed(images)
        return self.ln_post(x)[:, int(self.config.class_token) :]  # type: ignore[no-any-return]

    def unused(self, *, by_cells: bool) -> list[nn.Parameter]:
        """Parameters that `features` does not use, or `cells`."""
        unused = list(self.proj.parameters()) if isinstance(self.proj, nn.Linear) else [self.proj]
        unused = [parameter for parameter in unused if parameter is not None]
        return [*unused, *self.pool_head.parameters()] if by_cells and self.pool_head is not None else unused

    def project(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., E)."""
        if isinstance(self.proj, nn.Linear):
            return self.proj(x)  # type: ignore[no-any-return]
        return x if self.proj is None else x @ self.proj

    def _transformed(self, images: Tensor) -> Tensor:
        """Every token after the last block, (B, L, D); in training without the patches that are dropped."""
        x, rotation = self._embed(images), self._rotation(images.device)
        if self.training and self.config.patch_dropout:
            kept = self._kept(x)  # (B, K)
            x = x.gather(1, kept[..., None].expand(-1, -1, x.shape[-1]))
            rotation = None if rotation is None else select_rotation(rotation, kept)
        return self.transformer(x, rotation=rotation)  # type: ignore[no-any-return]

    def _rotation(self, device: torch.device) -> Rotation | None:
        """Rotary positions of the tokens, if the model has them."""
        config = self.config
        if not config.rope:
            return None
        prefix, offset = int(config.class_token), config.rope_offset
        return grid_rotation(config.grid, config.head_width, prefix=prefix, offset=offset, device=device)

    def _embed(self, images: Tensor) -> Tensor:
        x = self.conv1(images).flatten(2).transpose(1, 2)  # (B, G*G, D)
        positions = self.positional_embedding.to(x.dtype)
        if not self.config.class_position:
            x = x + positions
        if self.class_embedding is not None:
            # x.shape[0], as len(x) is a plain number that a traced graph would keep.
            token = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
            x = torch.cat([token, x], dim=1)  # (B, G*G + 1, D)
        if self.config.class_position:
            x = x + positions
        return self.ln_pre(x)  # type: ignore[no-any-return]

    def _pool(self, x: Tensor) -> Tensor:
        if self.config.pool == "token":
            return x[:, 0]
        if self.pool_head is not None:
            return self.pool_head(x)  # type: ignore[no-any-return]
        return x[:, int(self.config.class_token) :].mean(1)

    def _kept(self, x: Tensor) -> Tensor:
        """Positions (B, K): the class token's and a random share of the patches' (FLIP, arXiv 2212.00794)."""
        first = int(self.config.class_token)
        patches = x.shape[1] - first
        keep = max(1, round(patches * (1 - self.config.patch_dropout)))
        chosen = torch.rand(x.shape[0], patches, device=x.device).topk(keep).indices + first  # (B, keep)
        token = torch.arange(first, device=x.device).expand(x.shape[0], -1)  # (B, 0 or 1)
        return torch.cat([token, chosen], dim=1)


class ConvolutionalStem(nn.Sequential):
    """Three convolutions in place of the cut into patches of 16 pixels (MobileCLIP, arXiv 2311.17049).

    (B, 3, S, S) -> (B, D, S / 16, S / 16).
    """

    def __init__(self, width: int) -> None:
        first = _stem_layer(3, width // 4, 4, norm=True)
        second = _stem_layer(width // 4, width // 4, 2, norm=True)
        super().__init__(first, second, _stem_layer(width // 4, width, 2, norm=False))


def _stem_layer(inner: int, outer: int, side: int, *, norm: bool) -> nn.Sequential:
    """A convolution without overlap, then a batch norm and GELU; or with a bias and nothing after it."""
    layer = nn.Sequential()
    layer.add_module("conv", nn.Conv2d(inner, outer, side, stride=side, bias=not norm))
    if norm:
        layer.add_module("bn", nn.BatchNorm2d(outer))
        layer.add_module("act", nn.GELU())
    return layer


class PoolHead(nn.Module):
    """SigLIP's way to read one vector: a learned query looks at all patches, then an MLP.

    (Zhai et al. 2022, "Scaling vision transformers", section 3.2; SigLIP, arXiv 2303.15343.)
    """

    def __init__(self, config: ViTConfig, activation: Activation) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, config.width))
        self.attn = Attention(config.width, config.pool_heads or config.heads)
        self.ln = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config.width, config.pool_mlp_ratio or config.mlp_ratio, activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, D)."""
        return self._refine(self.attn.pool(self.probe.expand(x.shape[0], -1, -1), x))[:, 0]

    def own_value(self, x: Tensor) -> Tensor:
        """The head on each patch alone, (B, L, D) -> (B, L, D)."""
        return self._refine(self.attn.own_value(x))

    def _refine(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.ln(x))  # type: ignore[no-any-return]
