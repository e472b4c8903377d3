"""Labelled images as read from a layout, with the classes of its files, before class names are applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.formats.archives import ImageEntry
from diptych.errors import DataError
from diptych.files.unicode_text import composed

# Kind of class names: folders or other short names, for which known data sets have class names; positions in
# a list; names in words for prompts.
Kind: TypeAlias = Literal["names", "numbers", "words"]


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images with one class each.

    Attributes
    ----------
    entries : tuple of ImageEntry
        One per image.
    labels : (N,) int64
        Index into `classes`.
    classes : tuple of str
        Names in the files; "0", "1", ... if they have only numbers.
    kind : "names", "numbers" or "words"
    skipped : tuple of (key, reason)
        Images left out because their class is missing or unreadable.
    templates : tuple of str
        Prompts from the files.
    border : int
        Pixels to be cropped from each side.
    in_imagenet : tuple of int
        Position of each class among ImageNet's 1,000, if the files have it.
    """

    entries: tuple[ImageEntry, ...]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    kind: Kind = "names"
    skipped: tuple[tuple[str, str], ...] = ()
    templates: tuple[str, ...] = ()
    border: int = 0
    in_imagenet: tuple[int, ...] = ()


def numbered(
    source: Path,
    entries: tuple[ImageEntry, ...],
    labels: NDArray[np.int64],
    names: tuple[str, ...] | None,
    *,
    words: bool = False,
) -> Labelled:
    """Create from labels that are numbers, with names if the files have some.

    Parameters
    ----------
    source : path
        For messages.
    entries, labels, names
        As for `Labelled`.
    words : bool
        The names are in words for prompts.

    Raises
    ------
    DataError
        A number of labels that differs from that of images, no image, or labels without a name.
    """
    if not entries:
        raise DataError(f"{source} holds no picture")
    if len(labels) != len(entries):
        raise DataError(
            f"{source} has {len(labels):,} labels for {len(entries):,} pictures: files of two data sets"
        )
    if labels.min() < 0:
        raise DataError(
            f"{source} has the label {labels.min()}, so its labels are not published: use a part with labels"
        )
    most = int(labels.max())
    if names is not None and most >= len(names):
        raise DataError(f"{source} has the label {most}, but names for {len(names)} classes, from 0")
    classes = tuple(str(number) for number in range(most + 1)) if names is None else names
    return Labelled(entries, labels, classes, "numbers" if names is None else "words" if words else "names")


def together(parts: Sequence[Labelled]) -> Labelled:
    """Concatenate several files of one data set; classes with equal names are merged.

    Raises
    ------
    DataError
        Files with different kinds of classes, or different class names.
    """
    if len(parts) == 1:
        return parts[0]
    if len({part.kind for part in parts}) > 1 or len({part.templates for part in parts}) > 1:
        raise DataError("some of the files number their classes and others name them: open them one by one")
    numbers = parts[0].kind == "numbers"
    classes = tuple(sorted({name for part in parts for name in part.classes}, key=int if numbers else str))
    if parts[0].kind == "words":
        classes = parts[0].classes  # in the order of their labels
    index = {name: number for number, name in enumerate(classes)}
    if any(name not in index for part in parts for name in part.classes):
        raise DataError("the files do not have the same class names: open them one by one")
    labels = [np.array([index[name] for name in part.classes])[part.labels] for part in parts]
    return Labelled(
        tuple(entry for part in parts for entry in part.entries),
        np.concatenate(labels).astype(np.int64),
        classes,
        parts[0].kind,
        tuple(item for part in parts for item in part.skipped),
        parts[0].templates,
    )


def named(entries: tuple[ImageEntry, ...], names: list[str]) -> Labelled:
    """Create from labels that are names; the classes are the sorted distinct names in Unicode form C.

    Examples
    --------
    >>> named((), ["dog", "cat", "dog"]).labels.tolist()
    [1, 0, 1]
    """
    names = [composed(name) for name in names]
    classes = sorted(set(names))
    index = {name: number for number, name in enumerate(classes)}
    return Labelled(entries, np.array([index[name] for name in names], dtype=np.int64), tuple(classes))
