"""Data sets for evaluation: labelled images and captioned images.

A data set has keys, labels or captions, and a fingerprint. Iterating reads the images in one pass, without
keeping them; they are decoded by `diptych.embedding.batches`.

Layouts with labels (see `formats/layouts.py`): class folders, also below folders of domains
(`pacs/<domain>/<class>/<file>`), MNIST's and CIFAR's files, CLIP_benchmark's shards, Parquet. With captions:
KEY.jpg beside KEY.json or KEY.txt, shards, Parquet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from diptych.datasets import contents
from diptych.datasets.captions import read_captioned
from diptych.datasets.formats.archives import Content, ImageEntry, Unread
from diptych.datasets.formats.labelled import Labelled
from diptych.datasets.formats.layouts import find_parquet, read_labelled
from diptych.datasets.formats.shards import find_shards
from diptych.datasets.naming import name_classes
from diptych.errors import DataError, counted, listed
from diptych.media.sources import BorderedBytes


@dataclass(frozen=True, eq=False)
class ImageCollection:
    """Images on disk. Iterating yields (key, content), in the order of `entries`.

    Attributes
    ----------
    name : str
        Name in results.
    entries : tuple of ImageEntry
        One per image.
    sampled_from : int or None
        Number of images from which a sample was drawn; None: this is the whole data set.
    """

    name: str
    entries: tuple[ImageEntry, ...]
    sampled_from: int | None = field(default=None, kw_only=True)
    per_image: ClassVar[tuple[str, ...]] = ()  # further fields with a value for each image

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        return contents.walk(self.entries)

    def digests(self, progress: Callable[[int], object] | None = None) -> tuple[bytes, ...]:
        """Hash of the content of each image, in order; see `contents.image_digests`."""
        return contents.image_digests(self.entries, progress)

    @property
    def fingerprint(self) -> str:
        """Hash over contents and labels or captions, in order, independent of file names."""
        return contents.fingerprint(self.digests(), self.answers())

    def answers(self) -> Iterable[object]:
        """Labels or captions of each image as plain values, for the fingerprint."""
        return [None] * len(self)

    @property
    def keys(self) -> tuple[str, ...]:
        """Name of each image inside its folder or archive."""
        return tuple(str(entry.name) for entry in self.entries)

    @property
    def made_of(self) -> tuple[ImageCollection, str]:
        """The original images and a description of the derivation, for the key of cached embeddings."""
        return self, ""

    @property
    def extent(self) -> str:
        """The number of images in words; of a sample with the size of the data set."""
        if self.sampled_from is None:
            return counted(len(self), "picture")
        return f"a random sample of {len(self):,} of {counted(self.sampled_from, 'picture')}"

    def sample_positions(self, count: int, seed: int) -> NDArray[np.intp]:
        """Positions of a random sample of at most `count` images, sorted."""
        drawn = np.random.default_rng(seed).choice(len(self), min(count, len(self)), replace=False)
        return np.sort(drawn).astype(np.intp)

    def take(self, positions: Sequence[int] | NDArray[np.intp]) -> Self:
        """Select the images at these positions; class names and the like are kept."""
        fields: dict[str, Any] = {
            name: _selected(getattr(self, name), positions) for name in ("entries", *self.per_image)
        }
        return replace(self, **fields)

    def sample(self, count: int, seed: int = 0) -> Self:
        """Draw a random sample of at most `count` images, in their order; see `sample_positions`."""
        positions = self.sample_positions(count, seed)
        sampled_from = self.sampled_from or (len(self) if len(positions) < len(self) else None)
        return replace(self.take(positions), sampled_from=sampled_from)


def _selected(values: Any, positions: Sequence[int] | NDArray[np.intp]) -> Any:
    """The values at these positions, of a tuple, of an array or of each value of a mapping."""
    if isinstance(values, np.ndarray):
        return values[np.asarray(positions, np.intp)]
    if isinstance(values, Mapping):
        return {name: _selected(column, positions) for name, column in values.items()}
    return tuple(values[position] for position in positions)


@dataclass(frozen=True, eq=False)
class ImageDataset(ImageCollection):
    """Images with one class each.

    Attributes
    ----------
    labels : (N,) int64
        Index into `class_names`.
    class_names : tuple of str
        Class names in words, for prompts.
    skipped : tuple of (key, reason)
        Images that were left out because their class is missing or unreadable.
    templates : tuple of str
        Prompts from the files; usually none.
    border : int
        Pixels that are cropped from each side: ObjectNet's red frame.
    """

    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)
    templates: tuple[str, ...] = field(default=(), kw_only=True)
    border: int = field(default=0, kw_only=True)
    per_image: ClassVar[tuple[str, ...]] = ("labels",)

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        for key, content in super().__iter__():
            if self.border and isinstance(content, bytes) and not isinstance(content, Unread):
                content = BorderedBytes.by(self.border, content)
            yield key, content

    @property
    def fingerprint(self) -> str:
        """Hash over contents and labels, in order, and the cropped border."""
        return " ".join(filter(None, (super().fingerprint, self._cut)))

    @property
    def made_of(self) -> tuple[ImageCollection, str]:
        """The images on disk, and the cropped border."""
        return self, self._cut

    @property
    def _cut(self) -> str:
        return f"without a border of {self.border}" if self.border else ""

    def answers(self) -> Iterable[object]:
        """The class name of each image."""
        return (self.class_names[label] for label in self.labels)

    def sample_positions(self, count: int, seed: int) -> NDArray[np.intp]:
        """Positions of a stratified sample of at most `count` images, sorted; see `stratified`."""
        return stratified(self.labels, count, seed)

    def subset(self, classes: Iterable[str], *, name: str | None = None) -> ImageDataset:
        """Select the images of some classes; the class names become these classes.

        Raises
        ------
        DataError
            A class that the data set does not have.
        """
        selected = set(classes)
        unknown = sorted(selected - set(self.class_names))
        if unknown or not selected:
            raise DataError(
                f"{self.name} has no class {listed(unknown)}; its classes are {listed(self.class_names)}"
            )
        indices = [index for index, text in enumerate(self.class_names) if text in selected]
        part = self.take(np.flatnonzero(np.isin(self.labels, indices)))
        return replace(
            part,
            name=name or self.name,
            labels=np.searchsorted(indices, part.labels).astype(np.int64),
            class_names=tuple(self.class_names[index] for index in indices),
        )


def stratified(labels: NDArray[np.integer], count: int, seed: int) -> NDArray[np.intp]:
    """Positions of a stratified random sample of at most `count` items: classes in proportion to their sizes.

    Quotas are rounded by the largest remainder method. If `count` is at least the number of classes, a class
    that would get none gets one, at the expense of the largest: of classes with 90, 9 and 1 items, a sample
    of 20 has the quotas 18, 1.8 and 0.2, so 18, 2 and 0, and then 17, 2 and 1.

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
    # Equal remainders are ordered at random, so that the first classes of a list are not always preferred.
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
    """Load labelled images from a folder or file in any layout of `formats/layouts.py`.

    Parameters
    ----------
    path : path
        A folder of class folders, or a .tar or .tar.gz of them; a folder with MNIST's or CIFAR's files; a
        folder of CLIP_benchmark's shards; Parquet files or a folder of them.
    class_names : str, mapping or sequence, optional
        Class names for the folders. A mapping from folder to name defines the classes and their order: a
        folder that it lacks is an error, a class without images can still be predicted. A sequence
        corresponds to the sorted folders. A string is the name of a set of `diptych.zeroshot` ("imagenet",
        "caltech101"). By default WordNet ids become ImageNet's names, and "_" in other folder names becomes a
        space.
    domain : str, optional
        Only images below a folder of this name ("sketch" for pacs/sketch/dog/1.jpg).
    part : str
        "test", "train" or "val", if a folder or archive has several parts.
    name : str, optional
        Name in results; by default the file name, with the domain after a slash.

    Raises
    ------
    DataError
        A missing path, no readable image, no labels, labels that do not match, an unknown domain or folder.
    """
    source = Path(path)
    labelled = read_labelled(source, part=part, domain=domain)
    return dataset_of(labelled, name or _stem(source) + (f"/{domain}" if domain else ""), class_names)


def dataset_of(
    labelled: Labelled, name: str, class_names: str | Mapping[str, str] | Sequence[str] | None = None
) -> ImageDataset:
    """Create the data set of labelled files, with class names as for `load_labelled`."""
    labels, words = name_classes(labelled, class_names)
    return ImageDataset(
        name,
        labelled.entries,
        labels,
        words,
        skipped=labelled.skipped,
        templates=labelled.templates,
        border=labelled.border,
    )


def load_labelled_shards(
    paths: str | Path | Sequence[str | Path],
    *,
    field: str = "label",
    part: str = "test",
    name: str | None = None,
) -> ImageDataset:
    """Load labelled images from tar shards or folders, with the class of KEY.jpg in KEY.json.

    Parameters
    ----------
    paths : path or sequence of paths
        As for `load_captioned`.
    field : str
        Field of KEY.json with the class.
    part : str
        As for `load_captioned`.
    name : str, optional
        Name in results; by default that of the first file.

    Raises
    ------
    DataError
        A missing path, no readable image, or no image with that field.
    """
    captioned = load_captioned(paths, field=field, part=part, name=name)
    labels = [texts[0] for texts in captioned.captions]
    words = sorted(set(labels))
    number = {label: index for index, label in enumerate(words)}
    rows = np.array([number[label] for label in labels], dtype=np.int64)
    return ImageDataset(captioned.name, captioned.entries, rows, tuple(words), skipped=captioned.skipped)


@dataclass(frozen=True, eq=False)
class CaptionDataset(ImageCollection):
    """Images with one or more captions each.

    Attributes
    ----------
    captions : tuple of tuples of str
        At least one per image.
    skipped : tuple of (key, reason)
        Images that were left out because their captions are missing or unreadable.
    """

    captions: tuple[tuple[str, ...], ...]
    skipped: tuple[tuple[str, str], ...] = field(default=())
    per_image = ("captions",)

    def answers(self) -> Iterable[object]:
        """The captions of each image."""
        return self.captions


def load_captioned(
    path: str | Path | Sequence[str | Path],
    *,
    field: str = "captions",
    part: str = "test",
    name: str | None = None,
) -> CaptionDataset:
    """Load captioned images: KEY.jpg beside KEY.json or KEY.txt in shards or folders, or a column of Parquet.

    Parameters
    ----------
    path : path or sequence of paths
        Shards (.tar, .tar.gz), Parquet files, folders of these or of images, CLIP_benchmark's folders; KEY is
        the path up to the first dot of the file name.
    field : str
        Field of KEY.json, or column: a string or a list of strings. If it is missing, "caption" and "text"
        are tried. KEY.txt has one caption per line.
    part : str
        "test", "train" or "val", if a folder or archive has several parts.
    name : str, optional
        Name in results; by default that of the first file.

    Raises
    ------
    DataError
        A missing path, no readable image, or no image with a caption.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(source) for source in dict.fromkeys(path)]
    if not paths:
        raise DataError("no path was given: expected at least one shard or folder")
    sources = (find_shards(source, part) or find_parquet(source, part) or [source] for source in paths)
    parts = [read_captioned(source, field, part) for each in sources for source in each]
    entries = tuple(entry for part in parts for entry in part[0])
    skipped = tuple(source for part in parts for source in part[2])
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
