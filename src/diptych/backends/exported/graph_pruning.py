"""The part of an ONNX graph that makes one of its outputs, as a model of its own.

A graph of both towers (jina-clip-v2) computes both when it is run: ONNX Runtime cuts nothing off, also with
`only_execute_path_to_fetches` (seen with 1.32), so that a text would cost a blank picture.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from diptych.backends.exported.graph_file import Walk
from diptych.errors import WeightsError

# Fields of GraphProto.
_NODE, _INITIALIZER, _INPUT, _OUTPUT, _VALUE_INFO, _QUANTISATION = 1, 5, 11, 12, 13, 14


@dataclass
class _Node:
    span: tuple[int, int]
    needs: set[str]
    makes: set[str]


def pruned_model(path: Path, output: str) -> bytes:
    """A model of the nodes, weights and inputs that one output depends on.

    Parameters
    ----------
    path : Path
        Of a graph that `read_graph` has let pass; its external data stay where they are.
    output : str
        A name among its outputs.

    Returns
    -------
    bytes
        A ModelProto, to be opened with the folder of `path` for its external data.

    Raises
    ------
    WeightsError
        The file changed meanwhile.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk = Walk(path)
            walk.data = data
            pieces: list[bytes] = []
            for number, start, end in walk.fields(0, len(data), 0):
                if number == 7:
                    graph = _graph(walk, start, end, output)
                    pieces += [_key(number, sum(map(len, graph))), *graph]
                else:
                    pieces += _copied(walk, number, start, end)
            return b"".join(pieces)
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise WeightsError(f"{path} cannot be cut to {output!r}: {error}") from error


def _graph(walk: Walk, start: int, end: int, output: str) -> list[bytes]:
    """The fields of a GraphProto that are left."""
    fields = list(walk.fields(start, end, 1))
    nodes = [_node(walk, first, last) for number, first, last in fields if number == _NODE]
    kept, needed = _reached(nodes, output)
    pieces: list[bytes] = []
    for number, first, last in fields:
        if number in (_VALUE_INFO, _QUANTISATION):  # shapes of what is between, which a runtime finds itself
            continue
        if number == _NODE and (first, last) not in kept:
            continue
        if number in (_INITIALIZER, _INPUT) and _name(walk, number, first, last) not in needed:
            continue
        if number == _OUTPUT and _name(walk, number, first, last) != output:
            continue
        pieces += _copied(walk, number, first, last)
    return pieces


def _reached(nodes: list[_Node], output: str) -> tuple[set[tuple[int, int]], set[str]]:
    """Nodes that an output depends on, and every name that they read."""
    maker = {name: node for node in nodes for name in node.makes}
    kept: set[tuple[int, int]] = set()
    needed, waiting = {output}, [output]
    while waiting:
        node = maker.get(waiting.pop())
        if node is None or node.span in kept:
            continue
        kept.add(node.span)
        waiting += node.needs - needed
        needed |= node.needs
    return kept, needed


def _node(walk: Walk, start: int, end: int) -> _Node:
    """A NodeProto: what it makes and reads; graphs within it read names from around it too."""
    needs: set[str] = set()
    makes: set[str] = set()
    for number, first, last in walk.fields(start, end, 2):
        if number == 1:
            needs.add(walk.text(first, last))
        elif number == 2:
            makes.add(walk.text(first, last))
        elif number == 5:
            for inner, begin, stop in walk.fields(first, last, 3):
                if inner in (6, 11):  # AttributeProto.g and graphs
                    for field, a, b in walk.fields(begin, stop, 4):
                        if field == _NODE:
                            needs |= _node(walk, a, b).needs
                        elif field == _OUTPUT:
                            needs.add(_name(walk, field, a, b))
    return _Node((start, end), needs - {""}, makes - {""})


def _name(walk: Walk, number: int, start: int, end: int) -> str:
    """The name of a TensorProto (field 8) or a ValueInfoProto (field 1)."""
    wanted = 8 if number == _INITIALIZER else 1
    names = [walk.text(a, b) for field, a, b in walk.fields(start, end, 2) if field == wanted]
    return names[0] if names else ""


def _copied(walk: Walk, number: int, start: int, end: int) -> Iterable[bytes]:
    """A field as it was: a whole number, or bytes; the messages here hold no other kinds."""
    if end < 0:
        return (_varint(number << 3), _varint(start))
    return (_key(number, end - start), walk.data[start:end])


def _key(number: int, size: int) -> bytes:
    return _varint(number << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    """A whole number in seven bits a byte.

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
