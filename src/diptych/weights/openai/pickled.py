"""Read files of `torch.save` (`.pt`, `.pth`, `.bin`) as data, and find the weights in training checkpoints.

`torch.load` is never called: with `weights_only=True` it could execute code before torch 2.6 (CVE-2025-32434)
and 2.10 (CVE-2026-24747), and a file of a hundred bytes can still make it allocate any amount of memory. The
pickle is interpreted by `tensor_pickles` instead, and a file with anything but tensors and plain containers
is refused.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from diptych.errors import WeightsError
from diptych.weights.native import read_safetensors
from diptych.weights.openai.archive import is_torchscript, read_archive
from diptych.weights.openai.storages import LARGEST_PICKLE, LegacyStorages, StorageFile, ZipStorages, open_zip
from diptych.weights.openai.tensor_pickles import CheckpointReader, TensorView, invalid_file
from diptych.weights.spec import State

# Keys under which training scripts store the weights; the first is open_clip's.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# Prefixes of DistributedDataParallel and torch.compile.
_PREFIX = re.compile(r"^(?:module\.)+")
_COMPILED_PREFIX = "_orig_mod."
_MAX_DEPTH = 32  # of nested containers
# The number at the beginning of a file of torch before 1.6, as it is pickled.
_LEGACY_MAGIC = b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")


def read_state(path: Path) -> State:
    """Read weights by name from a file of any supported format.

    Parameters
    ----------
    path : Path
        `.safetensors`, a TorchScript archive, or a file of `torch.save` (weights or a training checkpoint).

    Raises
    ------
    WeightsError
        The file is missing, damaged, or contains something else than weights.
    """
    if not path.is_file():
        raise WeightsError(f"{path} is not a file")
    if path.stat().st_size == 0:
        raise WeightsError(f"{path} is empty (0 bytes): expected weights")
    if path.suffix == ".safetensors":
        return unwrap(read_safetensors(path), path)
    if is_torchscript(path):
        return read_archive(path)
    if zipfile.is_zipfile(path):
        with open_zip(path) as archive:
            storages = ZipStorages(archive, path)
            return storages.tensors(unwrap(CheckpointReader(storages.pickle(), path).read(), path))
    content, legacy = _read_legacy(path)
    return legacy.tensors(unwrap(content, path))


def read_torch_file(path: Path) -> Any:
    """Read a file of `torch.save` with tensors in plain containers.

    Parameters
    ----------
    path : Path
        A zip, as torch writes it since 1.6.

    Raises
    ------
    WeightsError
        The file is damaged, contains other objects, or claims larger sizes than it has.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"step": 3, "weights": [torch.ones(2)]}, Path(folder) / "a.pt")
    ...     read_torch_file(Path(folder) / "a.pt")
    {'step': 3, 'weights': [tensor([1., 1.])]}
    """
    with open_zip(path) as archive:
        storages = ZipStorages(archive, path)
        content = CheckpointReader(storages.pickle(), path).read()
        # All views are collected first, so that each storage is read once and the sizes are checked together.
        views: dict[str, TensorView] = {}
        _map_views(content, lambda view: views.setdefault(str(id(view)), view), {})
        tensors = storages.tensors(views)
        return _map_views(content, lambda view: tensors[str(id(view))], {})


def _map_views(
    content: Any, change: Callable[[TensorView], Any], done: dict[int, Any], depth: int = 0
) -> Any:
    """Copy nested containers with every view replaced; a container reached twice is copied once."""
    if depth > _MAX_DEPTH:
        raise WeightsError(f"the checkpoint has containers nested more than {_MAX_DEPTH} deep")
    if isinstance(content, TensorView):
        return change(content)
    if not isinstance(content, dict | list | tuple):
        return content
    if id(content) not in done:
        if isinstance(content, dict):
            done[id(content)] = {k: _map_views(v, change, done, depth + 1) for k, v in content.items()}
        else:
            done[id(content)] = type(content)(_map_views(v, change, done, depth + 1) for v in content)
    return done[id(content)]


def unwrap(content: Any, path: Path) -> dict[str, Any]:
    """Find the weights in a file's content: under `state_dict`, with the prefix `module.`, or plain.

    Examples
    --------
    >>> import torch
    >>> list(unwrap({"epoch": 3, "state_dict": {"module.logit_scale": torch.tensor(1.0)}}, Path("a.pt")))
    ['logit_scale']
    """
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} holds a {type(content).__name__}, expected weights by name")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor | TensorView):
            raise WeightsError(
                f"{path}: {name!r} is a {type(value).__name__}, expected a tensor at the top level or "
                f"under {', '.join(_WRAPPERS)}"
            )
    return {_PREFIX.sub("", name.replace(_COMPILED_PREFIX, "")): value for name, value in content.items()}


def _read_legacy(path: Path) -> tuple[Any, StorageFile]:
    """Read a file of torch before 1.6: five pickles (magic, version, system, content, keys) and storages."""
    with path.open("rb") as file:
        head = file.read(LARGEST_PICKLE)
    legacy = _LEGACY_MAGIC in head[:32]
    start, contents = 0, []
    # A pickle without the magic number is a plain one: it is interpreted to name what is wrong with it.
    for _ in range(5 if legacy else 1):
        reader = CheckpointReader(head[start:], path)
        contents.append((reader.read(), reader.storages))
        start += reader.end
    if not legacy:
        raise invalid_file(path, "it is a plain pickle, expected weights saved by torch.save")
    system, (content, storages) = contents[2][0], contents[3]
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise invalid_file(path, "its numbers are not little-endian")
    keys = contents[4][0]
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise invalid_file(path, "its list of storages is invalid")
    return content, LegacyStorages(path, start, keys, storages)
