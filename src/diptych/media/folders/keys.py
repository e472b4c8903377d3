"""Match companion files to images by key: KEY.jpg, KEY.txt, KEY.json, KEY.cls.

The key of a file is its path without the last suffix, so names with dots, as of screenshots ("at
10.33.01.jpg") or frames ("frame.001.jpg"), are complete keys. The companions of an image are, in this order
of preference:

1. files of the same key;
2. files of the same key in another case or Unicode normal form ("DSC1.JPG", "dsc1.txt");
3. files of the key up to the first dot, as in WebDataset ("0001.left.jpg", "0001.txt"), unless another image
   has that key.

Suffixes are compared without case.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from diptych.files.unicode_text import caseless
from diptych.media.folders.files import IMAGE_SUFFIXES, stable_mtime

CAPTION_SUFFIXES = (".txt", ".json")


def split_key(name: str) -> tuple[str, str]:
    """Split a file name into its key and its suffix in lower case ("" if it has none).

    Examples
    --------
    >>> split_key("a.b/at 10.33.01.JPG"), split_key("a/.txt")
    (('a.b/at 10.33.01', '.jpg'), ('a/.txt', ''))
    """
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.rpartition(".")
    return (f"{folder}{slash}{stem}", f".{suffix.lower()}") if stem and suffix else (name, "")


def root_key(key: str) -> str:
    """The key in WebDataset's sense: up to the first dot of the file name.

    Examples
    --------
    >>> root_key("a.b/0001.seg"), root_key("a/.hidden")
    ('a.b/0001', 'a/.hidden')
    """
    folder, slash, file = key.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0] or file}"


class Companions:
    """The companion files of the images in one folder or archive.

    Parameters
    ----------
    names : iterable of str
        Names of all files, with forward slashes.
    suffixes : collection of str
        Suffixes of companion files, in lower case, in order of preference.

    Examples
    --------
    >>> names = ["at 10.33.jpg", "at 10.33.TXT", "1.left.jpg", "1.txt", "2.jpg", "2.seg.png", "2.txt"]
    >>> files = Companions(names)
    >>> files.of("at 10.33.jpg"), files.of("1.left.jpg"), files.of("2.jpg"), files.of("2.seg.png")
    ({'.txt': 'at 10.33.TXT'}, {'.txt': '1.txt'}, {'.txt': '2.txt'}, {})
    """

    def __init__(self, names: Iterable[str], suffixes: Collection[str] = CAPTION_SUFFIXES) -> None:
        self._suffixes = tuple(suffixes)
        self._companions: dict[str, dict[str, str]] = {}  # key -> suffix -> name
        self._by_caseless_key: dict[str, set[str]] = {}  # caseless key -> keys of companions
        self._image_keys: set[str] = set()
        for name in names:
            key, suffix = split_key(name)
            if suffix in IMAGE_SUFFIXES:
                self._image_keys.add(key)
            elif suffix in self._suffixes:
                known = self._companions.setdefault(key, {})
                if suffix not in known or name.endswith(suffix):  # a.txt is preferred to a.TXT
                    known[suffix] = name
                self._by_caseless_key.setdefault(caseless(key), set()).add(key)
        self._caseless_image_keys = {caseless(key) for key in self._image_keys}

    def of(self, image: str) -> dict[str, str]:
        """The companions of an image: suffix -> name, in the order of the suffixes."""
        key = split_key(image)[0]
        names = self._companions.get(key) or self._companions.get(self._other_key(key), {})
        return {suffix: names[suffix] for suffix in self._suffixes if suffix in names}

    def accessory(self, image: str) -> bool:
        """Whether an image belongs to another one, as KEY.seg.png to KEY.jpg, and has no companions."""
        key = split_key(image)[0]
        root = root_key(key)
        return root != key and caseless(root) in self._caseless_image_keys and not self.of(image)

    def unused(self) -> Iterator[str]:
        """Keys of companions that belong to no image."""
        roots = {caseless(root_key(key)) for key in self._image_keys} | self._caseless_image_keys
        for key in self._companions:
            if caseless(key) not in roots and caseless(root_key(key)) not in self._caseless_image_keys:
                yield key

    def _other_key(self, key: str) -> str:
        """The key of companions by the rules 2 and 3 (see the module); "" for none."""
        keys = self._by_caseless_key.get(caseless(key), set()) - self._image_keys
        if len(keys) == 1:
            return next(iter(keys))
        root = caseless(root_key(key))
        keys = self._by_caseless_key.get(root, set())
        return next(iter(keys)) if len(keys) == 1 and root not in self._caseless_image_keys else ""


def companions(image: Path, suffixes: tuple[str, ...] = CAPTION_SUFFIXES) -> dict[str, Path]:
    """The companions of an image file: suffix -> path, in the order of the suffixes; see `Companions`."""
    try:
        folder, modified = str(image.parent), stable_mtime(image.parent)
        files = _list_folder(folder, suffixes) if modified is None else _cached(folder, suffixes, modified)
    except (OSError, ValueError):  # a folder that can be entered but not listed
        candidates = (image.with_suffix(suffix) for suffix in suffixes)
        return {path.suffix: path for path in candidates if path.is_file()}
    return {suffix: image.with_name(name) for suffix, name in files.of(image.name).items()}


def _list_folder(folder: str, suffixes: tuple[str, ...]) -> Companions:
    return Companions(os.listdir(folder), suffixes)  # noqa: PTH208 - names are all that is needed


@lru_cache(maxsize=8)
def _cached(folder: str, suffixes: tuple[str, ...], modified: int) -> Companions:
    del modified  # only part of the cache key
    return _list_folder(folder, suffixes)
