"""timm's vision transformers that are built here without timm: their config and their parameter names.

Their shapes are in `diptych.model.presets.timm_shapes`; every other tower of timm is built by timm itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from diptych.errors import WeightsError
from diptych.model.config import Projection, TimmConfig, ViTConfig
from diptych.model.presets.timm_shapes import TIMM_VITS, timm_shape
from diptych.weights.foreign import Keys

if TYPE_CHECKING:
    from torch import Tensor

    from diptych.weights.spec import State

PREFIX = "visual.trunk."
# open_clip's words for what follows the tower's pool; None and "" are the tower's own classifier.
PROJECTIONS: dict[str | None, Projection] = {
    None: "classifier",
    "": "classifier",
    "none": "none",
    "linear": "linear",
    "mlp": "mlp",
}


def read_vit(keys: Keys, name: str) -> ViTConfig:
    """The shape of a tower of `TIMM_VITS` from open_clip's `vision_cfg`.

    Parameters
    ----------
    keys : Keys
        `vision_cfg`, without `timm_model_name`.
    name : str
        timm's name of the tower, one of `TIMM_VITS`.

    Raises
    ------
    WeightsError
        The config asks for another pool or projection than released models of that name have, or for pictures
        of another size; the message names the key.
    """
    shape = timm_shape(name)
    pool = "map" if shape.pool == "attention" else "token"
    if (side := keys.whole("image_size", 224)) != shape.image_size:
        # timm builds the tower for its own size whatever the config says.
        raise WeightsError(f"vision_cfg.image_size is {side}, the tower {name!r} sees {shape.image_size}")
    keys.choice("timm_pool", "avg", (pool,))
    # None and "": the tower's own classifier is the projection, a linear layer with a bias.
    keys.choice("timm_proj", "linear", (None, "") if shape.projection else ("none",))
    keys.skip("timm_proj_bias")  # of a projection that these towers do not have
    return shape


def read_trunk(keys: Keys, name: Any) -> TimmConfig:
    """Any other tower of timm, from open_clip's `vision_cfg`.

    Raises
    ------
    WeightsError
        A key or value that is not understood; the message names it.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w[\w.]*", name):  # not "hf-hub:...", which fetches
        raise WeightsError(f"vision_cfg.timm_model_name is {name!r}: expected the name of a tower of timm")
    tower = TimmConfig(
        image_size=keys.whole("image_size", 224),
        model_name=name,
        pool=keys.choice("timm_pool", "avg", ("", "avg", "token", "map")),
        projection=PROJECTIONS[keys.choice("timm_proj", "linear", PROJECTIONS)],
        projection_bias=keys.flag("timm_proj_bias", False),
    )
    keys.finish()
    return tower


def write_trunk(tower: TimmConfig) -> dict[str, Any]:
    """The inverse of `read_trunk`."""
    projections = {ours: theirs for theirs, ours in PROJECTIONS.items() if theirs != ""}
    return {
        "image_size": tower.image_size,
        "timm_model_name": tower.model_name,
        "timm_model_pretrained": False,
        "timm_pool": tower.pool,
        "timm_proj": projections[tower.projection],
        "timm_proj_bias": tower.projection_bias,
    }


def write_vit(shape: ViTConfig) -> dict[str, Any] | None:
    """open_clip's `vision_cfg` of a tower of `TIMM_VITS`; None for any other shape."""
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


# Beginnings of names within the tower, timm's and ours.
_BEGINNINGS = (
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
# Middles of names in a block and in the pooling head's MLP.
_MIDDLES = (
    (".norm1.", ".ln_1."),
    (".norm2.", ".ln_2."),
    (".attn.qkv.weight", ".attn.in_proj_weight"),
    (".attn.qkv.bias", ".attn.in_proj_bias"),
    (".attn.proj.", ".attn.out_proj."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
)
_POOL = re.compile(r"attn_pool\.(q|kv)\.(weight|bias)")


def from_timm(state: Mapping[str, Tensor]) -> State:
    """Weights with timm's names of the image tower under ours; other names as they are.

    Raises
    ------
    WeightsError
        A name that no tower of `TIMM_VITS` has, or a pooling head without its query or its keys.
    """
    import torch  # configs are read without it

    found: State = {}
    pool: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if not name.startswith(PREFIX):
            found[name] = tensor
            continue
        inner = name.removeprefix(PREFIX)
        if inner in ("cls_token", "pos_embed"):
            ours = "class_embedding" if inner == "cls_token" else "positional_embedding"
            # (1, 1, D) and (1, L, D) there; a vector and a matrix here.
            found[f"visual.{ours}"] = tensor.reshape(tensor.shape[2 if inner == "cls_token" else 1 :])
        elif inner == "attn_pool.latent":
            found["visual.pool_head.probe"] = tensor
        elif match := _POOL.fullmatch(inner):
            pool.setdefault(match[2], {})[match[1]] = tensor
        else:
            found["visual." + _ours(inner)] = tensor
    for kind, parts in pool.items():
        if set(parts) != {"q", "kv"}:
            raise WeightsError(
                f"visual.trunk.attn_pool holds {sorted(parts)} of its {kind}s, expected q and kv"
            )
        found[f"visual.pool_head.attn.in_proj_{kind}"] = torch.cat([parts["q"], parts["kv"]])
    return found


def to_timm(state: Mapping[str, Tensor]) -> State:
    """The inverse of `from_timm`."""
    import torch

    found: State = {}
    for name, tensor in state.items():
        inner = name.removeprefix("visual.")
        if inner == name:
            found[name] = tensor
        elif inner == "class_embedding":
            found[PREFIX + "cls_token"] = tensor[None, None]
        elif inner == "positional_embedding":
            found[PREFIX + "pos_embed"] = tensor[None]
        elif inner == "pool_head.probe":
            found[PREFIX + "attn_pool.latent"] = tensor
        elif inner.startswith("pool_head.attn.in_proj_"):
            kind = inner.removeprefix("pool_head.attn.in_proj_")
            query, keys, values = tensor.chunk(3)
            found[f"{PREFIX}attn_pool.q.{kind}"] = query.contiguous()
            found[f"{PREFIX}attn_pool.kv.{kind}"] = torch.cat([keys, values])
        else:
            found[PREFIX + _theirs(inner, stem="visual.conv1.0.conv.weight" in state)] = tensor
    return found


def _ours(name: str) -> str:
    for theirs, ours in _BEGINNINGS:
        if name.startswith(theirs):
            renamed = ours + name.removeprefix(theirs)
            for middle, replacement in _MIDDLES:
                renamed = renamed.replace(middle, replacement)
            return renamed
    raise WeightsError(f"the weight '{PREFIX}{name}' belongs to no image tower of timm that is built here")


def _theirs(name: str, *, stem: bool) -> str:
    for theirs, ours in _BEGINNINGS:
        if theirs == "patch_embed.proj." and stem:
            continue
        if name.startswith(ours):
            renamed = theirs + name.removeprefix(ours)
            for replacement, middle in _MIDDLES:
                renamed = renamed.replace(middle, replacement)
            return renamed
    raise WeightsError(f"timm has no name for the weight 'visual.{name}'")
