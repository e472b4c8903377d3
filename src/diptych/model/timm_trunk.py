"""Image towers that timm builds: ConvNeXt, EVA, ViTamin, FastViT and any other it names.

The optional extra `timm`. Parameter names are open_clip's: the tower under `trunk`, a projection of its own
under `head`. Nothing is downloaded: `timm.create_model` is asked for the shape alone. Towers whose shapes
this package has itself (`diptych.model.presets.timm_shapes`) need none of it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, cast

import torch
from torch import Tensor, nn

from diptych.errors import InputError, MissingExtraError
from diptych.extras import require
from diptych.model.config import TimmConfig
from diptych.model.sharding import shard_like

PURPOSE = "build this image tower"


class TimmTrunk(nn.Module):
    """A picture as one vector, by a tower of timm.

    Parameters
    ----------
    config : TimmConfig
        Which tower, and how its features become one vector.
    embed_dim : int
        Width of the shared space.

    Raises
    ------
    MissingExtraError
        timm is not installed, or the torchvision that it imports does not belong to this torch.
    InputError
        timm has no tower of that name, or not with this pool, or it reads pictures of one size only and that
        is another.
    """

    def __init__(self, config: TimmConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        own = config.projection in ("linear", "mlp")  # else the tower's own classifier projects, or nothing
        classes = embed_dim if config.projection == "classifier" else 0
        options: dict[str, Any] = {"num_classes": classes}
        if config.pool or not own:
            options["global_pool"] = config.pool
        self.trunk: Any = _create(config.model_name, options)  # a module of timm's, with methods of its own
        _refuse_other_size(self.trunk, config)
        width: int = self.trunk.num_features
        self.head = nn.Sequential(OrderedDict(_head(config, width, embed_dim)) if own else OrderedDict())
        if config.projection == "none" and width != embed_dim:
            raise InputError(
                f"without a projection the width {width} of {config.model_name} must be embed_dim"
            )

    @property
    def feature_width(self) -> int:
        """Width of `features`."""
        return cast(int, getattr(self.trunk, "head_hidden_size", self.trunk.num_features))

    def forward(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) in the shared space, (B, E), not normalised."""
        return self.head(self.trunk(images))  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) before the projection, (B, D): what a linear probe reads."""
        return self.trunk.forward_head(self.trunk.forward_features(images), pre_logits=True)  # type: ignore[no-any-return]

    def patches(self, images: Tensor) -> Tensor:
        """Refused: towers of timm differ too much for one way to read single patches."""
        raise InputError(
            f"{self.config.model_name} is built by timm, which gives no vector for a single patch"
        )

    def cells(self, images: Tensor) -> Tensor:
        """Refused, as `patches`."""
        raise InputError(
            f"{self.config.model_name} is built by timm, whose cells a caption decoder cannot read"
        )

    def unused(self, *, by_cells: bool) -> list[nn.Parameter]:
        """Parameters that `features` does not use."""
        classifier = cast(nn.Module, self.trunk.get_classifier())
        return [*self.head.parameters(), *classifier.parameters()]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self.trunk.set_grad_checkpointing(enable)

    def blocks(self) -> list[nn.Module]:
        """Modules that compute one after the other, the outermost where they are nested.

        What timm lists under the name `blocks`: all but a few hundredths of the parameters of the towers that
        open_clip names. Empty for a tower without such a list.
        """
        blocks: list[nn.Module] = []
        nested: set[nn.Module] = set()
        for name, module in self.trunk.named_modules():
            if name.rpartition(".")[2] != "blocks" or not isinstance(module, nn.Sequential | nn.ModuleList):
                continue
            for block in module:
                if block not in nested:
                    blocks.append(block)
                    nested.update(block.modules())
        return blocks

    def initialise(self, seed: int) -> None:
        """Set every parameter and buffer as timm does, from a seed of the CPU."""
        embed_dim = self._embed_dim()
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(seed)
            fresh = TimmTrunk(self.config, embed_dim)
        values = fresh.state_dict()
        for name, tensor in self.state_dict().items():
            tensor.copy_(shard_like(values[name], tensor))

    def _embed_dim(self) -> int:
        if self.config.projection == "none":
            return int(self.trunk.num_features)
        last = list(self.head.modules())[-1] if len(self.head) else self.trunk.get_classifier()
        return cast(nn.Linear, last).out_features


def fill_buffers(model: nn.Module, device: torch.device) -> None:
    """Compute the tables that are not stored with weights, in a model whose memory was made without them.

    A model built on the meta device has no values; those of weights come from a file, those of timm's rotary
    tables and empty biases from their definitions.

    Raises
    ------
    InputError
        The installed timm cannot compute one; the message says which version can.
    """
    for trunk in (module for module in model.modules() if isinstance(module, TimmTrunk)):
        for module in trunk.modules():
            missing = module._non_persistent_buffers_set
            for name in missing:
                buffer = module._buffers[name]
                if buffer is not None:
                    module._buffers[name] = torch.empty_like(buffer, device=device)
            if missing and not hasattr(module, "init_non_persistent_buffers"):
                raise InputError(
                    f"{type(module).__name__} of timm has tables that only timm 1.0.24 or later can compute: "
                    "pip install -U timm"
                )
            if missing:
                module.init_non_persistent_buffers()  # type: ignore[operator]
            # EVA joins a bias that never learns (`k_bias`) to those that do: it must have their precision.
            # Rotary tables stand alone and stay float32: timm converts what it multiplied by them.
            parameter = next(module.parameters(recurse=False), None)
            for name in missing:
                buffer = module._buffers[name]
                if parameter is not None and buffer is not None and buffer.is_floating_point():
                    module._buffers[name] = buffer.to(parameter.dtype)


def _head(config: TimmConfig, width: int, embed_dim: int) -> list[tuple[str, nn.Module]]:
    """The projection, under open_clip's names."""
    bias = config.projection_bias
    if config.projection == "linear":
        return [("proj", nn.Linear(width, embed_dim, bias=bias))]
    layers = OrderedDict[str, nn.Module](
        fc1=nn.Linear(width, 2 * embed_dim), act=nn.GELU(), fc2=nn.Linear(2 * embed_dim, embed_dim, bias=bias)
    )
    return [("mlp", nn.Sequential(layers))]


def _create(name: str, options: dict[str, Any]) -> Any:
    timm = import_timm()
    try:
        return timm.create_model(name, pretrained=False, **options)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"timm {timm.__version__} cannot build {name!r} with {options}: {reason}") from error


def _refuse_other_size(trunk: nn.Module, config: TimmConfig) -> None:
    """Raise where timm's tower has positions for pictures of another size; convolutions take any."""
    side = getattr(getattr(trunk, "patch_embed", None), "img_size", None)
    wanted = (config.image_size, config.image_size)
    if side is not None and tuple(side) != wanted and not getattr(trunk, "dynamic_img_size", False):
        raise InputError(
            f"{config.model_name} is built by timm for pictures of {side[0]} pixels, got image_size "
            f"{config.image_size}: its positions are not resized here, so keep {side[0]}"
        )


def import_timm() -> Any:
    """The module `timm`.

    Raises
    ------
    MissingExtraError
        It is not installed, or the torchvision that it imports does not belong to this torch.
    """
    try:
        return require("timm", extra="timm", purpose=PURPOSE)
    except (RuntimeError, ImportError, OSError) as error:
        if isinstance(error, MissingExtraError):
            raise
        raise MissingExtraError(
            f"timm is needed to {PURPOSE} and cannot be imported: {error}. The torchvision beside it is not "
            f"made for torch {torch.__version__}: install both from one index, as https://pytorch.org says"
        ) from error
