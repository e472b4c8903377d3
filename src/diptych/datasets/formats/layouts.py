"""Detection of the layout of a path, and its labelled images. Every layout has its own module."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from diptych.datasets.formats import parquet
from diptych.datasets.formats.class_folders import read_folders
from diptych.datasets.formats.containers import entries_of
from diptych.datasets.formats.labelled import Labelled, named, numbered
from diptych.datasets.formats.listings import listed_parts, read_listed
from diptych.datasets.formats.pixel_sets import (
    cifar_parts,
    idx_parts,
    read_cifar,
    read_idx,
    read_stl,
    stl_parts,
)
from diptych.datasets.formats.released import read_released, released_parts
from diptych.datasets.formats.shards import read_webdataset, shard_parts
from diptych.datasets.parts import choose, part_in_name
from diptych.errors import DataError, listed


def read_labelled(path: Path, *, part: str = "test", domain: str | None = None) -> Labelled:
    """Read the labelled images of a folder or file in any known layout.

    Parameters
    ----------
    part : str
        "test", "train", "val" or "train_only", if the layout has several parts; see `parts.choose`.
    domain : str, optional
        For class folders, only images below a folder of this name.

    Raises
    ------
    DataError
        A missing path, no readable image, no labels, or labels that do not match the images.
    """
    if domain is None:
        for read in _READERS:
            if (labelled := read(path, part)) is not None:
                return labelled
    return read_folders(path, part, domain)


def find_parquet(path: Path, part: str) -> list[Path]:
    """Find the Parquet files of a part in a folder and its direct subfolders, sorted.

    Raises
    ------
    DataError
        The folder has only files of other parts.
    """
    if path.is_file():
        return [path] if parquet.is_parquet(path) else []
    parts = parquet_parts(path)
    if not parts:
        return []
    return parts[""] if list(parts) == [""] else choose(parts, part, path)


def parquet_parts(path: Path) -> dict[str, list[Path]]:
    """Part -> its Parquet files; "" for files without a part in their names."""
    parts: dict[str, list[Path]] = {}
    for file in sorted(file for depth in ("*", "*/*") for file in path.glob(f"{depth}.parquet")):
        word = part_in_name(file.relative_to(path).as_posix())
        parts.setdefault(word or "", []).append(file)
    return parts


def parts_in(path: Path) -> set[str]:
    """Names of the parts of a folder in a published layout; empty for class folders and files.

    Files are recognised by their names, without opening them.
    """
    for find_parts in (
        idx_parts,
        cifar_parts,
        stl_parts,
        shard_parts,
        released_parts,
        listed_parts,
        parquet_parts,
    ):
        if parts := find_parts(path):
            return set(parts)
    return set()


def _read_parquet(path: Path, part: str) -> Labelled | None:
    files = find_parquet(path, part)
    if not files:
        return None
    entries = tuple(entry for file in files for entry in entries_of(file))
    columns = [parquet.read_labels(file) for file in files]
    names = columns[0][1]
    words = [word for labels, _ in columns if isinstance(labels, list) for word in labels]
    numbers = [labels for labels, _ in columns if isinstance(labels, np.ndarray)]
    if (words and numbers) or any(own != names for _, own in columns):
        raise DataError(
            f"{path}: its files do not agree on the classes: {listed(str(file) for file in files)}"
        )
    if numbers:
        return numbered(path, entries, np.concatenate(numbers), names)
    if not entries:
        raise DataError(f"{path} holds no picture")
    return named(entries, words)


_READERS: tuple[Callable[[Path, str], Labelled | None], ...] = (
    read_idx,
    read_cifar,
    read_stl,
    read_webdataset,
    read_released,
    read_listed,
    _read_parquet,
)
