"""Classes that lie near each other: groups from a file, or found by how like their texts are.

What is measured within and between groups is `fine.py`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DataError, InputError
from diptych.files.disk import write_bytes
from diptych.files.text_files import read_text_file


def group_similar_classes(rows: NDArray[np.float32], count: int) -> list[list[int]]:
    """Groups of rows by average linkage (Sokal and Michener 1958), in the order of their first members.

    What all rows have in common is taken away first: it is the same for near and distant ones.

    Parameters
    ----------
    rows : (C, dim)
        One per class.
    count : int
        How many groups are to be left.

    Raises
    ------
    InputError
        Fewer than one group, or more than there are rows.

    Examples
    --------
    >>> group_similar_classes(np.float32([[1, 0, 0], [0, 1, 0], [0.9, 0.1, 0], [0, 0.9, 0.1]]), 2)
    [[0, 2], [1, 3]]
    """
    if not 1 <= count <= len(rows):
        raise InputError(f"{count} groups of {len(rows)} classes: expected 1 to {len(rows)}")
    centred = rows - rows.mean(axis=0)
    centred = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    near = (centred @ centred.T).astype(np.float64)
    np.fill_diagonal(near, -np.inf)
    groups: list[list[int]] = [[index] for index in range(len(rows))]
    sizes, open_ = np.ones(len(rows)), np.ones(len(rows), dtype=bool)
    for _ in range(len(rows) - count):
        a, b = sorted(int(i) for i in np.unravel_index(int(near.argmax()), near.shape))
        joined = (sizes[a] * near[a] + sizes[b] * near[b]) / (sizes[a] + sizes[b])
        near[a], near[:, a] = joined, joined
        near[b], near[:, b], near[a, a] = -np.inf, -np.inf, -np.inf
        sizes[a] += sizes[b]
        groups[a], open_[b] = groups[a] + groups[b], False
    return [sorted(groups[index]) for index in np.flatnonzero(open_).tolist()]


def load_groups(path: str | Path) -> dict[str, list[str]]:
    """Groups from a JSON file, {"dogs": ["husky", "beagle"], ...}; a class in none of them is left alone.

    Raises
    ------
    DataError
        The file cannot be read, or is no such JSON.
    """
    return read_text_lists(path, "groups", "group -> classes")


def read_text_lists(path: str | Path, what: str, form: str) -> dict[str, list[str]]:
    """JSON with a list of texts under every name; DataError where it is anything else."""
    try:
        told = json.loads(read_text_file(Path(path)))
    except (ValueError, RecursionError) as error:
        raise DataError(f"the {what} file {path} cannot be read as JSON: {error}") from error
    if not isinstance(told, dict) or not told:
        raise DataError(f"{path} holds {type(told).__name__}: expected {form}, a list of texts each")
    for name, texts in told.items():
        if not isinstance(texts, list) or not all(isinstance(one, str) and one.strip() for one in texts):
            raise DataError(f"{path}: {name!r} has no list of texts: expected {form}")
    return told


def class_indices(groups: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> dict[str, list[int]]:
    """Groups as positions of classes.

    Raises
    ------
    DataError
        An unknown class, or one that is in two groups.

    Examples
    --------
    >>> class_indices({"pets": ["cat", "dog"]}, ["dog", "cat", "car"])
    {'pets': [0, 1]}
    """
    place = {name: index for index, name in enumerate(class_names)}
    taken: dict[str, str] = {}
    for group, members in groups.items():
        for name in members:
            if name not in place:
                known = ", ".join(list(class_names)[:20])
                raise DataError(f"{name!r} of group {group!r} is no class of the data; there are {known}")
            if taken.setdefault(name, group) != group:
                raise DataError(f"{name!r} is in two groups, {taken[name]!r} and {group!r}")
    return {group: sorted({place[name] for name in members}) for group, members in groups.items()}


def write_groups(path: str | Path, groups: Mapping[str, Sequence[str]]) -> None:
    """A groups file as `read_groups` reads it, so that another model is asked about the same groups."""
    text = json.dumps({name: list(members) for name, members in groups.items()}, indent=1, ensure_ascii=False)
    write_bytes(Path(path), (text + "\n").encode("utf-8", errors="backslashreplace"))
