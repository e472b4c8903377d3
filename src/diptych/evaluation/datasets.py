"""Data sets to measure on: labelled pictures and captioned pictures, in folders or tar archives.

A data set knows its keys, its labels or captions and its fingerprint; bytes are read while it is walked, in
one pass, and never kept. Decoding is `diptych.embedding`'s business, the figures are made beside this file.

Layouts: `<pack>/<class>/<file>` or `<class>/<file>` for labels, with folders of domains above the class where
there are some (`pacs/<domain>/<class>/<file>`); KEY.jpg beside KEY.json or KEY.txt for captions.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DataError
from diptych.evaluation.archives import Entry, scan
from diptych.evaluation.captions import read_captioned
from diptych.media import IMAGE_SUFFIXES
from diptych.zeroshot import folder_names

if TYPE_CHECKING:
    from PIL.Image import Image

_WNID = re.compile(r"n\d{8}")


# What stands for a picture until it is decoded: the bytes of its file, or pixels where there is no file.
Content: TypeAlias = "bytes | Image"


def _walk(entries: Sequence[Entry]) -> Iterator[tuple[str, Content]]:
    """(key, content) of each entry in order; every folder or archive is passed through once."""
    for path, group in groupby(entries, key=lambda entry: entry.path):
        expected = [entry.name for entry in group]
        names, position = set(expected), 0
        for member, data in scan(path, names.__contains__):
            if data is not None:
                if position == len(expected) or member.name != expected[position]:
                    break
                position += 1
                yield str(member.name), data
        if position < len(expected):  # labels go by position: go on, and every later one would be wrong
            raise DataError(f"{path} changed while it was read: {expected[position]} is not where it was")


def _fingerprint(entries: Sequence[Entry], answers: Iterable[object]) -> str:
    """Hash over names, sizes and answers: cheap, and different as soon as a file or a label is.

    The bytes of the pictures are not read: a picture replaced by another of exactly its size goes unnoticed.
    """
    digest = hashlib.sha256()
    for entry, answer in zip(entries, answers, strict=True):
        digest.update(json.dumps([str(entry.name), entry.size, answer]).encode())
    return f"sha256:{digest.hexdigest()}"


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures somewhere on disk. Iterating gives (key, content), in the order of `entries`.

    Attributes
    ----------
    name : str
        What results call it.
    entries : tuple of Entry
        One per picture.
    """

    name: str
    entries: tuple[Entry, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        return _walk(self.entries)

    @property
    def keys(self) -> tuple[str, ...]:
        """Name of each picture inside its folder or archive."""
        return tuple(str(entry.name) for entry in self.entries)

    @property
    def made_of(self) -> tuple[Pictures, str]:
        """The pictures on disk that these are made of, and how: what rows of them are kept by."""
        return self, ""

    def rows(self, count: int, seed: int) -> NDArray[np.intp]:
        """Positions of at most `count` pictures drawn at random, in order."""
        drawn = np.random.default_rng(seed).choice(len(self), min(count, len(self)), replace=False)
        return np.sort(drawn).astype(np.intp)


@dataclass(frozen=True, eq=False)
class ImageDataset(Pictures):
    """Pictures with one class each.

    Attributes
    ----------
    labels : (N,) int64
        Index into `class_names`.
    class_names : tuple of str
        Class names in words, as prompts want them.
    """

    labels: NDArray[np.int64]
    class_names: tuple[str, ...]

    @property
    def fingerprint(self) -> str:
        """Hash over names, sizes and class names; the bytes of the pictures are not read."""
        return _fingerprint(self.entries, (self.class_names[label] for label in self.labels))

    def subset(self, classes: Iterable[str], *, name: str | None = None) -> ImageDataset:
        """The pictures of these classes, to be told apart among these classes only.

        Raises
        ------
        DataError
            A class that the data set does not have.
        """
        wanted = list(dict.fromkeys(classes))
        unknown = sorted(set(wanted) - set(self.class_names))
        if unknown or not wanted:
            raise DataError(
                f"{self.name} has no class {_listed(unknown)}; its classes are {_listed(self.class_names)}"
            )
        kept = [index for index, text in enumerate(self.class_names) if text in set(wanted)]
        rows = np.flatnonzero(np.isin(self.labels, kept))
        return ImageDataset(
            name or self.name,
            tuple(self.entries[row] for row in rows),
            np.searchsorted(kept, self.labels[rows]).astype(np.int64),
            tuple(self.class_names[index] for index in kept),
        )

    def sample(self, count: int, seed: int = 0) -> ImageDataset:
        """At most `count` pictures drawn at random, in their old order; all classes stay as answers."""
        rows = self.rows(count, seed)
        return replace(self, entries=tuple(self.entries[row] for row in rows), labels=self.labels[rows])


def load_labelled(
    path: str | Path,
    *,
    class_names: str | Mapping[str, str] | Sequence[str] | None = None,
    domain: str | None = None,
    name: str | None = None,
) -> ImageDataset:
    """Labelled pictures from a folder or a tar archive: the folder a picture lies in is its class.

    Parameters
    ----------
    path : path
        A folder of class folders, or a .tar or .tar.gz of them.
    class_names : str, mapping or sequence, optional
        Words for the folders. A mapping from folder to words decides the classes and their order: a folder it
        lacks is an error, a class without pictures stays among the answers. A sequence goes with the sorted
        folders. A string names a set of `diptych.zeroshot` ("imagenet", "caltech101"). Left out: WordNet ids
        become ImageNet's names, and in other folder names "_" becomes a space.
    domain : str, optional
        Only pictures below a folder of this name ("sketch" of pacs/sketch/dog/1.jpg).
    name : str, optional
        What results call it; by default the file name, with the domain after a slash.

    Raises
    ------
    DataError
        Nothing there, nothing readable, no class folders, an unknown domain or folder.
    """
    source = Path(path)
    found = [
        Entry(source, member.name, member.size)
        for member, _ in scan(source, lambda _: False)
        if member.name.suffix.lower() in IMAGE_SUFFIXES and len(member.name.parts) > 1
    ]
    if not found:
        raise DataError(
            f"{source} holds no picture in a class folder: expected <class>/<file>.jpg, one folder per class"
        )
    if domain is not None:
        found = _in_domain(found, domain)
    words = _words(sorted({entry.name.parent.name for entry in found}), class_names)
    index = {folder: number for number, folder in enumerate(words)}
    return ImageDataset(
        name or _stem(source) + (f"/{domain}" if domain else ""),
        tuple(found),
        np.array([index[entry.name.parent.name] for entry in found], dtype=np.int64),
        tuple(words.values()),
    )


def load_labelled_shards(
    paths: str | Path | Sequence[str | Path], *, field: str = "label", name: str | None = None
) -> ImageDataset:
    """Labelled pictures from tar shards or folders whose KEY.json names the class of KEY.jpg.

    Parameters
    ----------
    paths : path or sequence of paths
        As for `load_captioned`.
    field : str
        Field of KEY.json with the class.
    name : str, optional
        What results call it; by default the name of the first file.

    Raises
    ------
    DataError
        Nothing there, nothing readable, or no picture with that field.
    """
    found = load_captioned(paths, field=field, name=name)
    labels = [texts[0] for texts in found.captions]
    words = sorted(set(labels))
    number = {label: index for index, label in enumerate(words)}
    rows = np.array([number[label] for label in labels], dtype=np.int64)
    return ImageDataset(found.name, found.entries, rows, tuple(words))


def domains(path: str | Path) -> tuple[str, ...]:
    """Names of the folders right above the class folders, sorted: ("art_painting", ...) for PACS."""
    members = (member.name for member, _ in scan(Path(path), lambda _: False))
    return tuple(
        sorted({m.parts[-3] for m in members if m.suffix.lower() in IMAGE_SUFFIXES and len(m.parts) > 2})
    )


def _in_domain(entries: Sequence[Entry], domain: str) -> list[Entry]:
    kept = [entry for entry in entries if domain in entry.name.parts[:-2]]
    if not kept:
        there = sorted({part for entry in entries for part in entry.name.parts[:-2]})
        raise DataError(
            f"no picture lies below a folder {domain!r}; folders above the classes: {_listed(there)}"
        )
    return kept


def _words(folders: Sequence[str], names: str | Mapping[str, str] | Sequence[str] | None) -> dict[str, str]:
    """Folder -> words, in the order of the classes."""
    if names is None:
        known = folder_names("imagenet") if any(_WNID.fullmatch(folder) for folder in folders) else {}
        return {folder: known.get(folder, folder.replace("_", " ")) for folder in folders}
    if isinstance(names, str):
        names = folder_names(names)
    if isinstance(names, Mapping):
        unknown = sorted(set(folders) - set(names))
        if unknown:
            raise DataError(
                f"no class name is given for {_listed(unknown)}; names are given for {_listed(names)}"
            )
        return dict(names)
    if len(names) != len(folders):
        raise DataError(f"{len(names)} class names for {len(folders)} class folders ({_listed(folders)})")
    return dict(zip(folders, names, strict=True))


@dataclass(frozen=True, eq=False)
class CaptionDataset(Pictures):
    """Pictures with one or more captions each.

    Attributes
    ----------
    captions : tuple of tuples of str
        At least one per picture.
    skipped : tuple of (key, reason)
        Pictures that were left out because their captions are missing or cannot be read.
    """

    captions: tuple[tuple[str, ...], ...]
    skipped: tuple[tuple[str, str], ...] = field(default=())

    @property
    def fingerprint(self) -> str:
        """Hash over names, sizes and captions; the bytes of the pictures are not read."""
        return _fingerprint(self.entries, self.captions)

    def sample(self, count: int, seed: int = 0) -> CaptionDataset:
        """At most `count` pictures drawn at random, in their old order: for a quick look while training."""
        rows = self.rows(count, seed)
        entries = tuple(self.entries[row] for row in rows)
        return replace(self, entries=entries, captions=tuple(self.captions[row] for row in rows))


def load_captioned(
    path: str | Path | Sequence[str | Path], *, field: str = "captions", name: str | None = None
) -> CaptionDataset:
    """Captioned pictures from tar shards or folders: KEY.jpg beside KEY.json or KEY.txt.

    Parameters
    ----------
    path : path or sequence of paths
        Shards (.tar, .tar.gz) or folders; KEY is the path up to the first dot of the file name.
    field : str
        Field of KEY.json: a string or a list of strings. Without it "caption" and "text" are looked for.
        KEY.txt holds one caption per line.
    name : str, optional
        What results call it; by default the name of the first file.

    Raises
    ------
    DataError
        Nothing there, nothing readable, or no picture with a caption.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in dict.fromkeys(path)]
    if not paths:
        raise DataError("no shard or folder was given: expected at least one path")
    parts = [read_captioned(one, field) for one in paths]
    entries = tuple(entry for part in parts for entry in part[0])
    skipped = tuple(one for part in parts for one in part[2])
    if not entries:
        why = f"; first of {len(skipped)} left out: {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise DataError(
            f"{_listed(map(str, paths))}: no picture with a caption (KEY.jpg beside KEY.json or KEY.txt){why}"
        )
    captions = tuple(texts for part in parts for texts in part[1])
    return CaptionDataset(name or _stem(paths[0]), entries, captions, skipped)


def _stem(path: Path) -> str:
    """File name without .tar, .tar.gz and the like."""
    return re.sub(r"\.(tar|tgz|tar\.\w+)$", "", path.resolve().name)


def _listed(names: Iterable[str], most: int = 10) -> str:
    """The first few names, quoted, for a message."""
    every = list(names)
    return ", ".join(map(repr, every[:most])) + (
        f" and {len(every) - most} more" if len(every) > most else ""
    )
