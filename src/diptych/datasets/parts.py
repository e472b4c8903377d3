"""Parts of a data set (test, train, val), recognised by file and folder names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from diptych.errors import DataError

Part: TypeAlias = Literal["test", "train", "val"]
PARTS: tuple[Part, ...] = ("test", "train", "val")
T = TypeVar("T")

# In the order of preference: many data sets keep the labels of "test" to themselves.
WORDS: dict[Part, tuple[str, ...]] = {
    "test": ("test", "t10k", "testing", "val", "valid", "validation", "dev"),
    "train": ("train", "training", "trainval"),
    "val": ("val", "valid", "validation", "dev"),
}
# Where the paper trains on the training and the validation part, "train" is both and "train_only" the first.
_NEAREST: dict[str, tuple[str, ...]] = {**dict(WORDS.items()), "train_only": ("train_only", *WORDS["train"])}
_WORDS = {word for words in WORDS.values() for word in words}


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
        "test", "train", "val", "train_only", or exactly one of the names.
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
    for word in (part, *_NEAREST.get(part, ())):
        if word in found:
            return found[word]
    raise DataError(f"{where} has no part {part!r}: it has {listed(found)}")


def is_part_folder(name: str) -> bool:
    """Whether a folder is called after a part: exactly by one of `WORDS`, in any case."""
    return name.lower() in _WORDS


OUTSIDE = "lies in no folder called after a part (train, test, val, ...), as others do"


def select_part(folders: Sequence[Sequence[str]], part: str, path: Path) -> tuple[list[int], list[int]]:
    """Positions of the pictures that lie in the folder of a part; all where no folder is called after one.

    An archive that holds one part only is taken whole: whoever names the file means it.

    Parameters
    ----------
    folders : sequence of sequences of str
        For each picture the folders above it that may be called after a part, the outermost first.
    part : str
        As for `choose`.
    path : Path
        Where the pictures are.

    Returns
    -------
    chosen, outside : lists of int
        Those of the part, and those that lie in the folder of none (`OUTSIDE`): they are left out.

    Raises
    ------
    DataError
        There is no such part.

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
