"""Infer the architecture of OpenAI's models from the shapes of their weights, as OpenAI's code does.

The files have no config. The number of heads does not affect any shape: all heads of these models have width
64.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

from diptych.errors import InputError, WeightsError
from diptych.model.config import CLIPConfig, ResNetConfig, TextConfig, ViTConfig

_HEAD_WIDTH = 64


def infer_openai(state: Mapping[str, Tensor], *, source: str = "the checkpoint") -> CLIPConfig:
    """Infer the architecture, with QuickGELU, of weights under OpenAI's names.

    Raises
    ------
    WeightsError
        A name is missing, or a shape is impossible for such a model.

    Examples
    --------
    >>> from diptych.model.initialise import build
    >>> from diptych.model.presets.table import preset
    >>> model = build(preset("RN50-quickgelu"), device="meta")
    >>> infer_openai(model.state_dict()) == preset("RN50-quickgelu")
    True
    """
    try:
        vision = _vit(state) if "visual.proj" in state else _resnet(state)
        context, width = state["positional_embedding"].shape
        text = TextConfig(
            context_length=context,
            vocab_size=state["token_embedding.weight"].shape[0],
            width=width,
            heads=width // _HEAD_WIDTH,
            layers=_count(state, r"transformer\.resblocks\.(\d+)\."),
        )
        embed_dim = state["text_projection"].shape[1]
        return CLIPConfig(embed_dim=embed_dim, vision=vision, text=text, activation="quick_gelu")
    except KeyError as error:
        raise WeightsError(f"{source} is no CLIP model of OpenAI: {error} is missing") from error
    except (InputError, ValueError, IndexError) as error:
        raise WeightsError(f"{source} is no CLIP model of OpenAI: {error}") from error


def _vit(state: Mapping[str, Tensor]) -> ViTConfig:
    width, _, patch, _ = state["visual.conv1.weight"].shape  # (width, 3, patch, patch)
    side = _grid_side(state["visual.positional_embedding"])
    layers = _count(state, r"visual\.transformer\.resblocks\.(\d+)\.")
    return ViTConfig(
        image_size=patch * side, patch_size=patch, width=width, layers=layers, head_width=_HEAD_WIDTH
    )


def _resnet(state: Mapping[str, Tensor]) -> ResNetConfig:
    stages = [_count(state, rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4)]
    return ResNetConfig(
        image_size=32 * _grid_side(state["visual.attnpool.positional_embedding"]),
        layers=(stages[0], stages[1], stages[2], stages[3]),
        width=state["visual.layer1.0.conv1.weight"].shape[0],
        head_width=_HEAD_WIDTH,
    )


def _grid_side(positions: Tensor) -> int:
    """Side of the grid of positional embeddings, which have one more row for the class token or the mean."""
    patches = positions.shape[0] - 1
    side = math.isqrt(max(patches, 0))
    if side * side != patches:
        raise ValueError(f"{patches} patches do not form a square")
    return side


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Number of different values of the group in the names that match."""
    return len({match[1] for name in state if (match := re.match(pattern, name))})
