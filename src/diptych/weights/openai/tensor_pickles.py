"""Interpret torch's pickles as data: modules become their attributes, tensors views of storages.

`diptych.files.pickle_reader` has the interpreter. The names that a pickle may refer to are listed here: those
of TorchScript modules (`ArchiveReader`), or of state dictionaries and training checkpoints
(`CheckpointReader`). Any other name is refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch

from diptych.errors import WeightsError
from diptych.files.pickle_reader import PickledName, PickleReader, describe

_STORAGES = {
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
_REBUILD = "torch._utils._rebuild_tensor_v2"
_ORDERED_DICT = "collections.OrderedDict"
_PARAMETER = "torch._utils._rebuild_parameter"
_SIZE, _DEVICE = "torch.Size", "torch.device"
_STATE_NAMES = (_REBUILD, _ORDERED_DICT, _PARAMETER, _SIZE, _DEVICE)
_DTYPE = re.compile(r"torch\.(?:bool|(?:u?int|b?float|complex)\d+)")
# Typed lists among a module's attributes; each is a call whose first argument is the value.
_TAGS = {
    f"torch.jit._pickle.{name}"
    for name in (
        "build_intlist",
        "build_doublelist",
        "build_boollist",
        "build_tensorlist",
        "restore_type_tag",
    )
}


@dataclass(eq=False)
class ScriptModule:
    """An instance of a `__torch__.` class: its attributes."""

    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Storage:
    """A storage of the file: `count` elements of type `dtype` under `key`."""

    dtype: torch.dtype
    key: str
    count: int


@dataclass(frozen=True)
class TensorView:
    """A tensor as a view of a storage: offset, size and stride in elements."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class ArchiveReader(PickleReader):
    """Interpreter for the pickle of a TorchScript archive.

    Raises
    ------
    WeightsError
        By `read`: an instruction or a name that no released archive has.
    """

    def is_known_name(self, name: str) -> bool:
        """Whether a name is one that TorchScript modules need."""
        listed = name in _STORAGES or name in _TAGS or name in (_REBUILD, _ORDERED_DICT)
        return listed or name.startswith("__torch__.")

    def on_call(self, name: str, arguments: Any) -> Any:
        """Return a dictionary, a view, or the value of a typed list."""
        if name == _ORDERED_DICT and arguments == ():
            return {}
        if name == _REBUILD and isinstance(arguments, tuple):
            return self._view(arguments)
        if name in _TAGS and isinstance(arguments, tuple) and arguments:
            return arguments[0]
        self.refuse(f"a call of {name[:100]} with {describe(arguments)}")

    def on_new_object(self, name: str, arguments: Any) -> ScriptModule:
        """Return an empty module."""
        if name.startswith("__torch__.") and arguments == ():
            return ScriptModule()
        self.refuse(f"an object of {name[:100]} with {describe(arguments)}")

    def _view(self, arguments: tuple[Any, ...]) -> TensorView:
        storage, offset, size, stride, *_ = arguments
        numbers = (offset, *size, *stride)
        if not isinstance(storage, Storage) or not all(_is_size(number) for number in numbers):
            self.refuse(f"a tensor made of {describe(arguments)}")
        if len(size) != len(stride) or len(size) > 8:
            self.refuse(f"a tensor of {len(size)} sizes with {len(stride)} strides")
        # One past the last element: e.g. offset 0, size (2, 3), stride (3, 1): 0 + 1 * 3 + 2 * 1 + 1 = 6.
        end = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        # A stride of 0 repeats elements, so that a small file could claim a huge tensor; no parameter does.
        if math.prod(size) > storage.count or (math.prod(size) and end > storage.count):
            self.refuse(f"a tensor of shape {size} over a storage of {storage.count} numbers")
        return TensorView(storage, offset, tuple(size), tuple(stride))

    def on_persistent_id(self, value: Any) -> Storage:
        """Return a storage of the archive."""
        match value:
            case ("storage", PickledName(text), str(key), str(), int(count)) if (
                text in _STORAGES and count >= 0
            ):
                return Storage(_STORAGES[text], key, count)
        self.refuse(f"the storage {describe(value)}")

    def on_state(self, target: Any, state: Any) -> None:
        """Give a module its attributes."""
        if not isinstance(target, ScriptModule) or not isinstance(state, dict):
            self.refuse(f"the state {describe(state)} for {describe(target)}")
        target.attributes.update(state)

    def malformed(self, reason: str) -> WeightsError:
        """Build the error for a damaged archive."""
        return invalid_file(self.path, reason)

    def refuse(self, content: str) -> NoReturn:
        """Raise the error for content that no released archive has."""
        raise WeightsError(
            f"{self.path} holds {content}, which no released CLIP archive does: refused, "
            "and nothing in it was run"
        )


class CheckpointReader(ArchiveReader):
    """Interpreter for the pickle of `torch.save`: weights and training checkpoints.

    Tensors become views, which `storages` reads; a parameter becomes its tensor, a dtype its name.

    Raises
    ------
    WeightsError
        By `read`: an instruction or a name other than those of tensors and plain containers.
    """

    optional_instructions = frozenset({"STACK_GLOBAL", "MEMOIZE", "FRAME"})
    key_types = (str, int)

    def __init__(self, data: bytes, path: Path) -> None:
        super().__init__(data, path)
        self.storages: dict[str, Storage] = {}

    def is_known_name(self, name: str) -> bool:
        """Whether a name is one that state dictionaries need."""
        return name in _STORAGES or name in _STATE_NAMES or _DTYPE.fullmatch(name) is not None

    def on_call(self, name: str, arguments: Any) -> Any:
        """Return a dictionary, a view, or a plain value."""
        if name == _PARAMETER and isinstance(arguments, tuple) and isinstance(arguments[0], TensorView):
            return arguments[0]
        if name == _SIZE and isinstance(arguments, tuple) and len(arguments) == 1:
            return arguments[0]
        if name == _DEVICE and isinstance(arguments, tuple):
            return ":".join(map(str, arguments))[:100]
        return super().on_call(name, arguments)

    def on_new_object(self, name: str, arguments: Any) -> ScriptModule:
        """Refuse: a state dictionary has no objects."""
        self.refuse(name[:100])

    def on_persistent_id(self, value: Any) -> Storage:
        """Return a storage."""
        # Files of torch before 1.6 have a sixth element: whether the storage is a part of another.
        storage = super().on_persistent_id(
            value[:5] if isinstance(value, tuple) and value[5:] == (None,) else value
        )
        if self.storages.setdefault(storage.key, storage) != storage:
            self.refuse(f"the storage {storage.key[:60]} with two descriptions")
        return storage

    def on_state(self, target: Any, state: Any) -> None:
        """Ignore attributes of a dictionary: a state dictionary's `_metadata`."""
        if not isinstance(target, dict):
            self.refuse(f"the state {describe(state)} for {describe(target)}")

    def refuse(self, content: str) -> NoReturn:
        """Raise the error for content other than weights."""
        raise WeightsError(
            f"{self.path} is not weights alone (it names {content}): refused, and nothing in it was run. "
            "Save the state dictionary by itself, as .safetensors if you can"
        )


def _is_size(value: Any) -> bool:
    """Whether a value can be an offset, a size or a stride."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def invalid_file(path: Path, reason: str) -> WeightsError:
    """Build the error for a damaged file."""
    return WeightsError(f"cannot read {path} as a file of torch: {reason[:300]}. Fetch or copy it again")
