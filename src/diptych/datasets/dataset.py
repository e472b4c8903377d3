"""Data sets to measure on: labelled pictures and captioned pictures, read where they lie.

A data set knows its keys, its labels or captions and its fingerprint; pictures are read while it is walked,
in one pass, and never kept. Decoding is `diptych.embedding.batches`'s business, figures are made beside this
file.

Layouts with labels are `layouts.py`'s business: class folders, with folders of domains above them where there
are some (`pacs/<domain>/<class>/<file>`), MNIST's and CIFAR's files, CLIP_benchmark's shards, Parquet. With
captions: KEY.jpg beside KEY.json or KEY.txt, shards, Parquet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diptych.datasets import contents
from diptych.datasets.captions import read_captioned
from diptych.datasets.formats.archives import Content, Entry, Unread
from diptych.datasets.formats.labelled import Labelled
from diptych.datasets.formats.layouts import find_parquet, read_labelled
from diptych.datasets.formats.shards import find_shards
from diptych.datasets.naming import name_classes
from diptych.datasets.parts import listed
from diptych.errors import DataError, counted
from diptych.media.sources import BorderedBytes


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures somewhere on disk. Iterating gives (key, content), in the order of `entries`.

    Attributes
    ----------
    name : str
        What results call it.
    entries : tuple of Entry
        One per picture.
    sampled_from : int or None
        How many pictures these were drawn from; None: they are all that the data set has.
    """

    name: str
    entries: tuple[Entry, ...]
    sampled_from: int | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        return contents.walk(self.entries)

    def digests(self, progress: Callable[[int], object] | None = None) -> tuple[bytes, ...]:
        """A hash of the content of each picture, in order; see `contents.image_digests`."""
        return contents.image_digests(self.entries, progress)

    @property
    def fingerprint(self) -> str:
        """Hash over contents and answers, in order; file names play no part."""
        return contents.fingerprint(self.digests(), self.answers())

    def answers(self) -> Iterable[object]:
        """What is known of each picture, as plain values: a part of the fingerprint."""
        return [None] * len(self)

    @property
    def keys(self) -> tuple[str, ...]:
        """Name of each picture inside its folder or archive."""
        return tuple(str(entry.name) for entry in self.entries)

    @property
    def made_of(self) -> tuple[Pictures, str]:
        """The pictures on disk that these are made of, and how: what rows of them are kept by."""
        return self, ""

    @property
    def extent(self) -> str:
        """The number of pictures in words, which never calls a sample all of them."""
        if self.sampled_from is None:
            return counted(len(self), "picture")
        return f"a random sample of {len(self):,} of {counted(self.sampled_from, 'picture')}"

    def rows(self, count: int, seed: int) -> NDArray[np.intp]:
        """Positions of at most `count` pictures drawn at random, in order."""
        drawn = np.random.default_rng(seed).choice(len(self), min(count, len(self)), replace=False)
        return np.sort(drawn).astype(np.intp)

    def sample(self, count: int, seed: int = 0) -> Pictures:
        """At most `count` pictures drawn at random, in their old order."""
        rows = self.rows(count, seed)
        entries = tuple(self.entries[row] for row in rows)
        return replace(self, entries=entries, sampled_from=self.origin_of(rows))

    def origin_of(self, rows: NDArray[np.intp]) -> int | None:
        """`sampled_from` of a sample with these positions; None where it leaves nothing out."""
        return self.sampled_from or (len(self) if len(rows) < len(self) else None)


@dataclass(frozen=True, eq=False)
class ImageDataset(Pictures):
    """Pictures with one class each.

    Attributes
    ----------
    labels : (N,) int64
        Index into `class_names`.
    class_names : tuple of str
        Class names in words, as prompts want them.
    skipped : tuple of (key, reason)
        Pictures that were left out because their class is missing or cannot be read.
    templates : tuple of str
        Prompts that came with the pictures; mostly none.
    border : int
        Pixels at each side that are no part of a picture and are cut off: ObjectNet's red frame.
    """

    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)
    templates: tuple[str, ...] = field(default=(), kw_only=True)
    border: int = field(default=0, kw_only=True)

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        for key, content in super().__iter__():
            if self.border and isinstance(content, bytes) and not isinstance(content, Unread):
                content = BorderedBytes.by(self.border, content)
            yield key, content

    @property
    def fingerprint(self) -> str:
        """Hash over contents and answers, in order, and what is cut off."""
        return " ".join(filter(None, (super().fingerprint, self._cut)))

    @property
    def made_of(self) -> tuple[Pictures, str]:
        """The pictures on disk, and what is cut off."""
        return self, self._cut

    @property
    def _cut(self) -> str:
        return f"without a border of {self.border}" if self.border else ""

    def answers(self) -> Iterable[object]:
        """The class name of each picture."""
        return (self.class_names[label] for label in self.labels)

    def rows(self, count: int, seed: int) -> NDArray[np.intp]:
        """Positions of at most `count` pictures, in order: of each class in proportion, at random within it.

        Every class gets one picture at least where `count` allows.
        """
        return stratified(self.labels, count, seed)

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
                f"{self.name} has no class {listed(unknown)}; its classes are {listed(self.class_names)}"
            )
        kept = [index for index, text in enumerate(self.class_names) if text in set(wanted)]
        rows = np.flatnonzero(np.isin(self.labels, kept))
        return replace(
            self,
            name=name or self.name,
            entries=tuple(self.entries[row] for row in rows),
            labels=np.searchsorted(kept, self.labels[rows]).astype(np.int64),
            class_names=tuple(self.class_names[index] for index in kept),
        )

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> ImageDataset:
        """The pictures at these positions; all classes stay as answers."""
        return replace(
            self,
            entries=tuple(self.entries[row] for row in rows),
            labels=self.labels[np.asarray(rows, np.intp)],
        )

    def sample(self, count: int, seed: int = 0) -> ImageDataset:
        """At most `count` pictures drawn by class, in their old order; all classes stay as answers."""
        rows = self.rows(count, seed)
        return replace(self.take(rows), sampled_from=self.origin_of(rows))


def stratified(labels: NDArray[np.integer], count: int, seed: int) -> NDArray[np.intp]:
    """Positions of at most `count` items: of each class in proportion to its size, at random within it.

    Shares are rounded by largest remainders. Where `count` is at least the number of classes, a class that
    would get none gets one, at the cost of the largest.

    Examples
    --------
    >>> labels = np.array([0] * 90 + [1] * 9 + [2])
    >>> np.bincount(labels[stratified(labels, 20, seed=0)]).tolist()
    [17, 2, 1]
    """
    rng = np.random.default_rng(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    count = min(count, len(labels))
    quotas = count * sizes / max(len(labels), 1)
    taken = np.floor(quotas + 1e-9).astype(int)
    # Equal remainders are ordered at random: the first classes of a list must not always be the ones drawn.
    order = np.lexsort((rng.random(len(classes)), taken - quotas))
    taken[order[: count - taken.sum()]] += 1
    while count >= len(classes) and (taken == 0).any():
        taken[taken.argmax()] -= 1
        taken[(taken == 0).argmax()] += 1
    rows = [
        rng.choice(np.flatnonzero(labels == label), number, replace=False)
        for label, number in zip(classes, taken, strict=True)
    ]
    return np.sort(np.concatenate([*rows, np.zeros(0, np.intp)])).astype(np.intp)


def load_labelled(
    path: str | Path,
    *,
    class_names: str | Mapping[str, str] | Sequence[str] | None = None,
    domain: str | None = None,
    part: str = "test",
    name: str | None = None,
) -> ImageDataset:
    """Labelled pictures from a folder or file in any layout of `layouts.py`.

    Parameters
    ----------
    path : path
        A folder of class folders, or a .tar or .tar.gz of them; a folder with MNIST's or CIFAR's files; a
        folder of CLIP_benchmark's shards; Parquet files or a folder of them.
    class_names : str, mapping or sequence, optional
        Words for the folders. A mapping from folder to words decides the classes and their order: a folder it
        lacks is an error, a class without pictures stays among the answers. A sequence goes with the sorted
        folders. A string names a set of `diptych.zeroshot` ("imagenet", "caltech101"). Left out: WordNet ids
        become ImageNet's names, and in other folder names "_" becomes a space.
    domain : str, optional
        Only pictures below a folder of this name ("sketch" of pacs/sketch/dog/1.jpg).
    part : str
        "test", "train" or "val", where one folder or archive holds several parts.
    name : str, optional
        What results call it; by default the file name, with the domain after a slash.

    Raises
    ------
    DataError
        Nothing there, nothing readable, no labels, labels that do not match, an unknown domain or folder.
    """
    source = Path(path)
    found = read_labelled(source, part=part, domain=domain)
    return dataset_of(found, name or _stem(source) + (f"/{domain}" if domain else ""), class_names)


def dataset_of(
    found: Labelled, name: str, class_names: str | Mapping[str, str] | Sequence[str] | None = None
) -> ImageDataset:
    """The data set of what a layout says, with words for its classes as for `load_labelled`."""
    labels, words = name_classes(found, class_names)
    return ImageDataset(
        name,
        found.entries,
        labels,
        words,
        skipped=found.skipped,
        templates=found.templates,
        border=found.border,
    )


def load_labelled_shards(
    paths: str | Path | Sequence[str | Path],
    *,
    field: str = "label",
    part: str = "test",
    name: str | None = None,
) -> ImageDataset:
    """Labelled pictures from tar shards or folders whose KEY.json names the class of KEY.jpg.

    Parameters
    ----------
    paths : path or sequence of paths
        As for `load_captioned`.
    field : str
        Field of KEY.json with the class.
    part : str
        As for `load_captioned`.
    name : str, optional
        What results call it; by default the name of the first file.

    Raises
    ------
    DataError
        Nothing there, nothing readable, or no picture with that field.
    """
    found = load_captioned(paths, field=field, part=part, name=name)
    labels = [texts[0] for texts in found.captions]
    words = sorted(set(labels))
    number = {label: index for index, label in enumerate(words)}
    rows = np.array([number[label] for label in labels], dtype=np.int64)
    return ImageDataset(found.name, found.entries, rows, tuple(words), skipped=found.skipped)


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

    def answers(self) -> Iterable[object]:
        """The captions of each picture."""
        return self.captions

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> CaptionDataset:
        """The pictures at these positions."""
        entries = tuple(self.entries[row] for row in rows)
        return replace(self, entries=entries, captions=tuple(self.captions[row] for row in rows))

    def sample(self, count: int, seed: int = 0) -> CaptionDataset:
        """At most `count` pictures drawn at random, in their old order: for a quick look while training."""
        rows = self.rows(count, seed)
        return replace(self.take(rows), sampled_from=self.origin_of(rows))


def load_captioned(
    path: str | Path | Sequence[str | Path],
    *,
    field: str = "captions",
    part: str = "test",
    name: str | None = None,
) -> CaptionDataset:
    """Captioned pictures: KEY.jpg beside KEY.json or KEY.txt in shards or folders, or a column of Parquet.

    Parameters
    ----------
    path : path or sequence of paths
        Shards (.tar, .tar.gz), Parquet files, folders of these or of pictures, CLIP_benchmark's folders; KEY
        is the path up to the first dot of the file name.
    field : str
        Field of KEY.json, or column: a string or a list of strings. Without it "caption" and "text" are
        looked for. KEY.txt holds one caption per line.
    part : str
        "test", "train" or "val", where one folder or archive holds several parts.
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
    sources = (find_shards(one, part) or find_parquet(one, part) or [one] for one in paths)
    parts = [read_captioned(one, field, part) for each in sources for one in each]
    entries = tuple(entry for part in parts for entry in part[0])
    skipped = tuple(one for part in parts for one in part[2])
    if not entries:
        why = f"; first of {len(skipped)} left out: {skipped[0][0]}: {skipped[0][1]}" if skipped else ""
        raise DataError(
            f"{listed(map(str, paths))}: no picture with a caption (KEY.jpg beside KEY.json or KEY.txt){why}"
        )
    captions = tuple(texts for part in parts for texts in part[1])
    return CaptionDataset(name or _stem(paths[0]), entries, captions, skipped)


def _stem(path: Path) -> str:
    """File name without .tar, .tar.gz and the like."""
    return re.sub(r"\.(tar|tgz|tar\.\w+)$", "", path.resolve().name)
