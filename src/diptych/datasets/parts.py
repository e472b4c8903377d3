"""Parts of a data set (test, train, val), recognised by the names of files and folders."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from diptych.errors import DataError, listed

Part: TypeAlias = Literal["test", "train", "val"]
PARTS: tuple[Part, ...] = ("test", "train", "val")
T = TypeVar("T")

# In the order of preference: many data sets do not publish the labels of "test".
WORDS: dict[Part, tuple[str, ...]] = {
    "test": ("test", "t10k", "testing", "val", "valid", "validation", "dev"),
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "dev"),
}
# If the paper trains on the training and validation parts, "train" is both, and "train_only" the first alone.
_NEAREST: dict[str, tuple[str, ...]] = {**dict(WORDS.items()), "train_only": ("train_only", *WORDS["train"])}
_WORDS = {word for words in WORDS.values() for word in words}


def part_words(name: str) -> set[str]:
    """Words of a file name that may denote its part.

    Examples
    --------
    >>> sorted(part_words("cifar10-test_a.tar.gz"))
    ['a', 'cifar', 'gz', 'tar', 'test']
    """
    return set(re.findall("t10k|[a-z]+", name.lower()))


def part_in_name(name: str) -> str | None:
    """The first word of `WORDS` in a file name, or None.

    Examples
    --------
    >>> part_in_name("t10k-images-idx3-ubyte"), part_in_name("flickr8k-val.tar"), part_in_name("pacs-a.tar")
    ('t10k', 'val', None)
    """
    words = part_words(name)
    return next((word for known in WORDS.values() for word in known if word in words), None)


def choose(parts: Mapping[str, T], part: str, source: object) -> T:
    """Return the value of a part, by its name or the first available alternative name.

    Parameters
    ----------
    parts : mapping
        Word of `WORDS`, or another name -> value.
    part : str
        "test", "train", "val", "train_only", or exactly one of the names.
    source
        Path or name for messages.

    Raises
    ------
    DataError
        A missing part.

    Examples
    --------
    >>> choose({"train": 1, "val": 2}, "test", "data")
    2
    """
    for word in (part, *_NEAREST.get(part, ())):
        if word in parts:
            return parts[word]
    raise DataError(f"{source} has no part {part!r}: it has {listed(parts)}")


def is_part_folder(name: str) -> bool:
    """Whether the name of a folder is one of `WORDS`, in any case."""
    return name.lower() in _WORDS


OUTSIDE = "lies in no folder called after a part (train, test, val, ...), as others do"


def select_part(folders: Sequence[Sequence[str]], part: str, path: Path) -> tuple[list[int], list[int]]:
    """Select the positions of images in the folder of a part; all if no folder is named after a part.

    An archive with a single part is used completely, whatever part it is.

    Parameters
    ----------
    folders : sequence of sequences of str
        For each image the folders above it that may be named after a part, the outermost first.
    part : str
        As for `choose`.
    path : Path
        For messages.

    Returns
    -------
    chosen, outside : lists of int
        Images of the part, and images in no folder of a part, which are left out (`OUTSIDE`).

    Raises
    ------
    DataError
        A missing part.

    Examples
    --------
    >>> select_part([["x", "train"], ["x", "valid"], ["x", "Train"], ["x"]], "train", Path("x.tar"))
    ([0, 2], [3])
    >>> select_part([["photo"], ["sketch"]], "train", Path("pacs.tar"))
    ([0, 1], [])
    """
    parts: dict[str, list[int]] = {}
    for position, above in enumerate(folders):
        word = next((name.lower() for name in reversed(above) if is_part_folder(name)), "")
        parts.setdefault(word, []).append(position)
    words = parts.keys() - {""}
    if not words or (len(parts) == 1 and path.is_file()):
        return list(range(len(folders))), []
    return choose({word: parts[word] for word in sorted(words)}, part, path), parts.get("", [])
