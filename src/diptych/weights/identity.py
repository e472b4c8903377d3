"""Identity of a model: a hash of its parts, so that a mismatch can be named.

Two checkpoints with the same identity give the same embeddings. The description (name, licence, source,
training summary) does not change embeddings: it is hashed and verified like the other parts but is not in the
identity, so that the same weights from two sources are the same model to a saved classifier or index.
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
VECTOR_PARTS = ("weights", "architecture", "preprocess", "tokenizer")  # parts that change embeddings


def identity_of(spec: ModelSpec, state: Mapping[str, Tensor], folder: Path | None = None) -> str:
    """Compute a model's identity: a hash over weights, architecture, preprocessing and tokenizer.

    Parameters
    ----------
    spec : ModelSpec
        Architecture, preprocessing and tokenizer.
    state : mapping of str to Tensor
        Weights by name; names, types, shapes and bytes are hashed.
    folder : Path, optional
        Folder of the tokenizer's file, if it has one; the file's bytes are hashed.

    Returns
    -------
    str
        "sha256:" and 64 hexadecimal digits.

    Examples
    --------
    >>> from diptych.model.presets.table import preset
    >>> spec = ModelSpec(name="mine", architecture=preset("diptych-tiny"))
    >>> identity = identity_of(spec, {"logit_scale": torch.tensor(1.0)})
    >>> identity == identity_of(spec, {"logit_scale": torch.tensor(2.0)})
    False
    """
    return identity_of_parts(hash_parts(spec, state, folder))


def identity_of_parts(parts: Mapping[str, str]) -> str:
    """Compute the identity from the hashes of `hash_parts`."""
    return PREFIX + _sha256({part: parts[part] for part in VECTOR_PARTS})


def hash_parts(spec: ModelSpec, state: Mapping[str, Tensor], folder: Path | None = None) -> dict[str, str]:
    """Hash weights, architecture, preprocess, tokenizer and description one by one."""
    values = spec.to_dict()
    # Languages only if stated, so that older files keep their hash.
    keys = ("name", "licence", "source", "training", "languages")
    description = {key: values[key] for key in keys if key in values}
    return {
        "weights": hash_state(state),
        "architecture": _sha256(_non_default_values(spec.architecture)),
        "preprocess": _sha256(_non_default_values(spec.preprocess)),
        "tokenizer": _sha256([_non_default_values(spec.tokenizer), _hash_tokenizer_file(spec, folder)]),
        "description": _sha256(description),
    }


def hash_state(state: Mapping[str, Tensor]) -> str:
    """Hash names, types, shapes and bytes, independent of the order of the tensors."""
    # hashlib releases the GIL, so threads hash in parallel.
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
        return "absent"  # images can still be encoded; loading the tokenizer raises the error
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot read the tokenizer {path}: {error.strerror}") from error


def _non_default_values(value: Any) -> Any:
    """Values of a config for hashing, without fields that have their default.

    So a later version that adds a field with a default gives existing files the same identity.
    """
    if not dataclasses.is_dataclass(value):
        return list(value) if isinstance(value, tuple) else value
    # The class name is part of the hash: it cannot be renamed.
    values: dict[str, Any] = {"is": type(value).__name__}
    for field in dataclasses.fields(value):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        content = getattr(value, field.name)
        if content != default:
            values[field.name] = _non_default_values(content)
    return values


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
