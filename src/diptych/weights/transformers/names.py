"""Convert parameter names of transformers to ours and back; tensors are rearranged without loss.

There, query, key and value are three layers; here they are one matrix. There, projections are linear layers;
here they are matrices applied from the right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from diptych.errors import WeightsError
from diptych.weights.spec import State

# Prefixes of names, transformers' and ours.
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
# Parts of names inside a block or the pooling head, transformers' and ours.
_INFIXES = (
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
    ("self_attn.", "attn."),
)
_EXACT_NAMES = {
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "logit_scale": "logit_scale",
    "logit_bias": "logit_bias",
}
# Weights of linear layers there, matrices here: transposed.
_TRANSPOSED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
# Position ids 0, 1, 2, ... in files of old versions.
_POSITION_IDS = re.compile(r"(text|vision)_model\.embeddings\.position_ids")
_QKV = re.compile(r"(.*\.attn\.)([qkv])_proj\.(weight|bias)")


def has_transformers_names(state: Mapping[str, Tensor]) -> bool:
    """Whether weights have transformers' names.

    Examples
    --------
    >>> has_transformers_names({"text_model.final_layer_norm.bias": torch.zeros(1)})
    True
    """
    return any(name.startswith(("text_model.", "vision_model.")) for name in state)


def from_transformers(state: Mapping[str, Tensor]) -> State:
    """Convert weights from transformers' names to ours.

    Raises
    ------
    WeightsError
        A name is that of no CLIP or SigLIP of transformers, or a query has no key or value.
    """
    converted: State = {}
    separate: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        if _POSITION_IDS.fullmatch(name):
            continue
        if name in _TRANSPOSED:
            converted[_TRANSPOSED[name]] = _transpose(tensor, name)
            continue
        native = _EXACT_NAMES.get(name) or _native_name(name)
        if match := _QKV.fullmatch(native):
            # E.g. "...attn.q_proj.weight" is collected as "q" of "...attn.in_proj_weight".
            separate.setdefault(f"{match[1]}in_proj_{match[3]}", {})[match[2]] = tensor
        else:
            converted[native] = tensor.reshape(()) if native in ("logit_scale", "logit_bias") else tensor
    for native, parts in separate.items():
        converted[native] = _concatenate(native, parts)
    return converted


def to_transformers_names(state: Mapping[str, Tensor], *, siglip: bool) -> State:
    """Inverse of `from_transformers`."""
    exact_names = {native: foreign for foreign, native in _EXACT_NAMES.items()}
    transposed = {native: foreign for foreign, native in _TRANSPOSED.items()}
    converted: State = {}
    for name, tensor in state.items():
        if name in transposed:
            converted[transposed[name]] = _transpose(tensor, name)
        elif name in ("logit_scale", "logit_bias"):
            converted[name] = tensor.reshape(1) if siglip else tensor
        elif match := re.fullmatch(r"(.*resblocks\.\d+\.attn\.)in_proj_(weight|bias)", name):
            # Not in the pooling head, where transformers has one matrix as well.
            for part, third in zip("qkv", tensor.chunk(3), strict=True):
                converted[_foreign_name(f"{match[1]}{part}_proj.{match[2]}")] = third
        else:
            converted[exact_names.get(name) or _foreign_name(name)] = tensor
    return converted


def _native_name(name: str) -> str:
    for foreign, native in _PREFIXES:
        if name.startswith(foreign):
            rest = name.removeprefix(foreign)
            for infix, replacement in _INFIXES:
                rest = rest.replace(infix, replacement)
            return native + rest
    raise WeightsError(f"the weight {name!r} belongs to no CLIPModel or SiglipModel of transformers")


def _foreign_name(name: str) -> str:
    for foreign, native in _PREFIXES:
        if name.startswith(native):
            rest = name.removeprefix(native)
            for replacement, infix in _INFIXES:
                rest = rest.replace(infix, replacement)
            return foreign + rest
    raise WeightsError(f"transformers has no name for the weight {name!r}")


def _transpose(tensor: Tensor, name: str) -> Tensor:
    if tensor.ndim != 2:
        raise WeightsError(f"{name} has {tensor.ndim} dimensions, expected a matrix")
    return tensor.T.contiguous()


def _concatenate(name: str, parts: Mapping[str, Tensor]) -> Tensor:
    if set(parts) != set("qkv") or len({(part.shape, part.dtype) for part in parts.values()}) != 1:
        raise WeightsError(
            f"{name} needs q_proj, k_proj and v_proj of one shape and type, found {', '.join(sorted(parts))}"
        )
    if parts["q"].ndim == 0:
        raise WeightsError(f"{name} consists of single numbers, expected matrices")
    return torch.cat([parts["q"], parts["k"], parts["v"]])
