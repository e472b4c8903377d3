"""A data set seen through a corruption: its pictures, decoded, cropped to what a model sees and made worse.

Pictures are first brought to the size a model sees, as for ImageNet-C: the largest square in the middle,
its side reduced to `side` pixels. One that is smaller keeps its size, as for CIFAR-10-C: a picture is never
enlarged before it is corrupted. All models of a comparison meet the same pixels, whatever they make of them.

Corrupting takes about as long as encoding, and a data set is walked in its caller's thread. So a pool works
ahead, by a few pictures for each thread; order and chance do not depend on it (`corruptions.corrupt`). What
is decoded and cropped is kept for the next severity where all of it fits into `KEPT_BYTES`.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from PIL import Image

from diptych.datasets.dataset import ImageDataset, Pictures
from diptych.datasets.formats.archives import Content, Unread
from diptych.errors import DiptychError, InputError
from diptych.evaluation.robustness.corruptions import SEVERITIES, STANDARD, VERSION, check, corrupt
from diptych.inputs import processors
from diptych.media import load_image

KEPT_BYTES = 512 * 2**20  # of cropped pictures that stay in memory from one severity to the next
MOST_THREADS = 8
AHEAD = 4  # pictures for each thread that may be under way or wait to be taken

Item = TypeVar("Item")
Done = TypeVar("Done")


@dataclass(frozen=True, eq=False)
class Squares(ImageDataset):
    """The pictures of another data set as they are before they are corrupted: decoded, square, not too large.

    Attributes
    ----------
    base : ImageDataset
    side : int or None
        Of the square at most, pixels; None: as large as the picture is.
    threads : int or None
        That decode; by default one per processor, at most 8.
    """

    base: ImageDataset
    side: int | None = None
    threads: int | None = None
    _kept: _Kept = field(init=False, repr=False, default_factory=lambda: _Kept(KEPT_BYTES))

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        return self.walk(None)

    def walk(self, change: Callable[[str, Image.Image], Image.Image] | None) -> Iterator[tuple[str, Content]]:
        """(key, picture) in order, changed by a function of both; `Unread` where there is none."""
        known = self._kept.known

        def work(item: tuple[str, Content]) -> tuple[str, Content, Content]:
            key, content = item
            square = content if known else square_of(content, self.side)
            worse = square if change is None or isinstance(square, bytes) else change(key, square)
            return key, square, worse

        source = self._kept.items if known else self.base
        self._kept.bytes = 0
        found: list[tuple[str, Content]] = []
        for key, square, worse in ahead(source, work, self.threads):
            if not known:
                self._kept.add(found, key, square)
            yield key, worse
        if not known:
            self._kept.finish(found, len(self))

    @property
    def fingerprint(self) -> str:
        """That of the data set, and what was done to the pictures."""
        return f"{self.base.fingerprint} {self.how}"

    @property
    def how(self) -> str:
        """What was done to the pictures, in words."""
        return "square" if self.side is None else f"square of at most {self.side} pixels"

    @property
    def made_of(self) -> tuple[Pictures, str]:
        """The pictures these are made of, and how."""
        origin, how = self.base.made_of
        return origin, f"{how} {self.how}".strip()

    def sample(self, count: int, seed: int = 0) -> Squares:
        """At most `count` pictures drawn at random, in their old order."""
        return squares(self.base.sample(count, seed), side=self.side, threads=self.threads, name=self.name)

    def subset(self, classes: Iterable[str], *, name: str | None = None) -> Squares:
        """The pictures of these classes."""
        part = self.base.subset(classes, name=name or self.name)
        return squares(part, side=self.side, threads=self.threads, name=part.name)


@dataclass(frozen=True, eq=False)
class CorruptedDataset(ImageDataset):
    """Squares under one corruption at one severity; `corrupted` makes it.

    Attributes
    ----------
    squares : Squares
        What is corrupted; several corrupted data sets may share it.
    corruption : str
    severity : int
    seed : int
    """

    squares: Squares
    corruption: str
    severity: int
    seed: int = 0

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        def change(key: str, picture: Image.Image) -> Image.Image:
            return corrupt(picture, self.corruption, self.severity, seed=self.seed, key=key)

        return self.squares.walk(change)

    @property
    def fingerprint(self) -> str:
        """That of the data set, with corruption, severity and seed."""
        return f"{self.squares.fingerprint} {self.how}"

    @property
    def how(self) -> str:
        """What was done to the squares, in words."""
        return f"{self.corruption} severity {self.severity} seed {self.seed} version {VERSION}"

    @property
    def made_of(self) -> tuple[Pictures, str]:
        """The pictures these are made of, and how."""
        origin, how = self.squares.made_of
        return origin, f"{how} {self.how}"

    def sample(self, count: int, seed: int = 0) -> CorruptedDataset:
        """At most `count` pictures drawn at random, in their old order."""
        return self._over(self.squares.sample(count, seed))

    def subset(self, classes: Iterable[str], *, name: str | None = None) -> CorruptedDataset:
        """The pictures of these classes."""
        return dataclasses.replace(self._over(self.squares.subset(classes)), name=name or self.name)

    def _over(self, part: Squares) -> CorruptedDataset:
        found = corrupted(part, self.corruption, self.severity, seed=self.seed)
        return dataclasses.replace(found, name=self.name)


def squares(
    base: ImageDataset, *, side: int | None = None, threads: int | None = None, name: str | None = None
) -> Squares:
    """The pictures of a data set as models see them: what corruptions are compared with.

    Parameters
    ----------
    base : ImageDataset
    side : int, optional
        Of the square at most, pixels: the model's `input_size`, of several models the largest.
    threads : int, optional
        That decode and corrupt.
    name : str, optional
        By default the data set's.
    """
    for what, value in (("side", side), ("threads", threads)):
        if value is not None and value < 1:
            raise InputError(f"{what} is {value}: expected 1 or more")
    return Squares(
        name or base.name,
        base.entries,
        base.labels,
        base.class_names,
        base,
        side,
        threads,
        skipped=base.skipped,
        templates=base.templates,
        sampled_from=base.sampled_from,
    )


def corrupted(
    base: ImageDataset,
    corruption: str,
    severity: int,
    *,
    seed: int = 0,
    side: int | None = None,
    threads: int | None = None,
) -> CorruptedDataset:
    """A view of a data set that yields corrupted pictures.

    Parameters
    ----------
    base : ImageDataset
        `Squares` are taken as they are, so that several views decode them once.
    corruption, severity, seed
        As for `corruptions.corrupt`.
    side, threads
        As for `squares`.

    Raises
    ------
    InputError
        No such corruption, severity or side.
    """
    check(corruption, severity)
    seen = base if isinstance(base, Squares) else squares(base, side=side, threads=threads)
    name = f"{seen.name}, {corruption.replace('_', ' ')} {severity}"
    return CorruptedDataset(
        name,
        seen.entries,
        seen.labels,
        seen.class_names,
        seen,
        corruption,
        severity,
        seed,
        skipped=seen.skipped,
        templates=seen.templates,
        sampled_from=seen.sampled_from,
    )


def corruptions_of(
    base: ImageDataset,
    *,
    names: Iterable[str] = STANDARD,
    severities: Iterable[int] = SEVERITIES,
    seed: int = 0,
    side: int | None = None,
    threads: int | None = None,
) -> tuple[Squares, list[CorruptedDataset]]:
    """A data set as it is seen, and under each corruption at each severity."""
    seen = squares(base, side=side, threads=threads)
    wanted = list(severities)
    return seen, [corrupted(seen, name, severity, seed=seed) for name in names for severity in wanted]


def square_of(content: Content, side: int | None) -> Content:
    """The middle of a picture, as large as it is or `side` pixels; `Unread` where it cannot be decoded."""
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
    """Squares that stay in memory, if all of them fit."""

    def __init__(self, most: int) -> None:
        self.most, self.bytes = most, 0
        self.items: list[tuple[str, Content]] = []
        self.known = False

    def add(self, found: list[tuple[str, Content]], key: str, square: Content) -> None:
        """Note one on the first pass, while there is room."""
        self.bytes += len(square) if isinstance(square, bytes) else 3 * square.width * square.height
        if self.bytes <= self.most:
            found.append((key, square))
        else:
            found.clear()

    def finish(self, found: list[tuple[str, Content]], count: int) -> None:
        """After a whole pass: keep them."""
        if len(found) == count:
            self.items, self.known = found, True


def ahead(items: Iterable[Item], work: Callable[[Item], Done], threads: int | None) -> Iterator[Done]:
    """What `work` makes of the items, in their order; threads run ahead by `AHEAD` items each."""
    count = threads or min(processors(), MOST_THREADS)
    running: deque[Future[Done]] = deque()
    pool = ThreadPoolExecutor(count, thread_name_prefix="corrupt")
    try:
        for item in items:
            running.append(pool.submit(work, item))
            if len(running) >= AHEAD * count:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
