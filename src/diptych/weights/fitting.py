"""Does a set of weights belong to an architecture? Asked before a byte is copied into a model.

The expected names and shapes come from the model itself, built without memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from diptych.errors import InputError, MissingExtraError, WeightsError
from diptych.model.config import CLIPConfig, ResNetConfig, TimmConfig, ViTConfig
from diptych.model.initialise import build
from diptych.model.presets.table import PRESETS
from diptych.weights.spec import State

# Counts of batches a batch norm has seen: absent from old files and of no effect on a vector.
_COUNTER = "num_batches_tracked"
_SHOWN = 3  # names shown of each kind


def expected_shapes(config: CLIPConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight and buffer of a model of this architecture."""
    try:
        model = build(config, device="meta")
    except (RuntimeError, TypeError, OverflowError) as error:  # numbers no memory could hold
        raise WeightsError(f"no model of this architecture can be built: {error}") from error
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def fit(config: CLIPConfig, state: Mapping[str, Tensor], *, source: str = "the checkpoint") -> State:
    """The weights, in the model's order, once every name and shape is the model's.

    A one-element scale or bias may be stored as a vector of length one, and counters of batches may be
    missing; all else is strict.

    Raises
    ------
    WeightsError
        Names are missing or unexpected, or shapes differ; the message lists the first few and the presets
        that would fit.
    """
    if _depth(config) > len(state):  # also keeps a config that claims millions of layers from being built
        raise WeightsError(
            f"{source} has {len(state)} weights, too few for an architecture of {_depth(config)} layers. "
            f"{_advice(state)}"
        )
    wanted = expected_shapes(config)
    found = {name: _scalar(tensor) if wanted.get(name) == () else tensor for name, tensor in state.items()}
    for name in wanted:
        if name.endswith(_COUNTER):
            found.setdefault(name, torch.zeros((), dtype=torch.int64))
    complaints = _complaints(wanted, found)
    if complaints:
        raise WeightsError(
            f"{source} does not fit the architecture: {'; '.join(complaints)}. {_advice(state)}"
        )
    return {name: found[name] for name in wanted}


def fitting_presets(state: Mapping[str, Tensor]) -> list[str]:
    """Presets whose every name and shape are those of the weights."""
    # The shape of the token table and of the first convolution rule out nearly all without building any.
    return [name for name, config in PRESETS.items() if _may_fit(config, state) and _fits(config, state)]


# Fields of an architecture that change no vector, or that a reader settles by the tokenizer's ids.
_NO_PART_OF_A_NAME = frozenset(
    {"patch_dropout", "init_logit_scale", "init_logit_bias", "end_id", "pad_id", "activation", "norm_eps"}
)


def contradictions(named: CLIPConfig, stated: CLIPConfig) -> list[str]:
    """List what two architectures say differently of the same weights, for messages.

    Parameters
    ----------
    named, stated : CLIPConfig
        The architecture that a caller names, and the one that a config states.

    Examples
    --------
    >>> from diptych.model.presets.table import preset
    >>> contradictions(preset("RN50"), preset("RN50-quickgelu"))
    ["activation is 'gelu' and 'quick_gelu'"]
    """
    ours, theirs = _named_parts(named), _named_parts(stated)
    return [
        f"{name} is {ours.get(name)!r} and {theirs.get(name)!r}"
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    ]


def _named_parts(config: CLIPConfig) -> dict[str, object]:
    """What a name says of an architecture, flat; activations as each tower computes them."""
    vision, text = config.vision, config.text
    parts: dict[str, object] = {"activation": config.activation, "embed_dim": config.embed_dim}
    if isinstance(vision, ViTConfig) and vision.activation is not None:
        parts["activation"] = vision.activation
    if (text.activation or config.activation) != parts["activation"]:
        parts["text activation"] = text.activation or config.activation
    for title, tower in (("image tower", vision), ("text tower", text)):
        values = {f.name: getattr(tower, f.name) for f in dataclasses.fields(tower)}
        if "mlp_ratio" in values:  # configs round it
            values["mlp_ratio"] = int(values["width"] * values["mlp_ratio"])
        named = {"image_size": "image size", "context_length": "context length", "vocab_size": "vocabulary"}
        for key, value in values.items():
            if key not in _NO_PART_OF_A_NAME:
                parts[named.get(key, f"{key} of the {title}")] = value
    return parts


def _fits(config: CLIPConfig, state: Mapping[str, Tensor]) -> bool:
    try:
        fit_quietly = _complaints(expected_shapes(config), dict(state), counters=False)
    except (InputError, MissingExtraError):
        return False
    return not fit_quietly


def _depth(config: CLIPConfig) -> int:
    vision = config.vision
    if isinstance(vision, TimmConfig):  # a name, which cannot claim a size
        return config.text.layers
    return config.text.layers + (sum(vision.layers) if isinstance(vision, ResNetConfig) else vision.layers)


def _may_fit(config: CLIPConfig, state: Mapping[str, Tensor]) -> bool:
    if isinstance(config.vision, TimmConfig) and not any(n.startswith("visual.trunk.") for n in state):
        return False
    table = state.get("token_embedding.weight")
    return table is not None and tuple(table.shape) == (config.text.vocab_size, config.text.width)


def _complaints(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, Tensor], *, counters: bool = True
) -> list[str]:
    missing = [n for n in wanted if n not in found and (counters or not n.endswith(_COUNTER))]
    unexpected = [n for n in found if n not in wanted]
    misshapen = [n for n in wanted if n in found and tuple(found[n].shape) != wanted[n]]
    shapes = [f"{n} is {_shape(found[n].shape)}, expected {_shape(wanted[n])}" for n in misshapen]
    lists = (("missing", missing), ("unexpected", unexpected), ("of another shape:", shapes))
    return [f"{len(names)} {word} {_first(names)}" for word, names in lists if names]


def _first(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def _scalar(tensor: Tensor) -> Tensor:
    return tensor.reshape(()) if tensor.numel() == 1 else tensor


def _advice(state: Mapping[str, Tensor]) -> str:
    fitting = fitting_presets(state)
    if fitting:
        return f"It fits {', '.join(fitting)}: name that architecture instead"
    return "No preset fits it; load it from its folder, with the config that belongs to it"
