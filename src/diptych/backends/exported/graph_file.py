"""Validate an ONNX file before a runtime opens it, and list its inputs, outputs, operators and data files.

A runtime opens any file that a graph names as external data, and allocates the sizes that its tensors claim.
So the protobuf is traversed here first, without the onnx package and without loading weights: bytes are
skipped by their length, so that the time depends on the number of nodes, not on the size. The field numbers
are those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
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
MAX_FIELDS = 5_000_000  # a graph of 10,000 nodes has about 300,000
MAX_DEPTH = 40  # of nested messages: a subgraph in a node of a subgraph takes four levels
MAX_NAME_BYTES = 4096  # bytes
MAX_ELEMENTS = 1 << 48  # of a tensor
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
# ONNX Runtime interprets a location with this prefix as an address in memory.
_ADDRESS_MARK = "_ORT_MEM_ADDR_"


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Attributes
    ----------
    dtype : str
        NumPy's name of the type.
    shape : tuple
        Sizes of the axes, None for a free axis; None if the rank is not stated.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None

    def __str__(self) -> str:
        axes = "?" if self.shape is None else ", ".join("?" if a is None else str(a) for a in self.shape)
        return f"{self.name} ({axes}) {self.dtype}"


@dataclass(frozen=True)
class GraphFile:
    """A validated ONNX file.

    Attributes
    ----------
    inputs, outputs : tuple of Port
        Inputs without those that have an initial value.
    operators : frozenset of str
        Operators of all nodes, with those in subgraphs and functions.
    data_files : tuple of Path
        Files with its external data; they exist inside its folder and are long enough.
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
    """Read an ONNX file and check everything that a runtime would trust.

    Parameters
    ----------
    root : Path, optional
        Folder that must contain all files; by default that of `path`.
    data_needed : bool
        False if the external data files may be missing, because they are still to be downloaded.

    Raises
    ------
    WeightsError
        It is no ONNX file, is truncated, or names a file that is missing, too short or outside the folder.
    """
    root = path.parent if root is None else root
    inside(path, root)
    walk = GraphWalker(path)
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk.model(data)
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise WeightsError(f"{path} is no ONNX file, or is truncated: {error}") from error
    data_files = []
    for location, end in sorted(walk.external.items()):
        file_path = _external_path(path, location)
        data_files.append(file_path)
        if data_needed:
            inside(file_path, root)
            if (size := file_path.stat().st_size) < end:
                raise WeightsError(
                    f"{file_path} has {size:,} bytes, {path.name} needs {end:,}: it is truncated; fetch or "
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
    """Return a path after checking that it is a file inside a folder, with links resolved.

    The hub's client stores a repository as links from `snapshots/REVISION/` to `blobs/`: these are accepted.

    Raises
    ------
    WeightsError
        The file does not exist, or is elsewhere.
    """
    home = root.resolve()
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"{root} lacks {_relative_name(path, root)}: fetch or copy the folder again"
        ) from error
    blobs = home.parents[1] / "blobs" if len(home.parents) > 1 and home.parent.name == "snapshots" else None
    if not real.is_relative_to(home) and real.parent != blobs:
        raise WeightsError(
            f"{path} is a link to a file outside {root}: copy the file into the folder if you trust it"
        )
    if not real.is_file():
        raise WeightsError(f"{path} is no file")
    return path


def _relative_name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _external_path(path: Path, location: str) -> Path:
    """Path of external data, which must be in the graph's folder by the path rules of any system."""
    file = file_inside(path.parent, location)
    if file is None or ":" in location or _ADDRESS_MARK in location:  # on Windows "a:b" is a stream of a file
        raise WeightsError(
            f"{path} keeps weights in {location[:200]!r}: expected a file beside it, so it is refused"
        )
    return file


@dataclass
class GraphWalker:
    """Traversal of a ModelProto that collects its ports, operators and external data, and checks sizes.

    Methods take the byte range of a message and the depth of nesting.
    """

    path: Path
    inputs: list[Port] = field(default_factory=list)
    outputs: list[Port] = field(default_factory=list)
    initial: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)
    external: dict[str, int] = field(default_factory=dict)  # location -> required size in bytes
    left: int = MAX_FIELDS

    def model(self, data: mmap.mmap) -> None:
        """ModelProto: the graph, graphs for training, functions."""
        self.data = data
        graphs = 0
        for number, start, end in self.fields(0, len(data), 0):
            if number == 7:
                graphs += 1
                self.graph(start, end, 1, outermost=True)
            elif number == 20:  # TrainingInfoProto has two graphs
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
        """NodeProto: its operator and attributes."""
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
        """TensorProto: check that it has as many bytes as its shape demands; return its name."""
        count, dtype, raw, is_external, name = 1, 0, None, False, ""
        entries: dict[str, str] = {}
        for number, first, last in self.fields(start, end, depth):
            if number == 1:
                count = self.multiply_sizes(count, first, last)
            elif number == 2:
                dtype = first
            elif number == 8:
                name = self.text(first, last)
            elif number == 9:
                raw = last - first
            elif number == 13:
                entries |= self.entry(first, last, depth + 1)
            elif number == 14:
                is_external = first == 1
        bits = DTYPES.get(dtype, ("", 0))[1]
        needed = -(-count * bits // 8)  # rounded up
        if is_external or entries:
            self.external_data(name, entries, needed)
        elif raw is not None and bits and raw != needed:
            raise ValueError(f"the tensor {name!r} holds {raw:,} bytes, its shape says {needed:,}")
        elif raw is None and count > 2 * (end - start):  # packed: at most two 4-bit numbers per byte
            raise ValueError(f"the tensor {name!r} claims {count:,} numbers in {end - start:,} bytes")
        return name

    def entry(self, start: int, end: int, depth: int) -> dict[str, str]:
        """StringStringEntryProto: a key and its value."""
        pair = dict.fromkeys((1, 2), "")
        for number, first, last in self.fields(start, end, depth):
            if number in pair:
                pair[number] = self.text(first, last)
        return {pair[1]: pair[2]}

    def external_data(self, name: str, entries: dict[str, str], needed: int) -> None:
        """Weights in another file: record the size that it must have."""
        try:
            offset, length = int(entries.get("offset", 0)), int(entries.get("length", needed))
        except ValueError as error:
            raise ValueError(f"the tensor {name!r} has an invalid offset or length: {entries}") from error
        if offset < 0 or length < 0 or (needed and length != needed):
            raise ValueError(
                f"the tensor {name!r} has {length:,} bytes at offset {offset:,} of another file, its shape "
                f"says {needed:,}"
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
        """Dimension: a number, or None for a named one, which is free."""
        return {number: first for number, first, _ in self.fields(start, end, depth)}.get(1)

    def text(self, start: int, end: int) -> str:
        """Decode a name."""
        if not 0 <= end - start <= MAX_NAME_BYTES:
            raise ValueError(f"a name of {end - start:,} bytes")
        return self.data[start:end].decode("utf-8")

    def repeated_integers(self, start: int, end: int) -> list[int]:
        """Values of a repeated integer: those of a packed field, or the single one of a plain field."""
        if end < 0:
            return [_check_not_negative(start)]
        values = []
        while start < end:
            value, start = self.varint(start, end)
            values.append(_check_not_negative(value))
            self._spend()
        return values

    def multiply_sizes(self, count: int, start: int, end: int) -> int:
        """Multiply a count by the sizes of a shape's axes."""
        for size in self.repeated_integers(start, end):
            count *= size
            if count > MAX_ELEMENTS:  # checked in each step, before the number has thousands of digits
                raise ValueError(f"a tensor of over {MAX_ELEMENTS:,} numbers")
        return count

    def fields(self, start: int, end: int, depth: int) -> Iterator[tuple[int, int, int]]:
        """Yield (number, start, end) of every field of a message; an integer as (number, value, -1)."""
        if depth > MAX_DEPTH:
            raise ValueError("messages are nested without end")
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
        """Decode an integer with seven bits per byte, lowest first; return it and its end."""
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
        """Count a field against the budget, so that a hostile file ends in an error."""
        self.left -= 1
        if self.left < 0:
            raise ValueError(f"over {MAX_FIELDS:,} parts")


def _check_not_negative(value: int) -> int:
    if value >= 1 << 62:
        raise ValueError("a tensor of negative size")
    return value
