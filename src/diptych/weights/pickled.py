"""State dictionaries in torch's own files (`.pt`, `.pth`, `.bin`), and the wrappings people find them in.

Read with `weights_only=True`: a file that names anything but tensors and plain containers is refused, not
run.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diptych.errors import WeightsError
from diptych.weights.archive import is_torchscript, read_archive
from diptych.weights.native import read_safetensors
from diptych.weights.spec import State

# Where training scripts keep the weights; the first is open_clip's.
_WRAPPERS = ("state_dict", "model_state_dict", "model")
# What DistributedDataParallel and torch.compile put before a name.
_PREFIX = re.compile(r"^(?:module\.)+")
_COMPILED = "_orig_mod."


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
    return unwrap(_load(path), path)


def unwrap(content: Any, path: Path) -> State:
    """The weights in what a file held: under `state_dict`, with `module.` before the names, or plain.

    Examples
    --------
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
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise WeightsError(
                f"{path}: {name!r} is a {type(value).__name__}, expected a tensor; weights are looked for at "
                f"the top and under {', '.join(_WRAPPERS)}"
            )
    return {_PREFIX.sub("", name.replace(_COMPILED, "")): value for name, value in content.items()}


def _load(path: Path) -> Any:
    try:
        # Memory-mapped where the file is a zip: a half-read 10 GB checkpoint need not be held twice.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)|(?:global|type|class)\S* `?([\w]+\.[\w.]+)", str(error))
        what = next((group for group in named.groups() if group), "") if named else ""
        raise WeightsError(
            f"{path} is not weights alone{f' (it names {what})' if what else ''}: refused, and nothing in it "
            "was run. Save the state dictionary by itself, as .safetensors if you can"
        ) from error
    # torch.load has no error of its own for broken files: what comes out depends on where the bytes break.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise WeightsError(f"cannot read {path} as a PyTorch file: {reason}. Is the file whole?") from error
