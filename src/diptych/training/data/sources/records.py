"""What every set of pairs is once it is indexed: records by number, readable from any thread.

An index holds keys and places, no pictures. The kinds are in shards.py, tables.py and folders.py; order,
decoding and batches are not decided here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DataError
from diptych.files.unicode_text import composed
from diptych.training.data.order import UInts, hash_keys, mix, unit
from diptych.training.data.sources.captions import Templates


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
    examples : mapping of str
        The first one left out for each reason, where it has a name.
    """

    dropped: Counter[str]
    examples: Mapping[str, str] = MappingProxyType({})

    def drop(self, reason: str, name: str = "") -> None:
        """Count a record that is left out."""
        self.dropped[reason] += 1
        if name:
            self.examples = {reason: name, **self.examples}

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
        """Read a record's captions; none where it has none. Raise DataError if it cannot be read."""

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
        self.source, self.indices = source, indices
        self.dropped, self.examples = source.dropped, source.examples

    def __len__(self) -> int:
        return len(self.indices)

    def key(self, index: int) -> str:
        """Name a record."""
        return self.source.key(int(self.indices[index]))

    def image(self, index: int) -> bytes:
        """Read a picture."""
        return self.source.image(int(self.indices[index]))

    def captions(self, index: int) -> tuple[str, ...]:
        """Read the captions."""
        return self.source.captions(int(self.indices[index]))

    def label(self, index: int) -> str | None:
        """Give the class name."""
        return self.source.label(int(self.indices[index]))


def split(source: Source, fraction: float, seed: int = 0) -> tuple[Source, Source]:
    """Hold out a part for validation, by a hash of the key: others that come or go move no record.

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
class Part:
    """One side of a split, as a description that a recipe can hold.

    Parameters
    ----------
    description : Description
        Of all records.
    fraction : float
        Share held out.
    held_out : bool
        Which side this is.
    seed : int
        Of the split.
    """

    description: Description
    fraction: float
    held_out: bool = False
    seed: int = 0

    def open(self) -> Source:
        """Index the records of this side."""
        return split(self.description.open(), self.fraction, self.seed)[int(self.held_out)]


class Once:
    """A description that is indexed once, however many parts of it are opened.

    Examples
    --------
    >>> class Slow:
    ...     def open(self):
    ...         print("indexing")
    ...         return object()
    >>> once = Once(Slow())
    >>> once.open() is once.open()
    indexing
    True
    """

    def __init__(self, description: Description) -> None:
        self.description = description
        self._source: Source | None = None

    def open(self) -> Source:
        """The records, the same object each time."""
        if self._source is None:
            self._source = self.description.open()
        return self._source

    def __repr__(self) -> str:  # what a checkpoint compares: indexed or not, it is the same data
        return repr(self.description)


class LabelledSource(Source):
    """Records with a class name; captions are written from templates.

    Attributes
    ----------
    classes : tuple of str
        The labels that occur, renamed, excluded ones left out, sorted.
    unmatched : frozenset of str
        Excluded or renamed names that do not occur: most often slips of the pen.
    excluded : int
        Records left out with their class.
    """

    classes: tuple[str, ...]
    unmatched: frozenset[str]
    excluded: int

    def prepare(self, templates: Sequence[str], rename: Mapping[str, str], exclude: frozenset[str]) -> None:
        """Get ready for `add`."""
        self._templates = Templates(templates)
        self._rename = {composed(name): label for name, label in rename.items()}
        self._exclude = frozenset(map(composed, exclude))
        self.excluded = 0
        self._found: set[str] = set()
        self._codes: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        self._labels: list[int] = []

    def add(self, found: str, fields: Mapping[str, Any]) -> bool:
        """Note one more record's label; False when it is to be left out."""
        found = composed(found)
        spaced = found.replace("_", " ")
        label = self._rename.get(found, self._rename.get(spaced, spaced))
        self._found |= {found, spaced, label}
        if self._exclude & {found, spaced, label}:
            self.excluded += 1
            return False
        used = tuple((n, fields[n]) for n in sorted(self._templates.fields) if isinstance(fields.get(n), str))
        self._labels.append(self._codes.setdefault((label, used), len(self._codes)))
        return True

    def finish(self) -> None:
        """Write the captions of every label that was added."""
        # Written once per label, not per record.
        self._written = [(label, self._templates.fill(label, dict(fields))) for label, fields in self._codes]
        self.classes = tuple(sorted({label for label, _ in self._codes}))
        self.unmatched = frozenset((self._exclude | set(self._rename)) - self._found)

    def label(self, index: int) -> str | None:
        """Give the class name, renamed."""
        return self._written[self._labels[index]][0]

    def captions(self, index: int) -> tuple[str, ...]:
        """Give the sentences of the record's label."""
        return self._written[self._labels[index]][1]


def told_reasons(counts: Mapping[str, int], examples: Mapping[str, str]) -> str:
    """Why records were left out, with the first of each reason.

    Examples
    --------
    >>> told_reasons({"no caption": 1200, "no picture": 1}, {"no caption": "a.jpg"})
    '1,200 x no caption (the first: a.jpg), 1 x no picture'
    """
    first = {reason: f" (the first: {name})" for reason, name in examples.items()}
    return ", ".join(f"{count:,} x {reason}{first.get(reason, '')}" for reason, count in counts.items())


def require_records(source: Source, pattern: object, expected: str) -> None:
    """Raise DataError for a source with nothing in it."""
    if len(source) == 0:
        why = told_reasons(source.dropped, source.examples) or "nothing in it"
        raise DataError(f"{pattern} holds no usable record ({why}): expected {expected}")
