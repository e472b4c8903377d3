"""The pickles of torch as data: TorchScript's modules by their attributes, tensors by what they view.

The steps are `diptych.files.pickle_reader`'s. What a pickle may name is a short list, that of TorchScript's
modules (`Reader`) or of state dictionaries and training checkpoints (`StateReader`); anything else is refused
by name.
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
_ORDERED = "collections.OrderedDict"
_PARAMETER = "torch._utils._rebuild_parameter"
_SIZE, _DEVICE = "torch.Size", "torch.device"
_STATE_NAMES = (_REBUILD, _ORDERED, _PARAMETER, _SIZE, _DEVICE)
_DTYPE = re.compile(r"torch\.(?:bool|(?:u?int|b?float|complex)\d+)")
# Lists of numbers among a module's plain values; each is a call whose first argument is the value.
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
class Module:
    """What an instance of a `__torch__.` class becomes: its attributes."""

    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Storage:
    """A record of the archive."""

    dtype: torch.dtype
    key: str
    count: int


@dataclass(frozen=True)
class View:
    """A tensor: how to read a storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Reader(PickleReader):
    """Steps through the pickle of an archive.

    Raises
    ------
    WeightsError
        By `read`: an instruction or a name that a released archive never holds.
    """

    def is_known_name(self, name: str) -> bool:
        """What TorchScript's modules need."""
        listed = name in _STORAGES or name in _TAGS or name in (_REBUILD, _ORDERED)
        return listed or name.startswith("__torch__.")

    def on_call(self, name: str, arguments: Any) -> Any:
        """A dictionary, a tensor's view, or the value in a tag."""
        if name == _ORDERED and arguments == ():
            return {}
        if name == _REBUILD and isinstance(arguments, tuple):
            return self._view(arguments)
        if name in _TAGS and isinstance(arguments, tuple) and arguments:
            return arguments[0]
        self.refuse(f"a call of {name[:100]} with {describe(arguments)}")

    def on_new_object(self, name: str, arguments: Any) -> Module:
        """An empty module."""
        if name.startswith("__torch__.") and arguments == ():
            return Module()
        self.refuse(f"an object of {name[:100]} with {describe(arguments)}")

    def _view(self, arguments: tuple[Any, ...]) -> View:
        storage, offset, size, stride, *_ = arguments
        numbers = (offset, *size, *stride)
        if not isinstance(storage, Storage) or not all(_whole(number) for number in numbers):
            self.refuse(f"a tensor made of {describe(arguments)}")
        if len(size) != len(stride) or len(size) > 8:
            self.refuse(f"a tensor of {len(size)} sizes with {len(stride)} strides")
        reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        # A parameter never repeats its storage; a claim that it does asks for memory the file does not fill.
        if math.prod(size) > storage.count or (math.prod(size) and reach > storage.count):
            self.refuse(f"a tensor of shape {size} over a storage of {storage.count} numbers")
        return View(storage, offset, tuple(size), tuple(stride))

    def on_persistent_id(self, value: Any) -> Storage:
        """A storage of the archive."""
        match value:
            case ("storage", PickledName(text), str(key), str(), int(count)) if (
                text in _STORAGES and count >= 0
            ):
                return Storage(_STORAGES[text], key, count)
        self.refuse(f"the storage {describe(value)}")

    def on_state(self, target: Any, state: Any) -> None:
        """Give a module its attributes."""
        if not isinstance(target, Module) or not isinstance(state, dict):
            self.refuse(f"the state {describe(state)} for {describe(target)}")
        target.attributes.update(state)

    def malformed(self, reason: str) -> WeightsError:
        """The error for an archive that does not hold together."""
        return broken(self.path, reason)

    def refuse(self, content: str) -> NoReturn:
        """Raise the error for what no archive holds."""
        raise WeightsError(
            f"{self.path} holds {content}, which no released CLIP archive does: refused, "
            "and nothing in it was run"
        )


class StateReader(Reader):
    """Steps through the pickle of `torch.save`: weights, and what training scripts keep beside them.

    Tensors become views, which `records` reads; a parameter is its tensor, and a type of numbers its name.

    Raises
    ------
    WeightsError
        By `read`: an instruction or a name beyond tensors and plain containers.
    """

    optional_instructions = frozenset({"STACK_GLOBAL", "MEMOIZE", "FRAME"})
    key_types = (str, int)

    def __init__(self, data: bytes, path: Path) -> None:
        super().__init__(data, path)
        self.storages: dict[str, Storage] = {}

    def is_known_name(self, name: str) -> bool:
        """What state dictionaries need."""
        return name in _STORAGES or name in _STATE_NAMES or _DTYPE.fullmatch(name) is not None

    def on_call(self, name: str, arguments: Any) -> Any:
        """A dictionary, a tensor's view, or a plain value."""
        if name == _PARAMETER and isinstance(arguments, tuple) and isinstance(arguments[0], View):
            return arguments[0]
        if name == _SIZE and isinstance(arguments, tuple) and len(arguments) == 1:
            return arguments[0]
        if name == _DEVICE and isinstance(arguments, tuple):
            return ":".join(map(str, arguments))[:100]
        return super().on_call(name, arguments)

    def on_new_object(self, name: str, arguments: Any) -> Module:
        """Nothing: a state dictionary holds no objects."""
        self.refuse(name[:100])

    def on_persistent_id(self, value: Any) -> Storage:
        """A storage; files of torch before 1.6 say in a sixth place whether it is part of another."""
        storage = super().on_persistent_id(
            value[:5] if isinstance(value, tuple) and value[5:] == (None,) else value
        )
        if self.storages.setdefault(storage.key, storage) != storage:
            self.refuse(f"the storage {storage.key[:60]} of two kinds")
        return storage

    def on_state(self, target: Any, state: Any) -> None:
        """Pass over what a dictionary has besides its items: a state dictionary's `_metadata`."""
        if not isinstance(target, dict):
            self.refuse(f"the state {describe(state)} for {describe(target)}")

    def refuse(self, content: str) -> NoReturn:
        """Raise the error for what is not weights."""
        raise WeightsError(
            f"{self.path} is not weights alone (it names {content}): refused, and nothing in it was run. "
            "Save the state dictionary by itself, as .safetensors if you can"
        )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def broken(path: Path, reason: str) -> WeightsError:
    """The error for an archive that does not hold together."""
    return WeightsError(f"cannot read {path} as a file of torch's: {reason[:300]}. Fetch or copy it again")
