"""Readers of files of pixels with fixed-size records: idx (MNIST and similar), CIFAR's batches, STL-10.

Which files belong to a data set, and its class names, are in `pixel_sets.py`. CIFAR's pickles are plain
values and arrays of bytes, read by `diptych.files.pickle_reader` without executing anything: only the names
that NumPy's arrays need are accepted.
"""

from __future__ import annotations

import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NoReturn, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diptych.datasets.formats.archives import ArchiveMember, Members, NameFilter
from diptych.errors import DataError, counted
from diptych.files.pickle_reader import PickledName, PickleReader, describe

_MOST = 2**24  # limit of pixels per image and of labels per file, far above all data sets in these formats
_BYTES = 8  # idx: the code of unsigned bytes
# Files without a header, recognised by their names: bytes of labels before each image, and its shape.
_BINARY = (
    (re.compile(r"(data_batch_\d+|test_batch)\.bin"), 1, (3, 32, 32)),  # CIFAR-10
    (re.compile(r"(train|test)\.bin"), 2, (3, 32, 32)),  # CIFAR-100: coarse, then fine
    (re.compile(r"(train|test|unlabeled)_X\.bin"), 0, (3, 96, 96)),  # STL-10
)
_BATCH = re.compile(rb"\x80[\x02-\x05][}\x95]")  # a pickle whose first value is a dictionary, or a frame


@dataclass(frozen=True)
class Form:
    """Layout of the records of a file.

    Attributes
    ----------
    count : int
        Number of records.
    start : int
        Bytes before the first record.
    labels : int
        Bytes of labels before the pixels of each record.
    shape : tuple of int
        (channels, height, width); channels are stored as planes.
    turned : bool
        Pixels are stored column by column, as in STL-10 and EMNIST.
    """

    count: int
    start: int
    labels: int
    shape: tuple[int, int, int]
    turned: bool = False

    @property
    def size(self) -> int:
        """Bytes per record."""
        return self.labels + math.prod(self.shape)


def is_records(path: Path) -> bool:
    """Whether this is a file of pixels, by its name and first bytes."""
    if any(name.fullmatch(path.name) for name, _, _ in _BINARY):
        return True
    if path.suffix not in ("", ".gz") and "idx" not in path.name:  # do not open every archive
        return False
    head = _head(path)
    return head[:4] == bytes([0, 0, _BYTES, 3]) or _BATCH.match(head) is not None


def _head(path: Path) -> bytes:
    """The first bytes, decompressed; empty if that fails."""
    try:
        with opened(path) as file:
            return file.read(4)
    except DataError:
        return b""


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file, decompressed if it is gzipped; read errors become DataError."""
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            yield cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if packed else plain
    except FileNotFoundError:
        raise DataError(f"{path} is not there") from None
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(f"{path} cannot be read to its end ({error}): fetch or copy it again") from error


def scan_records(path: Path, needs_content: NameFilter) -> Members:
    """Yield every image of a file of pixels, named FILE/NUMBER, decoded if `needs_content` returns True.

    Raises
    ------
    DataError
        A wrong header, a file shorter or longer than its header says, or a pickle that is refused.
    """
    form, source = _form(path)
    with opened(path) if source is None else _memory(source) as file:
        file.read(form.start)
        for number in range(form.count):
            record = file.read(form.size)
            if len(record) < form.size:
                raise DataError(f"{path} ends at picture {number} of {form.count}: fetch or copy it again")
            member = ArchiveMember(PurePosixPath(path.name, f"{number:05d}"), math.prod(form.shape))
            yield member, _picture(record, form) if needs_content(member.name) else None
        if file.read(1):
            raise DataError(f"{path} has data after the {counted(form.count, 'picture')} of its header")


@contextmanager
def _memory(data: bytes) -> Iterator[BinaryIO]:
    yield io.BytesIO(data)


def _picture(record: bytes, form: Form) -> Image.Image:
    planes = np.frombuffer(record, np.uint8, offset=form.labels).reshape(form.shape)  # (channels, H, W)
    rows = planes.transpose((2, 1, 0) if form.turned else (1, 2, 0))
    return Image.fromarray(np.ascontiguousarray(rows[..., 0] if form.shape[0] == 1 else rows))


def _form(path: Path) -> tuple[Form, bytes | None]:
    """Layout of the records, and the bytes of the file if they had to be read."""
    for name, labels, shape in _BINARY:
        if name.fullmatch(path.name):
            return _binary_form(path, labels, shape), None
    if _BATCH.match(_head(path)):
        array = read_batch(path)[0]
        return Form(array.shape[0], 0, 0, (3, 32, 32)), array.data
    count, height, width = read_header(path, 3)
    if not 0 < height * width <= _MOST:
        raise DataError(f"{path} has pictures of {height} x {width} pixels by its header: not a data set")
    # EMNIST is stored column by column.
    return Form(count, 16, 0, (1, height, width), path.name.startswith("emnist")), None


def _binary_form(path: Path, labels: int, shape: tuple[int, int, int]) -> Form:
    form = Form(0, 0, labels, shape, turned=shape[1] == 96)
    size = path.stat().st_size if path.is_file() else 0
    if not size or size % form.size:
        raise DataError(
            f"{path} has {size:,} bytes: expected a multiple of {form.size:,}; fetch or copy it again"
        )
    return Form(size // form.size, 0, labels, shape, form.turned)


def read_header(path: Path, dimensions: int) -> tuple[int, ...]:
    """Read the sizes of each dimension of an idx file of bytes.

    Raises
    ------
    DataError
        Another magic number, or a length that differs from the header's (not checked here if gzipped).
    """
    with opened(path) as file:
        head = file.read(4 + 4 * dimensions)
    magic = bytes([0, 0, _BYTES, dimensions])
    if head[:4] != magic or len(head) < 4 + 4 * dimensions:
        raise DataError(
            f"{path} begins with {head[:4].hex() or 'nothing'}: expected {magic.hex()}, an idx file of bytes "
            f"with {dimensions} dimension{'s' if dimensions > 1 else ''}"
        )
    sizes = tuple(int.from_bytes(head[i : i + 4], "big") for i in range(4, len(head), 4))
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    expected = len(head) + math.prod(sizes)
    if not packed and path.stat().st_size != expected:
        raise DataError(
            f"{path} has {path.stat().st_size:,} bytes, but {expected:,} by its header: "
            "fetch or copy it again"
        )
    return sizes


def read_idx_labels(path: Path) -> NDArray[np.int64]:
    """Read the labels of an idx file, (N,)."""
    (count,) = read_header(path, 1)
    with opened(path) as file:
        file.read(8)
        data = file.read(min(count, _MOST) + 1)
    if len(data) != count:
        raise DataError(f"{path} has {len(data):,} labels or more, but {count:,} by its header")
    return np.frombuffer(data, np.uint8).astype(np.int64)


def read_binary_labels(path: Path) -> NDArray[np.int64]:
    """Read the labels of a binary CIFAR file, (N,): the last byte before each image."""
    form, _ = _form(path)
    with opened(path) as file:
        data = np.frombuffer(file.read(), np.uint8)
    return data.reshape(form.count, form.size)[:, form.labels - 1].astype(np.int64)


def read_batch(path: Path) -> tuple[Array, NDArray[np.int64]]:
    """Read the pixels, (N, 3072), and labels, (N,), of one of CIFAR's pickled batches.

    Raises
    ------
    DataError
        Not such a batch, or pixels and labels that do not match.
    """
    batch = _texts(read_pickle(path), path)
    array, labels = batch.get("data"), batch.get("fine_labels", batch.get("labels"))
    if not isinstance(array, Array) or array.dtype not in ("u1", "|u1"):
        raise DataError(f"{path} has no array of bytes called 'data': expected a batch of CIFAR")
    whole = all(type(side) is int for side in array.shape)
    if not whole or array.shape[1:] != (3072,) or len(array.data) != array.shape[0] * 3072:
        raise DataError(
            f"{path}: {len(array.data):,} bytes in an array of shape {array.shape}: expected (N, 3072)"
        )
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise DataError(f"{path} has no list of numbers called 'labels' or 'fine_labels'")
    if len(labels) != array.shape[0]:
        raise DataError(f"{path} has {len(labels):,} labels for {array.shape[0]:,} pictures")
    return array, np.array(labels, dtype=np.int64)


def read_meta(path: Path) -> tuple[str, ...]:
    """Read the class names of CIFAR's batches.meta or meta."""
    meta = _texts(read_pickle(path), path)
    names = meta.get("fine_label_names", meta.get("label_names"))
    if not isinstance(names, list):
        raise DataError(f"{path} has no list called 'label_names' or 'fine_label_names'")
    return tuple(name.decode("latin-1") if isinstance(name, bytes) else str(name) for name in names)


def _texts(value: Any, path: Path) -> dict[str, Any]:
    """Convert the keys of a dictionary to texts: Python 2 wrote bytes."""
    if not isinstance(value, dict):
        raise DataError(f"{path} is not a dictionary: expected a batch of CIFAR")
    return {key.decode("latin-1") if isinstance(key, bytes) else key: item for key, item in value.items()}


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
