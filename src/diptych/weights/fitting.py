"""Check that weights belong to an architecture, before they are copied into a model.

The expected names and shapes come from the model itself, built on the meta device.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor

from diptych.errors import InputError, MissingExtraError, WeightsError
from diptych.model.config import CLIPConfig, TimmConfig, ViTConfig
from diptych.model.initialise import build
from diptych.model.presets.table import PRESETS
from diptych.weights.spec import State

# Number of batches that a batch norm has processed: absent from old files, without effect on embeddings.
_COUNTER = "num_batches_tracked"
_SHOWN = 3  # names of each kind in a message


def expected_shapes(config: CLIPConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight and buffer of a model of this architecture."""
    try:
        model = build(config, device="meta")
    except (RuntimeError, TypeError, OverflowError) as error:  # sizes beyond 64-bit integers
        raise WeightsError(f"no model of this architecture can be built: {error}") from error
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def fit(config: CLIPConfig, state: Mapping[str, Tensor], *, source: str = "the checkpoint") -> State:
    """Check names and shapes of weights strictly; return them in the model's order.

    A scale or bias may be stored as a vector of length one, and batch counters may be missing.

    Raises
    ------
    WeightsError
        Names are missing or unexpected, or shapes differ; the message lists the first few and the presets
        that would fit.
    """
    # Every layer has a weight. Checked first, as a config may claim millions of layers.
    if _depth(config) > len(state):
        raise WeightsError(
            f"{source} has {len(state)} weights, too few for an architecture of {_depth(config)} layers. "
            f"{_advice(state)}"
        )
    expected = expected_shapes(config)
    tensors = {
        name: _scalar(tensor) if expected.get(name) == () else tensor for name, tensor in state.items()
    }
    for name in expected:
        if name.endswith(_COUNTER):
            tensors.setdefault(name, torch.zeros((), dtype=torch.int64))
    problems = _problems(expected, tensors)
    if problems:
        raise WeightsError(f"{source} does not fit the architecture: {'; '.join(problems)}. {_advice(state)}")
    return {name: tensors[name] for name in expected}


def fitting_presets(state: Mapping[str, Tensor]) -> list[str]:
    """Presets whose names and shapes are exactly those of the weights."""
    # The shape of the token embeddings rules out most presets without building them.
    return [name for name, config in PRESETS.items() if _may_fit(config, state) and _fits(config, state)]


# Fields that an architecture's name does not determine: without effect on inference, taken from the
# tokenizer, or compared separately (activation).
_IGNORED_FIELDS = frozenset(
    {"patch_dropout", "init_logit_scale", "init_logit_bias", "end_id", "pad_id", "activation", "norm_eps"}
)


def architecture_differences(named: CLIPConfig, stated: CLIPConfig) -> list[str]:
    """List the differences of two architectures, for messages.

    Parameters
    ----------
    named, stated : CLIPConfig
        The architecture that a caller names, and the one that a config file states.

    Examples
    --------
    >>> from diptych.model.presets.table import preset
    >>> architecture_differences(preset("RN50"), preset("RN50-quickgelu"))
    ["activation is 'gelu' and 'quick_gelu'"]
    """
    first, second = _comparable_fields(named), _comparable_fields(stated)
    return [
        f"{name} is {first.get(name)!r} and {second.get(name)!r}"
        for name in dict.fromkeys((*first, *second))
        if first.get(name) != second.get(name)
    ]


def _comparable_fields(config: CLIPConfig) -> dict[str, object]:
    """Fields of an architecture that its name determines: title -> value."""
    vision, text = config.vision, config.text
    # The activation that each tower computes, as the same model may state it in either place.
    fields: dict[str, object] = {"activation": config.activation, "embed_dim": config.embed_dim}
    if isinstance(vision, ViTConfig) and vision.activation is not None:
        fields["activation"] = vision.activation
    if (text.activation or config.activation) != fields["activation"]:
        fields["text activation"] = text.activation or config.activation
    for tower_title, tower in (("image tower", vision), ("text tower", text)):
        values = {f.name: getattr(tower, f.name) for f in dataclasses.fields(tower)}
        if "mlp_ratio" in values:  # compared as the hidden width: config files round the ratio
            values["mlp_ratio"] = int(values["width"] * values["mlp_ratio"])
        titles = {"image_size": "image size", "context_length": "context length", "vocab_size": "vocabulary"}
        for key, value in values.items():
            if key not in _IGNORED_FIELDS:
                fields[titles.get(key, f"{key} of the {tower_title}")] = value
    return fields


def _fits(config: CLIPConfig, state: Mapping[str, Tensor]) -> bool:
    try:
        return not _problems(expected_shapes(config), dict(state), counters=False)
    except (InputError, MissingExtraError):  # a tower of timm, which is missing or too old
        return False


def _depth(config: CLIPConfig) -> int:
    """Layers of both towers together."""
    vision = config.vision
    if isinstance(vision, TimmConfig):  # a name, which cannot claim a depth
        return config.text.layers
    return config.text.layers + (vision.layers if isinstance(vision, ViTConfig) else sum(vision.layers))


def _may_fit(config: CLIPConfig, state: Mapping[str, Tensor]) -> bool:
    """Cheap check before `_fits`: names of timm, and the shape of the token embeddings."""
    if isinstance(config.vision, TimmConfig) and not any(n.startswith("visual.trunk.") for n in state):
        return False
    table = state.get("token_embedding.weight")
    return table is not None and tuple(table.shape) == (config.text.vocab_size, config.text.width)


def _problems(
    expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], *, counters: bool = True
) -> list[str]:
    """List differences of names and shapes, for messages; `counters=False` ignores missing counters."""
    missing = [n for n in expected if n not in state and (counters or not n.endswith(_COUNTER))]
    unexpected = [n for n in state if n not in expected]
    misshapen = [n for n in expected if n in state and tuple(state[n].shape) != expected[n]]
    shapes = [f"{n} is {_shape(state[n].shape)}, expected {_shape(expected[n])}" for n in misshapen]
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
    return "No preset fits it: load it from its folder, with its own config"
