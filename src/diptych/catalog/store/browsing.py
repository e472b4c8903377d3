"""Pictures of a catalogue listed without a query: those that pass a filter, in an order, page by page.

No encoder is needed. The order is total (the last tie is broken by the picture's number), so pages of one
state of the catalogue neither overlap nor leave anything out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from diptych.catalog.annotations.tags import ratings_of
from diptych.catalog.database.database import in_parts
from diptych.catalog.store.entries import Entry, read_entries, when
from diptych.catalog.store.filters import Filter, allowed_rows, of_files
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database
    from diptych.catalog.database.spaces import Space

ListSort = Literal["date", "name", "rating"]
LIST_SORTS: tuple[ListSort, ...] = ("date", "name", "rating")


@dataclass(frozen=True)
class Listing:
    """One page of a list of pictures.

    Attributes
    ----------
    entries : tuple of Entry
        Of this page.
    total : int
        Pictures that pass the filter.
    searched : int
        Pictures in the catalogue.
    """

    entries: tuple[Entry, ...]
    total: int
    searched: int


def list_pictures(
    space: Space,
    where: Filter | None = None,
    *,
    sort: ListSort = "date",
    limit: int = 20,
    offset: int = 0,
) -> Listing:
    """List the pictures that pass a filter.

    Parameters
    ----------
    space : Space
        Whose pictures, such as ``store.active``.
    where : Filter, optional
    sort : {"date", "name", "rating"}
        The newest first and those of unknown date last; by path; the best rated first, the newest of them
        before the others, and those without a rating last.
    limit, offset : int
        The page.

    Returns
    -------
    Listing

    Raises
    ------
    InputError
        Another order, no page, or a filter that nothing can pass.
    """
    if sort not in LIST_SORTS:
        raise InputError(f"sort is {sort!r}: expected {', '.join(LIST_SORTS[:-1])} or {LIST_SORTS[-1]}")
    if limit < 1 or offset < 0:
        raise InputError(f"limit is {limit} and offset {offset}: expected at least 1 and 0")
    with space.database.reading():
        space.refresh()
        rows = allowed_rows(space, where) if where else space.living()
        contents = list(space.contents_of(rows.tolist()).values())
        keys = _keys(space.database, contents, where or Filter(), sort)
        contents.sort(key=lambda content: keys[content], reverse=sort != "name")
        page = contents[offset : offset + limit]
        entries = read_entries(space.database, page, prefer=where)
        return Listing(tuple(entries), len(contents), len(space))


def entry_key(entry: Entry, sort: ListSort) -> tuple[Any, ...]:
    """The place of a picture in an order, by what is known of it; reversed unless the order is by name."""
    if sort == "name":
        return _name_key(os.fsencode(entry.path), entry.member, entry.content)
    date = (entry.taken is not None, entry.taken or datetime.min, entry.content)
    return date if sort == "date" else (-2 if entry.rating is None else entry.rating, *date)


def _keys(
    database: Database, contents: Sequence[int], where: Filter, sort: ListSort
) -> dict[int, tuple[Any, ...]]:
    """The same for many pictures, of which nothing else is read."""
    if sort == "name":
        return _names(database, contents, where)
    dates = _dates(database, contents)
    if sort == "date":
        return dates
    ratings = ratings_of(database, contents)
    return {content: (ratings.get(content, -2), *date) for content, date in dates.items()}


def _dates(database: Database, contents: Sequence[int]) -> dict[int, tuple[Any, ...]]:
    found: dict[int, tuple[Any, ...]] = {}
    for marks, part in in_parts(contents):
        for content, taken, changed in database.all(
            "SELECT c.id, c.taken, (SELECT MIN(f.modified) FROM files f WHERE f.content = c.id "
            f"AND f.modified <> 0) FROM contents c WHERE c.id IN ({marks})",
            part,
        ):
            date = datetime.fromisoformat(taken).replace(tzinfo=None) if taken else when(changed or 0)
            found[content] = (date is not None, date or datetime.min, content)
    return found


def _names(database: Database, contents: Sequence[int], where: Filter) -> dict[int, tuple[Any, ...]]:
    """By the file that passes the filter, which is the one that is shown."""
    passes, values = of_files(where, database)
    found: dict[int, tuple[Any, ...]] = {}
    for marks, part in in_parts(contents):
        for content, path, member in database.all(
            f"SELECT f.content, f.path, f.member FROM files f WHERE f.content IN ({marks}) "
            f"{f'AND {passes}' if passes else ''} ORDER BY f.path DESC, f.member DESC",
            (*part, *values),
        ):
            found[content] = _name_key(bytes(path), member, content)  # the first one is the last to come
    return found


def _name_key(path: bytes, member: str, content: int) -> tuple[Any, ...]:
    return (os.fsdecode(path).casefold(), member.casefold(), path, member, content)
