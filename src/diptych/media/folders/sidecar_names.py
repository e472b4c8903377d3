"""Which sidecars belong to which picture, by their names alone: XMP of other programs, Google Takeout's JSON.

Captions beside a picture (KEY.txt, KEY.json) have a rule of their own. What is in a sidecar is read by
`sidecar_fields`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from diptych.files.unicode_text import caseless
from diptych.media.folders.files import settled_time

SUPPLEMENTAL = ".supplemental-metadata"
TAKEOUT_LENGTH = 46  # letters of a name that Takeout keeps in front of ".json", its number not counted
# Shorter and longer cuts were seen where letters take several bytes.
_CUTS = range(TAKEOUT_LENGTH + 5, TAKEOUT_LENGTH - 7, -1)
# What Google adds to the name of an edited picture, by the language of the account.
_EDITED = re.compile(
    r"(.+)-(?:edited|bearbeitet|modifi[ée]|editad[oa]|modificato|bewerkt|edytowane|redigert|redigeret|redigerad|"
    r"muokattu|upraveno|upravené|szerkesztett|düzenlendi|编辑|已编辑|已編輯|編集済み|수정됨|отредактировано)"
)
_NUMBERED = re.compile(r"(.+?)(\(\d+\))")
_XMP, _JSON = ".xmp", ".json"


class Sidecars:
    """The sidecars of pictures in one folder or archive.

    Parameters
    ----------
    names : iterable of str
        Of all files, with forward slashes where they stand in folders. Suffixes count in any case.

    Notes
    -----
    photo.jpg.xmp belongs to photo.jpg (darktable, digiKam), photo.xmp to every photo.* (Adobe). Takeout's
    JSON is named as the picture and ".supplemental-metadata", or only as the picture, cut to 46 letters; the
    number of a second IMG.jpg stands before the suffix of the picture and at the end of the JSON's; an edited
    picture has the JSON of the original.

    Examples
    --------
    >>> sidecars = Sidecars(["a.jpg", "a.nef", "a.jpg.XMP", "a.xmp", "a.jpg.supplemental-me.json"])
    >>> sidecars.of("a.jpg"), sidecars.of("a.nef")
    (['a.jpg.XMP', 'a.xmp', 'a.jpg.supplemental-me.json'], ['a.xmp'])
    >>> Sidecars(["IMG.jpg(1).json", "IMG.jpg.json"]).of("IMG(1).jpg")
    ['IMG.jpg(1).json']
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._xmp: dict[str, str] = {}  # what stands in front of the suffix -> name
        self._caseless: dict[str, list[str]] = {}
        self._takeout: dict[tuple[str, str], str] = {}  # picture, number -> name
        for name in names:
            start, suffix = name[:-4], name[-4:].lower()
            if suffix == _XMP and start:
                self._xmp.setdefault(start, name)
                self._caseless.setdefault(caseless(start), []).append(name)
            elif name[-5:].lower() == _JSON:
                for key in _pictures_of(name[:-5]):
                    self._takeout.setdefault(key, name)

    def of(self, picture: str) -> list[str]:
        """The sidecars of one picture, those of its whole name first, Takeout's last."""
        stem = _stem(picture)
        found = [self._xmp_of(picture), self._xmp_of(stem), self._takeout_of(picture)]
        return list(dict.fromkeys(name for name in found if name))

    def _xmp_of(self, start: str) -> str:
        if start in self._xmp:
            return self._xmp[start]
        alike = self._caseless.get(caseless(start), ()) if self._caseless else ()
        return alike[0] if len(alike) == 1 else ""

    def _takeout_of(self, picture: str) -> str:
        if not self._takeout:
            return ""
        for name, number in _originals(picture):
            folder, slash, file = name.rpartition("/")
            # The JSON of IMG.jpg is not the one of a second picture of that name, however its name was cut.
            whole = not number and _NUMBERED.fullmatch(_stem(name))
            for key in (file, *(file[:length] for length in _CUTS if length < len(file) and not whole)):
                if (f"{folder}{slash}{key}", number) in self._takeout:
                    return self._takeout[f"{folder}{slash}{key}", number]
        return ""


def sidecars_of(picture: Path) -> list[Path]:
    """The sidecars beside a picture file, those of its whole name first, Takeout's last; see `Sidecars`."""
    try:
        folder, changed = str(picture.parent), settled_time(picture.parent)
        sidecars = _listed(folder) if changed is None else _remembered(folder, changed)
    except (OSError, ValueError):  # a folder that can be entered but not listed
        return []
    return [picture.with_name(name) for name in sidecars.of(picture.name)]


def _listed(folder: str) -> Sidecars:
    return Sidecars(os.listdir(folder))  # noqa: PTH208 - names are all that is needed


@lru_cache(maxsize=8)
def _remembered(folder: str, changed: int) -> Sidecars:
    del changed  # only a part of the cache's key
    return _listed(folder)


def _pictures_of(name: str) -> Iterator[tuple[str, str]]:
    """(picture, number) that a JSON of this name, without its suffix, may belong to."""
    match = _NUMBERED.fullmatch(name)
    name, number = match.groups() if match else (name, "")
    yield name, number
    for length in range(len(SUPPLEMENTAL), 0, -1):
        if name.endswith(SUPPLEMENTAL[:length]):
            yield name[:-length], number
            return


def _originals(picture: str) -> Iterator[tuple[str, str]]:
    """(name, number) under which Takeout may have written about a picture, the most exact one first."""
    stem = _stem(picture)
    suffix = picture[len(stem) :]
    match = _NUMBERED.fullmatch(stem)
    bare, number = match.groups() if match else (stem, "")
    yield picture, ""
    if number:
        yield bare + suffix, number
    if edited := _EDITED.fullmatch(bare):
        yield edited[1] + suffix, number


def _stem(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    stem, dot, _ = file.rpartition(".")
    return f"{folder}{slash}{stem}" if dot and stem else name
