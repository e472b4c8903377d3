"""Images that two data sets share: a figure on images that taught the model, or counted before, misleads.

Images are compared by their digests (`contents.py`), so a copy counts under any name; an image that was
saved again, in another format or at another quality, does not.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from diptych.datasets.contents import UNREADABLE
from diptych.datasets.dataset import CaptionDataset, ImageDataset, Pictures
from diptych.errors import DataError, counted

HEAVY = 0.05
"""Share of the smaller data set from which on a measurement is refused.

Benchmarks have true duplicates between their own parts: about 1 % of CIFAR-100's test images are in its
training part, fewer in others. These are told of and do not stop a measurement.
"""

SAMPLE = 100  # images of each file that are looked for in earlier files, before all are compared


@dataclass(frozen=True)
class Overlap:
    """Images that two data sets share.

    Attributes
    ----------
    first, second : str
        Names of the data sets.
    shared : int
        Images of the second that the first has too.
    share : float
        Of the data set of which the larger share is in the other, 0 to 1.
    roles : tuple of two str, or empty
        What the data sets are to the measurement, such as ("TRAIN", "TEST"): their names may be alike.
    """

    first: str
    second: str
    shared: int
    share: float
    roles: Sequence[str] = ()

    @property
    def heavy(self) -> bool:
        """Whether a measurement on both is refused."""
        return self.share >= HEAVY

    def __str__(self) -> str:
        many = counted(self.shared, "picture")
        verb = "is" if self.shared == 1 else "are"
        first, second = self.first, self.second
        if self.roles:
            first, second = f"{self.roles[0]} ({first})", f"{self.roles[1]} ({second})"
        return f"{many} of {second} {verb} in {first} too"


def find_overlap(first: Pictures, second: Pictures) -> Overlap:
    """Count the images that two data sets share.

    Parameters
    ----------
    first, second : Pictures
        What cannot be read is shared with nothing.
    """
    ours, theirs = first.digests(), second.digests()
    in_first, in_second = set(ours) - {UNREADABLE}, set(theirs) - {UNREADABLE}
    shared = sum(digest in in_first for digest in theirs)
    contained = sum(digest in in_second for digest in ours)
    share = max(shared / max(len(theirs), 1), contained / max(len(ours), 1))
    return Overlap(first.name, second.name, shared, share)


def check_overlaps(
    datasets: Sequence[Pictures], *, allow: bool = False, roles: Sequence[str] = ()
) -> list[Overlap]:
    """Refuse data sets that share many images, and warn where they share a few.

    Parameters
    ----------
    datasets : sequence of Pictures
        Of one measurement.
    allow : bool
        Warn only.
    roles : sequence of str, optional
        What each data set is to the measurement; see `Overlap`.

    Returns
    -------
    list of Overlap
        Of each two that share an image.

    Raises
    ------
    DataError
        Two share `HEAVY` of the images of one, or more.
    """
    pairs = itertools.combinations(range(len(datasets)), 2)
    found = [(pair, find_overlap(*(datasets[place] for place in pair))) for pair in pairs]
    overlaps = [
        replace(one, roles=tuple(roles[place] for place in pair)) if roles else one
        for pair, one in found
        if one.shared
    ]
    for one in overlaps:
        if one.heavy and not allow:
            raise DataError(
                f"{one} ({one.share:.0%} of one of them): a figure on shared pictures says nothing. Expected "
                "data sets without common pictures; --allow-overlap (allow_overlap=True) measures anyway"
            )
        warnings.warn(f"{one}: the figures count them", stacklevel=1)
    return overlaps


Kept = TypeVar("Kept", ImageDataset, CaptionDataset)


def without_copies(dataset: Kept) -> Kept:
    """The data set without what is a copy: of a file of which `HEAVY` or more is in earlier files.

    An image counts as the same with the same answer only. Images that repeat within a file are the data
    set's own and stay.
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
    seen: set[bytes] = set()
    repeated: set[int] = set()
    for path, positions in files.items():
        copies = [one for one in positions if digests[one] in seen and digests[one] != UNREADABLE]
        if len(copies) >= HEAVY * len(positions):
            repeated |= set(copies)
            if copies:
                warnings.warn(
                    f"{dataset.name}: {len(copies):,} of the {len(positions):,} pictures of {path} are in "
                    "other files of it too; they count once",
                    stacklevel=1,
                )
        seen |= {digests[one] for one in positions}
    rows = [position for position in range(len(dataset)) if position not in repeated]
    return dataset if len(rows) == len(dataset) else dataset.take(rows)


def _sample_repeats(
    dataset: ImageDataset | CaptionDataset, files: Sequence[Sequence[int]], answers: Sequence[bytes]
) -> bool:
    """Say whether an image of a sample of each file is in an earlier file.

    To compare all images, all would have to be read. A copy has the size and the answer of its original, so
    only images that agree in both are: of ImageNet's 1,281,167 in shards about a thousand. A file of which
    `HEAVY` is copied is missed by a sample of `SAMPLE` images once in 170 times.

    Parameters
    ----------
    dataset : ImageDataset or CaptionDataset
    files : sequence of sequences of int
        The positions of each file, in order.
    answers : sequence of bytes
        Of each image.
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
