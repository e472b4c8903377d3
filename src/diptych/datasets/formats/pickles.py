"""The pickles of CIFAR as data: plain values and arrays of bytes.

The steps are `diptych.files.pickle_reader`'s. What a pickle may name is the short list of what NumPy's arrays
need; anything else is refused by name. Which keys a batch has is `records.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from diptych.errors import DataError
from diptych.files.pickle_reader import PickledName, PickleReader, describe

_RECONSTRUCT = {f"{core}.multiarray._reconstruct" for core in ("numpy.core", "numpy._core")}
_FROM_BUFFER = {f"{core}.numeric._frombuffer" for core in ("numpy.core", "numpy._core")}
_ENCODE = {"_codecs.encode"}
_CLASSES = {"numpy.ndarray", "numpy.dtype"}
_KNOWN = _RECONSTRUCT | _FROM_BUFFER | _ENCODE | _CLASSES
_MOST_BYTES = 2**30  # the largest batch ever published has 155 MB


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


class Reader(PickleReader):
    """Steps through the pickle of a batch; DataError from `read` where it is none."""

    literal_instructions = PickleReader.literal_instructions | {
        *("BINUNICODE8", "SHORT_BINSTRING", "BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
    optional_instructions = frozenset({"STACK_GLOBAL", "MEMOIZE", "FRAME"})
    key_types = (str, bytes)

    def is_known_name(self, name: str) -> bool:
        """What NumPy's arrays need."""
        return name in _KNOWN

    def on_call(self, name: str, arguments: Any) -> Any:
        """An array, the kind of its numbers, or bytes that came as letters."""
        match arguments:
            case (PickledName("numpy.ndarray"), tuple(), _) if name in _RECONSTRUCT:
                return Array()  # its shape and bytes come with BUILD
            case (str(kind), *_) if name == "numpy.dtype":
                return _Kind(kind)
            case (str(letters), "latin1" | "latin-1") if name in _ENCODE:
                self.count_copied(len(letters))
                return letters.encode("latin-1")
            case (bytes() | bytearray() as data, _Kind(kind), tuple(shape), "C") if name in _FROM_BUFFER:
                self.count_copied(len(data))
                return Array(shape, kind, bytes(data))
        self.refuse(f"a call of {name} with {describe(arguments)}")

    def on_state(self, target: Any, state: Any) -> None:
        """Give an array its shape and bytes."""
        if isinstance(target, _Kind):  # byte order and alignment: of one byte there is one order
            return
        match state:
            case (_, tuple(shape), _Kind(kind), fortran, str() | bytes() as data) if (
                isinstance(target, Array) and not fortran
            ):
                self.count_copied(len(data) if isinstance(data, str) else 0)
                target.shape, target.dtype = shape, kind
                target.data = data.encode("latin-1") if isinstance(data, str) else data
            case _:
                self.refuse(f"the state {describe(state)} for {describe(target)}")

    def malformed(self, reason: str) -> DataError:
        """The error for a file that ends early, or is no pickle."""
        return DataError(f"{self.path} is cut short or no pickle: {reason}; fetch or copy it again")

    def refuse(self, content: str) -> NoReturn:
        """Raise the error for what no batch holds."""
        raise DataError(
            f"{self.path} holds {content:.100}, which no batch of pictures needs: "
            "refused, and nothing in it was run"
        )
