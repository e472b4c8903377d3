"""Unicode texts compared in one normal form, and files found by a name in another one.

"ü" is one character or "u" with a combining mark. Keyboards give the first form (NFC), macOS stores file
names in the second (NFD), and file systems of Linux keep whatever they are given: the same word then differs
byte for byte. Whatever compares names, tags, captions or labels does so by `composed` or `caseless`.
"""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from pathlib import Path


def composed(text: str) -> str:
    r"""The text in NFC, for comparisons in which case counts.

    Examples
    --------
    >>> composed("Mu\u0308ller") == "Müller"
    True
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def caseless(text: str) -> str:
    r"""The text for comparisons in which neither case nor the normal form counts.

    Examples
    --------
    >>> caseless("MU\u0308LLER") == caseless("Müller"), caseless("STRASSE") == caseless("Straße")
    (True, True)
    """
    if text.isascii():
        return text.lower()
    # Case is folded in decomposed letters, as the Unicode Standard has it (definition 145): some letters,
    # such as Greek ones with an iota below, fold to something else when they are composed.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def existing_path(path: Path) -> Path:
    """The path as the file system spells it, where it exists in another normal form; else as it came.

    Parameters
    ----------
    path : Path
        Looked for as it is first: only what is missing is compared, name by name from the top.

    Examples
    --------
    >>> existing_path(Path("no/such/place")) == Path("no/such/place")
    True
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    place = Path(path.anchor) if path.anchor else Path()
    for name in path.relative_to(path.anchor).parts:
        here = place / name
        if name != os.pardir and not os.path.lexists(here):
            spelt = _names_in(str(place), _changed(place)).get(composed(name))
            if spelt is None:
                return path
            here = place / spelt
        place = here
    return place


def _changed(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except (OSError, ValueError):
        return 0


@lru_cache(maxsize=16)
def _names_in(folder: str, changed: int) -> dict[str, str]:
    """The names in a folder that are not ASCII, by their composed form; listed again when it has changed."""
    del changed  # only a part of the cache's key
    try:
        return {composed(name): name for name in os.listdir(folder) if not name.isascii()}  # noqa: PTH208
    except OSError:
        return {}


def storable(text: str) -> str:
    r"""A text that every database keeps: without halves of characters and without NUL.

    Examples
    --------
    >>> storable("night \ud83d\0")
    'night ?'
    """
    return text.replace("\0", "").encode("utf-8", "replace").decode()
