"""What a model is, as a hash: part by part, so that a mismatch can be named.

Two checkpoints with one identity give the same vectors. The description (name, licence, source, training
summary) changes no vector: it has a hash of its own, is verified like the others, and stays out of the
identity, so that the same weights from two places are one model to a saved classifier or index.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.errors import WeightsError
from diptych.weights.spec import ModelSpec, tokenizer_file

PREFIX = "sha256:"
VECTOR_PARTS = ("weights", "architecture", "preprocess", "tokenizer")  # what changes a vector


def identity_of(spec: ModelSpec, state: Mapping[str, Tensor], folder: Path | None = None) -> str:
    """The model's identity: a hash over weights, architecture, preprocessing and tokenizer.

    Parameters
    ----------
    spec : ModelSpec
        What the weights belong to.
    state : mapping of str to Tensor
        Weights by name; names, types, shapes and bytes all count.
    folder : Path, optional
        Where the tokenizer's file lies, if it has one; the file's bytes count.

    Returns
    -------
    str
        "sha256:" and 64 hexadecimal digits.

    Examples
    --------
    >>> from diptych.model.presets.table import preset
    >>> spec = ModelSpec(name="mine", architecture=preset("diptych-tiny"))
    >>> one = identity_of(spec, {"logit_scale": torch.tensor(1.0)})
    >>> one == identity_of(spec, {"logit_scale": torch.tensor(2.0)})
    False
    """
    return identity_of_parts(hash_parts(spec, state, folder))


def identity_of_parts(parts: Mapping[str, str]) -> str:
    """The identity that belongs to the hashes `hash_parts` gave."""
    return PREFIX + _sha256({part: parts[part] for part in VECTOR_PARTS})


def hash_parts(spec: ModelSpec, state: Mapping[str, Tensor], folder: Path | None = None) -> dict[str, str]:
    """One hash for each of weights, architecture, preprocess, tokenizer and description."""
    told = spec.to_dict()
    # Languages only where they are stated: files from before there were any keep their hash.
    keys = ("name", "licence", "source", "training", "languages")
    description = {key: told[key] for key in keys if key in told}
    return {
        "weights": hash_state(state),
        "architecture": _sha256(_told(spec.architecture)),
        "preprocess": _sha256(_told(spec.preprocess)),
        "tokenizer": _sha256([_told(spec.tokenizer), _hash_tokenizer_file(spec, folder)]),
        "description": _sha256(description),
    }


def hash_state(state: Mapping[str, Tensor]) -> str:
    """Hash of names, types, shapes and bytes, whatever the order; large tensors in parallel."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        digests = list(pool.map(_hash_tensor, (state[name] for name in sorted(state))))
    return _sha256(list(zip(sorted(state), digests, strict=True)))


def _hash_tensor(tensor: Tensor) -> list[Any]:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    digest = hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()
    return [str(tensor.dtype).removeprefix("torch."), list(tensor.shape), digest]


def _hash_tokenizer_file(spec: ModelSpec, folder: Path | None) -> str:
    name = tokenizer_file(spec.tokenizer)
    if name is None:
        return ""
    path = (folder or Path()) / name
    if not path.is_file():
        return "absent"  # pictures can still be encoded; the tokenizer says so when it is asked for
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read the tokenizer {path}: {error.strerror}") from error


def _told(value: Any) -> Any:
    """A config as plain values, those at their defaults left out.

    A later version that adds a field with a default then gives the files of today the same identity.
    """
    if not dataclasses.is_dataclass(value):
        return list(value) if isinstance(value, tuple) else value
    told: dict[str, Any] = {"is": type(value).__name__}
    for item in dataclasses.fields(value):
        default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        content = getattr(value, item.name)
        if content != default:
            told[item.name] = _told(content)
    return told


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
