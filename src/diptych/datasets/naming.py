"""Class names in words for the classes of files, which are folders, short names or numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.formats.labelled import Labelled
from diptych.errors import DataError, listed
from diptych.files.unicode_text import caseless
from diptych.zeroshot import class_names as words_of
from diptych.zeroshot import folder_names

_WNID = re.compile(r"n\d{8}")


def name_classes(
    labelled: Labelled, names: str | Mapping[str, str] | Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return labels and class names in words.

    Parameters
    ----------
    names : str, mapping or sequence, optional
        As `class_names` of `load_labelled`.

    Raises
    ------
    DataError
        Names that do not match the classes.
    """
    if names is None:
        return labelled.labels, _as_they_are(labelled)
    if names == "imagenet" and labelled.in_imagenet:
        return _as_in_imagenet(labelled)
    if isinstance(names, str):
        positions, words = _known(labelled, names)
    elif isinstance(names, Mapping):
        positions, words = _mapped(labelled.classes, names)
    else:
        positions, words = _listed_names(labelled, names), tuple(names)
    return np.array(positions, dtype=np.int64)[labelled.labels], words


def _as_in_imagenet(labelled: Labelled) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels and class names of ImageNet, in ImageNet's order."""
    order = np.argsort(labelled.in_imagenet)  # new position -> old position
    words = words_of("imagenet")
    return np.argsort(order)[labelled.labels].astype(np.int64), tuple(
        words[labelled.in_imagenet[position]] for position in order
    )


def _as_they_are(labelled: Labelled) -> tuple[str, ...]:
    if labelled.kind == "words":
        return labelled.classes
    wnids = any(_WNID.fullmatch(name) for name in labelled.classes)
    names = folder_names("imagenet") if wnids else {}
    return tuple(names.get(name, name.replace("_", " ")) for name in labelled.classes)


def _listed_names(labelled: Labelled, names: Sequence[str]) -> list[int]:
    """Match a list with the sorted folders, or with numbers by position; with numbers it may be longer."""
    if len(names) == len(labelled.classes) or (
        labelled.kind == "numbers" and len(names) > len(labelled.classes)
    ):
        return list(range(len(labelled.classes)))
    kind = "class folders" if labelled.kind == "names" else "classes"
    raise DataError(
        f"{len(names)} class names for {len(labelled.classes)} {kind} ({listed(labelled.classes)})"
    )


def _mapped(classes: Sequence[str], names: Mapping[str, str]) -> tuple[list[int], tuple[str, ...]]:
    unknown = sorted(set(classes) - set(names))
    if unknown:
        raise DataError(f"no class name is given for {listed(unknown)}; names are given for {listed(names)}")
    position = {name: number for number, name in enumerate(names)}
    return [position[name] for name in classes], tuple(names.values())


def _known(labelled: Labelled, name: str) -> tuple[list[int], tuple[str, ...]]:
    """Positions in a set of class names: by number, by folder, or by the name in any spelling."""
    if labelled.kind == "numbers":
        return _listed_names(labelled, words_of(name)), words_of(name)
    folders = folder_names(name)
    if set(labelled.classes) <= set(folders):
        return _mapped(labelled.classes, folders)
    positions: list[int | None] = []
    # Caltech-101's folders lack one class of its prompts; data sets with that class need the whole list.
    for words in (tuple(folders.values()), words_of(name)):
        spelled = _spelled(words, folders)
        positions = [spelled.get(spelling(text)) for text in labelled.classes]
        if None not in positions:
            return [position for position in positions if position is not None], words
    # ImageNetV2: "0", "1", "10"
    if all(text.isdecimal() and int(text) < len(folders) for text in labelled.classes):
        return [int(text) for text in labelled.classes], words_of(name)
    unknown = [text for text, position in zip(labelled.classes, positions, strict=True) if position is None]
    raise DataError(f"no class name is given for {listed(unknown)}; names are given for {listed(folders)}")


def _spelled(words: Sequence[str], folders: Mapping[str, str]) -> dict[str, int]:
    """Position of each class by the spelling of its name and its folder; of equal names the first."""
    positions: dict[str, int] = {}
    for number, text in enumerate(words):
        positions.setdefault(spelling(text), number)
    for folder, text in folders.items():
        positions.setdefault(spelling(folder), words.index(text))
    return positions


def spelling(name: str) -> str:
    """Reduce a name to lower-case letters and digits, for comparing different spellings.

    Examples
    --------
    >>> spelling("ApplyEyeMakeup") == spelling("apply eye_makeup")
    True
    """
    return "".join(letter for letter in caseless(name) if letter.isalnum())
