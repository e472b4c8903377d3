"""Corrupted views of a data set: its images decoded, cropped to squares and corrupted.

Images are first reduced to the input size of models, as for ImageNet-C: the largest centred square, resized
to `side` pixels. Smaller images keep their size, as for CIFAR-10-C: images are never enlarged before they are
corrupted. All models of a comparison get the same pixels.

Corrupting takes about as long as encoding, and a data set is iterated in its caller's thread. So a pool of
threads prefetches a few images for each thread; order and random numbers do not depend on it
(`corruptions.corrupt`). Decoded squares are kept for the next severity if all of them fit into `KEPT_BYTES`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from PIL import Image

from diptych.datasets.dataset import ImageCollection, ImageDataset
from diptych.datasets.formats.archives import Content, Unread
from diptych.errors import DiptychError, InputError
from diptych.evaluation.robustness.corruptions import SEVERITIES, STANDARD, VERSION, check, corrupt
from diptych.inputs import processors
from diptych.media import load_image
from diptych.prefetch import map_ahead, worker_threads

KEPT_BYTES = 512 * 2**20  # of cropped images that are kept in memory from one severity to the next
MOST_THREADS = 8
AHEAD = 4  # images per thread that are in progress or waiting

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True, eq=False)
class _DerivedImages(ImageDataset):
    """The images of a data set, changed; labels, classes and what was skipped are those of `base`."""

    base: ImageDataset

    @classmethod
    def over(cls, base: ImageDataset, name: str, *fields: Any) -> Self:
        """View of a data set, with the fields that the subclass adds."""
        inherited: dict[str, Any] = {
            "skipped": base.skipped,
            "templates": base.templates,
            "sampled_from": base.sampled_from,
        }
        return cls(name, base.entries, base.labels, base.class_names, base, *fields, **inherited)

    @property
    def how(self) -> str:
        """What was done to the images, in words."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """That of the data set, and what was done to the images."""
        return f"{self.base.fingerprint} {self.how}"

    @property
    def made_of(self) -> tuple[ImageCollection, str]:
        """The images these are made of, and how."""
        origin, how = self.base.made_of
        return origin, f"{how} {self.how}".strip()


@dataclass(frozen=True, eq=False)
class Squares(_DerivedImages):
    """View of a data set as centred squares of limited size, the input of corruptions.

    Attributes
    ----------
    side : int or None
        Maximum side of the square, pixels; None: no limit.
    threads : int or None
        Number of decoding threads; by default one per processor, at most 8.
    """

    side: int | None = None
    threads: int | None = None
    _kept: _Kept = field(init=False, repr=False, default_factory=lambda: _Kept(KEPT_BYTES))

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        return self.walk(None)

    def walk(self, change: Callable[[str, Image.Image], Image.Image] | None) -> Iterator[tuple[str, Content]]:
        """Yield (key, image) in order, changed by a function of both; `Unread` if it cannot be decoded."""
        known = self._kept.known

        def work(item: tuple[str, Content]) -> tuple[str, Content, Content]:
            key, content = item
            square = content if known else square_of(content, self.side)
            changed = square if change is None or isinstance(square, bytes) else change(key, square)
            return key, square, changed

        source = self._kept.items if known else self.base
        self._kept.bytes = 0
        new_squares: list[tuple[str, Content]] = []
        for key, square, changed in prefetch(source, work, self.threads):
            if not known:
                self._kept.add(new_squares, key, square)
            yield key, changed
        if not known:
            self._kept.finish(new_squares, len(self))

    @property
    def how(self) -> str:
        """What was done to the pictures, in words."""
        return "square" if self.side is None else f"square of at most {self.side} pixels"

    def sample(self, count: int, seed: int = 0) -> Squares:
        """At most `count` pictures drawn at random, in their old order."""
        return squares(self.base.sample(count, seed), side=self.side, threads=self.threads, name=self.name)

    def subset(self, classes: Iterable[str], *, name: str | None = None) -> Squares:
        """The pictures of these classes."""
        part = self.base.subset(classes, name=name or self.name)
        return squares(part, side=self.side, threads=self.threads, name=part.name)


@dataclass(frozen=True, eq=False)
class CorruptedDataset(_DerivedImages):
    """Squares under one corruption at one severity; created by `corrupted`.

    Attributes
    ----------
    base : Squares
        The uncorrupted images; several corrupted data sets may share them.
    """

    base: Squares
    corruption: str
    severity: int
    seed: int = 0

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        def change(key: str, picture: Image.Image) -> Image.Image:
            return corrupt(picture, self.corruption, self.severity, seed=self.seed, key=key)

        return self.base.walk(change)

    @property
    def how(self) -> str:
        """What was done to the squares, in words."""
        return f"{self.corruption} severity {self.severity} seed {self.seed} version {VERSION}"

    def sample(self, count: int, seed: int = 0) -> CorruptedDataset:
        """At most `count` pictures drawn at random, in their old order."""
        return self._over(self.base.sample(count, seed))

    def subset(self, classes: Iterable[str], *, name: str | None = None) -> CorruptedDataset:
        """The pictures of these classes."""
        return dataclasses.replace(self._over(self.base.subset(classes)), name=name or self.name)

    def _over(self, part: Squares) -> CorruptedDataset:
        dataset = corrupted(part, self.corruption, self.severity, seed=self.seed)
        return dataclasses.replace(dataset, name=self.name)


def squares(
    base: ImageDataset, *, side: int | None = None, threads: int | None = None, name: str | None = None
) -> Squares:
    """View of a data set as centred squares: the reference of its corruptions.

    Parameters
    ----------
    side : int, optional
        Maximum side of the square, pixels: the model's `input_size`, the largest of several models.
    threads : int, optional
        Number of threads that decode and corrupt.
    name : str, optional
        By default that of the data set.
    """
    for setting, value in (("side", side), ("threads", threads)):
        if value is not None and value < 1:
            raise InputError(f"{setting} is {value}: expected 1 or more")
    return Squares.over(base, name or base.name, side, threads)


def corrupted(
    base: ImageDataset,
    corruption: str,
    severity: int,
    *,
    seed: int = 0,
    side: int | None = None,
    threads: int | None = None,
) -> CorruptedDataset:
    """View of a data set with corrupted images.

    Parameters
    ----------
    base : ImageDataset
        `Squares` are used directly, so that several views decode them once.
    corruption, severity, seed
        As for `corruptions.corrupt`.
    side, threads
        As for `squares`.

    Raises
    ------
    InputError
        An unknown corruption, or an invalid severity or side.
    """
    check(corruption, severity)
    view = base if isinstance(base, Squares) else squares(base, side=side, threads=threads)
    name = f"{view.name}, {corruption.replace('_', ' ')} {severity}"
    return CorruptedDataset.over(view, name, corruption, severity, seed)


def corruptions_of(
    base: ImageDataset,
    *,
    names: Iterable[str] = STANDARD,
    severities: Iterable[int] = SEVERITIES,
    seed: int = 0,
    side: int | None = None,
    threads: int | None = None,
) -> tuple[Squares, list[CorruptedDataset]]:
    """Views of a data set: uncorrupted squares, and each corruption at each severity."""
    view = squares(base, side=side, threads=threads)
    wanted = list(severities)
    return view, [corrupted(view, name, severity, seed=seed) for name in names for severity in wanted]


def square_of(content: Content, side: int | None) -> Content:
    """Centred square of an image, at most `side` pixels; `Unread` if it cannot be decoded."""
    if isinstance(content, Unread):
        return content
    try:
        picture = load_image(content, srgb=False)
    except (DiptychError, OSError) as error:
        return Unread.because(str(error) or type(error).__name__)
    short = min(picture.size)
    left, top = (picture.width - short) / 2, (picture.height - short) / 2
    if side is None or short <= side:
        whole = (int(left), int(top), int(left) + short, int(top) + short)
        return picture.crop(whole)
    return picture.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + short, top + short))


class _Kept:
    """Cache of squares in memory, if all of them fit."""

    def __init__(self, most: int) -> None:
        self.most, self.bytes = most, 0
        self.items: list[tuple[str, Content]] = []
        self.known = False

    def add(self, kept: list[tuple[str, Content]], key: str, square: Content) -> None:
        """Add a square during the first pass; drop all if they exceed the limit."""
        self.bytes += len(square) if isinstance(square, bytes) else 3 * square.width * square.height
        if self.bytes <= self.most:
            kept.append((key, square))
        else:
            kept.clear()

    def finish(self, kept: list[tuple[str, Content]], count: int) -> None:
        """Keep the squares after a complete pass."""
        if len(kept) == count:
            self.items, self.known = kept, True


def prefetch(items: Iterable[Item], work: Callable[[Item], Done], threads: int | None) -> Iterator[Done]:
    """Apply `work` to items in threads, `AHEAD` items per thread in advance; yield results in order."""
    count = threads or min(processors(), MOST_THREADS)
    with worker_threads(count, "corrupt") as pool:
        yield from map_ahead(lambda item: pool.submit(work, item), items, AHEAD * count)
