"""Which files belong to one picture: KEY.jpg, KEY.txt, KEY.json, KEY.cls. One rule for every reader.

A file's key is its path without the last suffix, so the names of screenshots ("at 10.33.01.jpg") and of
numbered frames ("frame.001.jpg") are whole keys. A picture's helpers are the files of its own key. Where it
has none, they are those of the same key in another case or normal form of Unicode ("DSC1.JPG", "dsc1.txt");
and where there are none either, those of the key up to the first dot, as in WebDataset ("0001.left.jpg",
"0001.txt"), unless another picture has that key. Suffixes count in any case.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from diptych.files.unicode_text import caseless
from diptych.media.folders.files import IMAGE_SUFFIXES, settled_time

CAPTION_SUFFIXES = (".txt", ".json")


def split_key(name: str) -> tuple[str, str]:
    """A file's key, and its suffix in lower case; no suffix for names that have none.

    Examples
    --------
    >>> split_key("a.b/at 10.33.01.JPG"), split_key("a/.txt")
    (('a.b/at 10.33.01', '.jpg'), ('a/.txt', ''))
    """
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.rpartition(".")
    return (f"{folder}{slash}{stem}", f".{suffix.lower()}") if stem and suffix else (name, "")


def root_key(key: str) -> str:
    """WebDataset's key: up to the first dot of the file's name.

    Examples
    --------
    >>> root_key("a.b/0001.seg"), root_key("a/.hidden")
    ('a.b/0001', 'a/.hidden')
    """
    folder, slash, file = key.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0] or file}"


class Companions:
    """The helpers of pictures in one folder or archive.

    Parameters
    ----------
    names : iterable of str
        All files, with forward slashes.
    suffixes : collection of str
        Of helpers, in lower case, in the order in which they are wanted.

    Examples
    --------
    >>> names = ["at 10.33.jpg", "at 10.33.TXT", "1.left.jpg", "1.txt", "2.jpg", "2.seg.png", "2.txt"]
    >>> files = Companions(names)
    >>> files.of("at 10.33.jpg"), files.of("1.left.jpg"), files.of("2.jpg"), files.of("2.seg.png")
    ({'.txt': 'at 10.33.TXT'}, {'.txt': '1.txt'}, {'.txt': '2.txt'}, {})
    """

    def __init__(self, names: Iterable[str], suffixes: Collection[str] = CAPTION_SUFFIXES) -> None:
        self._suffixes = tuple(suffixes)
        self._helpers: dict[str, dict[str, str]] = {}  # key -> suffix -> name
        self._alike: dict[str, set[str]] = {}  # caseless key -> keys of helpers
        self._pictures: set[str] = set()
        for name in names:
            key, suffix = split_key(name)
            if suffix in IMAGE_SUFFIXES:
                self._pictures.add(key)
            elif suffix in self._suffixes:
                known = self._helpers.setdefault(key, {})
                if suffix not in known or name.endswith(suffix):  # of a.txt and a.TXT the first form
                    known[suffix] = name
                self._alike.setdefault(caseless(key), set()).add(key)
        self._caseless_pictures = {caseless(key) for key in self._pictures}

    def of(self, picture: str) -> dict[str, str]:
        """The helpers of one picture: suffix -> name, in the order of the suffixes."""
        key = split_key(picture)[0]
        found = self._helpers.get(key) or self._helpers.get(self._other_key(key), {})
        return {suffix: found[suffix] for suffix in self._suffixes if suffix in found}

    def accessory(self, picture: str) -> bool:
        """Whether a picture has no helpers since another one has its key up to the first dot: KEY.seg.png."""
        key = split_key(picture)[0]
        root = root_key(key)
        return root != key and caseless(root) in self._caseless_pictures and not self.of(picture)

    def unused(self) -> Iterator[str]:
        """Keys of helpers that no picture has, nor any whose key goes on after it."""
        roots = {caseless(root_key(key)) for key in self._pictures} | self._caseless_pictures
        for key in self._helpers:
            if caseless(key) not in roots and caseless(root_key(key)) not in self._caseless_pictures:
                yield key

    def _other_key(self, key: str) -> str:
        """The key of helpers that a picture without any of its own may take; "" for none."""
        alike = caseless(key)
        keys = self._alike.get(alike, set()) - self._pictures
        if len(keys) == 1:
            return next(iter(keys))
        root = caseless(root_key(key))
        keys = self._alike.get(root, set())
        return next(iter(keys)) if len(keys) == 1 and root not in self._caseless_pictures else ""


def companions(picture: Path, suffixes: tuple[str, ...] = CAPTION_SUFFIXES) -> dict[str, Path]:
    """The helpers beside a picture file: suffix -> path, in the order of the suffixes; see `Companions`."""
    try:
        folder, changed = str(picture.parent), settled_time(picture.parent)
        files = _listed(folder, suffixes) if changed is None else _remembered(folder, suffixes, changed)
    except (OSError, ValueError):  # a folder that can be entered but not listed
        beside = (picture.with_suffix(suffix) for suffix in suffixes)
        return {path.suffix: path for path in beside if path.is_file()}
    return {suffix: picture.with_name(name) for suffix, name in files.of(picture.name).items()}


def _listed(folder: str, suffixes: tuple[str, ...]) -> Companions:
    return Companions(os.listdir(folder), suffixes)  # noqa: PTH208 - names are all that is needed


@lru_cache(maxsize=8)
def _remembered(folder: str, suffixes: tuple[str, ...], changed: int) -> Companions:
    del changed  # only a part of the cache's key
    return _listed(folder, suffixes)
