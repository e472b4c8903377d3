"""Unicode normalisation: texts compared in one normal form, and files opened by a name in another form.

"ü" is one character or "u" with a combining mark. Keyboards produce the first form (NFC), macOS stores file
names in the second (NFD), and Linux file systems keep the bytes they are given, so the same word may differ
byte for byte. Names, tags, captions and labels are compared by `composed` or `caseless`.
"""

from __future__ import annotations

import os
import unicodedata
from functools import lru_cache
from pathlib import Path
from typing import Any


def composed(text: str) -> str:
    r"""The text in NFC, for case-sensitive comparisons.

    Examples
    --------
    >>> composed("Mu\u0308ller") == "Müller"
    True
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def caseless(text: str) -> str:
    r"""A key for comparisons that ignore case and normal form.

    Examples
    --------
    >>> caseless("MU\u0308LLER") == caseless("Müller"), caseless("STRASSE") == caseless("Straße")
    (True, True)
    """
    if text.isascii():
        return text.lower()
    # Canonical caseless matching (Unicode Standard, definition 145) folds case in decomposed form: some
    # letters, such as Greek ones with an iota subscript, fold differently when they are composed.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())


def existing_path(path: Path) -> Path:
    """The path as the file system spells it, if it exists in another normal form; else the path unchanged.

    Parameters
    ----------
    path : Path
        Tried as it is first; then each component that does not exist is compared in its composed form.

    Examples
    --------
    >>> existing_path(Path("no/such/place")) == Path("no/such/place")
    True
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    folder = Path(path.anchor) if path.anchor else Path()
    for name in path.relative_to(path.anchor).parts:
        candidate = folder / name
        if name != os.pardir and not os.path.lexists(candidate):
            stored_name = _names_in(str(folder), _modified_at(folder)).get(composed(name))
            if stored_name is None:
                return path
            candidate = folder / stored_name
        folder = candidate
    return folder


def _modified_at(folder: Path) -> int:
    try:
        return folder.stat().st_mtime_ns
    except (OSError, ValueError):
        return 0


@lru_cache(maxsize=16)
def _names_in(folder: str, modified_at: int) -> dict[str, str]:
    """The non-ASCII names in a folder by their composed form; cached until the folder changes."""
    del modified_at  # only part of the cache key
    try:
        return {composed(name): name for name in os.listdir(folder) if not name.isascii()}  # noqa: PTH208
    except OSError:
        return {}


def storable(text: str) -> str:
    r"""The text without lone surrogates and NUL, which not every database can store.

    Examples
    --------
    >>> storable("night \ud83d\0")
    'night ?'
    """
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def without_surrogates(value: Any) -> Any:
    r"""Replace lone surrogates in all strings of a JSON value by U+FFFD.

    Examples
    --------
    >>> without_surrogates({"caption": ["\ud800 dog"]}) == {"caption": ["\ufffd dog"]}
    True
    """
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, dict):
        return {without_surrogates(name): without_surrogates(inner) for name, inner in value.items()}
    return [without_surrogates(inner) for inner in value] if isinstance(value, list) else value
