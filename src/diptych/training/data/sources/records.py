"""Indexed sources of pairs: records by number, readable from any thread.

An index holds keys and locations, no images. The kinds of sources are in shards.py, tables.py and folders.py.
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
class PairRecord:
    """One encoded image and its captions."""

    key: str
    image: bytes
    captions: tuple[str, ...]


class Source(ABC):
    """An indexed set of pairs. Methods may be called from several threads at once.

    Attributes
    ----------
    keys : list of str
        Key of each record, on which its place in the order of training depends.
    dropped : Counter of str
        Records dropped while indexing, by reason.
    examples : mapping of str
        The first dropped record of each reason, if it has a name.
    """

    keys: list[str]
    dropped: Counter[str]
    examples: Mapping[str, str] = MappingProxyType({})

    def drop(self, reason: str, name: str = "") -> None:
        """Count a record that is dropped."""
        self.dropped[reason] += 1
        if name:
            self.examples = {reason: name, **self.examples}

    def __len__(self) -> int:
        return len(self.keys)

    def key(self, index: int) -> str:
        """Key of a record."""
        return self.keys[index]

    @abstractmethod
    def image(self, index: int) -> bytes:
        """Read the encoded bytes of an image, or raise DataError."""

    @abstractmethod
    def captions(self, index: int) -> tuple[str, ...]:
        """Read the captions of a record, which may be none; raise DataError if they cannot be read."""

    def label(self, index: int) -> str | None:
        """Class name of a labelled record, else None."""
        return None

    def read(self, index: int) -> PairRecord:
        """Read one record whole."""
        return PairRecord(self.key(index), self.image(index), self.captions(index))

    def hashes(self) -> UInts:
        """Hash every key, (N,) uint64."""
        return hash_keys(self.key(index) for index in range(len(self)))


class Description(Protocol):
    """Names a set of pairs in a recipe. Its repr is stored in checkpoints."""

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
        """Key of a record."""
        return self.source.key(int(self.indices[index]))

    def image(self, index: int) -> bytes:
        """Read an image."""
        return self.source.image(int(self.indices[index]))

    def captions(self, index: int) -> tuple[str, ...]:
        """Read the captions."""
        return self.source.captions(int(self.indices[index]))

    def label(self, index: int) -> str | None:
        """Class name of a record."""
        return self.source.label(int(self.indices[index]))


def split(source: Source, fraction: float, seed: int = 0) -> tuple[Source, Source]:
    """Hold out records for validation by a hash of their keys: adding or removing others moves none.

    Parameters
    ----------
    fraction : float
        Share to hold out, from 0 up to below 1.
    """
    if not 0 <= fraction < 1:
        raise DataError(f"the share to hold out is {fraction}: expected 0 or more and less than 1")
    # e.g. fraction 0.1: the records whose hash, as a number in [0, 1), is below 0.1.
    out = unit(mix(mix(source.hashes(), seed), 0)) < fraction
    return Subset(source, np.flatnonzero(~out)), Subset(source, np.flatnonzero(out))


@dataclass(frozen=True)
class Part:
    """One side of a split as a description. Names of class and fields are stored in checkpoints.

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
    """A description that is indexed once, although several splits of it are opened.

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

    def __repr__(self) -> str:  # checkpoints compare it: the data is the same with and without `Once`
        return repr(self.description)


class LabelledSource(Source):
    """Records with a class name; captions are made from templates.

    Attributes
    ----------
    classes : tuple of str
        The labels that occur, renamed and sorted, without excluded ones.
    unmatched : frozenset of str
        Excluded or renamed names that do not occur: most often misspelt.
    excluded : int
        Number of records of excluded classes.
    """

    classes: tuple[str, ...]
    unmatched: frozenset[str]
    excluded: int

    def prepare(self, templates: Sequence[str], rename: Mapping[str, str], exclude: frozenset[str]) -> None:
        """Initialise, before `add` is called."""
        self._templates = Templates(templates)
        self._rename = {composed(name): label for name, label in rename.items()}
        self._exclude = frozenset(map(composed, exclude))
        self.excluded = 0
        self._names: set[str] = set()  # of all labels, as in the data and renamed
        # Captions are made once per label and used fields, not per record: (label, fields) -> code.
        self._codes: dict[tuple[str, tuple[tuple[str, str], ...]], int] = {}
        self._labels: list[int] = []

    def add(self, name: str, fields: Mapping[str, Any]) -> bool:
        """Add a record with a label as in the data; False if its class is excluded."""
        name = composed(name)
        spaced = name.replace("_", " ")
        label = self._rename.get(name, self._rename.get(spaced, spaced))
        self._names |= {name, spaced, label}
        # A class may be excluded by any of its spellings.
        if self._exclude & {name, spaced, label}:
            self.excluded += 1
            return False
        used = tuple((n, fields[n]) for n in sorted(self._templates.fields) if isinstance(fields.get(n), str))
        self._labels.append(self._codes.setdefault((label, used), len(self._codes)))
        return True

    def finish(self) -> None:
        """Make the captions of every label, after the last `add`."""
        self._captions = [(label, self._templates.fill(label, dict(fields))) for label, fields in self._codes]
        self.classes = tuple(sorted({label for label, _ in self._codes}))
        self.unmatched = frozenset((self._exclude | set(self._rename)) - self._names)

    def label(self, index: int) -> str | None:
        """Class name of a record, renamed."""
        return self._captions[self._labels[index]][0]

    def captions(self, index: int) -> tuple[str, ...]:
        """Captions of the record's label."""
        return self._captions[self._labels[index]][1]


def format_reasons(counts: Mapping[str, int], examples: Mapping[str, str]) -> str:
    """Format the reasons why records were dropped, with an example of each.

    Examples
    --------
    >>> format_reasons({"no caption": 1200, "no picture": 1}, {"no caption": "a.jpg"})
    '1,200 x no caption (the first: a.jpg), 1 x no picture'
    """
    first = {reason: f" (the first: {name})" for reason, name in examples.items()}
    return ", ".join(f"{count:,} x {reason}{first.get(reason, '')}" for reason, count in counts.items())


def require_records(source: Source, pattern: object, expected: str) -> None:
    """Raise DataError for a source with nothing in it."""
    if len(source) == 0:
        reasons = format_reasons(source.dropped, source.examples) or "nothing in it"
        raise DataError(f"{pattern} holds no usable record ({reasons}): expected {expected}")
