"""The pickle inside a TorchScript archive as data: modules by their attributes, tensors by what they view.

The steps are `diptych.pickle_reader`'s. What a pickle may name is a short list, that of TorchScript's
modules; anything else is refused by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch

from diptych.errors import WeightsError
from diptych.pickle_reader import Name, PickleReader, told

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

    def knows(self, name: str) -> bool:
        """What TorchScript's modules need."""
        listed = name in _STORAGES or name in _TAGS or name in (_REBUILD, _ORDERED)
        return listed or name.startswith("__torch__.")

    def called(self, name: str, arguments: Any) -> Any:
        """A dictionary, a tensor's view, or the value in a tag."""
        if name == _ORDERED and arguments == ():
            return {}
        if name == _REBUILD and isinstance(arguments, tuple):
            return self._view(arguments)
        if name in _TAGS and isinstance(arguments, tuple) and arguments:
            return arguments[0]
        self.refuse(f"a call of {name[:100]} with {told(arguments)}")

    def made(self, name: str, arguments: Any) -> Module:
        """An empty module."""
        if name.startswith("__torch__.") and arguments == ():
            return Module()
        self.refuse(f"an object of {name[:100]} with {told(arguments)}")

    def _view(self, arguments: tuple[Any, ...]) -> View:
        storage, offset, size, stride, *_ = arguments
        numbers = (offset, *size, *stride)
        if not isinstance(storage, Storage) or not all(_whole(number) for number in numbers):
            self.refuse(f"a tensor made of {told(arguments)}")
        if len(size) != len(stride) or len(size) > 8:
            self.refuse(f"a tensor of shape {size} with strides {stride}")
        reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        # A parameter never repeats its storage; a claim that it does asks for memory the file does not fill.
        if math.prod(size) > storage.count or (math.prod(size) and reach > storage.count):
            self.refuse(f"a tensor of shape {size} over a storage of {storage.count} numbers")
        return View(storage, offset, tuple(size), tuple(stride))

    def record(self, value: Any) -> Storage:
        """A storage of the archive."""
        match value:
            case ("storage", Name(text), str(key), str(), int(count)) if text in _STORAGES and count >= 0:
                return Storage(_STORAGES[text], key, count)
        self.refuse(f"the storage {told(value)}")

    def built(self, target: Any, state: Any) -> None:
        """Give a module its attributes."""
        if not isinstance(target, Module) or not isinstance(state, dict):
            self.refuse(f"the state {told(state)} for {told(target)}")
        target.attributes.update(state)

    def broken(self, reason: str) -> WeightsError:
        """The error for an archive that does not hold together."""
        return broken(self.path, reason)

    def refuse(self, what: str) -> NoReturn:
        """Raise the error for what no archive holds."""
        raise WeightsError(
            f"{self.path} holds {what}, which no released CLIP archive does: refused, "
            "and nothing in it was run"
        )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def broken(path: Path, reason: str) -> WeightsError:
    """The error for an archive that does not hold together."""
    return WeightsError(f"{path} cannot be read as a TorchScript archive: {reason}. Fetch or copy it again")
