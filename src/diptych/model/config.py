"""Architectures of models as frozen dataclasses.

A config describes the two encoders only. Preprocessing and tokenizer have configs of their own
(`diptych.inputs`); `diptych.weights` stores the three together and reads other projects' configs.
Architectures by name are in `diptych.model.presets`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from diptych.errors import InputError

Activation = Literal["gelu", "quick_gelu", "gelu_tanh"]
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """Vision transformer (Dosovitskiy et al. 2021) in the variants of CLIP and its successors.

    Examples
    --------
    >>> ViTConfig(width=768, layers=12, patch_size=32).grid
    7
    """

    image_size: int = 224  # side of the square input image, pixels
    patch_size: int = 16  # side of a patch, pixels
    width: int = 768
    layers: int = 12
    head_width: int = 64  # width of one attention head; heads = width / head_width
    mlp_ratio: float = 4.0  # hidden width of the MLP divided by the width
    pool: Literal["token", "average", "attention"] = "token"  # attention: SigLIP's pooling head
    class_token: bool = True
    patch_bias: bool = False  # bias in the patch convolution
    pre_norm: bool = True  # a norm before the first block (an addition of CLIP)
    post_norm: Literal["before_pool", "after_pool"] = "after_pool"  # position of the last norm
    projection: bool = True  # False: the pooled features are the embedding (SigLIP)
    norm_eps: float = 1e-5
    activation: Activation | None = None  # None: the model's
    patch_dropout: float = 0.0  # fraction of patches dropped in training (FLIP)
    projection_bias: bool = False  # a linear layer instead of CLIP's matrix without a bias
    stem: Literal["patch", "convolutions"] = "patch"  # convolutions: three of them (MobileCLIP)
    class_position: bool = True  # False: no positional embedding for the class token
    rope: bool = False  # rotary positions in attention, besides positional embeddings (PE-Core)
    rope_offset: int = 0  # coordinate of the first row and column of patches
    pool_heads: int | None = None  # attention heads of the pooling head; None: as in a block
    pool_mlp_ratio: float | None = None  # mlp_ratio of the pooling head; None: as in a block

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.width // self.head_width

    @property
    def grid(self) -> int:
        """Side of the grid of patches or cells."""
        return self.image_size // self.patch_size

    def __post_init__(self) -> None:
        _check_positive(self, "image_size", "patch_size", "width", "layers", "head_width")
        check_choices(self)
        if not 0 <= self.patch_dropout < 1:
            raise InputError(f"patch_dropout is {self.patch_dropout}: expected a number from 0 to below 1")
        if self.image_size < self.patch_size:
            raise InputError(f"image_size {self.image_size} is smaller than one patch of {self.patch_size}")
        if self.width % self.head_width:
            raise InputError(f"width {self.width} is not a multiple of head_width {self.head_width}")
        if self.pool == "token" and not self.class_token:
            raise InputError("pool 'token' needs class_token=True; without one use 'average' or 'attention'")
        if self.stem == "convolutions" and (self.patch_size != 16 or self.width % 4):
            raise InputError(
                f"the convolutional stem needs patch_size 16 and a width that is a multiple of 4, got "
                f"patch_size {self.patch_size} and width {self.width}"
            )
        if self.rope and self.head_width % 4:
            raise InputError(f"rope needs a head_width that is a multiple of 4, got {self.head_width}")
        if self.pool_heads is not None and (self.pool_heads < 1 or self.width % self.pool_heads):
            raise InputError(f"width {self.width} is not a multiple of pool_heads {self.pool_heads}")
        if self.projection_bias and not self.projection:
            raise InputError("projection_bias=True needs projection=True")


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """The paper's modified ResNet (section 2.4; He et al. 2016 with three changes).

    Three 3x3 convolutions and an average pool as stem, average pooling before every stride against aliasing
    (Zhang 2019), and attention pooling instead of the mean.

    Examples
    --------
    >>> ResNetConfig(layers=(3, 4, 6, 3), width=64).feature_width
    2048
    """

    image_size: int = 224  # side of the square input image, pixels
    layers: tuple[int, int, int, int] = (3, 4, 6, 3)  # blocks in each of the four stages
    width: int = 64  # channels after the stem; the last stage has 32 times as many
    head_width: int = 64  # width of one head of the attention pool
    stem_pool: bool = True  # False: no pooling in the stem, for small images
    # How the last feature map becomes one vector. The paper has attention. The average has no positional
    # embeddings, so it accepts images of any size, and a training run can begin with smaller ones.
    pool: Literal["attention", "average"] = "attention"

    @property
    def feature_width(self) -> int:
        """Channels of the last stage."""
        return self.width * 32

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.feature_width // self.head_width

    @property
    def grid(self) -> int:
        """Side of the grid of patches or cells."""
        return self.image_size // (32 if self.stem_pool else 16)

    def __post_init__(self) -> None:
        _check_positive(self, "image_size", "width", "head_width")
        check_choices(self)
        if len(self.layers) != 4 or min(self.layers) < 1:
            raise InputError(f"a ResNet has four stages of one block or more, got layers={self.layers}")
        stride = 32 if self.stem_pool else 16
        if self.image_size % stride:
            raise InputError(f"image_size {self.image_size} is not a multiple of {stride}")


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """EfficientNet-Lite (Tan and Le 2019, arXiv 1905.11946; the Lite variants of 2020).

    Examples
    --------
    >>> EfficientNetConfig(image_size=240, depth=1.1).layers
    (1, 3, 3, 4, 4, 5, 1)
    """

    image_size: int = 224  # side of the square input image, pixels
    width: float = 1.0  # factor on the channels of all stages; the stem and the features keep theirs
    depth: float = 1.0  # factor on the blocks of all stages but the first and the last
    hidden: int = 0  # hidden width of the MLP beside the linear projection; 0: no MLP

    @property
    def layers(self) -> tuple[int, ...]:
        """Blocks in each of the seven stages; the Lite variants do not scale the first and the last."""
        return (1, *(math.ceil(blocks * self.depth) for blocks in (2, 2, 3, 3, 4)), 1)

    @property
    def grid(self) -> int:
        """Side of the grid of patches or cells."""
        return math.ceil(self.image_size / 32)

    def __post_init__(self) -> None:
        _check_positive(self, "image_size")
        if not (0 < self.width < math.inf and 0 < self.depth < math.inf and self.hidden >= 0):
            raise InputError(
                f"EfficientNetConfig: width {self.width} and depth {self.depth} must be finite and above 0, "
                f"hidden {self.hidden} must not be below"
            )


Projection = Literal["classifier", "none", "linear", "mlp"]


@dataclass(frozen=True, kw_only=True)
class TimmConfig:
    """Image tower built by timm (the extra `timm`).

    Examples
    --------
    >>> TimmConfig(image_size=256, model_name="convnext_base").projection
    'linear'
    """

    image_size: int = 224  # side of the square input image, pixels
    model_name: str  # name of the architecture in timm
    pool: Literal["", "avg", "token", "map"] = ""  # timm's `global_pool`; "": the architecture's default
    # From the pooled features to the shared space: the architecture's classifier layer, nothing, one linear
    # layer, or two with a GELU between.
    projection: Projection = "linear"
    projection_bias: bool = False

    def __post_init__(self) -> None:
        _check_positive(self, "image_size")
        check_choices(self)
        if not isinstance(self.model_name, str) or not self.model_name.replace(".", "_").isidentifier():
            raise InputError(
                f"TimmConfig.model_name is {self.model_name!r}: expected the name of a tower of timm"
            )


VisionConfig = ViTConfig | ResNetConfig | EfficientNetConfig | TimmConfig


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Text transformer (paper, section 2.4; Radford et al. 2019).

    Examples
    --------
    >>> TextConfig(width=512, heads=8).head_width
    64
    """

    context_length: int = 77  # tokens, start and end included
    vocab_size: int = 49408
    width: int = 512
    heads: int = 8
    layers: int = 12
    mlp_ratio: float = 4.0
    causal: bool = True
    # Position whose output is the text's feature: the end token (the largest id, as in CLIP's code, unless
    # `end_id` names it), or the last position (SigLIP, whose texts are always padded to the full length).
    pool: Literal["end", "last"] = "end"
    end_id: int | None = None
    pad_id: int = 0
    projection: bool = True  # False: the feature is the embedding
    projection_bias: bool = False  # a linear layer instead of CLIP's matrix without a bias
    norm_eps: float = 1e-5
    activation: Activation | None = None  # None: the model's

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    def __post_init__(self) -> None:
        _check_positive(self, "context_length", "vocab_size", "width", "heads", "layers")
        check_choices(self)
        if self.projection_bias and not self.projection:
            raise InputError("projection_bias=True needs projection=True")
        if self.width % self.heads:
            raise InputError(f"text width {self.width} is not a multiple of heads {self.heads}")


@dataclass(frozen=True, kw_only=True)
class RobertaConfig(TextConfig):
    """RoBERTa text tower (arXiv 1907.11692), as in the multilingual XLM-R (arXiv 1911.02116).

    Attention is bidirectional with padding masked. `pooler` and `head` say how the tokens become an
    embedding; the inherited `causal`, `pool`, `end_id` and `projection_bias` must keep their defaults.

    Examples
    --------
    >>> RobertaConfig(width=1024, heads=16, layers=24).head_width
    64
    """

    vocab_size: int = 250002
    width: int = 768
    heads: int = 12
    layers: int = 12
    causal: bool = False
    pool: Literal["end", "last"] = "last"
    pad_id: int = 1
    activation: Activation | None = "gelu"  # independent of the image tower's
    positions: int = 514  # rows of the position table; text never uses the first pad_id + 1
    token_types: int = 1  # rows of the token type table; all tokens have type 0
    # The pooled feature: mean over the text's tokens, first token, or first token through a tanh layer.
    pooler: Literal["mean", "first", "tanh"] = "mean"
    # From the width to the shared space: nothing, one matrix, two with a GELU between (open_clip), or one
    # with a bias (M-CLIP).
    head: Literal["none", "linear", "mlp", "affine"] = "mlp"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_positive(self, "positions", "token_types")
        if self.causal or self.pool != "last" or self.end_id is not None or self.projection_bias:
            raise InputError("a RobertaConfig takes no causal, pool, end_id or projection_bias")
        if self.activation is None:
            raise InputError("a RobertaConfig names its own activation, usually 'gelu'")
        if self.context_length + self.pad_id >= self.positions:
            raise InputError(
                f"texts of {self.context_length} tokens need {self.context_length + self.pad_id + 1} "
                f"positions, the table has {self.positions}"
            )


@dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """Architecture of a CLIP model: image tower, text tower and shared space.

    Examples
    --------
    >>> config = CLIPConfig(embed_dim=512, vision=ViTConfig(patch_size=32), text=TextConfig())
    >>> CLIPConfig.from_dict(config.to_dict()) == config
    True
    """

    embed_dim: int
    vision: VisionConfig
    text: TextConfig
    activation: Activation = "gelu"
    init_logit_scale: float = math.log(1 / 0.07)  # logarithm of the scale (paper, section 2.5)
    init_logit_bias: float | None = None  # None: no bias; a number for the sigmoid loss

    def __post_init__(self) -> None:
        _check_positive(self, "embed_dim")
        check_choices(self)
        vision = self.vision
        if isinstance(vision, ViTConfig) and not vision.projection and vision.width != self.embed_dim:
            raise InputError(f"without a projection the vision width {vision.width} must be embed_dim")
        text = self.text
        if isinstance(text, RobertaConfig) and text.head == "none" and text.width != self.embed_dim:
            raise InputError(f"without a head the text width {text.width} must be embed_dim")
        if not text.projection and text.width != self.embed_dim:
            raise InputError(f"without a projection the text width {text.width} must be embed_dim")

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON, with the kinds of towers under `vision.kind` and `text.kind`."""
        kind = next(kind for kind, config in _VISION_KINDS.items() if type(self.vision) is config)
        values = dataclasses.asdict(self)
        values["vision"] = {"kind": kind, **values["vision"]}
        # CLIP's text tower has no kind: the format is older than the second kind.
        if isinstance(self.text, RobertaConfig):
            values["text"] = {"kind": "roberta", **values["text"]}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CLIPConfig:
        """Inverse of `to_dict`.

        Raises
        ------
        InputError
            A key is unknown or a value is invalid; the message names it.
        """
        values = dict(values)
        vision = dict(values.pop("vision", {}))
        kind = vision.pop("kind", None)
        if kind not in _VISION_KINDS:
            raise InputError(f"unknown image tower kind {kind!r}: expected one of {', '.join(_VISION_KINDS)}")
        if kind == "resnet" and "layers" in vision:
            vision["layers"] = tuple(vision["layers"])
        tower = _from_values(_VISION_KINDS[kind], vision)
        text_values = dict(values.pop("text", {}))
        if (kind := text_values.pop("kind", "clip")) not in ("clip", "roberta"):
            raise InputError(f"unknown text tower kind {kind!r}: expected 'clip' or 'roberta'")
        text = _from_values(RobertaConfig if kind == "roberta" else TextConfig, text_values)
        return _from_values(cls, {**values, "vision": tower, "text": text})


_VISION_KINDS: dict[str, type[VisionConfig]] = {
    "vit": ViTConfig,
    "resnet": ResNetConfig,
    "efficientnet": EfficientNetConfig,
    "timm": TimmConfig,
}


def _from_values(kind: type[_T], values: Mapping[str, Any]) -> _T:
    fields = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - fields)
    if unknown:
        raise InputError(
            f"unknown key {unknown[0]!r} for {kind.__name__}; known: {', '.join(sorted(fields))}"
        )
    try:  # a missing value is a TypeError of the dataclass
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{kind.__name__}: {error}") from error


def check_choices(config: Any) -> None:
    """Check that fields with a `Literal` type have one of its values.

    Raises
    ------
    InputError
        The message names the field and lists the values.
    """
    for name, hint in get_type_hints(type(config)).items():
        parts = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
        value = getattr(config, name)
        if parts and value is not None and value not in get_args(parts[0]):
            choices = ", ".join(map(repr, get_args(parts[0])))
            raise InputError(f"{type(config).__name__}.{name} is {value!r}: expected one of {choices}")


def _check_positive(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{type(config).__name__}.{name} must be a whole number above 0, got {value!r}")
