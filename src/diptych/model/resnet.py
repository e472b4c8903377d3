"""The picture encoder as the paper's modified ResNet (section 2.4).

He et al. 2016 with three changes: three 3x3 convolutions as stem (ResNet-D), an average pool before every
stride so that nothing is aliased (Zhang 2019), and attention instead of the average at the end, where the
mean asks and all cells answer. Shapes: B batch, S side in pixels, G side of the last grid, C channels of the
last stage, E embedding.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from diptych.model.config import ResNetConfig
from diptych.model.statistics import frozen_statistics


class Bottleneck(nn.Module):
    """Narrow, look around, widen: 1x1, 3x3, (blur), 1x1, added to what came in."""

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
            # The names "-1", "0", "1" are the released files'.
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
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = self.bn3(self.conv3(self.avgpool(x)))
        return F.relu(x + identity, inplace=True)


class AttentionPool(nn.Module):
    """The mean over the grid asks, every cell and the mean answer: (B, C, G, G) -> (B, C)."""

    def __init__(self, grid: int, width: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.empty(grid**2 + 1, width))
        self.k_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Before the output projection, (B, C)."""
        x = x.flatten(2).transpose(1, 2)  # (B, G*G, C)
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + self.positional_embedding.to(x.dtype)
        q, k, v = (
            layer(y).view(*y.shape[:2], self.heads, -1).transpose(1, 2)  # (B, H, L, C/H)
            for layer, y in ((self.q_proj, x[:, :1]), (self.k_proj, x), (self.v_proj, x))
        )
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1)  # (B, C)


class AveragePool(nn.Module):
    """The mean over the grid: (B, C, G, G) -> (B, C), with the projection after it."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.c_proj = nn.Linear(width, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Before the output projection, (B, C)."""
        return x.mean((2, 3))


class ModifiedResNet(nn.Module):
    """A picture as one vector.

    Parameters
    ----------
    config : ResNetConfig
        The shape.
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
        """Width of `features`."""
        return self.config.feature_width

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in the shared space, (B, E), not normalised."""
        return self.project(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) before the projection, (B, C): what a linear probe reads."""
        return self._head(self._grid(images))  # type: ignore[no-any-return]

    def patches(self, images: Tensor) -> Tensor:
        """Every cell in the shared space, (B, G, G, E): the attention pool on each cell alone.

        (MaskCLIP, arXiv 2112.01071, section 3.2.)
        """
        cells = self._grid(images).permute(0, 2, 3, 1)  # (B, G, G, C)
        if self.config.pool == "attention":
            cells = self.attnpool.v_proj(cells)
        return self.project(cells)

    def cells(self, images: Tensor) -> Tensor:
        """Every cell before the head, (B, G * G, C): what a caption decoder reads."""
        return self._grid(images).flatten(2).transpose(1, 2)

    def unused(self, *, by_cells: bool) -> list[nn.Parameter]:
        """Parameters that `features` does not use, or `cells`."""
        return list((self._head if by_cells else self._head.c_proj).parameters())

    def project(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., E)."""
        return self._head.c_proj(x)  # type: ignore[no-any-return]

    @property
    def _head(self) -> AttentionPool | AveragePool:
        return self.attnpool if self.config.pool == "attention" else self.meanpool

    def _grid(self, images: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(images)), inplace=True)  # (B, width / 2, S/2, S/2)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        x = F.relu(self.bn3(self.conv3(x)), inplace=True)
        x = self.avgpool(x)
        for number in range(1, 5):
            stage = self.get_submodule(f"layer{number}")
            if self.grad_checkpointing and torch.is_grad_enabled():
                contexts = partial(_recomputed, stage)
                x = cast(Tensor, checkpoint(stage, x, use_reentrant=False, context_fn=contexts))
            else:
                x = stage(x)
        return x  # (B, C, G, G)


def _recomputed(stage: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of a checkpointed stage's two forward passes: only the first moves the running statistics."""
    return nullcontext(), frozen_statistics(stage)


def _stage(inplanes: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inplanes, planes, stride)
    wide = planes * Bottleneck.expansion
    return nn.Sequential(first, *(Bottleneck(wide, planes, 1) for _ in range(blocks - 1)))
