"""The image encoder as EfficientNet-Lite: a small convolutional network for processors.

EfficientNet (Tan and Le 2019, arXiv 1905.11946) in its Lite variants (2020): inverted residual blocks with
depthwise convolutions (MobileNetV2, arXiv 1801.04381), without squeeze-and-excitation and with ReLU6 instead
of swish, so that every operation quantises well. Parameters have the names of timm's `tf_efficientnet_lite0`
to 4. Shapes: B batch, S side in pixels, G side of the last feature map, C = 1,280 channels, E embedding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diptych.model.batch_norm import checkpointed
from diptych.model.config import EfficientNetConfig

# Stages of EfficientNet-B0: kernel, stride, expansion inside a block, output channels.
STAGES = (
    (3, 1, 1, 16),
    (3, 2, 6, 24),
    (5, 2, 6, 40),
    (3, 2, 6, 80),
    (5, 1, 6, 112),
    (5, 2, 6, 192),
    (3, 1, 6, 320),
)
# Channels after the first and the last convolution, of all Lite variants.
STEM, FEATURES = 32, 1280


def scaled_channels(channels: int, width: float) -> int:
    """Channels times a multiplier, rounded to a multiple of 8, and never down by more than a tenth.

    Examples
    --------
    >>> scaled_channels(40, 1.1), scaled_channels(24, 1.2), scaled_channels(16, 0.5)
    (48, 32, 8)
    """
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's padding before and after, so that the output has ceil(size / stride) values.

    If the sum is odd, the larger half comes after. That is not what a fixed padding of kernel // 2 does, so
    weights trained with TensorFlow need it.

    Examples
    --------
    >>> same_padding(224, 3, 2), same_padding(65, 3, 2), same_padding(56, 5, 2)
    ((0, 1), (1, 1), (1, 2))
    """
    total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded as TensorFlow's "SAME"."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, *, groups: int = 1) -> None:
        # With stride 1 and an odd kernel both paddings are kernel // 2, whatever the size.
        fixed = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, fixed, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, ceil(h / stride), ceil(w / stride))."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride > 1:
            vertical = same_padding(x.shape[2], kernel, stride)
            x = F.pad(x, (*same_padding(x.shape[3], kernel, stride), *vertical))
        return super().forward(x)


class DepthwiseBlock(nn.Module):
    """A depthwise and a 1x1 convolution: the block of the first stage, which does not expand the channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = SameConv2d(inputs, inputs, kernel, stride, groups=inputs)
        self.bn1 = _norm(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = _norm(outputs)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride)."""
        y = F.relu6(self.bn1(self.conv_dw(x)))
        y = self.bn2(self.conv_pw(y))
        return x + y if self.has_skip else y  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """1x1 convolution to more channels, depthwise convolution, 1x1 convolution back, in a residual sum.

    The last convolution has no activation: ReLU6 on few channels would lose information.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = inputs * expansion
        self.conv_pw = nn.Conv2d(inputs, wide, 1, bias=False)
        self.bn1 = _norm(wide)
        self.conv_dw = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self.bn2 = _norm(wide)
        self.conv_pwl = nn.Conv2d(wide, outputs, 1, bias=False)
        self.bn3 = _norm(outputs)
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h / stride, w / stride)."""
        y = F.relu6(self.bn1(self.conv_pw(x)))
        y = F.relu6(self.bn2(self.conv_dw(y)))
        y = self.bn3(self.conv_pwl(y))
        return x + y if self.has_skip else y  # type: ignore[no-any-return]


class ProjectionHead(nn.Module):
    """From pooled features to the shared space: a linear layer, plus a small MLP if the config has one.

    The linear path lets a locked tower be used from the first step; the MLP corrects it.
    """

    def __init__(self, width: int, hidden: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, embed_dim)
        self.fc1 = nn.Linear(width, hidden) if hidden else None
        self.fc2 = nn.Linear(hidden, embed_dim) if hidden else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., E)."""
        projected: Tensor = self.proj(x)
        if self.fc1 is not None and self.fc2 is not None:
            projected = projected + self.fc2(F.gelu(self.fc1(x)))
        return projected


class EfficientNet(nn.Module):
    """EfficientNet-Lite: images to one vector each.

    Parameters
    ----------
    config : EfficientNetConfig
        Architecture of the image tower.
    embed_dim : int
        Width of the shared space.

    Examples
    --------
    >>> EfficientNet(EfficientNetConfig(image_size=64), 48)(torch.zeros(2, 3, 64, 64)).shape
    torch.Size([2, 48])
    """

    def __init__(self, config: EfficientNetConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.grad_checkpointing = False
        self.conv_stem = SameConv2d(3, STEM, 3, 2)
        self.bn1 = _norm(STEM)
        stages, inputs = [], STEM
        for count, (kernel, stride, expansion, channels) in zip(config.layers, STAGES, strict=True):
            outputs = scaled_channels(channels, config.width)
            stages.append(_stage(count, inputs, outputs, kernel, stride, expansion))
            inputs = outputs
        self.blocks = nn.Sequential(*stages)
        self.conv_head = nn.Conv2d(inputs, FEATURES, 1, bias=False)
        self.bn2 = _norm(FEATURES)
        self.head = ProjectionHead(FEATURES, config.hidden, embed_dim)

    @property
    def feature_width(self) -> int:
        """Width of the output of `features`."""
        return FEATURES

    def forward(self, images: Tensor) -> Tensor:
        """Embed preprocessed images, (B, 3, S, S) -> (B, E), not normalised."""
        return self.project(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """Mean over the last feature map, (B, 3, S, S) -> (B, C); input of a probe or classifier."""
        return self._feature_map(images).mean((2, 3))

    def locked_features(self, images: Tensor, unlocked: int) -> Tensor:
        """Output of all layers but the last groups, for training that computes it once.

        Parameters
        ----------
        images : Tensor, shape (B, 3, S, S)
        unlocked : int
            Groups that follow: 1 for the projection, 2 for the last convolution too, 3 for the last stage
            too, and so on.

        Returns
        -------
        Tensor
            (B, C) of `features` for 0 or 1; else a feature map (B, C, G, G).
        """
        if unlocked <= 1:
            return self.features(images)
        return self._stages(self._stem(images), slice(None, self._first_unlocked(unlocked)))

    def features_after(self, x: Tensor, unlocked: int) -> Tensor:
        """The other half of `features`: from the output of `locked_features` to (B, C)."""
        if unlocked <= 1:
            return x
        x = self._stages(x, slice(self._first_unlocked(unlocked), None))
        return self._last_convolution(x).mean((2, 3))

    def _first_unlocked(self, unlocked: int) -> int:
        """Number of the first stage that is not locked."""
        # e.g. 7 stages, 3 groups unlocked (projection, last convolution, last stage): stage 6.
        return len(self.blocks) - (unlocked - 2)

    def patch_embeddings(self, images: Tensor) -> Tensor:
        """Embedding of every position in the shared space, (B, 3, S, S) -> (B, G, G, E); for heat maps."""
        return self.project(self._feature_map(images).permute(0, 2, 3, 1))

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Every position before pooling, (B, 3, S, S) -> (B, G * G, C); input of a caption decoder."""
        return self._feature_map(images).flatten(2).transpose(1, 2)

    def unused_parameters(self, *, for_patch_tokens: bool) -> list[nn.Parameter]:
        """Parameters that `features` does not use, or that `patch_tokens` does not use: the projection's."""
        return list(self.head.parameters())

    def project(self, x: Tensor) -> Tensor:
        """Project features to the shared space, (..., C) -> (..., E)."""
        projected: Tensor = self.head(x)
        return projected

    def _feature_map(self, images: Tensor) -> Tensor:
        """Output of the last convolution, (B, 3, S, S) -> (B, C, G, G)."""
        return self._last_convolution(self._stages(self._stem(images), slice(None)))

    def _stem(self, images: Tensor) -> Tensor:
        return F.relu6(self.bn1(self.conv_stem(images)))  # (B, 32, S/2, S/2)

    def _stages(self, x: Tensor, numbers: slice) -> Tensor:
        for stage in list(self.blocks)[numbers]:
            x = checkpointed(stage, x) if self.grad_checkpointing and torch.is_grad_enabled() else stage(x)
        return x

    def _last_convolution(self, x: Tensor) -> Tensor:
        return F.relu6(self.bn2(self.conv_head(x)))


def _norm(channels: int) -> nn.BatchNorm2d:
    # TensorFlow's constants: a momentum of 0.99 there is 0.01 here.
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _stage(count: int, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> nn.Sequential:
    """A stage; its first block has the stride and changes the number of channels."""
    blocks: list[nn.Module] = []
    for number in range(count):
        channels, step = (inputs, stride) if number == 0 else (outputs, 1)
        blocks.append(
            DepthwiseBlock(channels, outputs, kernel, step)
            if expansion == 1
            else InvertedResidual(channels, outputs, kernel, step, expansion)
        )
    return nn.Sequential(*blocks)
