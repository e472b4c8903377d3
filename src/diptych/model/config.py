"""What a model is made of, as frozen dataclasses.

A config says the shape of the two encoders and nothing else: preprocessing and tokenizer have their own
(`diptych.inputs`), and `diptych.weights` keeps the three together on disk. Reading other projects' configs
is also left to `diptych.weights`; architectures by name are in `presets.py`.
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
    """A vision transformer (Dosovitskiy et al. 2021), as CLIP and its successors vary it.

    Examples
    --------
    >>> ViTConfig(width=768, layers=12, patch_size=32).grid
    7
    """

    image_size: int = 224  # side of the square picture, pixels
    patch_size: int = 16  # side of a patch, pixels
    width: int = 768
    layers: int = 12
    head_width: int = 64  # width of one attention head; heads = width / head_width
    mlp_ratio: float = 4.0  # hidden width of the MLP over the width
    pool: Literal["token", "average", "attention"] = "token"  # attention: SigLIP's pooling head
    class_token: bool = True
    patch_bias: bool = False  # bias in the patch convolution
    pre_norm: bool = True  # a norm before the first block (CLIP's own addition)
    post_norm: Literal["before_pool", "after_pool"] = "after_pool"  # where the last norm stands
    projection: bool = True  # False: the width is the embedding (SigLIP)
    norm_eps: float = 1e-5
    activation: Activation | None = None  # None: the model's
    patch_dropout: float = 0.0  # share of patches dropped in training (FLIP)
    projection_bias: bool = False  # a linear layer in place of CLIP's bare matrix
    stem: Literal["patch", "convolutions"] = "patch"  # convolutions: three of them (MobileCLIP)
    class_position: bool = True  # False: the table of positions has no row for the class token
    rope: bool = False  # rotary positions in attention, beside the table (PE-Core)
    rope_offset: int = 0  # coordinate of the first row and column of patches
    pool_heads: int | None = None  # heads of the pooling head; None: as many as a block has
    pool_mlp_ratio: float | None = None  # of the MLP in the pooling head; None: that of a block

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.width // self.head_width

    @property
    def grid(self) -> int:
        """Side of the grid of patches or cells."""
        return self.image_size // self.patch_size

    def __post_init__(self) -> None:
        _positive(self, "image_size", "patch_size", "width", "layers", "head_width")
        check_choices(self)
        if not 0 <= self.patch_dropout < 1:
            raise InputError(f"patch_dropout is {self.patch_dropout}: expected a share from 0 to below 1")
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

    Three 3x3 convolutions and an average pool as stem, blur before every stride (Zhang 2019), and a
    transformer-style attention pool instead of the average one.

    Examples
    --------
    >>> ResNetConfig(layers=(3, 4, 6, 3), width=64).feature_width
    2048
    """

    image_size: int = 224
    layers: tuple[int, int, int, int] = (3, 4, 6, 3)  # blocks of the four stages
    width: int = 64  # channels after the stem; the last stage has 32 times as many
    head_width: int = 64  # of the attention pool
    stem_pool: bool = True  # False: keep the stem at half the side, for small pictures
    # How the last grid becomes one vector. The average has no positions, so it reads pictures of any side,
    # which lets a training run begin on smaller ones; it is ours, the paper's is attention.
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
        _positive(self, "image_size", "width", "head_width")
        check_choices(self)
        if len(self.layers) != 4 or min(self.layers) < 1:
            raise InputError(f"a ResNet has four stages of one block or more, got layers={self.layers}")
        stride = 32 if self.stem_pool else 16
        if self.image_size % stride:
            raise InputError(f"image_size {self.image_size} is not a multiple of {stride}")


Projection = Literal["classifier", "none", "linear", "mlp"]


@dataclass(frozen=True, kw_only=True)
class TimmConfig:
    """An image tower that timm builds (the extra `timm`).

    Examples
    --------
    >>> TimmConfig(image_size=256, model_name="convnext_base").projection
    'linear'
    """

    image_size: int = 224  # side of the pictures, pixels
    model_name: str  # timm's
    pool: Literal["", "avg", "token", "map"] = (
        ""  # how the last features become one vector; "": the tower's way
    )
    # From the pooled vector to the shared space: the tower's own classifier, nothing, a matrix, or two with a
    # GELU between.
    projection: Projection = "linear"
    projection_bias: bool = False

    def __post_init__(self) -> None:
        _positive(self, "image_size")
        check_choices(self)
        if not isinstance(self.model_name, str) or not self.model_name.replace(".", "_").isidentifier():
            raise InputError(
                f"TimmConfig.model_name is {self.model_name!r}: expected the name of a tower of timm"
            )


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The text transformer (paper, section 2.4; Radford et al. 2019).

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
    # Where the feature is read: at the end token (the largest id, as in CLIP's code, unless `end_id` names
    # it), or at the last position (SigLIP, whose texts are padded to the full length and never cut).
    pool: Literal["end", "last"] = "end"
    end_id: int | None = None
    pad_id: int = 0
    projection: bool = True  # False: the width is the embedding
    projection_bias: bool = False
    norm_eps: float = 1e-5
    activation: Activation | None = None  # None: the model's

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    def __post_init__(self) -> None:
        _positive(self, "context_length", "vocab_size", "width", "heads", "layers")
        check_choices(self)
        if self.projection_bias and not self.projection:
            raise InputError("projection_bias=True needs projection=True")
        if self.width % self.heads:
            raise InputError(f"text width {self.width} is not a multiple of heads {self.heads}")


@dataclass(frozen=True, kw_only=True)
class RobertaConfig(TextConfig):
    """A text tower of RoBERTa's kind (arXiv 1907.11692), as XLM-R reads a hundred languages (1911.02116).

    Every token sees all others, padding is masked, and the text is read from all its tokens. How is said by
    `pooler` and `head`; `pool`, `end_id` and `projection_bias` are those of CLIP's own tower.

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
    activation: Activation | None = "gelu"  # the tower's own, whatever the picture encoder has
    positions: int = 514  # rows of the table of positions; the first pad_id + 1 are never text
    token_types: int = 1  # rows of that table; texts are all of the first kind
    # Which vector is the text's: the mean over its tokens, the first token's, or that through a tanh layer.
    pooler: Literal["mean", "first", "tanh"] = "mean"
    # From the width to the shared space: nothing, a matrix, two with a GELU between (open_clip's), or a
    # matrix and a bias (M-CLIP's).
    head: Literal["none", "linear", "mlp", "affine"] = "mlp"

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "positions", "token_types")
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
    """Two encoders, one space.

    Examples
    --------
    >>> config = CLIPConfig(embed_dim=512, vision=ViTConfig(patch_size=32), text=TextConfig())
    >>> CLIPConfig.from_dict(config.to_dict()) == config
    True
    """

    embed_dim: int
    vision: ViTConfig | ResNetConfig | TimmConfig
    text: TextConfig
    activation: Activation = "gelu"
    init_logit_scale: float = math.log(1 / 0.07)  # the logarithm of the scale (paper, section 2.5)
    init_logit_bias: float | None = None  # a number: the model has a bias (sigmoid loss)

    def __post_init__(self) -> None:
        _positive(self, "embed_dim")
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
        """Plain values for JSON; the kinds of tower stand under `vision.kind` and `text.kind`."""
        kind = next(kind for kind, config in _VISION_KINDS.items() if type(self.vision) is config)
        values = dataclasses.asdict(self)
        values["vision"] = {"kind": kind, **values["vision"]}
        if isinstance(self.text, RobertaConfig):  # CLIP's own has none: files written before there were two
            values["text"] = {"kind": "roberta", **values["text"]}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CLIPConfig:
        """Inverse of `to_dict`.

        Raises
        ------
        InputError
            A key is unknown or a value does not fit; the message names it.
        """
        values = dict(values)
        vision = dict(values.pop("vision", {}))
        kind = vision.pop("kind", None)
        if kind not in _VISION_KINDS:
            raise InputError(f"unknown image tower kind {kind!r}: expected 'vit', 'resnet' or 'timm'")
        if kind == "resnet" and "layers" in vision:
            vision["layers"] = tuple(vision["layers"])
        tower = _build(_VISION_KINDS[kind], vision)
        words = dict(values.pop("text", {}))
        if (kind := words.pop("kind", "clip")) not in ("clip", "roberta"):
            raise InputError(f"unknown text tower kind {kind!r}: expected 'clip' or 'roberta'")
        text = _build(RobertaConfig if kind == "roberta" else TextConfig, words)
        return _build(cls, {**values, "vision": tower, "text": text})


_VISION_KINDS: dict[str, type[ViTConfig] | type[ResNetConfig] | type[TimmConfig]] = {
    "vit": ViTConfig,
    "resnet": ResNetConfig,
    "timm": TimmConfig,
}


def _build(kind: type[_T], values: Mapping[str, Any]) -> _T:
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"unknown key {unknown[0]!r} for {kind.__name__}; known: {', '.join(sorted(known))}")
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{kind.__name__}: {error}") from error


def check_choices(config: Any) -> None:
    """Refuse a field whose value is none of those its `Literal` type lists.

    Raises
    ------
    InputError
        The message names the field and lists the values.
    """
    for name, hint in get_type_hints(type(config)).items():
        parts = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
        value = getattr(config, name)
        if parts and value is not None and value not in get_args(parts[0]):
            known = ", ".join(map(repr, get_args(parts[0])))
            raise InputError(f"{type(config).__name__}.{name} is {value!r}: expected one of {known}")


def _positive(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{type(config).__name__}.{name} must be a whole number above 0, got {value!r}")
