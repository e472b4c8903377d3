"""Generated images as a data set. Each image is drawn when it is read, and none is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from diptych.datasets.contents import DIGEST_BYTES
from diptych.datasets.dataset import ImageDataset
from diptych.datasets.formats.archives import Content, ImageEntry

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, eq=False)
class GeneratedDataset(ImageDataset):
    """A data set of generated images.

    Attributes
    ----------
    draw : callable
        Pure function from a position to an image.
    """

    draw: Callable[[int], Image]

    def __iter__(self) -> Iterator[tuple[str, Content]]:
        for position, key in enumerate(self.keys):
            yield key, self.draw(position)

    def digests(self, progress: Callable[[int], object] | None = None) -> tuple[bytes, ...]:
        """Hash of the key of each image instead of its pixels, so that nothing is drawn."""
        return tuple(hashlib.blake2b(key.encode(), digest_size=DIGEST_BYTES).digest() for key in self.keys)


def generated_dataset(
    name: str, draw: Callable[[int], Image], labels: Sequence[int], class_names: Sequence[str], *, made: str
) -> GeneratedDataset:
    """A data set of generated images, one per label.

    Parameters
    ----------
    name : str
        Name used in results.
    draw : callable
        Pure function from a position to an image.
    labels : sequence of N integers
        Index into `class_names`.
    made : str
        Everything that the images depend on, such as seed and version; part of the fingerprint.

    Examples
    --------
    >>> from PIL import Image
    >>> image = Image.new("RGB", (8, 8), "red")
    >>> dataset = generated_dataset("red", lambda i: image, [0, 0], ["red"], made="v1 seed 0")
    >>> [key for key, _ in dataset], dataset.fingerprint[:7]
    (['v1 seed 0/0.png', 'v1 seed 0/1.png'], 'blake2b')
    """
    entries = tuple(ImageEntry(Path(name), PurePosixPath(f"{made}/{i}.png"), 0) for i in range(len(labels)))
    return GeneratedDataset(name, entries, np.asarray(labels, dtype=np.int64), tuple(class_names), draw)
