"""Sources of image-text pairs: indexed once, then read at random from any thread.

A description (`TarPairs`, `LabelledTar`, `Table`, `Folder`, `LabelledFolder`) is a frozen dataclass that a recipe can
hold; its `open()` makes the index. An index holds keys and places, no pictures. Tables and folders are in tables.py
and folders.py; order, decoding and batches are not decided here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DataError
from diptych.training.captions import (
    DEFAULT_TEMPLATES,
    Templates,
    captions_of_fields,
    captions_of_text,
    parse_json,
)
from diptych.training.order import UInts, hash_keys, mix, unit
from diptych.training.patterns import find_files
from diptych.training.pictures import IMAGE_SUFFIXES
from diptych.training.tars import Tar

Place = tuple[int, int, int]  # archive, offset, size
NOWHERE: Place = (-1, 0, 0)


@dataclass(frozen=True)
class Record:
    """One picture, still encoded, and what is said of it."""

    key: str
    image: bytes
    captions: tuple[str, ...]


class Source(ABC):
    """Pairs by number. Methods may be called from several threads at once.

    Attributes
    ----------
    dropped : Counter of str
        Records left out while indexing, by reason.
    """

    dropped: Counter[str]

    @abstractmethod
    def __len__(self) -> int:
        """Give the number of records."""

    @abstractmethod
    def key(self, index: int) -> str:
        """Name a record; the order of training hangs on it."""

    @abstractmethod
    def image(self, index: int) -> bytes:
        """Read a picture's encoded bytes, or raise DataError."""

    @abstractmethod
    def captions(self, index: int) -> tuple[str, ...]:
        """Read a record's captions; none where it has none that can be read. Raise DataError if unreadable."""

    def label(self, index: int) -> str | None:
        """Give the class name of a labelled record, else None."""
        return None

    def read(self, index: int) -> Record:
        """Read one record whole."""
        return Record(self.key(index), self.image(index), self.captions(index))

    def hashes(self) -> UInts:
        """Hash every key, (N,) uint64."""
        return hash_keys(self.key(index) for index in range(len(self)))


class Description(Protocol):
    """What a recipe writes to name pairs."""

    def open(self) -> Source:
        """Index the pairs."""


class Subset(Source):
    """Some records of another source."""

    def __init__(self, source: Source, indices: NDArray[np.int64]) -> None:
        self.source, self.indices, self.dropped = source, indices, source.dropped

    def __len__(self) -> int:
        return len(self.indices)

    def key(self, index: int) -> str:
        return self.source.key(int(self.indices[index]))

    def image(self, index: int) -> bytes:
        return self.source.image(int(self.indices[index]))

    def captions(self, index: int) -> tuple[str, ...]:
        return self.source.captions(int(self.indices[index]))

    def label(self, index: int) -> str | None:
        return self.source.label(int(self.indices[index]))


def split(source: Source, fraction: float, seed: int = 0) -> tuple[Source, Source]:
    """Hold out a part for validation, by a hash of the key: a record's side never changes as others come and go.

    Parameters
    ----------
    source : Source
    fraction : float
        Share to hold out, from 0 up to below 1.
    seed : int

    Returns
    -------
    train, held_out : Source
    """
    if not 0 <= fraction < 1:
        raise DataError(f"the share to hold out is {fraction}: expected 0 or more and less than 1")
    out = unit(mix(mix(source.hashes(), seed), 0)) < fraction
    return Subset(source, np.flatnonzero(~out)), Subset(source, np.flatnonzero(out))


@dataclass(frozen=True)
class TarPairs:
    """Tar shards of KEY.jpg (png, webp, ...) with KEY.txt or KEY.json.

    Parameters
    ----------
    pattern : str, Path or a sequence
        Brace ranges (``shards/{000..099}.tar``), globs, lists, ``a.tar::b.tar``; plain or gzip.
    caption_field : str, optional
        JSON field of the captions; by default KEY.txt where there is one, else the first of "captions",
        "caption", "text".
    """

    pattern: str | Path | Sequence[str | Path]
    caption_field: str | None = None

    def open(self) -> Source:
        """Index the shards."""
        return _TarPairs(self)


@dataclass(frozen=True)
class LabelledTar:
    """Labelled pictures in tars, turned into captions by templates.

    Parameters
    ----------
    pattern : str, Path or a sequence
        As for `TarPairs`.
    templates : tuple of str
        Sentences with ``{}`` (or ``{a}``: with its article) for the label and ``{kind}`` for a JSON field.
    label_field : str, optional
        JSON field of the label (KEY.json beside KEY.jpg); by default the label is the picture's folder.
        Underscores are read as spaces.
    rename : mapping
        Label as found -> label as written, for example ``{"Faces_easy": "face"}``.
    exclude : frozenset of str
        Labels left out altogether, as found or as renamed. `open().unmatched` tells which of them do not occur.
    """

    pattern: str | Path | Sequence[str | Path]
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    label_field: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    exclude: frozenset[str] = frozenset()

    def open(self) -> LabelledSource:
        """Index the tars."""
        return _LabelledTar(self)


class _TarSource(Source):
    """Pictures in tars: keys, and the place of each record's picture."""

    def __init__(self, pattern: str | Path | Sequence[str | Path]) -> None:
        self.tars = [Tar(path) for path in find_files(pattern)]
        self.dropped = Counter()
        self.keys: list[str] = []
        self._images = np.empty((0, 3), np.int64)

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> str:
        return self.keys[index]

    def image(self, index: int) -> bytes:
        return self._bytes(self._images[index])

    def _bytes(self, place: Sequence[int] | NDArray[np.int64]) -> bytes:
        return self.tars[int(place[0])].blob.read(int(place[1]), int(place[2]))

    def _groups(self, number: int) -> dict[str, dict[str, Place]]:
        """Gather an archive's members by key: what stands before the first dot of the file name, as WebDataset."""
        groups: dict[str, dict[str, Place]] = {}
        for name, offset, size in self.tars[number].members():
            folder, _, file = name.rpartition("/")
            stem, dot, suffix = file.partition(".")
            if not stem or not dot:
                continue
            suffix = suffix.lower()
            role = "image" if f".{suffix.rpartition('.')[2]}" in IMAGE_SUFFIXES else suffix
            groups.setdefault(f"{folder}/{stem}" if folder else stem, {})[role] = (number, offset, size)
        if self.tars[number].cut_short:
            self.dropped["archive cut short"] += 1
        return groups


class _TarPairs(_TarSource):
    def __init__(self, description: TarPairs) -> None:
        super().__init__(description.pattern)
        self._field = description.caption_field
        images, texts, objects = [], [], []
        for number, tar in enumerate(self.tars):
            for key, group in self._groups(number).items():
                if "image" not in group:
                    self.dropped["no picture"] += 1
                elif "txt" not in group and "json" not in group:
                    self.dropped["no caption"] += 1
                else:
                    self.keys.append(f"{tar.name}/{key}")
                    images.append(group["image"])
                    texts.append(group.get("txt", NOWHERE))
                    objects.append(group.get("json", NOWHERE))
        self._images, self._texts, self._objects = (
            np.array(p, np.int64).reshape(-1, 3) for p in (images, texts, objects)
        )
        _require_records(self, description.pattern, "KEY.jpg with KEY.txt or KEY.json")

    def captions(self, index: int) -> tuple[str, ...]:
        text, fields = self._texts[index], self._objects[index]
        if text[0] >= 0 and self._field is None:
            return captions_of_text(self._bytes(text))
        return captions_of_fields(parse_json(self._bytes(fields)), self._field) if fields[0] >= 0 else ()


class LabelledSource(Source):
    """Records with a class name; captions are written from templates.

    Attributes
    ----------
    classes : tuple of str
        The labels that occur, renamed, excluded ones left out, sorted.
    unmatched : frozenset of str
        Excluded or renamed names that do not occur: most often slips of the pen.
    """

    classes: tuple[str, ...]
    unmatched: frozenset[str]

    def _prepare(self, templates: Sequence[str], rename: Mapping[str, str], exclude: frozenset[str]) -> None:
        self._templates, self._rename, self._exclude = Templates(templates), rename, exclude
        self._found: set[str] = set()
        self._codes: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        self._labels: list[int] = []

    def _add(self, found: str, fields: Mapping[str, Any]) -> bool:
        """Note one more record's label; False when it is to be left out."""
        spaced = found.replace("_", " ")
        label = self._rename.get(found, self._rename.get(spaced, spaced))
        self._found |= {found, spaced, label}
        if self._exclude & {found, spaced, label}:
            self.dropped["excluded class"] += 1
            return False
        used = tuple((n, fields[n]) for n in sorted(self._templates.fields) if isinstance(fields.get(n), str))
        self._labels.append(self._codes.setdefault((label, used), len(self._codes)))
        return True

    def _finish(self) -> None:
        # Written once per label, not per record.
        self._written = [(label, self._templates.fill(label, dict(fields))) for label, fields in self._codes]
        self.classes = tuple(sorted({label for label, _ in self._codes}))
        self.unmatched = frozenset((self._exclude | set(self._rename)) - self._found)

    def label(self, index: int) -> str | None:
        return self._written[self._labels[index]][0]

    def captions(self, index: int) -> tuple[str, ...]:
        return self._written[self._labels[index]][1]


class _LabelledTar(LabelledSource, _TarSource):
    def __init__(self, description: LabelledTar) -> None:
        _TarSource.__init__(self, description.pattern)
        self._prepare(description.templates, description.rename, description.exclude)
        images = []
        for number, tar in enumerate(self.tars):
            for key, group in self._groups(number).items():
                if "image" not in group:
                    self.dropped["no picture"] += 1
                    continue
                fields = parse_json(self._bytes(group["json"])) if "json" in group else {}
                label = _label_of(key, fields, description.label_field)
                if label is None:
                    self.dropped["no label"] += 1
                elif self._add(label, fields):
                    self.keys.append(f"{tar.name}/{key}")
                    images.append(group["image"])
        self._images = np.array(images, np.int64).reshape(-1, 3)
        self._finish()
        asked = f"JSON field {description.label_field!r}" if description.label_field else "<class>/<file>"
        _require_records(self, description.pattern, f"pictures labelled by {asked}, not all excluded")


def _label_of(key: str, fields: Mapping[str, Any], name: str | None) -> str | None:
    if name is None:
        return PurePosixPath(key).parent.name or None
    value = fields.get(name)
    return value.strip() or None if isinstance(value, str) else None


def _require_records(source: Source, pattern: object, expected: str) -> None:
    if len(source) == 0:
        why = ", ".join(f"{count} x {reason}" for reason, count in source.dropped.items()) or "nothing in it"
        raise DataError(f"{pattern} holds no usable record ({why}): expected {expected}")
