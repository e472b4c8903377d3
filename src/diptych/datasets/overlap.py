"""Detection of images that two data sets share, such as training images in a test set.

Images are compared by their digests (`contents.py`): copies are found under any file name, but not images
that were saved again in another format or quality.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from diptych.datasets.contents import UNREADABLE
from diptych.datasets.dataset import CaptionDataset, ImageCollection, ImageDataset
from diptych.errors import DataError, counted

HEAVY = 0.05
"""Fraction of shared images from which on a measurement is refused.

Benchmarks have true duplicates between their own parts: about 1 % of CIFAR-100's test images are in its
training part, fewer in others. These only cause a warning.
"""

SAMPLE = 100  # images of each file that are searched in earlier files, before all are compared


@dataclass(frozen=True)
class Overlap:
    """Overlap of two data sets.

    Attributes
    ----------
    first, second : str
        Names of the data sets.
    shared : int
        Number of images of the second that the first has too.
    fraction : float
        Fraction of images that the other data set has too, 0 to 1; the larger of both data sets.
    roles : tuple of two str, or empty
        Roles of the data sets in the measurement, such as ("TRAIN", "TEST"), as their names may be equal.
    """

    first: str
    second: str
    shared: int
    fraction: float
    roles: Sequence[str] = ()

    @property
    def heavy(self) -> bool:
        """Whether a measurement on both is refused."""
        return self.fraction >= HEAVY

    def to_dict(self) -> dict[str, Any]:
        """Values for results, where the fraction is called "share"."""
        values = asdict(self)
        return values | {"share": values.pop("fraction")}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Overlap:
        """Inverse of `to_dict`."""
        return cls(**{"fraction" if name == "share" else name: value for name, value in values.items()})

    def __str__(self) -> str:
        many = counted(self.shared, "picture")
        verb = "is" if self.shared == 1 else "are"
        first, second = self.first, self.second
        if self.roles:
            first, second = f"{self.roles[0]} ({first})", f"{self.roles[1]} ({second})"
        return f"{many} of {second} {verb} in {first} too"


def find_overlap(first: ImageCollection, second: ImageCollection) -> Overlap:
    """Count the images that two data sets share.

    Parameters
    ----------
    first, second : ImageCollection
        Unreadable images are not counted as shared.
    """
    first_digests, second_digests = first.digests(), second.digests()
    in_first, in_second = set(first_digests) - {UNREADABLE}, set(second_digests) - {UNREADABLE}
    shared = sum(digest in in_first for digest in second_digests)
    contained = sum(digest in in_second for digest in first_digests)
    fraction = max(shared / max(len(second_digests), 1), contained / max(len(first_digests), 1))
    return Overlap(first.name, second.name, shared, fraction)


def check_overlaps(
    datasets: Sequence[ImageCollection], *, allow: bool = False, roles: Sequence[str] = ()
) -> list[Overlap]:
    """Refuse data sets that share many images, and warn where they share a few.

    Parameters
    ----------
    datasets : sequence of ImageCollection
        Of one measurement.
    allow : bool
        Warn only.
    roles : sequence of str, optional
        Role of each data set in the measurement; see `Overlap`.

    Returns
    -------
    list of Overlap
        Of each pair that shares an image.

    Raises
    ------
    DataError
        A pair shares at least the fraction `HEAVY` of the images of one.
    """
    pairs = itertools.combinations(range(len(datasets)), 2)
    pairs_with_overlap = [(pair, find_overlap(*(datasets[index] for index in pair))) for pair in pairs]
    overlaps = [
        replace(overlap, roles=tuple(roles[index] for index in pair)) if roles else overlap
        for pair, overlap in pairs_with_overlap
        if overlap.shared
    ]
    for overlap in overlaps:
        if overlap.heavy and not allow:
            raise DataError(
                f"{overlap} ({overlap.fraction:.0%} of one of them): figures on shared pictures are "
                "meaningless. Expected data sets without common pictures; --allow-overlap "
                "(allow_overlap=True) measures anyway"
            )
        warnings.warn(f"{overlap}: the figures count them", stacklevel=1)
    return overlaps


Kept = TypeVar("Kept", ImageDataset, CaptionDataset)


def without_copies(dataset: Kept) -> Kept:
    """Remove copies from a data set: images of a file of which a fraction of `HEAVY` is in earlier files.

    Images are copies only with the same label or captions. Repeated images within a file are part of the data
    set and are kept.
    """
    files: dict[Path, list[int]] = {}
    for position, entry in enumerate(dataset.entries):
        files.setdefault(entry.path, []).append(position)
    answers = [json.dumps(answer).encode() for answer in dataset.answers()]
    if len(files) < 2 or not _sample_repeats(dataset, list(files.values()), answers):
        return dataset
    digests = [
        UNREADABLE if digest == UNREADABLE else digest + answer
        for digest, answer in zip(dataset.digests(), answers, strict=True)
    ]
    earlier_digests: set[bytes] = set()
    repeated: set[int] = set()
    for path, positions in files.items():
        copies = [
            position
            for position in positions
            if digests[position] in earlier_digests and digests[position] != UNREADABLE
        ]
        if len(copies) >= HEAVY * len(positions):
            repeated |= set(copies)
            if copies:
                warnings.warn(
                    f"{dataset.name}: {len(copies):,} of the {len(positions):,} pictures of {path} are in "
                    "other files of it too; they count once",
                    stacklevel=1,
                )
        earlier_digests |= {digests[position] for position in positions}
    rows = [position for position in range(len(dataset)) if position not in repeated]
    return dataset if len(rows) == len(dataset) else dataset.take(rows)


def _sample_repeats(
    dataset: ImageDataset | CaptionDataset, files: Sequence[Sequence[int]], answers: Sequence[bytes]
) -> bool:
    """Whether an image from a sample of each file is in an earlier file.

    A comparison of all images would have to read all of them. A copy has the size and the label of its
    original, so only images that agree in both are read: about a thousand of ImageNet's 1,281,167 in shards.
    If a fraction of `HEAVY` of a file is copied, a sample of `SAMPLE` images misses it with probability
    0.95^100 = 1 / 170.

    Parameters
    ----------
    files : sequence of sequences of int
        The positions of the images of each file, in order.
    answers : sequence of bytes
        Label or captions of each image.
    """
    keys = [(entry.size, answer) for entry, answer in zip(dataset.entries, answers, strict=True)]
    earlier: dict[tuple[int, bytes], list[int]] = {}
    candidates: dict[int, list[int]] = {}  # position -> positions in earlier files that may be the same
    for positions in files:
        for position in positions[:: -(-len(positions) // SAMPLE)]:
            if keys[position] in earlier:
                candidates[position] = list(earlier[keys[position]])
        for position in positions:
            earlier.setdefault(keys[position], []).append(position)
    rows = sorted({*candidates, *itertools.chain.from_iterable(candidates.values())})
    digests = dict(zip(rows, dataset.take(rows).digests(), strict=True)) if rows else {}
    return any(
        digests[position] != UNREADABLE and digests[position] in {digests[other] for other in others}
        for position, others in candidates.items()
    )
