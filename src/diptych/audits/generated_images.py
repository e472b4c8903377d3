"""Pictures drawn by us as a data set: each is made when it is its turn, and none is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from diptych.datasets.contents import DIGEST_BYTES
from diptych.datasets.dataset import ImageDataset
from diptych.datasets.formats.archives import Content, Entry

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class GeneratedDataset(ImageDataset):
    """A data set whose pictures are drawn.

    Attributes
    ----------
    draw : callable
        From a position to a picture; a pure function.
    """

    draw: Callable[[int], Image]

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        for position, key in enumerate(self.keys):
            yield key, self.draw(position)

    def digests(self, progress: Callable[[int], object] | None = None) -> tuple[bytes, ...]:
        """A hash of what each picture is made of, in place of its pixels: nothing is drawn for it."""
        return tuple(hashlib.blake2b(key.encode(), digest_size=DIGEST_BYTES).digest() for key in self.keys)


def generated_dataset(
    name: str,
    draw: Callable[[int], Image],
    labels: Sequence[int],
    class_names: Sequence[str],
    *,
    made: str,
) -> GeneratedDataset:
    """A data set of drawn pictures, one per label.

    Parameters
    ----------
    name : str
        What results call it.
    draw : callable
        From a position to a picture.
    labels : sequence of N integers
        Index into `class_names`.
    class_names : sequence of str
    made : str
        Everything the pictures depend on, such as seed and version: it goes into the fingerprint.

    Examples
    --------
    >>> from PIL import Image
    >>> image = Image.new("RGB", (8, 8), "red")
    >>> dataset = generated_dataset("red", lambda i: image, [0, 0], ["red"], made="v1 seed 0")
    >>> [key for key, _ in dataset], dataset.fingerprint[:7]
    (['v1 seed 0/0.png', 'v1 seed 0/1.png'], 'blake2b')
    """
    entries = tuple(Entry(Path(name), PurePosixPath(f"{made}/{i}.png"), 0) for i in range(len(labels)))
    return GeneratedDataset(name, entries, np.asarray(labels, dtype=np.int64), tuple(class_names), draw)
