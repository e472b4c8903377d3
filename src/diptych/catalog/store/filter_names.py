"""Tags, cameras and types of files that a filter names and no picture of the catalogue has: mistyped ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from diptych.catalog.store.filters import Filter, formats_of, spellings_of
from diptych.errors import InputError
from diptych.files.unicode_text import caseless

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database

_SHOWN = 5  # names that a message proposes


def check_names(database: Database, where: Filter) -> None:
    """Refuse a filter that names what no picture has.

    Searching itself takes such a filter, which nothing passes: a program may ask for a tag that is not given
    yet. A person who typed it has most likely mistyped it.

    Parameters
    ----------
    database : Database
    where : Filter

    Raises
    ------
    InputError
        With the nearest names that there are.
    """
    for tag in (*where.tags, *where.any_tags, *where.not_tags):
        known = _tags(database)
        if not set(map(caseless, spellings_of(tag))) & set(map(caseless, known)):
            hint = near_names(tag, known, none="no picture has any tag: diptych tag gives some")
            raise InputError(f"there is no such tag: {tag!r}; {hint}")
    for camera in (*([where.camera] if where.camera else ()), *where.not_cameras):
        known = _values(database, "camera")
        if not any(caseless(camera) in caseless(name) for name in known):
            hint = near_names(camera, known, none="no picture names its camera")
            raise InputError(f"there is no such camera: {camera!r}; {hint}")
    for kind in (*where.formats, *where.not_formats):
        known = [name.lower() for name in _values(database, "format")]
        if not set(formats_of(kind)) & set(known):
            hint = near_names(kind.lower(), known, none="there are no pictures")
            raise InputError(f"there is no picture of type {kind!r}; {hint}")


def near_names(name: str, known: Sequence[str], *, none: str) -> str:
    """What somebody may have meant, as the second half of a message.

    Examples
    --------
    >>> near_names("snwo", ["snow", "sea"], none="no tags")
    "did you mean 'snow'?"
    >>> near_names("bicycle", ["snow", "sea"], none="no tags")
    'there are snow, sea'
    """
    if not known:
        return none
    folded = {caseless(one): one for one in reversed(known)}
    # A camera's maker and model are one text: a single word of it is what people type.
    words = {word: one for key, one in folded.items() for word in key.split()}
    candidates = words | folded
    close = (difflib.get_close_matches(caseless(name), candidates, cutoff=least) for least in (0.6, 0.5))
    near = next(filter(None, close), [])
    meant = list(dict.fromkeys(candidates[one] for one in near))
    if meant:
        return f"did you mean {' or '.join(map(repr, meant))}?"
    more = f" and {len(known) - _SHOWN:,} more" if len(known) > _SHOWN else ""
    return f"there are {', '.join(known[:_SHOWN])}{more}"


def _tags(database: Database) -> list[str]:
    """The most frequent first."""
    return _first(database.all("SELECT tag FROM tags GROUP BY tag ORDER BY COUNT(*) DESC, tag"))


def _values(database: Database, column: str) -> list[str]:
    return _first(
        database.all(
            f"SELECT {column} FROM contents WHERE COALESCE({column}, '') <> '' "
            f"GROUP BY {column} ORDER BY COUNT(*) DESC, {column}"
        )
    )


def _first(rows: Iterable[tuple[str, ...]]) -> list[str]:
    return [row[0] for row in rows]
