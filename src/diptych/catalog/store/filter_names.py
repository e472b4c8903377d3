"""Detection of mistyped tags, cameras and file types in a filter: names that no image has."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diptych.catalog.store.filters import Filter, formats_of, spellings_of
from diptych.errors import InputError
from diptych.files.unicode_text import caseless

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database

_SHOWN = 5  # names listed in a message


def check_names(database: Database, filters: Filter) -> None:
    """Reject a filter with a tag, camera or file type that no image has.

    The search itself accepts such a filter and returns nothing, as a program may ask for a tag that is not
    used yet. A person who types such a name has probably mistyped it.

    Raises
    ------
    InputError
        The message suggests the most similar existing names.
    """
    # Compared without case and normal form, as the search itself does: what it would match is not mistyped.
    for tag in (*filters.tags, *filters.any_tags, *filters.not_tags):
        existing = _by_frequency(database, "tags", "tag")
        if not set(map(caseless, spellings_of(tag))) & set(map(caseless, existing)):
            hint = suggest_names(tag, existing, none="no picture has a tag yet: diptych tag adds some")
            raise InputError(f"there is no such tag: {tag!r}; {hint}")
    for camera in (*([filters.camera] if filters.camera else ()), *filters.not_cameras):
        existing = _by_frequency(database, "contents", "camera")
        if not any(caseless(camera) in caseless(name) for name in existing):
            hint = suggest_names(camera, existing, none="no picture names its camera")
            raise InputError(f"there is no such camera: {camera!r}; {hint}")
    for kind in (*filters.formats, *filters.not_formats):
        existing = [name.lower() for name in _by_frequency(database, "contents", "format")]
        if not set(formats_of(kind)) & set(existing):
            hint = suggest_names(kind.lower(), existing, none="there are no pictures")
            raise InputError(f"there is no picture of type {kind!r}; {hint}")


def suggest_names(name: str, existing: Sequence[str], *, none: str) -> str:
    """Suggest existing names for a mistyped one, as the second half of a message.

    `existing` names come most frequent first; `none` is returned if there are none.

    Examples
    --------
    >>> suggest_names("snwo", ["snow", "sea"], none="no tags")
    "did you mean 'snow'?"
    >>> suggest_names("bicycle", ["snow", "sea"], none="no tags")
    'there are snow, sea'
    """
    if not existing:
        return none
    # Reversed, so that the most frequent of several names that fold alike overwrites the others.
    folded = {caseless(spelling): spelling for spelling in reversed(existing)}
    # A camera is one text of maker and model, of which people often type a single word.
    words = {word: spelling for key, spelling in folded.items() for word in key.split()}
    candidates = words | folded
    # The looser cut-off only if nothing passes the stricter one, so that a good suggestion is not buried.
    matches = (difflib.get_close_matches(caseless(name), candidates, cutoff=cutoff) for cutoff in (0.6, 0.5))
    closest = next(filter(None, matches), [])
    suggestions = list(dict.fromkeys(candidates[key] for key in closest))
    if suggestions:
        return f"did you mean {' or '.join(map(repr, suggestions))}?"
    more = f" and {len(existing) - _SHOWN:,} more" if len(existing) > _SHOWN else ""
    return f"there are {', '.join(existing[:_SHOWN])}{more}"


def _by_frequency(database: Database, table: str, column: str) -> list[str]:
    """List the different values of a column, the most frequent first."""
    rows = database.all(
        f"SELECT {column} FROM {table} WHERE COALESCE({column}, '') <> '' "
        f"GROUP BY {column} ORDER BY COUNT(*) DESC, {column}"
    )
    return [row[0] for row in rows]
