"""A pickle as data: its instructions stepped through, a plain value kept for each.

Nothing here unpickles, so there is no point at which code in a file, or named by it, could run. What a file
of one kind may name, call and build, and which instructions it needs, is what a subclass says; anything else
is refused. What an instruction makes by copying is counted (`spend`): all of it together may have twice as
many bytes as the file. `diptych.weights` reads TorchScript's modules so, `diptych.datasets` CIFAR's batches.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from diptych.errors import DiptychError, InputError


@dataclass(frozen=True)
class Name:
    """A class or function the pickle names; never looked up."""

    text: str


# An instruction of one byte makes an object of up to a hundred: this many are 200 MB at most. A training
# checkpoint of ViT-L/14 with its optimiser has about 0.1 million.
MOST_INSTRUCTIONS = 2_000_000


class _Mark:
    """Where a group of values begins on the stack."""


class PickleReader:
    """Steps through a pickle, making plain values only: what all kinds of files have in common.

    A subclass says which names it knows (`knows`), what it makes of a call (`called`), a new object (`made`),
    a state for an object (`built`) and a stored record (`record`), and how it complains (`broken` and
    `refuse`, with errors of this package). By itself it knows no name.

    Parameters
    ----------
    data : bytes
        The pickle.
    path : Path
        For messages.

    Attributes
    ----------
    end : int
        Where the pickle ended, after `read`: others may follow it in the same bytes.
    """

    plain: ClassVar[frozenset[str]] = frozenset(
        {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    )
    """Instructions that put their argument on the stack."""
    more: ClassVar[frozenset[str]] = frozenset()
    """Instructions of protocol 4 that this kind needs: STACK_GLOBAL, MEMOIZE, FRAME."""
    keys: ClassVar[tuple[type, ...]] = (str,)
    """What a dictionary may have for keys."""

    def __init__(self, data: bytes, path: Path) -> None:
        self.data = data
        self.path = path
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._left = 2 * len(data)
        self.end = 0

    def read(self) -> Any:
        """The value the pickle describes; the error of `broken` or `refuse` where it is none of this kind."""
        try:
            for number, (code, argument, place) in enumerate(pickletools.genops(self.data)):
                if code.name == "STOP":
                    self.end = (place or 0) + 1
                    return self.stack.pop()
                if number > MOST_INSTRUCTIONS:
                    raise self.broken(f"it has more than {MOST_INSTRUCTIONS:,} instructions")
                self._step(code.name, argument)
        except DiptychError:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise self.broken(f"its pickle is malformed ({error})") from error
        raise self.broken("its pickle has no end")

    # ---- what a kind of file says ----

    def knows(self, name: str) -> bool:
        """Whether files of this kind may name it."""
        return False

    def called(self, name: str, arguments: Any) -> Any:
        """What a call of something known becomes."""
        self.refuse(f"a call of {name[:100]} with {told(arguments)}")

    def made(self, name: str, arguments: Any) -> Any:
        """What a new object of something known becomes."""
        self.refuse(f"an object of {name[:100]} with {told(arguments)}")

    def built(self, target: Any, state: Any) -> None:
        """Give an object its state."""
        self.refuse(f"the state {told(state)} for {told(target)}")

    def record(self, value: Any) -> Any:
        """What a reference to something outside of the pickle becomes."""
        self.refuse(f"the storage {told(value)}")

    def broken(self, reason: str) -> DiptychError:
        """The error for a file that does not hold together."""
        return InputError(f"{self.path}: {reason}")

    def refuse(self, what: str) -> NoReturn:
        """Raise the error for what files of this kind never hold."""
        raise InputError(f"{self.path} holds {what}")

    def spend(self, size: int) -> None:
        """Count bytes that an instruction copies: a file could ask for the same ones again and again."""
        self._left -= size
        if self._left < 0:
            self.refuse("copies of its own parts without end")

    # ---- the instructions ----

    def _step(self, name: str, argument: Any) -> None:
        if name in self.plain:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _OPTIONAL and name not in self.more:
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
        """Everything above the last mark, which goes too."""
        group: list[Any] = []
        while not isinstance(value := self.stack.pop(), _Mark):
            group.append(value)
        return group[::-1]

    def _name(self, text: str) -> None:
        if not self.knows(text):
            self.refuse(text[:100])
        self.stack.append(Name(text))

    def _stack_name(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            self.refuse("a name that is no text")
        self.spend(len(name) + len(module))
        self._name(f"{module}.{name}")

    def _call(self, _: Any) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, Name):
            self.refuse(f"a call of {told(name)} with {told(arguments)}")
        self.stack.append(self.called(name.text, arguments))

    def _make(self, _: Any) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if not isinstance(name, Name):
            self.refuse(f"an object of {told(name)} with {told(arguments)}")
        self.stack.append(self.made(name.text, arguments))

    def _record(self, _: Any) -> None:
        self.stack.append(self.record(self.stack.pop()))

    def _build(self, _: Any) -> None:
        state = self.stack.pop()
        self.built(self.stack[-1], state)

    def _set(self, values: list[Any]) -> None:
        target, keys = self.stack[-1], values[::2]
        fits = isinstance(target, dict) and len(values) % 2 == 0
        if not fits or not all(isinstance(key, self.keys) for key in keys):
            self.refuse(f"items {told(values)} for {told(target)}")
        target.update(zip(keys, values[1::2], strict=True))

    def _extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            self.refuse(f"items for {told(self.stack[-1])}")
        self.stack[-1].extend(values)


def told(value: Any) -> str:
    """A value for a message, short whatever it is."""
    if isinstance(value, Name):
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
