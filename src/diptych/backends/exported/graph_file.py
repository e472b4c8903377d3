"""An ONNX file read as data before a runtime opens it: inputs, outputs, operators, and the files it names.

A runtime opens whatever files a graph names as external data, and allocates what its tensors claim. So the
protobuf is walked here first, without the onnx package and without loading a weight: a field of bytes is
skipped by its length, and a graph of gigabytes takes the time of its nodes. The numbers of fields are those
of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from diptych.errors import WeightsError
from diptych.files.disk import file_inside

# TensorProto.DataType -> (name, bits of an element); 8 is string, which has no size.
DTYPES: dict[int, tuple[str, int]] = {
    1: ("float32", 32), 2: ("uint8", 8), 3: ("int8", 8), 4: ("uint16", 16), 5: ("int16", 16),
    6: ("int32", 32), 7: ("int64", 64), 9: ("bool", 8), 10: ("float16", 16), 11: ("float64", 64),
    12: ("uint32", 32), 13: ("uint64", 64), 14: ("complex64", 64), 15: ("complex128", 128),
    16: ("bfloat16", 16), **dict.fromkeys(range(17, 21), ("float8", 8)), 21: ("uint4", 4), 22: ("int4", 4),
    23: ("float4", 4), 24: ("float8", 8), 25: ("uint2", 2), 26: ("int2", 2),
}  # fmt: skip
MOST_FIELDS = 5_000_000  # a graph of 10,000 nodes has about 300,000
DEEPEST = 40  # messages within messages: a subgraph in a node of a subgraph takes four
LONGEST_NAME = 4096  # bytes
MOST_NUMBERS = 1 << 48  # in a tensor
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
# ONNX Runtime takes a location that begins so for an address in memory.
_ADDRESS_MARK = "_ORT_MEM_ADDR_"


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Attributes
    ----------
    name : str
    dtype : str
        As NumPy calls it.
    shape : tuple
        A number where an axis is fixed, None where it is free; None where the rank is not stated.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        axes = "?" if self.shape is None else ", ".join("?" if a is None else str(a) for a in self.shape)
        return f"{self.name} ({axes}) {self.dtype}"


@dataclass(frozen=True)
class GraphFile:
    """What an ONNX file says of itself.

    Attributes
    ----------
    path : Path
    inputs, outputs : tuple of Port
        Inputs without those that have an initial value.
    operators : frozenset of str
        Of all nodes, those of subgraphs and functions among them.
    data_files : tuple of Path
        Files that hold its external data: there, inside its folder, and long enough.
    """

    path: Path
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: frozenset[str]
    data_files: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The file itself and its external data."""
        return (self.path, *self.data_files)


def read_graph(path: Path, *, root: Path | None = None, data_needed: bool = True) -> GraphFile:
    """Walk an ONNX file and check everything that a runtime would take on trust.

    Parameters
    ----------
    path : Path
    root : Path, optional
        The folder that no file may lie outside of; by default the one of `path`.
    data_needed : bool
        False reads only the names of external data files, which may still have to be downloaded.

    Raises
    ------
    WeightsError
        It is no ONNX file, is cut short, or names a file that is missing, too short or outside the folder.
    """
    root = path.parent if root is None else root
    inside(path, root)
    walk = Walk(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk.model(data)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is no ONNX file, or is cut short: {error}") from error
    data_files = []
    for location, end in sorted(walk.external.items()):
        file_path = _located(path, location)
        data_files.append(file_path)
        if data_needed:
            inside(file_path, root)
            if (size := file_path.stat().st_size) < end:
                raise WeightsError(
                    f"{file_path} has {size:,} bytes, {path.name} needs {end:,}: it is cut short; fetch or "
                    "copy it again"
                )
    return GraphFile(
        path,
        tuple(port for port in walk.inputs if port.name not in walk.initial),
        tuple(walk.outputs),
        frozenset(walk.operators),
        tuple(data_files),
    )


def inside(path: Path, root: Path) -> Path:
    """The path, if it is a file in the folder once links are followed.

    The hub's client keeps a repository as links from `snapshots/REVISION/` to `blobs/`: these are followed.

    Raises
    ------
    WeightsError
        There is no such file, or it lies elsewhere.
    """
    home = root.resolve()
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{root} lacks {_shown(path, root)}: fetch or copy the folder again") from error
    blobs = home.parents[1] / "blobs" if len(home.parents) > 1 and home.parent.name == "snapshots" else None
    if not real.is_relative_to(home) and real.parent != blobs:
        raise WeightsError(
            f"{path} is a link to a file outside {root}: copy the file into the folder if you trust it"
        )
    if not real.is_file():
        raise WeightsError(f"{path} is no file")
    return path


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _located(path: Path, location: str) -> Path:
    """Where external data lie: beside the graph or below, whatever the system's rules for paths."""
    file = file_inside(path.parent, location)
    if file is None or ":" in location or _ADDRESS_MARK in location:  # "a:b" is a stream of a file to Windows
        raise WeightsError(
            f"{path} keeps weights in {location[:200]!r}: expected a file beside it, so it is refused"
        )
    return file


@dataclass
class Walk:
    """One pass over a ModelProto."""

    path: Path
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    initial: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)
    external: dict[str, int] = field(default_factory=dict)  # location -> bytes that are needed of it
    left: int = MOST_FIELDS

    def model(self, data: mmap.mmap) -> None:
        """ModelProto: the graph, graphs for training, functions."""
        self.data = data
        graphs = 0
        for number, start, end in self.fields(0, len(data), 0):
            if number == 7:
                graphs += 1
                self.graph(start, end, 1, outermost=True)
            elif number == 20:  # TrainingInfoProto, whose two parts are graphs
                for inner, first, last in self.fields(start, end, 1):
                    if inner in (1, 2):
                        self.graph(first, last, 2)
            elif number == 25:  # FunctionProto
                for inner, first, last in self.fields(start, end, 1):
                    if inner == 7:
                        self.node(first, last, 2)
                    elif inner == 11:  # an attribute's default value
                        self.attribute(first, last, 2)
        if graphs != 1:
            raise ValueError(f"{graphs} graphs in it, expected 1")

    def graph(self, start: int, end: int, depth: int, *, outermost: bool = False) -> None:
        """GraphProto."""
        for number, first, last in self.fields(start, end, depth):
            if number == 1:
                self.node(first, last, depth + 1)
            elif number == 5:
                name = self.tensor(first, last, depth + 1)
                if outermost:
                    self.initial.add(name)
            elif number == 15:
                self.sparse(first, last, depth + 1)
            elif number in (11, 12) and outermost:
                port = self.port(first, last, depth + 1)
                (self.inputs if number == 11 else self.outputs).append(port)

    def node(self, start: int, end: int, depth: int) -> None:
        """NodeProto: its operator, and the tensors and graphs among its attributes."""
        for number, first, last in self.fields(start, end, depth):
            if number == 4:
                self.operators.add(self.text(first, last))
            elif number == 5:
                self.attribute(first, last, depth + 1)

    def attribute(self, start: int, end: int, depth: int) -> None:
        """AttributeProto: tensors and graphs among its values."""
        for number, first, last in self.fields(start, end, depth):
            if number in (5, 10):
                self.tensor(first, last, depth + 1)
            elif number in (6, 11):
                self.graph(first, last, depth + 1)
            elif number in (22, 23):
                self.sparse(first, last, depth + 1)

    def sparse(self, start: int, end: int, depth: int) -> None:
        """SparseTensorProto: values and indices."""
        for number, first, last in self.fields(start, end, depth):
            if number in (1, 2):
                self.tensor(first, last, depth + 1)

    def tensor(self, start: int, end: int, depth: int) -> str:
        """TensorProto: that it holds as many bytes as its shape says; its name."""
        count, dtype, raw, outside, name = 1, 0, None, False, ""
        entries: dict[str, str] = {}
        for number, first, last in self.fields(start, end, depth):
            if number == 1:
                count = self.multiplied(count, first, last)
            elif number == 2:
                dtype = first
            elif number == 8:
                name = self.text(first, last)
            elif number == 9:
                raw = last - first
            elif number == 13:
                entries |= self.entry(first, last, depth + 1)
            elif number == 14:
                outside = first == 1
        bits = DTYPES.get(dtype, ("", 0))[1]
        needed = -(-count * bits // 8)
        if outside or entries:
            self.outside(name, entries, needed)
        elif raw is not None and bits and raw != needed:
            raise ValueError(f"the tensor {name!r} holds {raw:,} bytes, its shape says {needed:,}")
        elif raw is None and count > 2 * (end - start):  # packed: two 4-bit numbers to a byte at most
            raise ValueError(f"the tensor {name!r} claims {count:,} numbers in {end - start:,} bytes")
        return name

    def entry(self, start: int, end: int, depth: int) -> dict[str, str]:
        """StringStringEntryProto: a key and its value."""
        pair = dict.fromkeys((1, 2), "")
        for number, first, last in self.fields(start, end, depth):
            if number in pair:
                pair[number] = self.text(first, last)
        return {pair[1]: pair[2]}

    def outside(self, name: str, entries: dict[str, str], needed: int) -> None:
        """Weights in another file: note how long that has to be."""
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", needed))
        except ValueError as error:
            raise ValueError(f"the tensor {name!r} lies at no number: {entries}") from error
        if offset < 0 or length < 0 or (needed and length != needed):
            raise ValueError(
                f"the tensor {name!r} has {length:,} bytes from {offset:,} on outside, its shape says "
                f"{needed:,}"
            )
        location = entries.get("location", "")
        self.external[location] = max(self.external.get(location, 0), offset + length)

    def port(self, start: int, end: int, depth: int) -> Port:
        """ValueInfoProto: a name and the type of a tensor."""
        name, dtype, shape = "", "", None
        for number, first, last in self.fields(start, end, depth):
            if number == 1:
                name = self.text(first, last)
            elif number == 2:
                for kind, begin, stop in self.fields(first, last, depth + 1):  # TypeProto
                    if kind == 1:
                        dtype, shape = self._tensor_type(begin, stop, depth + 2)
        return Port(name, dtype or "something else", shape)

    def _tensor_type(self, start: int, end: int, depth: int) -> tuple[str, tuple[int | None, ...] | None]:
        dtype, shape = "", None
        for number, first, last in self.fields(start, end, depth):
            if number == 1:
                dtype = DTYPES.get(first, ("", 0))[0]
            elif number == 2:
                axes = [
                    self.axis(a, b, depth + 2) for n, a, b in self.fields(first, last, depth + 1) if n == 1
                ]
                shape = tuple(axes)
        return dtype, shape

    def axis(self, start: int, end: int, depth: int) -> int | None:
        """Dimension: a number, or a name, which is free."""
        return {number: first for number, first, _ in self.fields(start, end, depth)}.get(1)

    def text(self, start: int, end: int) -> str:
        """A name."""
        if not 0 <= end - start <= LONGEST_NAME:
            raise ValueError(f"a name of {end - start:,} bytes")
        return self.data[start:end].decode("utf-8")

    def whole_numbers(self, start: int, end: int) -> list[int]:
        """A repeated whole number: the numbers of a packed field, or the one of a field by itself."""
        if end < 0:
            return [_not_negative(start)]
        found = []
        while start < end:
            value, start = self.varint(start, end)
            found.append(_not_negative(value))
            self._spend()
        return found

    def multiplied(self, count: int, start: int, end: int) -> int:
        """A count times the sizes of a shape's axes."""
        for size in self.whole_numbers(start, end):
            count *= size
            if count > MOST_NUMBERS:  # before it takes thousands of digits to write
                raise ValueError(f"a tensor of over {MOST_NUMBERS:,} numbers")
        return count

    def fields(self, start: int, end: int, depth: int) -> Iterator[tuple[int, int, int]]:
        """(number, start, end) of every field of a message; a whole number as (number, value, -1)."""
        if depth > DEEPEST:
            raise ValueError("messages within messages without end")
        if end < 0:
            raise ValueError("a number where a message belongs")
        while start < end:
            self._spend()
            key, start = self.varint(start, end)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, start = self.varint(start, end)
                yield number, value, -1
                continue
            if kind == _BYTES:
                size, start = self.varint(start, end)
            elif kind in (_FIXED_32, _FIXED_64):
                size = 4 if kind == _FIXED_32 else 8
            else:
                raise ValueError(f"a field of kind {kind} at byte {start:,}")
            if number == 0 or size > end - start:
                raise ValueError(f"a field of {size:,} bytes where {end - start:,} are left")
            yield number, start, start + size
            start += size

    def varint(self, start: int, end: int) -> tuple[int, int]:
        """A whole number in seven bits a byte, and where it ends."""
        value = shift = 0
        while start < end and shift < 70:
            byte = self.data[start]
            start += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, start
            shift += 7
        raise ValueError(f"a number without end at byte {start:,}")

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"over {MOST_FIELDS:,} parts")


def _not_negative(value: int) -> int:
    if value >= 1 << 62:
        raise ValueError("a tensor of negative size")
    return value
