"""Parts of a data set, as file names tell them: what is for testing and what for training."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, TypeVar

from diptych.errors import DataError

Part: TypeAlias = Literal["test", "train"]
T = TypeVar("T")

# In the order of preference: many data sets keep the labels of "test" to themselves.
WORDS: dict[Part, tuple[str, ...]] = {
    "test": ("test", "t10k", "testing", "val", "valid", "validation", "dev"),
    "train": ("train", "training", "trainval"),
}


def part_words(name: str) -> set[str]:
    """The words of a file name that may tell its part.

    Examples
    --------
    >>> sorted(part_words("cifar10-test_a.tar.gz"))
    ['a', 'cifar', 'gz', 'tar', 'test']
    """
    return set(re.findall("t10k|[a-z]+", name.lower()))


def told_part(name: str) -> str | None:
    """The word of `WORDS` in a file name, or None.

    Examples
    --------
    >>> told_part("t10k-images-idx3-ubyte"), told_part("flickr8k-val.tar"), told_part("pacs-a.tar")
    ('t10k', 'val', None)
    """
    words = part_words(name)
    return next((word for known in WORDS.values() for word in known if word in words), None)


def choose(found: Mapping[str, T], part: str, where: object) -> T:
    """What is kept under a part's name, or under the nearest other name of it.

    Parameters
    ----------
    found : mapping
        Word of `WORDS`, or another name -> whatever.
    part : str
        "test", "train", or exactly one of the names.
    where
        For messages.

    Raises
    ------
    DataError
        There is no such part.

    Examples
    --------
    >>> choose({"train": 1, "val": 2}, "test", "data")
    2
    """
    for word in (part, *WORDS.get(part, ())):  # type: ignore[call-overload]
        if word in found:
            return found[word]
    raise DataError(f"{where} has no part {part!r}: it has {listed(found)}")


def listed(names: Iterable[str], most: int = 10) -> str:
    """The first few names, quoted, for a message.

    Examples
    --------
    >>> listed(["a", "b", "c"], most=2), listed([])
    ("'a', 'b' and 1 more", 'none')
    """
    every = list(names)
    if not every:
        return "none"
    return ", ".join(map(repr, every[:most])) + (
        f" and {len(every) - most} more" if len(every) > most else ""
    )
