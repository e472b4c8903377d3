"""What a layout says of its pictures, in its own terms, before anyone turns them into words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.formats.archives import Entry
from diptych.errors import DataError
from diptych.files.unicode_text import composed

# What class names are: folders or other short names, which known data sets have words for; positions in a
# list; words, as prompts want them.
Kind: TypeAlias = Literal["names", "numbers", "words"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Pictures with one class each.

    Attributes
    ----------
    entries : tuple of Entry
        One per picture.
    labels : (N,) int64
        Index into `classes`.
    classes : tuple of str
        What the files call them; "0", "1", ... where they give numbers only.
    kind : "names", "numbers" or "words"
    skipped : tuple of (key, reason)
        Pictures left out because their class is missing or cannot be read.
    templates : tuple of str
        Prompts that came with the pictures.
    border : int
        Pixels at each side of a picture that are no part of it.
    in_imagenet : tuple of int
        Place of each class among ImageNet's 1,000, where the files say it.
    """

    entries: tuple[Entry, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    kind: Kind = "names"
    skipped: tuple[tuple[str, str], ...] = ()
    templates: tuple[str, ...] = ()
    border: int = 0
    in_imagenet: tuple[int, ...] = ()


def numbered(
    where: Path,
    entries: tuple[Entry, ...],
    labels: NDArray[np.int64],
    names: tuple[str, ...] | None,
    *,
    words: bool = False,
) -> Labelled:
    """Pictures whose labels are numbers, with the names of these where some came along.

    Parameters
    ----------
    where : path
        For messages.
    entries, labels, names
        As for `Labelled`.
    words : bool
        The names are ready for prompts.

    Raises
    ------
    DataError
        Another number of labels than pictures, no picture at all, or labels that have no name.
    """
    if not entries:
        raise DataError(f"{where} holds no picture")
    if len(labels) != len(entries):
        raise DataError(
            f"{where} has {len(labels):,} labels for {len(entries):,} pictures: files of two data sets"
        )
    if labels.min() < 0:
        raise DataError(
            f"{where} has the label {labels.min()}, which means that none is given: take a part with labels"
        )
    most = int(labels.max())
    if names is not None and most >= len(names):
        raise DataError(f"{where} has the label {most}, but names for {len(names)} classes, from 0")
    classes = tuple(str(number) for number in range(most + 1)) if names is None else names
    return Labelled(entries, labels, classes, "numbers" if names is None else "words" if words else "names")


def together(parts: Sequence[Labelled]) -> Labelled:
    """Several files of one data set as one; classes of equal name are one class.

    Raises
    ------
    DataError
        They do not call their classes in the same way.
    """
    if len(parts) == 1:
        return parts[0]
    if len({part.kind for part in parts}) > 1 or len({part.templates for part in parts}) > 1:
        raise DataError("some of the files number their classes and others name them: open them one by one")
    numbers = parts[0].kind == "numbers"
    classes = tuple(sorted({name for part in parts for name in part.classes}, key=int if numbers else str))
    if parts[0].kind == "words":
        classes = parts[0].classes  # in the order of their labels
    place = {name: number for number, name in enumerate(classes)}
    if any(name not in place for part in parts for name in part.classes):
        raise DataError("the files do not have the same class names: open them one by one")
    labels = [np.array([place[name] for name in part.classes])[part.labels] for part in parts]
    return Labelled(
        tuple(entry for part in parts for entry in part.entries),
        np.concatenate(labels).astype(np.int64),
        classes,
        parts[0].kind,
        tuple(one for part in parts for one in part.skipped),
        parts[0].templates,
    )


def named(entries: tuple[Entry, ...], names: list[str]) -> Labelled:
    """Pictures whose labels are names; the classes are these in composed letters, sorted.

    Examples
    --------
    >>> named((), ["dog", "cat", "dog"]).labels.tolist()
    [1, 0, 1]
    """
    names = [composed(name) for name in names]
    classes = sorted(set(names))
    index = {name: number for number, name in enumerate(classes)}
    return Labelled(entries, np.array([index[name] for name in names], dtype=np.int64), tuple(classes))
