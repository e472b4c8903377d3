"""Configs and parameter names of timm's image towers in open_clip's format.

Vision transformers listed in `diptych.model.presets.timm_shapes` are built here without timm, under our
parameter names; every other tower is built by timm and keeps timm's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diptych.errors import WeightsError
from diptych.model.config import Projection, TimmConfig, ViTConfig
from diptych.model.presets.timm_shapes import TIMM_VITS, timm_shape
from diptych.weights.foreign_configs import ConfigKeys

if TYPE_CHECKING:
    from torch import Tensor

    from diptych.weights.spec import State

PREFIX = "visual.trunk."
# open_clip's names of the projection after the tower's pooling; None and "": the tower's classifier layer.
PROJECTIONS: dict[str | None, Projection] = {
    None: "classifier",
    "": "classifier",
    "none": "none",
    "linear": "linear",
    "mlp": "mlp",
}


def read_vit(keys: ConfigKeys, name: str) -> ViTConfig:
    """Architecture of a tower of `TIMM_VITS` from open_clip's `vision_cfg`.

    Parameters
    ----------
    keys : ConfigKeys
        `vision_cfg`, without `timm_model_name`.
    name : str
        timm's name of the tower, one of `TIMM_VITS`.

    Raises
    ------
    WeightsError
        Pooling, projection or image size differ from the released models of that name; the message names the
        key.
    """
    shape = timm_shape(name)
    pool = "map" if shape.pool == "attention" else "token"
    if (side := keys.integer("image_size", 224)) != shape.image_size:
        # timm builds the tower for its own image size, whatever open_clip's config says.
        raise WeightsError(f"vision_cfg.image_size is {side}, the tower {name!r} takes {shape.image_size}")
    keys.choice("timm_pool", "avg", (pool,))
    # None and "": the tower's classifier layer is the projection, a linear layer with a bias.
    keys.choice("timm_proj", "linear", (None, "") if shape.projection else ("none",))
    keys.skip("timm_proj_bias")  # for another kind of projection
    return shape


def read_trunk(keys: ConfigKeys, name: Any) -> TimmConfig:
    """Config of any other tower of timm, from open_clip's `vision_cfg`.

    Raises
    ------
    WeightsError
        A key or value is not supported; the message names it.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.]*", name):  # not "hf-hub:...", which fetches
        raise WeightsError(f"vision_cfg.timm_model_name is {name!r}: expected the name of a tower of timm")
    tower = TimmConfig(
        image_size=keys.integer("image_size", 224),
        model_name=name,
        pool=keys.choice("timm_pool", "avg", ("", "avg", "token", "map")),
        projection=PROJECTIONS[keys.choice("timm_proj", "linear", PROJECTIONS)],
        projection_bias=keys.flag("timm_proj_bias", False),
    )
    keys.finish()
    return tower


def write_trunk(tower: TimmConfig) -> dict[str, Any]:
    """Inverse of `read_trunk`."""
    projections = {native: foreign for foreign, native in PROJECTIONS.items() if foreign != ""}
    return {
        "image_size": tower.image_size,
        "timm_model_name": tower.model_name,
        "timm_model_pretrained": False,
        "timm_pool": tower.pool,
        "timm_proj": projections[tower.projection],
        "timm_proj_bias": tower.projection_bias,
    }


def write_vit(shape: ViTConfig) -> dict[str, Any] | None:
    """open_clip's `vision_cfg` of a tower of `TIMM_VITS`; None for any other architecture."""
    for name in TIMM_VITS:
        if timm_shape(name) == shape:
            return {
                "image_size": shape.image_size,
                "timm_model_name": name,
                "timm_model_pretrained": False,
                "timm_pool": "map" if shape.pool == "attention" else "token",
                "timm_proj": None if shape.projection else "none",
            }
    return None


# Prefixes of parameter names within the tower, timm's and ours.
_PREFIXES = (
    ("patch_embed.proj.", "conv1."),
    ("patch_embed.backbone.", "conv1."),
    ("norm_pre.", "ln_pre."),
    ("norm.", "ln_post."),
    ("blocks.", "transformer.resblocks."),
    ("attn_pool.norm.", "pool_head.ln."),
    ("attn_pool.proj.", "pool_head.attn.out_proj."),
    ("attn_pool.mlp.", "pool_head.mlp."),
    ("head.", "proj."),
)
# Parts of parameter names in a block and in the pooling head's MLP, timm's and ours.
_INFIXES = (
    (".norm1.", ".ln_1."),
    (".norm2.", ".ln_2."),
    (".attn.qkv.weight", ".attn.in_proj_weight"),
    (".attn.qkv.bias", ".attn.in_proj_bias"),
    (".attn.proj.", ".attn.out_proj."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
)
_POOL_ATTENTION = re.compile(r"attn_pool\.(q|kv)\.(weight|bias)")


def from_timm(state: Mapping[str, Tensor]) -> State:
    """Rename the weights of an image tower from timm's names to ours; keep other names.

    Raises
    ------
    WeightsError
        A name is that of no tower of `TIMM_VITS`, or the pooling head lacks its query or its keys.
    """
    import torch  # reading configs needs no torch

    renamed_state: State = {}
    pool: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if not name.startswith(PREFIX):
            renamed_state[name] = tensor
            continue
        inner = name.removeprefix(PREFIX)
        if inner in ("cls_token", "pos_embed"):
            native = "class_embedding" if inner == "cls_token" else "positional_embedding"
            # (1, 1, D) -> (D,) and (1, L, D) -> (L, D).
            renamed_state[f"visual.{native}"] = tensor.reshape(
                tensor.shape[2 if inner == "cls_token" else 1 :]
            )
        elif inner == "attn_pool.latent":
            renamed_state["visual.pool_head.probe"] = tensor
        elif match := _POOL_ATTENTION.fullmatch(inner):
            # timm has the query apart from keys and values; ours are one matrix, in the order q, k, v.
            pool.setdefault(match[2], {})[match[1]] = tensor
        else:
            renamed_state["visual." + _native_name(inner)] = tensor
    for kind, parts in pool.items():
        if set(parts) != {"q", "kv"}:
            raise WeightsError(
                f"visual.trunk.attn_pool has {', '.join(sorted(parts))} {kind}s, expected q and kv"
            )
        renamed_state[f"visual.pool_head.attn.in_proj_{kind}"] = torch.cat([parts["q"], parts["kv"]])
    return renamed_state


def to_timm(state: Mapping[str, Tensor]) -> State:
    """Inverse of `from_timm`."""
    import torch

    renamed_state: State = {}
    for name, tensor in state.items():
        inner = name.removeprefix("visual.")
        if inner == name:
            renamed_state[name] = tensor
        elif inner == "class_embedding":
            renamed_state[PREFIX + "cls_token"] = tensor[None, None]
        elif inner == "positional_embedding":
            renamed_state[PREFIX + "pos_embed"] = tensor[None]
        elif inner == "pool_head.probe":
            renamed_state[PREFIX + "attn_pool.latent"] = tensor
        elif inner.startswith("pool_head.attn.in_proj_"):
            kind = inner.removeprefix("pool_head.attn.in_proj_")
            query, keys, values = tensor.chunk(3)
            renamed_state[f"{PREFIX}attn_pool.q.{kind}"] = query.contiguous()
            renamed_state[f"{PREFIX}attn_pool.kv.{kind}"] = torch.cat([keys, values])
        else:
            renamed_state[PREFIX + _timm_name(inner, stem="visual.conv1.0.conv.weight" in state)] = tensor
    return renamed_state


def _native_name(name: str) -> str:
    for foreign, native in _PREFIXES:
        if name.startswith(foreign):
            renamed = native + name.removeprefix(foreign)
            for infix, replacement in _INFIXES:
                renamed = renamed.replace(infix, replacement)
            return renamed
    raise WeightsError(f"the weight '{PREFIX}{name}' belongs to no image tower of timm that is built here")


def _timm_name(name: str, *, stem: bool) -> str:
    for foreign, native in _PREFIXES:
        # Both prefixes of `conv1.`: a convolutional stem is timm's "backbone", a patch convolution is not.
        if foreign == "patch_embed.proj." and stem:
            continue
        if name.startswith(native):
            renamed = foreign + name.removeprefix(native)
            for replacement, infix in _INFIXES:
                renamed = renamed.replace(infix, replacement)
            return renamed
    raise WeightsError(f"timm has no name for the weight 'visual.{name}'")
