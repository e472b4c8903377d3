"""Words for what the files call their classes: folders, short names or numbers.

The sets of words are `diptych.zeroshot`'s.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from diptych.datasets.formats.labelled import Labelled
from diptych.datasets.parts import listed
from diptych.errors import DataError
from diptych.files.unicode_text import caseless
from diptych.zeroshot import class_names as words_of
from diptych.zeroshot import folder_names

_WNID = re.compile(r"n\d{8}")


def name_classes(
    found: Labelled, names: str | Mapping[str, str] | Sequence[str] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels and class names in words.

    Parameters
    ----------
    found : Labelled
    names : str, mapping or sequence, optional
        As `class_names` of `load_labelled`.

    Raises
    ------
    DataError
        Names that do not go with the classes.
    """
    if names is None:
        return found.labels, _as_they_are(found)
    if names == "imagenet" and found.in_imagenet:
        return _as_in_imagenet(found)
    if isinstance(names, str):
        places, words = _known(found, names)
    elif isinstance(names, Mapping):
        places, words = _mapped(found.classes, names)
    else:
        places, words = _listed_names(found, names), tuple(names)
    return np.array(places, dtype=np.int64)[found.labels], words


def _as_in_imagenet(found: Labelled) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels and ImageNet's words for the classes, in ImageNet's order."""
    order = np.argsort(found.in_imagenet)  # new place -> old place
    words = words_of("imagenet")
    return np.argsort(order)[found.labels].astype(np.int64), tuple(
        words[found.in_imagenet[place]] for place in order
    )


def _as_they_are(found: Labelled) -> tuple[str, ...]:
    if found.kind == "words":
        return found.classes
    wnids = any(_WNID.fullmatch(name) for name in found.classes)
    known = folder_names("imagenet") if wnids else {}
    return tuple(known.get(name, name.replace("_", " ")) for name in found.classes)


def _listed_names(found: Labelled, names: Sequence[str]) -> list[int]:
    """A list goes with the sorted folders; with numbers by position, and may go on after the last."""
    if len(names) == len(found.classes) or (found.kind == "numbers" and len(names) > len(found.classes)):
        return list(range(len(found.classes)))
    what = "class folders" if found.kind == "names" else "classes"
    raise DataError(f"{len(names)} class names for {len(found.classes)} {what} ({listed(found.classes)})")


def _mapped(classes: Sequence[str], names: Mapping[str, str]) -> tuple[list[int], tuple[str, ...]]:
    unknown = sorted(set(classes) - set(names))
    if unknown:
        raise DataError(f"no class name is given for {listed(unknown)}; names are given for {listed(names)}")
    place = {name: number for number, name in enumerate(names)}
    return [place[name] for name in classes], tuple(names.values())


def _known(found: Labelled, name: str) -> tuple[list[int], tuple[str, ...]]:
    """Places in a set of `diptych.zeroshot`: by position, by folder, or by the words in any spelling."""
    if found.kind == "numbers":
        return _listed_names(found, words_of(name)), words_of(name)
    folders = folder_names(name)
    if set(found.classes) <= set(folders):
        return _mapped(found.classes, folders)
    places: list[int | None] = []
    # Caltech-101 has a class without a folder here; a data set that has it brings the whole list.
    for words in (tuple(folders.values()), words_of(name)):
        spelled = _spelled(words, folders)
        places = [spelled.get(spelling(one)) for one in found.classes]
        if None not in places:
            return [place for place in places if place is not None], words
    if all(
        one.isdecimal() and int(one) < len(folders) for one in found.classes
    ):  # ImageNetV2: "0", "1", "10"
        return [int(one) for one in found.classes], words_of(name)
    unknown = [one for one, place in zip(found.classes, places, strict=True) if place is None]
    raise DataError(f"no class name is given for {listed(unknown)}; names are given for {listed(folders)}")


def _spelled(words: Sequence[str], folders: Mapping[str, str]) -> dict[str, int]:
    """Place of each class by the spelling of its words and of its folder; of equal words the first."""
    found: dict[str, int] = {}
    for number, text in enumerate(words):
        found.setdefault(spelling(text), number)
    for folder, text in folders.items():
        found.setdefault(spelling(folder), words.index(text))
    return found


def spelling(name: str) -> str:
    """Letters and digits alone: folders write names in many ways.

    Examples
    --------
    >>> spelling("ApplyEyeMakeup") == spelling("apply eye_makeup")
    True
    """
    return "".join(letter for letter in caseless(name) if letter.isalnum())
