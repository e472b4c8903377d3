"""List the images that pass a filter without a query, sorted and in pages.

No encoder is needed. The order is total (ties are broken by the content number at last), so the pages of one
state of the catalogue neither overlap nor miss an image.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from diptych.catalog.annotations.tags import ratings_of
from diptych.catalog.database.database import select_in
from diptych.catalog.store.entries import CatalogEntry, file_time, read_entries
from diptych.catalog.store.filters import Filter, allowed_rows, file_conditions
from diptych.errors import InputError

if TYPE_CHECKING:
    from diptych.catalog.database.database import Database
    from diptych.catalog.database.spaces import Space

ListSort = Literal["date", "name", "rating"]
LIST_SORTS: tuple[ListSort, ...] = ("date", "name", "rating")


@dataclass(frozen=True)
class ListingPage:
    """One page of a list of images."""

    entries: tuple[CatalogEntry, ...]  # the images of this page
    total: int  # number of images that pass the filter
    searched: int  # number of images in the catalogue


def list_pictures(
    space: Space,
    filters: Filter | None = None,
    *,
    sort: ListSort = "date",
    limit: int = 20,
    offset: int = 0,
) -> ListingPage:
    """List the images that pass a filter.

    Parameters
    ----------
    space : Space
        Space of the images to list, such as ``store.active``.
    sort : {"date", "name", "rating"}
        "date": newest first, images without a date last. "name": by path. "rating": best first, newest first
        among equals, images without a rating last.
    limit, offset : int
        Size of the page, and number of images before it.

    Raises
    ------
    InputError
        An unknown order, an invalid page, or an invalid filter.
    """
    check_page(sort, LIST_SORTS, limit, offset)
    # One snapshot for all queries below: an image that another process removes in between would be counted in
    # `total` and missing on the page.
    with space.database.reading():
        space.refresh()
        rows = allowed_rows(space, filters)
        contents = list(space.contents_of(rows.tolist()).values())
        # Sorted here and not in SQL: PostgreSQL orders folded names differently from Python. Only the columns
        # of the sort key are read for all images; whole entries are read for the page alone.
        keys = _keys(space.database, contents, filters or Filter(), sort)
        contents.sort(key=lambda content: keys[content], reverse=sort != "name")
        page = contents[offset : offset + limit]
        entries = read_entries(space.database, page, prefer=filters)
        return ListingPage(tuple(entries), len(contents), len(space))


def check_page(sort: str, sorts: Sequence[str], limit: int, offset: int) -> None:
    """Raise InputError for an unknown order or an invalid page."""
    if sort not in sorts:
        raise InputError(f"sort is {sort!r}: expected {', '.join(sorts[:-1])} or {sorts[-1]}")
    if limit < 1 or offset < 0:
        raise InputError(
            f"limit is {limit} and offset is {offset}: expected a limit of at least 1 and an "
            "offset of at least 0"
        )


def entry_key(entry: CatalogEntry, sort: ListSort) -> tuple[Any, ...]:
    """Return the sort key of an entry; orders other than "name" sort by it in reverse."""
    if sort == "name":
        return _name_key(os.fsencode(entry.path), entry.member, entry.content)
    # False sorts before True, and these keys are sorted in reverse: images without a date come last. -2 is
    # below every rating, so that unrated images come after rejected ones (-1). E.g. the keys (5, True, 2020,
    # 7), (5, True, 2013, 8) and (-2, True, 2021, 9), in this order.
    date = (entry.taken is not None, entry.taken or datetime.min, entry.content)
    return date if sort == "date" else (-2 if entry.rating is None else entry.rating, *date)


def _keys(
    database: Database, contents: Sequence[int], filters: Filter, sort: ListSort
) -> dict[int, tuple[Any, ...]]:
    """Return the sort keys of contents, reading only the columns needed."""
    if sort == "name":
        return _names(database, contents, filters)
    dates = _dates(database, contents)
    if sort == "date":
        return dates
    ratings = ratings_of(database, contents)
    return {content: (ratings.get(content, -2), *date) for content, date in dates.items()}


def _dates(database: Database, contents: Sequence[int]) -> dict[int, tuple[Any, ...]]:
    keys: dict[int, tuple[Any, ...]] = {}
    sql = (
        # Without a date in the metadata, the time of the oldest file counts, as in `filters` and `entries`:
        # copies are younger than what they were copied from.
        "SELECT c.id, c.taken, (SELECT MIN(f.modified) FROM files f WHERE f.content = c.id "
        "AND f.modified <> 0) FROM contents c WHERE c.id IN ({})"
    )
    for content, taken, modified in select_in(database, sql, contents):
        date = datetime.fromisoformat(taken).replace(tzinfo=None) if taken else file_time(modified or 0)
        keys[content] = (date is not None, date or datetime.min, content)
    return keys


def _names(database: Database, contents: Sequence[int], filters: Filter) -> dict[int, tuple[Any, ...]]:
    """Return the keys by name, using the first file that passes the filter, which is also the one shown."""
    condition, values = file_conditions(filters, database)
    keys: dict[int, tuple[Any, ...]] = {}
    sql = (
        f"SELECT f.content, f.path, f.member FROM files f WHERE {condition or '1 = 1'} "
        "AND f.content IN ({}) ORDER BY f.path DESC, f.member DESC"
    )
    for content, path, member in select_in(database, sql, contents, *values):
        keys[content] = _name_key(bytes(path), member, content)  # in descending order, so the first stays
    return keys


def _name_key(path: bytes, member: str, content: int) -> tuple[Any, ...]:
    # Folded names first, as in a file manager; then the exact bytes and the content number, which make the
    # order total.
    return (os.fsdecode(path).casefold(), member.casefold(), path, member, content)
