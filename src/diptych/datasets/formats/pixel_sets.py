"""MNIST, CIFAR and STL-10 as published: their files of images, labels and class names.

The files are read by `records.py`.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from diptych.datasets.formats.containers import entries_of, read_text
from diptych.datasets.formats.labelled import Labelled, numbered
from diptych.datasets.formats.records import read_batch, read_binary_labels, read_idx_labels, read_meta
from diptych.datasets.parts import choose
from diptych.errors import DataError, listed

_IDX = re.compile(r"(?P<set>(?:.+[-_])?)(?P<part>train|t10k|test)-images[-.]idx3-ubyte(?:\.gz)?")
# Training files, test files and class names of each kind of folder; the kind is recognised by the last.
_CIFAR = (
    ("data_batch_[1-9]", "test_batch", "batches.meta"),
    ("train", "test", "meta"),
    ("data_batch_[1-9].bin", "test_batch.bin", "batches.meta.txt"),
    ("train.bin", "test.bin", "fine_label_names.txt"),
)


def read_idx(path: Path, part: str) -> Labelled | None:
    """Read MNIST and similar: IMAGES-idx3-ubyte beside LABELS-idx1-ubyte, plain or gzipped; else None.

    Parameters
    ----------
    path : path
        A folder with the files, or with them in `raw` or `MNIST/raw`, or the file of images itself.
    part : str
        "test" or "train"; ignored if the path is a file.

    Raises
    ------
    DataError
        Files of several data sets, a missing file of labels, or broken files.
    """
    if path.is_file():
        return _idx_file(path) if _IDX.fullmatch(path.name) else None
    parts = idx_parts(path)
    return _idx_file(choose(parts, part, path)) if parts else None


def idx_parts(path: Path) -> dict[str, Path]:
    """Part -> its file of images; empty if there is none."""
    for folder in (path, path / "raw", path / "MNIST" / "raw"):
        files = {file: match for file in _files(folder) if (match := _IDX.fullmatch(file.name))}
        if files:
            kinds = sorted({match["set"] for match in files.values()})
            if len(kinds) > 1:
                raise DataError(
                    f"{folder} holds several data sets ({listed(kinds)}): name the file of pictures itself"
                )
            # A plain file sorts before its gzipped copy: in reverse order it is set last, so it is used.
            return {match["part"]: file for file, match in sorted(files.items(), reverse=True)}
    return {}


def _idx_file(pictures: Path) -> Labelled:
    stem = pictures.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    labels = next(
        (file for name in (stem, stem + ".gz") if (file := pictures.with_name(name)).is_file()), None
    )
    if labels is None:
        raise DataError(f"{pictures} has no {stem} beside it: its pictures have no labels")
    names, values = None, read_idx_labels(labels)
    mapping = pictures.with_name(re.sub(r"-(train|test)-images.*", "-mapping.txt", pictures.name))
    if mapping != pictures and mapping.is_file():
        rows = [line.split() for line in read_text(mapping).split("\n") if line.strip()]
        names = _letters(rows, mapping)
        values = np.searchsorted([int(row[0]) for row in rows], values).astype(np.int64)
    return numbered(pictures, entries_of(pictures), values, names)


def _letters(rows: list[list[str]], path: Path) -> tuple[str, ...]:
    """Characters of EMNIST's mapping: a label, then character codes, of which the first is used."""
    try:
        numbers = [int(row[0]) for row in rows]
        names = tuple(chr(int(row[1])) for row in rows)
    except (ValueError, IndexError, OverflowError) as error:
        raise DataError(f"{path} is not a mapping of labels to character codes: {error}") from error
    if numbers != sorted(set(numbers)):
        raise DataError(f"{path} does not list its labels in order, each once")
    return names


def read_cifar(path: Path, part: str) -> Labelled | None:
    """Read CIFAR-10 or CIFAR-100, in pickled or binary batches; None if there are none.

    The pickles are read without executing anything; see `records.py`.

    Parameters
    ----------
    path : path
        The folder of the batches.
    part : str
        "test" or "train".

    Raises
    ------
    DataError
        A missing part, broken or hostile files.
    """
    parts = cifar_parts(path)
    if not parts:
        return None
    meta = next(path / name for *_, name in _CIFAR if (path / name).is_file())
    return _batches(path, choose(parts, part, path), meta)


def cifar_parts(path: Path) -> dict[str, list[Path]]:
    """Part -> its batches; empty if there are none."""
    for train, test, meta in _CIFAR:
        if path.is_dir() and (path / meta).is_file():
            parts = {"train": sorted(path.glob(train)), "test": sorted(path.glob(test))}
            return {name: files for name, files in parts.items() if files}
    return {}


def _batches(folder: Path, files: list[Path], meta: Path) -> Labelled:
    binary = files[0].suffix == ".bin"
    labels = [read_binary_labels(file) if binary else read_batch(file)[1] for file in files]
    names = tuple(filter(None, read_text(meta).split("\n"))) if binary else read_meta(meta)
    entries = tuple(entry for file in files for entry in entries_of(file))
    return numbered(folder, entries, np.concatenate(labels), names)


def read_stl(path: Path, part: str) -> Labelled | None:
    """Read STL-10's binary files, PART_X.bin beside PART_y.bin; None if there are none."""
    parts = stl_parts(path)
    if not parts:
        return None
    pictures = choose(parts, part, path)
    try:
        labels = np.frombuffer(pictures.with_name(pictures.name.replace("_X", "_y")).read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"{pictures} has no file of labels beside it: {error.strerror}") from error
    names = tuple(filter(None, read_text(pictures.with_name("class_names.txt")).split("\n")))
    return numbered(pictures, entries_of(pictures), labels.astype(np.int64) - 1, names)  # they count from 1


def stl_parts(path: Path) -> dict[str, Path]:
    """Part -> its file of images; empty if there is none."""
    files = (
        (name, folder / f"{name}_X.bin")
        for folder in (path / "stl10_binary", path)
        for name in ("train", "test")
    )
    return {name: file for name, file in files if file.is_file()}


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.is_file()) if folder.is_dir() else []
