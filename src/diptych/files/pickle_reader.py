"""A safe pickle reader: interprets the instructions and builds plain values only.

Nothing is unpickled, so no code in the file, or named by it, can run. A subclass declares which names its
kind of file may use, what a call or an object becomes and which extra instructions are needed; anything else
is refused. Bytes that an instruction copies are counted (`count_copied`): all copies together may have at
most twice the size of the file. `diptych.weights` reads TorchScript modules this way, `diptych.datasets`
CIFAR batches.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from diptych.errors import DiptychError, InputError


@dataclass(frozen=True)
class PickledName:
    """A class or function that the pickle names; it is never imported."""

    text: str


# An instruction of one byte makes an object of up to a hundred: this many are 200 MB at most. A training
# checkpoint of ViT-L/14 with its optimiser has about 0.1 million.
MOST_INSTRUCTIONS = 2_000_000


class _Mark:
    """Marks the beginning of a group of values on the stack."""


class PickleReader:
    """Interpreter of pickle instructions that builds plain values only.

    A subclass overrides `is_known_name` (which names are allowed), `on_call`, `on_new_object`, `on_state` and
    `on_persistent_id` (which value each becomes), and `malformed` and `refuse` (which errors are raised). The
    base class allows no name.

    Parameters
    ----------
    data : bytes
        The pickle.
    path : Path
        Named in messages.

    Attributes
    ----------
    end : int
        Offset behind the pickle after `read`; another pickle may follow in the same bytes.
    """

    literal_instructions: ClassVar[frozenset[str]] = frozenset(
        {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    )
    """Instructions that push their argument on the stack."""
    optional_instructions: ClassVar[frozenset[str]] = frozenset()
    """Instructions of protocol 4 that are allowed: STACK_GLOBAL, MEMOIZE, FRAME."""
    key_types: ClassVar[tuple[type, ...]] = (str,)
    """Types allowed as keys of a dictionary."""

    def __init__(self, data: bytes, path: Path) -> None:
        self.data = data
        self.path = path
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._copy_budget = 2 * len(data)  # bytes, see `count_copied`
        self.end = 0

    def read(self) -> Any:
        """Return the value that the pickle describes, or raise the error of `malformed` or `refuse`."""
        try:
            for number, (code, argument, position) in enumerate(pickletools.genops(self.data)):
                if code.name == "STOP":
                    self.end = (position or 0) + 1
                    return self.stack.pop()
                if number > MOST_INSTRUCTIONS:
                    raise self.malformed(f"it has more than {MOST_INSTRUCTIONS:,} instructions")
                self._step(code.name, argument)
        except DiptychError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise self.malformed(f"its pickle is malformed ({error})") from error
        raise self.malformed("its pickle has no end")

    # ---- overridden for each kind of file ----

    def is_known_name(self, name: str) -> bool:
        """Whether files of this kind may use the name."""
        return False

    def on_call(self, name: str, arguments: Any) -> Any:
        """Return the value of a call of a known name."""
        self.refuse(f"a call of {name[:100]} with {describe(arguments)}")

    def on_new_object(self, name: str, arguments: Any) -> Any:
        """Return the value of a new object of a known class."""
        self.refuse(f"an object of {name[:100]} with {describe(arguments)}")

    def on_state(self, target: Any, state: Any) -> None:
        """Set the state of an object."""
        self.refuse(f"the state {describe(state)} for {describe(target)}")

    def on_persistent_id(self, value: Any) -> Any:
        """Return the value of a reference to data outside the pickle."""
        self.refuse(f"the storage {describe(value)}")

    def malformed(self, reason: str) -> DiptychError:
        """Return the error for a damaged or inconsistent file."""
        return InputError(f"{self.path}: {reason}")

    def refuse(self, content: str) -> NoReturn:
        """Raise the error for content that files of this kind never have."""
        raise InputError(f"{self.path} holds {content}")

    def count_copied(self, size: int) -> None:
        """Count copied bytes: a hostile file could copy the same bytes again and again."""
        self._copy_budget -= size
        if self._copy_budget < 0:
            self.refuse("copies of its own parts without end")

    # ---- the instructions ----

    def _step(self, name: str, argument: Any) -> None:
        if name in self.literal_instructions:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _OPTIONAL and name not in self.optional_instructions:
            self.refuse(f"the pickle instruction {name}")
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if argument is None else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self._memo[argument])
        elif name in _TUPLES:
            values = [self.stack.pop() for _ in range(_TUPLES[name])]
            self.stack.append(tuple(values[::-1]))
        elif (action := _ACTIONS.get(name)) is not None:
            action(self, argument)
        elif name not in ("PROTO", "FRAME"):
            self.refuse(f"the pickle instruction {name}")

    def _group(self) -> list[Any]:
        """Pop everything above the last mark, and the mark."""
        group: list[Any] = []
        while not isinstance(value := self.stack.pop(), _Mark):
            group.append(value)
        return group[::-1]

    def _name(self, text: str) -> None:
        if not self.is_known_name(text):
            self.refuse(text[:100])
        self.stack.append(PickledName(text))

    def _stack_name(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            self.refuse("a name that is no text")
        self.count_copied(len(name) + len(module))
        self._name(f"{module}.{name}")

    def _call(self, _: Any) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, PickledName):
            self.refuse(f"a call of {describe(name)} with {describe(arguments)}")
        self.stack.append(self.on_call(name.text, arguments))

    def _make(self, _: Any) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, PickledName):
            self.refuse(f"an object of {describe(name)} with {describe(arguments)}")
        self.stack.append(self.on_new_object(name.text, arguments))

    def _record(self, _: Any) -> None:
        self.stack.append(self.on_persistent_id(self.stack.pop()))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        self.on_state(self.stack[-1], state)

    def _set(self, values: list[Any]) -> None:
        target, keys = self.stack[-1], values[::2]
        fits = isinstance(target, dict) and len(values) % 2 == 0
        if not fits or not all(isinstance(key, self.key_types) for key in keys):
            self.refuse(f"items {describe(values)} for {describe(target)}")
        target.update(zip(keys, values[1::2], strict=True))

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            self.refuse(f"items for {describe(self.stack[-1])}")
        self.stack[-1].extend(values)


def describe(value: Any) -> str:
    """Describe a value in a message, in at most 100 characters."""
    if isinstance(value, PickledName):
        return value.text[:100]
    if isinstance(value, str | int | float | bool | None):
        return repr(value)[:60]
    return f"a {type(value).__name__.lower()}"


_OPTIONAL = {"STACK_GLOBAL", "MEMOIZE", "FRAME"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Any] = {"EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_LIST": list, "MARK": _Mark}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: dict[str, Callable[[PickleReader, Any], None]] = {
    "GLOBAL": lambda reader, argument: reader._name(argument.replace(" ", ".", 1)),
    "STACK_GLOBAL": PickleReader._stack_name,
    "NEWOBJ": PickleReader._make,
    "REDUCE": PickleReader._call,
    "BINPERSID": PickleReader._record,
    "BUILD": PickleReader._build,
    "TUPLE": lambda reader, _: reader.stack.append(tuple(reader._group())),
    "SETITEMS": lambda reader, _: reader._set(reader._group()),
    "SETITEM": lambda reader, _: reader._set([reader.stack.pop(), reader.stack.pop()][::-1]),
    "APPENDS": lambda reader, _: reader._extend(reader._group()),
    "APPEND": lambda reader, _: reader._extend([reader.stack.pop()]),
}
