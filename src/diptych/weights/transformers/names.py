"""Parameter names: transformers' to ours and back, tensors rearranged without changing a bit."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from diptych.errors import WeightsError
from diptych.weights.spec import State

# Beginnings of names, theirs and ours.
_PREFIXES = (
    ("text_model.embeddings.token_embedding.", "token_embedding."),
    ("text_model.encoder.layers.", "transformer.resblocks."),
    ("text_model.final_layer_norm.", "ln_final."),
    ("text_model.head.", "text_projection."),
    ("vision_model.embeddings.patch_embedding.", "visual.conv1."),
    ("vision_model.encoder.layers.", "visual.transformer.resblocks."),
    ("vision_model.pre_layrnorm.", "visual.ln_pre."),  # their spelling
    ("vision_model.post_layernorm.", "visual.ln_post."),
    ("vision_model.head.attention.", "visual.pool_head.attn."),
    ("vision_model.head.layernorm.", "visual.pool_head.ln."),
    ("vision_model.head.", "visual.pool_head."),
)
# Middles of names inside a block or the pooling head.
_MIDDLES = (
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
    ("self_attn.", "attn."),
)
_WHOLE = {
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",
}
# A linear layer there, a matrix applied from the right here.
_TRANSPOSED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
# Counters from 0, kept in old files.
_DROPPED = re.compile(r"(text|vision)_model\.embeddings\.position_ids")
_PARTS = re.compile(r"(.*\.attn\.)([qkv])_proj\.(weight|bias)")


def has_transformers_names(state: Mapping[str, Tensor]) -> bool:
    """Whether weights are under transformers' names.

    Examples
    --------
    >>> has_transformers_names({"text_model.final_layer_norm.bias": torch.zeros(1)})
    True
    """
    return any(name.startswith(("text_model.", "vision_model.")) for name in state)


def from_transformers(state: Mapping[str, Tensor]) -> State:
    """Weights under our names, as the model holds them.

    Raises
    ------
    WeightsError
        A name no CLIP or SigLIP of theirs has, or a query without its key and value.
    """
    found: State = {}
    apart: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if _DROPPED.fullmatch(name):
            continue
        if name in _TRANSPOSED:
            found[_TRANSPOSED[name]] = _turned(tensor, name)
            continue
        ours = _WHOLE.get(name) or _ours(name)
        if match := _PARTS.fullmatch(ours):
            apart.setdefault(f"{match[1]}in_proj_{match[3]}", {})[match[2]] = tensor
        else:
            found[ours] = tensor.reshape(()) if ours in ("logit_scale", "logit_bias") else tensor
    for ours, parts in apart.items():
        found[ours] = _joined(ours, parts)
    return found


def to_transformers_names(state: Mapping[str, Tensor], *, siglip: bool) -> State:
    """The inverse of `from_transformers`."""
    whole = {ours: theirs for theirs, ours in _WHOLE.items()}
    turned = {ours: theirs for theirs, ours in _TRANSPOSED.items()}
    found: State = {}
    for name, tensor in state.items():
        if name in turned:
            found[turned[name]] = _turned(tensor, name)
        elif name in ("logit_scale", "logit_bias"):
            found[name] = tensor.reshape(1) if siglip else tensor
        elif match := re.fullmatch(r"(.*resblocks\.\d+\.attn\.)in_proj_(weight|bias)", name):
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                found[_theirs(f"{match[1]}{part}_proj.{match[2]}")] = third
        else:
            found[whole.get(name) or _theirs(name)] = tensor
    return found


def _ours(name: str) -> str:
    for theirs, ours in _PREFIXES:
        if name.startswith(theirs):
            rest = name.removeprefix(theirs)
            for middle, replacement in _MIDDLES:
                rest = rest.replace(middle, replacement)
            return ours + rest
    raise WeightsError(f"the weight {name!r} belongs to no CLIPModel or SiglipModel of transformers")


def _theirs(name: str) -> str:
    for theirs, ours in _PREFIXES:
        if name.startswith(ours):
            rest = name.removeprefix(ours)
            for replacement, middle in _MIDDLES:
                rest = rest.replace(middle, replacement)
            return theirs + rest
    raise WeightsError(f"transformers has no name for the weight {name!r}")


def _turned(tensor: Tensor, name: str) -> Tensor:
    if tensor.ndim != 2:
        raise WeightsError(f"{name} has {tensor.ndim} dimensions, expected a matrix")
    return tensor.T.contiguous()


def _joined(name: str, parts: Mapping[str, Tensor]) -> Tensor:
    if set(parts) != set("qkv") or len({(part.shape, part.dtype) for part in parts.values()}) != 1:
        raise WeightsError(
            f"{name} needs q_proj, k_proj and v_proj of one shape and type, found {sorted(parts)}"
        )
    if parts["q"].ndim == 0:
        raise WeightsError(f"{name} is made of single numbers, expected matrices")
    return torch.cat([parts["q"], parts["k"], parts["v"]])
