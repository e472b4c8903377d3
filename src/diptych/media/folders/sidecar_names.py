"""Match sidecars to images by their names: XMP of other programs, JSON of Google Takeout.

Caption files (KEY.txt, KEY.json) are matched by `keys`. The content of sidecars is read by `sidecar_fields`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from diptych.files.unicode_text import caseless
from diptych.media.folders.files import stable_mtime

SUPPLEMENTAL = ".supplemental-metadata"
TAKEOUT_LENGTH = 46  # characters to which Takeout truncates a name before ".json", without its number
# Truncation to other lengths occurs for characters of several bytes.
_CUTS = range(TAKEOUT_LENGTH + 5, TAKEOUT_LENGTH - 7, -1)
# Suffixes that Google adds to the name of an edited image, by the language of the account.
_EDITED = re.compile(
    r"(.+)-(?:edited|bearbeitet|modifi[ée]|editad[oa]|modificato|bewerkt|edytowane|redigert|redigeret|redigerad|"
    r"muokattu|upraveno|upravené|szerkesztett|düzenlendi|编辑|已编辑|已編輯|編集済み|수정됨|отредактировано)"
)
_NUMBERED = re.compile(r"(.+?)(\(\d+\))")
_XMP, _JSON = ".xmp", ".json"


class Sidecars:
    """The sidecars of the images in one folder or archive.

    Parameters
    ----------
    names : iterable of str
        Names of all files, with forward slashes. Suffixes are compared without case.

    Notes
    -----
    photo.jpg.xmp belongs to photo.jpg (darktable, digiKam), photo.xmp to every photo.* (Adobe). Takeout's
    JSON has the name of the image, optionally followed by ".supplemental-metadata", truncated to 46
    characters. The number of a second IMG.jpg is before the suffix in the name of the image (IMG(1).jpg), but
    at the end in the name of the JSON (IMG.jpg(1).json). An edited image shares the JSON of the original.

    Examples
    --------
    >>> sidecars = Sidecars(["a.jpg", "a.nef", "a.jpg.XMP", "a.xmp", "a.jpg.supplemental-me.json"])
    >>> sidecars.of("a.jpg"), sidecars.of("a.nef")
    (['a.jpg.XMP', 'a.xmp', 'a.jpg.supplemental-me.json'], ['a.xmp'])
    >>> Sidecars(["IMG.jpg(1).json", "IMG.jpg.json"]).of("IMG(1).jpg")
    ['IMG.jpg(1).json']
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._xmp: dict[str, str] = {}  # name without the suffix -> name
        self._caseless: dict[str, list[str]] = {}
        self._takeout: dict[tuple[str, str], str] = {}  # (image, number) -> name
        for name in names:
            start, suffix = name[:-4], name[-4:].lower()
            if suffix == _XMP and start:
                self._xmp.setdefault(start, name)
                self._caseless.setdefault(caseless(start), []).append(name)
            elif name[-5:].lower() == _JSON:
                for key in _images_of(name[:-5]):
                    self._takeout.setdefault(key, name)

    def of(self, image: str) -> list[str]:
        """The sidecars of an image: XMP of the full name first, Takeout's JSON last."""
        candidates = [self._xmp_of(image), self._xmp_of(_stem(image)), self._takeout_of(image)]
        return list(dict.fromkeys(name for name in candidates if name))

    def _xmp_of(self, start: str) -> str:
        if start in self._xmp:
            return self._xmp[start]
        matches = self._caseless.get(caseless(start), ()) if self._caseless else ()
        return matches[0] if len(matches) == 1 else ""

    def _takeout_of(self, image: str) -> str:
        if not self._takeout:
            return ""
        for name, number in _originals(image):
            folder, slash, file = name.rpartition("/")
            # "IMG(1).jpg" must not be truncated to "IMG": that JSON belongs to the first image of the name.
            is_numbered = not number and _NUMBERED.fullmatch(_stem(name))
            truncated = (file[:length] for length in _CUTS if length < len(file) and not is_numbered)
            for key in (file, *truncated):
                if (f"{folder}{slash}{key}", number) in self._takeout:
                    return self._takeout[f"{folder}{slash}{key}", number]
        return ""


def sidecars_of(image: Path) -> list[Path]:
    """The sidecars of an image file: XMP of the full name first, Takeout's JSON last; see `Sidecars`."""
    try:
        folder, modified = str(image.parent), stable_mtime(image.parent)
        sidecars = _list_folder(folder) if modified is None else _cached(folder, modified)
    except (OSError, ValueError):  # a folder that can be entered but not listed
        return []
    return [image.with_name(name) for name in sidecars.of(image.name)]


def _list_folder(folder: str) -> Sidecars:
    return Sidecars(os.listdir(folder))  # noqa: PTH208 - names are all that is needed


@lru_cache(maxsize=8)
def _cached(folder: str, modified: int) -> Sidecars:
    del modified  # only part of the cache key
    return _list_folder(folder)


def _images_of(name: str) -> Iterator[tuple[str, str]]:
    """Yield each (image, number) that a JSON of this name, without its suffix, may belong to."""
    match = _NUMBERED.fullmatch(name)
    name, number = match.groups() if match else (name, "")
    yield name, number
    for length in range(len(SUPPLEMENTAL), 0, -1):
        if name.endswith(SUPPLEMENTAL[:length]):
            yield name[:-length], number
            return


def _originals(image: str) -> Iterator[tuple[str, str]]:
    """Yield each (name, number) by which Takeout's JSON may refer to an image, the most exact first.

    E.g. "IMG-edited(1).jpg" gives ("IMG-edited(1).jpg", ""), ("IMG-edited.jpg", "(1)"), ("IMG.jpg", "(1)").
    """
    stem = _stem(image)
    suffix = image[len(stem) :]
    match = _NUMBERED.fullmatch(stem)
    bare, number = match.groups() if match else (stem, "")
    yield image, ""
    if number:
        yield bare + suffix, number
    if edited := _EDITED.fullmatch(bare):
        yield edited[1] + suffix, number


def _stem(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    stem, dot, _ = file.rpartition(".")
    return f"{folder}{slash}{stem}" if dot and stem else name
