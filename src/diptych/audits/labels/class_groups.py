"""Groups of similar classes, from a file or by clustering their text embeddings.

`limits/fine_grained.py` measures accuracy within and between groups.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.encoder import normalize
from diptych.errors import DataError, InputError
from diptych.files.disk import write_bytes
from diptych.files.text_files import read_json_file


def group_similar_classes(embeddings: NDArray[np.float32], count: int) -> list[list[int]]:
    """Cluster embeddings by average linkage (Sokal and Michener 1958).

    Groups are in the order of their first members. The mean embedding is subtracted first: it is common to
    similar and distant classes.

    Parameters
    ----------
    embeddings : (C, dim)
        One per class.
    count : int
        Number of groups.

    Raises
    ------
    InputError
        Fewer than one group, or more groups than classes.

    Examples
    --------
    >>> group_similar_classes(np.float32([[1, 0, 0], [0, 1, 0], [0.9, 0.1, 0], [0, 0.9, 0.1]]), 2)
    [[0, 2], [1, 3]]
    """
    if not 1 <= count <= len(embeddings):
        raise InputError(f"{count} groups of {len(embeddings)} classes: expected 1 to {len(embeddings)}")
    centred = normalize(embeddings - embeddings.mean(axis=0))
    similarity = (centred @ centred.T).astype(np.float64)
    np.fill_diagonal(similarity, -np.inf)
    groups: list[list[int]] = [[index] for index in range(len(embeddings))]
    # Merge the most similar pair a, b until `count` groups are left. The similarity of the merged group to
    # every other one is the mean of both, weighted by size (Lance-Williams update); b is disabled with -inf.
    sizes, is_active = np.ones(len(embeddings)), np.ones(len(embeddings), dtype=bool)
    for _ in range(len(embeddings) - count):
        a, b = sorted(int(i) for i in np.unravel_index(int(similarity.argmax()), similarity.shape))
        merged = (sizes[a] * similarity[a] + sizes[b] * similarity[b]) / (sizes[a] + sizes[b])
        similarity[a], similarity[:, a] = merged, merged
        similarity[b], similarity[:, b], similarity[a, a] = -np.inf, -np.inf, -np.inf
        sizes[a] += sizes[b]
        groups[a], is_active[b] = groups[a] + groups[b], False
    return [sorted(groups[index]) for index in np.flatnonzero(is_active).tolist()]


def load_groups(path: str | Path) -> dict[str, list[str]]:
    """Read groups from a JSON file, {"dogs": ["husky", "beagle"], ...}; classes in no group are left out.

    Raises
    ------
    DataError
        The file cannot be read, or does not have that form.
    """
    return read_text_lists(path, "group -> classes")


def read_text_lists(path: str | Path, form: str) -> dict[str, list[str]]:
    """Read JSON with a list of texts under every name; DataError for anything else."""
    lists = read_json_file(Path(path))
    if not isinstance(lists, dict) or not lists:
        raise DataError(f"{path} holds {type(lists).__name__}: expected {form}, a list of texts each")
    for name, texts in lists.items():
        if not isinstance(texts, list) or not all(isinstance(text, str) and text.strip() for text in texts):
            raise DataError(f"{path}: {name!r} is not a list of texts: expected {form}")
    return lists


def class_indices(groups: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> dict[str, list[int]]:
    """Convert groups of class names to groups of class indices.

    Raises
    ------
    DataError
        A class is unknown or in two groups.

    Examples
    --------
    >>> class_indices({"pets": ["cat", "dog"]}, ["dog", "cat", "car"])
    {'pets': [0, 1]}
    """
    index_of = {name: index for index, name in enumerate(class_names)}
    group_of: dict[str, str] = {}
    for group, members in groups.items():
        for name in members:
            if name not in index_of:
                first_names = ", ".join(list(class_names)[:20])
                raise DataError(
                    f"{name!r} of group {group!r} is not a class of the data; the classes are {first_names}"
                )
            if group_of.setdefault(name, group) != group:
                raise DataError(f"{name!r} is in two groups, {group_of[name]!r} and {group!r}")
    return {group: sorted({index_of[name] for name in members}) for group, members in groups.items()}


def write_groups(path: str | Path, groups: Mapping[str, Sequence[str]]) -> None:
    """Write a file for `load_groups`, so that another model can be measured on the same groups."""
    text = json.dumps({name: list(members) for name, members in groups.items()}, indent=1, ensure_ascii=False)
    write_bytes(Path(path), (text + "\n").encode("utf-8", errors="backslashreplace"))
