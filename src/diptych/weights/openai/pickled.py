"""Files of `torch.save` (`.pt`, `.pth`, `.bin`) read as data, and the wrappings people find weights in.

`torch.load` is never called on them: with `weights_only=True` it could execute code before torch 2.6
(CVE-2025-32434) and 2.10 (CVE-2026-24747), and a file of a hundred bytes can still ask it for any amount of
memory. The pickle is stepped through instead (`steps`), and a file that names anything but tensors and plain
containers is refused.
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
from diptych.weights.openai.records import LARGEST_PICKLE, LegacyRecords, Records, ZipRecords, opened
from diptych.weights.openai.steps import StateReader, View, broken
from diptych.weights.spec import State

# Where training scripts keep the weights; the first is open_clip's.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# What DistributedDataParallel and torch.compile put before a name.
_PREFIX = re.compile(r"^(?:module\.)+")
_COMPILED = "_orig_mod."
_DEEPEST = 32  # containers inside containers
# The number that a file of torch before 1.6 begins with, as a pickle has it.
_LEGACY_MAGIC = b"\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")


def read_state(path: Path) -> State:
    """Weights by name from a single file of any kind this package reads.

    Parameters
    ----------
    path : Path
        `.safetensors`, a TorchScript archive, or a file of `torch.save` (weights or a training checkpoint).

    Raises
    ------
    WeightsError
        The file is missing, broken, or not weights alone.
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
        with opened(path) as archive:
            records = ZipRecords(archive, path)
            return records.tensors(unwrap(StateReader(records.pickle(), path).read(), path))
    content, legacy = _read_legacy(path)
    return legacy.tensors(unwrap(content, path))


def read_torch_file(path: Path) -> Any:
    """Read everything in a file of `torch.save`: tensors in plain containers.

    Parameters
    ----------
    path : Path
        A zip, as torch writes it since 1.6.

    Raises
    ------
    WeightsError
        The file is broken, names something else, or claims more than it holds.

    Examples
    --------
    >>> import tempfile
    >>> import torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"step": 3, "weights": [torch.ones(2)]}, Path(folder) / "a.pt")
    ...     read_torch_file(Path(folder) / "a.pt")
    {'step': 3, 'weights': [tensor([1., 1.])]}
    """
    with opened(path) as archive:
        records = ZipRecords(archive, path)
        content = StateReader(records.pickle(), path).read()
        views: dict[str, View] = {}
        _map_views(content, lambda view: views.setdefault(str(id(view)), view), {})
        tensors = records.tensors(views)
        return _map_views(content, lambda view: tensors[str(id(view))], {})


def _map_views(content: Any, change: Callable[[View], Any], done: dict[int, Any], depth: int = 0) -> Any:
    """Nested containers with every view changed; each container once, however often it is reached."""
    if depth > _DEEPEST:
        raise WeightsError(f"the checkpoint has containers more than {_DEEPEST} deep")
    if isinstance(content, View):
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
    """The weights in what a file held: under `state_dict`, with `module.` before the names, or plain.

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
        if not isinstance(name, str) or not isinstance(value, Tensor | View):
            raise WeightsError(
                f"{path}: {name!r} is a {type(value).__name__}, expected a tensor; weights are looked for at "
                f"the top and under {', '.join(_WRAPPERS)}"
            )
    return {_PREFIX.sub("", name.replace(_COMPILED, "")): value for name, value in content.items()}


def _read_legacy(path: Path) -> tuple[Any, Records]:
    """A file of torch before 1.6: five pickles (magic, version, system, content, keys), then the storages."""
    with path.open("rb") as file:
        head = file.read(LARGEST_PICKLE)
    legacy = _LEGACY_MAGIC in head[:32]
    start, contents = 0, []
    # A pickle without the magic number is a plain one: it is stepped through to say what is wrong with it.
    for _ in range(5 if legacy else 1):
        reader = StateReader(head[start:], path)
        contents.append((reader.read(), reader.storages))
        start += reader.end
    if not legacy:
        raise broken(path, "it is a plain pickle, expected weights saved by torch.save")
    system, (content, storages) = contents[2][0], contents[3]
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise broken(path, "its numbers are not little-endian")
    keys = contents[4][0]
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise broken(path, "it does not list its storages")
    return content, LegacyRecords(path, start, keys, storages)
