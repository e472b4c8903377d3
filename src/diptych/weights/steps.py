"""A pickle as data: its instructions stepped through, a plain value kept for each.

Nothing here unpickles, so there is no point at which code in a file, or named by it, could run. What an
instruction may name is a short list, that of TorchScript's modules; anything else is refused by name.
"""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch

from diptych.errors import WeightsError

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


@dataclass(frozen=True)
class Name:
    """A class or function the pickle names; never looked up."""

    text: str


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


class _Mark:
    """Where a group of values begins on the stack."""


class Reader:
    """Steps through a pickle, making plain values only.

    Parameters
    ----------
    data : bytes
        The pickle.
    path : Path
        For messages.
    """

    def __init__(self, data: bytes, path: Path) -> None:
        self._data = data
        self._path = path
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self) -> Any:
        """The value the pickle describes.

        Raises
        ------
        WeightsError
            An instruction or a name that a released archive never holds.
        """
        try:
            for code, argument, _ in pickletools.genops(self._data):
                if code.name == "STOP":
                    return self._pop()
                self._step(code.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            raise broken(self._path, f"its pickle is malformed ({error})") from error
        raise broken(self._path, "its pickle has no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in _PUSH:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name in _TUPLES:
            values = tuple(self._pop() for _ in range(_TUPLES[name]))
            self._stack.append(values[::-1])
        elif (action := _ACTIONS.get(name)) is not None:
            action(self, argument)
        elif name != "PROTO":
            self._refuse(f"the pickle instruction {name}")

    def _pop(self) -> Any:
        return self._stack.pop()

    def _group(self) -> list[Any]:
        """Everything above the last mark, which goes too."""
        group: list[Any] = []
        while not isinstance(value := self._pop(), _Mark):
            group.append(value)
        return group[::-1]

    def _name(self, argument: str) -> None:
        text = argument.replace(" ", ".", 1)
        known = text in _STORAGES or text in _TAGS or text in (_REBUILD, _ORDERED)
        if not known and not text.startswith("__torch__."):
            self._refuse(text)
        self._stack.append(Name(text))

    def _new(self, _: Any) -> None:
        arguments, name = self._pop(), self._pop()
        if not isinstance(name, Name) or not name.text.startswith("__torch__.") or arguments != ():
            self._refuse(f"an object of {told(name)} with {told(arguments)}")
        self._stack.append(Module())

    def _call(self, _: Any) -> None:
        arguments, name = self._pop(), self._pop()
        text = name.text if isinstance(name, Name) else ""
        if text == _ORDERED and arguments == ():
            self._stack.append({})
        elif text == _REBUILD and isinstance(arguments, tuple):
            self._stack.append(self._view(arguments))
        elif text in _TAGS and isinstance(arguments, tuple) and arguments:
            self._stack.append(arguments[0])
        else:
            self._refuse(f"a call of {told(name)} with {told(arguments)}")

    def _view(self, arguments: tuple[Any, ...]) -> View:
        storage, offset, size, stride, *_ = arguments
        numbers = (offset, *size, *stride)
        if not isinstance(storage, Storage) or not all(_whole(number) for number in numbers):
            self._refuse(f"a tensor made of {told(arguments)}")
        if len(size) != len(stride) or len(size) > 8:
            self._refuse(f"a tensor of shape {size} with strides {stride}")
        reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
        # A parameter never repeats its storage; a claim that it does asks for memory the file does not fill.
        if math.prod(size) > storage.count or (math.prod(size) and reach > storage.count):
            self._refuse(f"a tensor of shape {size} over a storage of {storage.count} numbers")
        return View(storage, offset, tuple(size), tuple(stride))

    def _persistent(self, _: Any) -> None:
        value = self._pop()
        match value:
            case ("storage", Name(text), str(key), str(), int(count)) if text in _STORAGES and count >= 0:
                self._stack.append(Storage(_STORAGES[text], key, count))
            case _:
                self._refuse(f"the storage {told(value)}")

    def _build(self, _: Any) -> None:
        attributes, target = self._pop(), self._stack[-1]
        if not isinstance(target, Module) or not isinstance(attributes, dict):
            self._refuse(f"the state {told(attributes)} for {told(target)}")
        target.attributes.update(attributes)

    def _set(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if (
            not isinstance(target, dict)
            or len(values) % 2
            or not all(isinstance(v, str) for v in values[::2])
        ):
            self._refuse(f"items {told(values)} for {told(target)}")
        target.update(zip(values[::2], values[1::2], strict=True))

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            self._refuse(f"items for {told(self._stack[-1])}")
        self._stack[-1].extend(values)

    def _refuse(self, what: str) -> NoReturn:
        raise WeightsError(
            f"{self._path} holds {what}, which no released CLIP archive does: refused, "
            "and nothing in it was run"
        )


_PUSH = {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Any] = {"EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_LIST": list, "MARK": _Mark}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: dict[str, Any] = {
    "GLOBAL": Reader._name,
    "NEWOBJ": Reader._new,
    "REDUCE": Reader._call,
    "BINPERSID": Reader._persistent,
    "BUILD": Reader._build,
    "TUPLE": lambda reader, _: reader._stack.append(tuple(reader._group())),
    "SETITEMS": lambda reader, _: reader._set(reader._group()),
    "SETITEM": lambda reader, _: reader._set([reader._pop(), reader._pop()][::-1]),
    "APPENDS": lambda reader, _: reader._extend(reader._group()),
    "APPEND": lambda reader, _: reader._extend([reader._pop()]),
}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def told(value: Any) -> str:
    """A value for a message, short whatever it is."""
    if isinstance(value, Name):
        return value.text[:100]
    if isinstance(value, str | int | float | bool | None):
        return repr(value)[:60]
    return f"a {type(value).__name__.lower()}"


def broken(path: Path, reason: str) -> WeightsError:
    """The error for an archive that does not hold together."""
    return WeightsError(f"{path} cannot be read as a TorchScript archive: {reason}. Fetch or copy it again")
