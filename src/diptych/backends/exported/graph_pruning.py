"""Prune an ONNX graph to the nodes that one of its outputs depends on.

A graph of both towers (jina-clip-v2) always computes both: ONNX Runtime skips nothing, not even with
`only_execute_path_to_fetches` (observed with 1.32), so that each text would cost an empty image.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from diptych.backends.exported.graph_file import GraphWalker
from diptych.errors import WeightsError

# Fields of GraphProto.
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO, _QUANTISATION = 1, 5, 11, 12, 13, 14


@dataclass
class _Node:
    """A NodeProto: byte range, names of inputs, names of outputs."""

    span: tuple[int, int]
    needs: set[str]
    makes: set[str]


def pruned_model(path: Path, output: str) -> bytes:
    """Build a model of the nodes, weights and inputs that one output depends on.

    Parameters
    ----------
    path : Path
        A graph that `read_graph` has accepted. External data are not copied.
    output : str
        Name of one of its outputs.

    Returns
    -------
    bytes
        A ModelProto, to be opened with the folder of `path` for its external data.

    Raises
    ------
    WeightsError
        The file has changed since it was validated.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walker = GraphWalker(path)
            walker.data = data
            chunks: list[bytes] = []
            for number, start, end in walker.fields(0, len(data), 0):
                if number == 7:  # ModelProto.graph
                    graph = _pruned_graph(walker, start, end, output)
                    chunks += [_key(number, sum(map(len, graph))), *graph]
                else:
                    chunks += _copy_field(walker, number, start, end)
            return b"".join(chunks)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise WeightsError(f"{path} cannot be pruned to {output!r}: {error}") from error


def _pruned_graph(walker: GraphWalker, start: int, end: int, output: str) -> list[bytes]:
    """Encoded fields of the pruned GraphProto."""
    fields = list(walker.fields(start, end, 1))
    nodes = [_node(walker, first, last) for number, first, last in fields if number == _NODE]
    kept, needed = _reachable(nodes, output)
    chunks: list[bytes] = []
    for number, first, last in fields:
        if number in (_VALUE_INFO, _QUANTISATION):  # of intermediate values; a runtime infers them
            continue
        if number == _NODE and (first, last) not in kept:
            continue
        if number in (_INITIALIZER, _INPUT) and _name(walker, number, first, last) not in needed:
            continue
        if number == _OUTPUT and _name(walker, number, first, last) != output:
            continue
        chunks += _copy_field(walker, number, first, last)
    return chunks


def _reachable(nodes: list[_Node], output: str) -> tuple[set[tuple[int, int]], set[str]]:
    """Byte ranges of the nodes that an output depends on, and all names that they read."""
    maker = {name: node for node in nodes for name in node.makes}
    kept: set[tuple[int, int]] = set()
    needed, pending = {output}, [output]
    while pending:
        node = maker.get(pending.pop())
        if node is None or node.span in kept:
            continue
        kept.add(node.span)
        pending += node.needs - needed
        needed |= node.needs
    return kept, needed


def _node(walker: GraphWalker, start: int, end: int) -> _Node:
    """Read a NodeProto; subgraphs in its attributes read names of the outer graph too."""
    needs: set[str] = set()
    makes: set[str] = set()
    for number, first, last in walker.fields(start, end, 2):
        if number == 1:
            needs.add(walker.text(first, last))
        elif number == 2:
            makes.add(walker.text(first, last))
        elif number == 5:
            for inner, begin, stop in walker.fields(first, last, 3):
                if inner in (6, 11):  # AttributeProto.g and graphs
                    for field, a, b in walker.fields(begin, stop, 4):
                        if field == _NODE:
                            needs |= _node(walker, a, b).needs
                        elif field == _OUTPUT:
                            needs.add(_name(walker, field, a, b))
    return _Node((start, end), needs - {""}, makes - {""})


def _name(walker: GraphWalker, number: int, start: int, end: int) -> str:
    """Name of a TensorProto (field 8) or a ValueInfoProto (field 1)."""
    name_field = 8 if number == _INITIALIZER else 1
    names = [walker.text(a, b) for field, a, b in walker.fields(start, end, 2) if field == name_field]
    return names[0] if names else ""


def _copy_field(walker: GraphWalker, number: int, start: int, end: int) -> Iterable[bytes]:
    """Copy a field: an integer, or bytes; the messages here have no other kinds."""
    if end < 0:  # an integer, whose value is in `start`
        return (_varint(number << 3), _varint(start))
    return (_key(number, end - start), walker.data[start:end])


def _key(number: int, size: int) -> bytes:
    return _varint(number << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    """Encode an integer with seven bits per byte, lowest first.

    Examples
    --------
    >>> _varint(300).hex()
    'ac02'
    """
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    parts.append(value)
    return bytes(parts)
