"""Safe reader of CIFAR's pickles: plain values and arrays of bytes, without executing anything.

It uses `diptych.files.pickle_reader`, and accepts only the names that NumPy's arrays need; others are
refused.
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
    """Read the value of a pickle file: dictionaries, lists, numbers, texts and `Array`.

    Byte strings of Python 2 become texts, one letter per byte.

    Raises
    ------
    DataError
        It cannot be read, is truncated, or has content that no batch of images needs.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes: expected a batch of pictures")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    return BatchReader(data, path).read()


class BatchReader(PickleReader):
    """Pickle reader for batches of images; `read` raises DataError for other content."""

    literal_instructions = PickleReader.literal_instructions | {
        *("BINUNICODE8", "SHORT_BINSTRING", "BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
    optional_instructions = frozenset({"STACK_GLOBAL", "MEMOIZE", "FRAME"})
    key_types = (str, bytes)

    def is_known_name(self, name: str) -> bool:
        """Whether NumPy's arrays need this name."""
        return name in _KNOWN

    def on_call(self, name: str, arguments: Any) -> Any:
        """Return an array, a dtype, or bytes that are stored as letters."""
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
        """Set the shape and bytes of an array."""
        if isinstance(target, _Kind):  # byte order and alignment, which do not matter for single bytes
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
        """The error for a file that is truncated or not a pickle."""
        return DataError(f"{self.path} is cut short or not a pickle: {reason}; fetch or copy it again")

    def refuse(self, content: str) -> NoReturn:
        """Raise the error for content that no batch needs."""
        raise DataError(
            f"{self.path} holds {content:.100}, which no batch of pictures needs: "
            "refused, and nothing in it was run"
        )
