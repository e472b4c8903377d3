"""Image towers built by timm (the optional extra `timm`): ConvNeXt, EVA, ViTamin, FastViT and others.

Parameter names are open_clip's: timm's model under `trunk`, the projection under `head`. Nothing is
downloaded: `timm.create_model` builds the architecture without weights. Towers that
`diptych.model.presets.timm_shapes` describes are built without timm. Shapes: B batch, S side in pixels, D
width of the features, E embedding.
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
    """Image encoder by timm: images to one vector each.

    Parameters
    ----------
    config : TimmConfig
        Architecture, pooling and projection.
    embed_dim : int
        Width of the shared space.

    Raises
    ------
    MissingExtraError
        timm is not installed, or the torchvision that it imports was not made for this torch.
    InputError
        timm has no architecture of that name, or not with this pooling, or the architecture has a fixed image
        size that differs from the config's.
    """

    def __init__(self, config: TimmConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        # Otherwise the trunk's classifier layer is the projection, or there is none.
        has_head = config.projection in ("linear", "mlp")
        classes = embed_dim if config.projection == "classifier" else 0
        options: dict[str, Any] = {"num_classes": classes}
        if config.pool or not has_head:
            options["global_pool"] = config.pool
        self.trunk: Any = _create(config.model_name, options)  # Any: timm's methods are not nn.Module's
        _check_image_size(self.trunk, config)
        width: int = self.trunk.num_features
        self.head = nn.Sequential(OrderedDict(_head(config, width, embed_dim)) if has_head else OrderedDict())
        if config.projection == "none" and width != embed_dim:
            raise InputError(
                f"without a projection the width {width} of {config.model_name} must be embed_dim"
            )

    @property
    def feature_width(self) -> int:
        """Width of the output of `features`."""
        return cast(int, getattr(self.trunk, "head_hidden_size", self.trunk.num_features))

    def forward(self, images: Tensor) -> Tensor:
        """Embed preprocessed images, (B, 3, S, S) -> (B, E), not normalised."""
        return self.head(self.trunk(images))  # type: ignore[no-any-return]

    def features(self, images: Tensor) -> Tensor:
        """Image features before the projection, (B, 3, S, S) -> (B, D); input of a linear probe."""
        return self.trunk.forward_head(self.trunk.forward_features(images), pre_logits=True)  # type: ignore[no-any-return]

    def patch_embeddings(self, images: Tensor) -> Tensor:
        """Refuse: timm's architectures have no common interface for single patches."""
        raise InputError(
            f"{self.config.model_name} is built by timm, which has no embeddings of single patches"
        )

    def patch_tokens(self, images: Tensor) -> Tensor:
        """Refuse, as `patch_embeddings`."""
        raise InputError(
            f"{self.config.model_name} is built by timm, which gives a caption decoder no patch tokens"
        )

    def unused_parameters(self, *, for_patch_tokens: bool) -> list[nn.Parameter]:
        """Parameters that `features` does not use."""
        classifier = cast(nn.Module, self.trunk.get_classifier())
        return [*self.head.parameters(), *classifier.parameters()]

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass instead of keeping them."""
        self.trunk.set_grad_checkpointing(enable)

    def blocks(self) -> list[nn.Module]:
        """Modules that run one after the other, the outermost where they are nested.

        These are timm's lists named `blocks`, which hold all but a few percent of the parameters in the
        architectures that open_clip names. Empty for an architecture without such a list.
        """
        blocks: list[nn.Module] = []
        nested: set[nn.Module] = set()
        for name, module in self.trunk.named_modules():
            if name.rpartition(".")[2] != "blocks" or not isinstance(module, nn.Sequential | nn.ModuleList):
                continue
            for block in module:
                if block not in nested:  # named_modules gives outer modules before inner ones
                    blocks.append(block)
                    nested.update(block.modules())
        return blocks

    def initialise(self, seed: int) -> None:
        """Set every parameter and buffer as timm does, from a seed on the CPU."""
        embed_dim = self._embed_dim()
        # timm initialises in the constructor and from the global generator: build a second trunk, copy its
        # values, and leave the state of the global generator as it was.
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
    """Compute non-persistent buffers of a model that was built on the meta device.

    Weights are loaded from a file afterwards; timm's rotary tables and constant biases are not in that file.

    Raises
    ------
    InputError
        The installed timm is too old; the message says which version is needed.
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
                    f"{type(module).__name__} has buffers that only timm 1.0.24 or later can compute: "
                    "pip install -U timm"
                )
            if missing:
                module.init_non_persistent_buffers()  # type: ignore[operator]
            # EVA concatenates a constant bias (`k_bias`) with trained ones, so it needs their precision.
            # Modules of rotary tables have no parameters, so those stay float32; timm converts the product.
            parameter = next(module.parameters(recurse=False), None)
            for name in missing:
                buffer = module._buffers[name]
                if parameter is not None and buffer is not None and buffer.is_floating_point():
                    module._buffers[name] = buffer.to(parameter.dtype)


def _head(config: TimmConfig, width: int, embed_dim: int) -> list[tuple[str, nn.Module]]:
    """Projection to the shared space, under open_clip's names."""
    bias = config.projection_bias
    if config.projection == "linear":
        return [("proj", nn.Linear(width, embed_dim, bias=bias))]
    layers = OrderedDict[str, nn.Module](
        fc1=nn.Linear(width, 2 * embed_dim), act=nn.GELU(), fc2=nn.Linear(2 * embed_dim, embed_dim, bias=bias)
    )
    return [("mlp", nn.Sequential(layers))]


def _create(name: str, options: dict[str, Any]) -> Any:
    timm = import_timm()
    try:  # timm refuses by whatever exception its code runs into
        return timm.create_model(name, pretrained=False, **options)
    except (RuntimeError, AssertionError, TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"timm {timm.__version__} cannot build {name!r} with {options}: {reason}") from error


def _check_image_size(trunk: nn.Module, config: TimmConfig) -> None:
    """Raise if the trunk has positional embeddings for another image size; convolutions accept any size."""
    side = getattr(getattr(trunk, "patch_embed", None), "img_size", None)
    expected = (config.image_size, config.image_size)
    if side is not None and tuple(side) != expected and not getattr(trunk, "dynamic_img_size", False):
        raise InputError(
            f"{config.model_name} is built by timm for images of {side[0]} pixels, got image_size "
            f"{config.image_size}: its positions are not resized here, so keep {side[0]}"
        )


def import_timm() -> Any:
    """Import timm.

    Raises
    ------
    MissingExtraError
        It is not installed, or the torchvision that it imports was not made for this torch.
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
