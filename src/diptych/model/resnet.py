"""The image encoder as the paper's modified ResNet (section 2.4).

He et al. 2016 with three changes: three 3x3 convolutions as stem (ResNet-D), average pooling before every
stride against aliasing (Zhang 2019), and attention pooling instead of the mean at the end. Shapes: B batch, S
side in pixels, G side of the last feature map, C channels of the last stage, H heads, E embedding.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.model.batch_norm import checkpointed
from diptych.model.config import ResNetConfig


class Bottleneck(nn.Module):
    """Bottleneck block: 1x1, 3x3, (average pool), 1x1 convolutions in a residual sum."""

    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        wide = planes * self.expansion
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, wide, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(wide)
        self.downsample: nn.Module | None = None
        if stride > 1 or inplanes != wide:
            # The released files have the names "-1", "0" and "1".
            self.downsample = nn.Sequential(
                OrderedDict(
                    [
                        ("-1", nn.AvgPool2d(stride)),
                        ("0", nn.Conv2d(inplanes, wide, 1, bias=False)),
                        ("1", nn.BatchNorm2d(wide)),
                    ]
                )
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inplanes, h, w) -> (B, 4 planes, h / stride, w / stride)."""
        identity = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)  # (B, planes, h, w)
        # No convolution has a stride: the pool averages first, then every value is used.
        x = self.bn3(self.conv3(self.avgpool(x)))
        return F.relu(x + identity, inplace=True)


class AttentionPool(nn.Module):
    """Attention pooling: the mean over positions is the query, the mean and all positions are the keys."""

    def __init__(self, grid: int, width: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.empty(grid**2 + 1, width))
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features before the output projection, (B, C, G, G) -> (B, C)."""
        x = x.flatten(2).transpose(1, 2)  # (B, G*G, C)
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1)  # (B, G*G + 1, C)
        x = x + self.positional_embedding.to(x.dtype)
        q, k, v = (
            layer(y).view(*y.shape[:2], self.heads, -1).transpose(1, 2)  # (B, H, 1 or G*G + 1, C/H)
            for layer, y in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x))
        )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1)  # (B, C)


class AveragePool(nn.Module):
    """Mean over positions instead of `AttentionPool`, with the same output projection."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.c_proj = nn.Linear(width, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Pooled features before the output projection, (B, C, G, G) -> (B, C)."""
        return x.mean((2, 3))


class ModifiedResNet(nn.Module):
    """Modified ResNet: images to one vector each.

    Parameters
    ----------
    config : ResNetConfig
        Architecture of the image tower.
    embed_dim : int
        Width of the shared space.

    Examples
    --------
    >>> config = ResNetConfig(image_size=32, layers=(1, 1, 1, 1), width=8)
    >>> ModifiedResNet(config, 48)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 48])
    """

    def __init__(self, config: ResNetConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.grad_checkpointing = False
        width = config.width
        # The stem: three convolutions, the first with stride 2, then an average pool (S -> S/4).
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2) if config.stem_pool else nn.Identity()
        inplanes = width
        for number, blocks in enumerate(config.layers):
            stride = 1 if number == 0 else 2
            stage = _stage(inplanes, width * 2**number, blocks, stride)
            self.add_module(f"layer{number + 1}", stage)
            inplanes = width * 2**number * Bottleneck.expansion
        wide = config.feature_width
        if config.pool == "attention":
            self.attnpool = AttentionPool(config.grid, wide, config.heads, embed_dim)
        else:
            self.meanpool = AveragePool(wide, embed_dim)

    @property
    def feature_width(self) -> int:
        """Width of the output of `features`."""
        return self.config.feature_width

    def forward(self, images: Tensor) -> Tensor:
        """Embed preprocessed images, (B, 3, S, S) -> (B, E), not normalised."""
        return self.project(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Image features before the projection, (B, 3, S, S) -> (B, C); input of a linear probe."""
        return self._head(self._feature_map(images))  # type: ignore[no-any-return]

    def patch_embeddings(self, images: Tensor) -> Tensor:
        """Embedding of every position in the shared space, (B, 3, S, S) -> (B, G, G, E); for heat maps.

        Attention pooling applied to each position by itself (MaskCLIP, arXiv 2112.01071, section 3.2).
        """
        x = self._feature_map(images).permute(0, 2, 3, 1)  # (B, G, G, C)
        if self.config.pool == "attention":
            x = self.attnpool.v_proj(x)  # the softmax over one position is 1
        return self.project(x)

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Every position before pooling, (B, 3, S, S) -> (B, G * G, C); input of a caption decoder."""
        return self._feature_map(images).flatten(2).transpose(1, 2)

    def unused_parameters(self, *, for_patch_tokens: bool) -> list[nn.Parameter]:
        """Parameters that `features` does not use, or that `patch_tokens` does not use."""
        return list((self._head if for_patch_tokens else self._head.c_proj).parameters())

    def project(self, x: Tensor) -> Tensor:
        """Project features to the shared space, (..., C) -> (..., E)."""
        return self._head.c_proj(x)  # type: ignore[no-any-return]

    @property
    def _head(self) -> AttentionPool | AveragePool:
        return self.attnpool if self.config.pool == "attention" else self.meanpool

    def _feature_map(self, images: Tensor) -> Tensor:
        """Output of the last stage, (B, 3, S, S) -> (B, C, G, G)."""
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)  # (B, width / 2, S/2, S/2)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = F.relu(self.bn3(self.conv3(x)), inplace=True)  # (B, width, S/2, S/2)
        x = self.avgpool(x)  # (B, width, S/4, S/4)
        for number in range(1, 5):
            stage = self.get_submodule(f"layer{number}")
            x = checkpointed(stage, x) if self.grad_checkpointing and torch.is_grad_enabled() else stage(x)
        return x  # (B, C, G, G)


def _stage(inplanes: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inplanes, planes, stride)
    wide = planes * Bottleneck.expansion
    return nn.Sequential(first, *(Bottleneck(wide, planes, 1) for _ in range(blocks - 1)))
