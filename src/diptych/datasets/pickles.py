"""The pickles of CIFAR as data: their instructions stepped through, plain values and arrays of bytes kept.

Nothing here unpickles, so no code in a file, or named by it, can run, and no instruction can ask for more
memory than the file has bytes. What a pickle may name is the short list of what NumPy's arrays need; anything
else is refused by name. Which keys a batch has is `records.py`'s.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from diptych.errors import DataError

_RECONSTRUCT = {f"{core}.multiarray._reconstruct" for core in ("numpy.core", "numpy._core")}
_FROM_BUFFER = {f"{core}.numeric._frombuffer" for core in ("numpy.core", "numpy._core")}
_ENCODE = {"_codecs.encode"}
_CLASSES = {"numpy.ndarray", "numpy.dtype"}
_KNOWN = _RECONSTRUCT | _FROM_BUFFER | _ENCODE | _CLASSES
_MOST_BYTES = 2**30  # the largest batch ever published has 155 MB


@dataclass(frozen=True)
class Name:
    """A class or function the pickle names; never looked up."""

    text: str


@dataclass(eq=False)
class Array:
    """An array as its pickle describes it; `data` is not checked against `shape`."""

    shape: tuple[Any, ...] = ()
    dtype: str = ""
    data: bytes = b""


@dataclass(frozen=True)
class _Kind:
    """A dtype by its short name ("u1")."""

    text: str


class _Mark:
    """Where a group of values begins on the stack."""


def read_pickle(path: Path) -> Any:
    """The value a pickle file describes: dictionaries, lists, numbers, texts and `Array`.

    Byte strings of Python 2 come as texts, one letter a byte.

    Raises
    ------
    DataError
        It cannot be read, is cut short, or holds what no batch of pictures needs.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes: expected a batch of pictures")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return Reader(data, path).read()


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
        """The value the pickle describes; DataError where it is none of a batch."""
        try:
            for code, argument, _ in pickletools.genops(self._data):
                if code.name == "STOP":
                    return self._stack.pop()
                self._step(code.name, argument)
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"{self._path} is cut short or no pickle ({error}): fetch or copy it again"
            ) from error
        raise DataError(f"{self._path} is cut short: its pickle has no end; fetch or copy it again")

    def _step(self, name: str, argument: Any) -> None:
        if name in _PUSH:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = self._stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = self._stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self._stack.append(self._memo[argument])
        elif name in _TUPLES:
            values = [self._stack.pop() for _ in range(_TUPLES[name])]
            self._stack.append(tuple(values[::-1]))
        elif (action := _ACTIONS.get(name)) is not None:
            action(self, argument)
        elif name not in ("PROTO", "FRAME"):
            self._refuse(f"the pickle instruction {name}")

    def _group(self) -> list[Any]:
        """Everything above the last mark, which goes too."""
        group: list[Any] = []
        while not isinstance(value := self._stack.pop(), _Mark):
            group.append(value)
        return group[::-1]

    def _name(self, text: str) -> None:
        if text not in _KNOWN:
            self._refuse(text)
        self._stack.append(Name(text))

    def _stack_name(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        self._name(f"{module}.{name}" if isinstance(name, str) and isinstance(module, str) else "no name")

    def _call(self, _: Any) -> None:
        arguments, name = self._stack.pop(), self._stack.pop()
        text = name.text if isinstance(name, Name) else ""
        match arguments:
            case (Name("numpy.ndarray"), tuple(), _) if text in _RECONSTRUCT:
                self._stack.append(Array())  # its shape and bytes come with BUILD
            case (str(kind), *_) if text == "numpy.dtype":
                self._stack.append(_Kind(kind))
            case (str(letters), "latin1" | "latin-1") if text in _ENCODE:
                self._stack.append(letters.encode("latin-1"))
            case (bytes() | bytearray() as data, _Kind(kind), tuple(shape), "C") if text in _FROM_BUFFER:
                self._stack.append(Array(shape, kind, bytes(data)))
            case _:
                self._refuse(f"a call of {_told(name)} with {_told(arguments)}")

    def _build(self, _: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, _Kind):  # byte order and alignment: of one byte there is one order
            return
        match state:
            case (_, tuple(shape), _Kind(kind), fortran, str() | bytes() as data) if (
                isinstance(target, Array) and not fortran
            ):
                target.shape, target.dtype = shape, kind
                target.data = data.encode("latin-1") if isinstance(data, str) else data
            case _:
                self._refuse(f"the state {_told(state)} for {_told(target)}")

    def _set(self, values: list[Any]) -> None:
        target = self._stack[-1]
        keys = values[::2]
        if not isinstance(target, dict) or not all(isinstance(key, str | bytes) for key in keys):
            self._refuse(f"items for {_told(target)}")
        target.update(zip(keys, values[1::2], strict=True))

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            self._refuse(f"items for {_told(self._stack[-1])}")
        self._stack[-1].extend(values)

    def _refuse(self, what: str) -> NoReturn:
        raise DataError(
            f"{self._path} holds {what:.100}, which no batch of pictures needs: "
            "refused, and nothing in it was run"
        )


_PUSH = {
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINSTRING", "BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Any] = {"EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_LIST": list, "MARK": _Mark}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: dict[str, Any] = {
    "GLOBAL": lambda reader, argument: reader._name(argument.replace(" ", ".", 1)),
    "STACK_GLOBAL": Reader._stack_name,
    "REDUCE": Reader._call,
    "BUILD": Reader._build,
    "TUPLE": lambda reader, _: reader._stack.append(tuple(reader._group())),
    "SETITEMS": lambda reader, _: reader._set(reader._group()),
    "SETITEM": lambda reader, _: reader._set([reader._stack.pop(), reader._stack.pop()][::-1]),
    "APPENDS": lambda reader, _: reader._extend(reader._group()),
    "APPEND": lambda reader, _: reader._extend([reader._stack.pop()]),
}


def _told(value: Any) -> str:
    """A value for a message, short whatever it is."""
    if isinstance(value, Name):
        return value.text[:60]
    return (
        repr(value)[:60]
        if isinstance(value, str | int | float | bool | None)
        else f"a {type(value).__name__.lower()}"
    )
