"""The image encoder as a vision transformer (Dosovitskiy et al. 2021; paper, section 2.4).

Split an image into patches, embed each, apply self-attention, pool to one vector. Covers the variants of
CLIP, open_clip, SigLIP, PE-Core and MobileCLIP that `ViTConfig` describes. Shapes: B batch, S side in pixels,
G side of the grid of patches, L = G * G (+ 1 with a class token), D width, E embedding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diptych.model.blocks import MLP, Attention, Transformer, project, projection
from diptych.model.config import Activation, ViTConfig
from diptych.model.rope import Rotation, grid_rotation, select_rotation


class VisionTransformer(nn.Module):
    """Vision transformer: images to one vector each.

    Parameters
    ----------
    config : ViTConfig
        Architecture of the image tower.
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
        # MobileCLIP's table has no row for the class token.
        length = config.grid**2 + int(config.class_token and config.class_position)
        self.positional_embedding = nn.Parameter(torch.empty(length, width))
        self.ln_pre = nn.LayerNorm(width, eps=config.norm_eps) if config.pre_norm else nn.Identity()
        self.transformer = Transformer(
            width, config.layers, config.heads, config.mlp_ratio, act, config.norm_eps
        )
        self.ln_post = nn.LayerNorm(width, eps=config.norm_eps)
        self.pool_head = PoolHead(config, act) if config.pool == "attention" else None
        self.proj = projection(config, embed_dim)

    @property
    def feature_width(self) -> int:
        """Width of the output of `features`."""
        return self.config.width

    def forward(self, images: Tensor) -> Tensor:
        """Embed preprocessed images, (B, 3, S, S) -> (B, E), not normalised."""
        return self.project(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Image features before the projection, (B, 3, S, S) -> (B, D); input of a linear probe."""
        x = self._encode_tokens(images)  # (B, L, D)
        if self.config.post_norm == "after_pool":
            return self.ln_post(self._pool(x))  # type: ignore[no-any-return]
        return self._pool(self.ln_post(x))

    def patch_embeddings(self, images: Tensor) -> Tensor:
        """Embedding of every patch in the shared space, (B, 3, S, S) -> (B, G, G, E); for heat maps.

        In the last block each patch attends to itself only (MaskCLIP, arXiv 2112.01071, section 3.2).
        """
        x, rotation = self._embed(images), self._rotation(images.device)
        *blocks, last = self.transformer.blocks
        # Ordinary attention up to the last block; its values keep what stands at each patch.
        for block in blocks:
            x = block(x, rotation=rotation)
        x = self.ln_post(last.own_value(x))[:, int(self.config.class_token) :]  # (B, G*G, D)
        if self.pool_head is not None:
            x = self.pool_head.own_value(x)
        return self.project(x).view(len(x), self.config.grid, self.config.grid, -1)

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Every patch after the last norm, (B, 3, S, S) -> (B, G * G, D); input of a caption decoder."""
        x = self._encode_tokens(images)  # (B, L, D)
        return self.ln_post(x)[:, int(self.config.class_token) :]  # type: ignore[no-any-return]

    def unused_parameters(self, *, for_patch_tokens: bool) -> list[nn.Parameter]:
        """Parameters that `features` does not use, or that `patch_tokens` does not use."""
        proj = list(self.proj.parameters()) if isinstance(self.proj, nn.Linear) else [self.proj]
        unused = [parameter for parameter in proj if parameter is not None]
        if for_patch_tokens and self.pool_head is not None:
            unused += self.pool_head.parameters()
        return unused

    def project(self, x: Tensor) -> Tensor:
        """Project features to the shared space, (..., D) -> (..., E)."""
        return project(x, self.proj)

    def _encode_tokens(self, images: Tensor) -> Tensor:
        """Every token after the last block, (B, L, D); in training (B, K, D), the K kept by patch dropout."""
        x, rotation = self._embed(images), self._rotation(images.device)
        if self.training and self.config.patch_dropout:
            positions = self._sample_positions(x)  # (B, K)
            x = x.gather(1, positions[..., None].expand(-1, -1, x.shape[-1]))  # (B, K, D)
            # Positions were added before, so a kept patch keeps its own; rotary tables follow here.
            rotation = None if rotation is None else select_rotation(rotation, positions)
        return self.transformer(x, rotation=rotation)  # type: ignore[no-any-return]

    def _rotation(self, device: torch.device) -> Rotation | None:
        """Rotary tables of the tokens, if the model has rotary positions."""
        config = self.config
        if not config.rope:
            return None
        prefix, offset = int(config.class_token), config.rope_offset
        return grid_rotation(config.grid, config.head_width, prefix=prefix, offset=offset, device=device)

    def _embed(self, images: Tensor) -> Tensor:
        """Patches with positions, and the class token if there is one, (B, 3, S, S) -> (B, L, D)."""
        x = self.conv1(images).flatten(2).transpose(1, 2)  # (B, G*G, D)
        positions = self.positional_embedding.to(x.dtype)
        if not self.config.class_position:
            x = x + positions
        if self.class_embedding is not None:
            # x.shape[0], because len(x) is an int that tracing would store as a constant.
            token = self.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)
            x = torch.cat([token, x], dim=1)  # (B, G*G + 1, D)
        if self.config.class_position:
            x = x + positions
        return self.ln_pre(x)  # type: ignore[no-any-return]

    def _pool(self, x: Tensor) -> Tensor:
        """One vector per image, (B, L, D) -> (B, D)."""
        if self.config.pool == "token":
            return x[:, 0]
        if self.pool_head is not None:
            return self.pool_head(x)  # type: ignore[no-any-return]
        return x[:, int(self.config.class_token) :].mean(1)

    def _sample_positions(self, x: Tensor) -> Tensor:
        """Positions (B, K) to keep: class token and a random subset of patches (FLIP, arXiv 2212.00794)."""
        first = int(self.config.class_token)
        patches = x.shape[1] - first
        keep = max(1, round(patches * (1 - self.config.patch_dropout)))
        # The positions of the largest of random numbers: a uniform subset without replacement, per image.
        chosen = torch.rand(x.shape[0], patches, device=x.device).topk(keep).indices + first  # (B, keep)
        token = torch.arange(first, device=x.device).expand(x.shape[0], -1)  # (B, 0 or 1)
        return torch.cat([token, chosen], dim=1)


class ConvolutionalStem(nn.Sequential):
    """Three strided convolutions instead of one of 16 x 16 pixels (MobileCLIP, arXiv 2311.17049).

    (B, 3, S, S) -> (B, D, S / 16, S / 16).
    """

    def __init__(self, width: int) -> None:
        # Strides 4 * 2 * 2 = 16.
        first = _stem_layer(3, width // 4, 4, norm=True)
        second = _stem_layer(width // 4, width // 4, 2, norm=True)
        super().__init__(first, second, _stem_layer(width // 4, width, 2, norm=False))


def _stem_layer(inner: int, outer: int, side: int, *, norm: bool) -> nn.Sequential:
    """Convolution without overlap: followed by batch norm and GELU, or with a bias and nothing after it."""
    layer = nn.Sequential()
    layer.add_module("conv", nn.Conv2d(inner, outer, side, stride=side, bias=not norm))
    if norm:
        layer.add_module("bn", nn.BatchNorm2d(outer))
        layer.add_module("act", nn.GELU())
    return layer


class PoolHead(nn.Module):
    """SigLIP's attention pooling: a learned query attends to all patches, followed by an MLP.

    Zhai et al. 2022, "Scaling vision transformers", section 3.2; SigLIP, arXiv 2303.15343.
    """

    def __init__(self, config: ViTConfig, activation: Activation) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.empty(1, 1, config.width))
        self.attn = Attention(config.width, config.pool_heads or config.heads)
        self.ln = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = MLP(config.width, config.pool_mlp_ratio or config.mlp_ratio, activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, D)."""
        # The output for the only query, without its axis of length 1.
        return self._apply_mlp(self.attn.pool(self.probe.expand(x.shape[0], -1, -1), x))[:, 0]

    def own_value(self, x: Tensor) -> Tensor:
        """Pool each patch by itself, (B, L, D) -> (B, L, D)."""
        return self._apply_mlp(self.attn.own_value(x))

    def _apply_mlp(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.ln(x))  # type: ignore[no-any-return]
