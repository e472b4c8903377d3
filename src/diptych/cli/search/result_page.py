"""One page of what a search found or a filter let through, as the outputs of `diptych search` need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.catalog import CatalogEntry, Hit, ListingPage, SearchResult

_ORDERS = {"date": "newest first", "name": "by path", "rating": "best rated first"}


@dataclass(frozen=True)
class ResultHit:
    """A picture of a result; without a query no figures belong to it."""

    entry: CatalogEntry
    relevance: float | None = None
    cosine: float | None = None
    alike: tuple[CatalogEntry, ...] = ()

    @classmethod
    def of(cls, hit: Hit) -> ResultHit:
        """Of a search's hit."""
        return cls(hit.entry, hit.relevance, hit.cosine, hit.alike)


@dataclass(frozen=True)
class ResultPage:
    """One page of what a search found or a filter let through.

    Attributes
    ----------
    hits : tuple of ResultHit
    query : tuple of str
        Its terms; none for a list.
    total : int
        Hits on all pages; `more` where there may be more than were judged.
    searched : int
        Pictures that could have been hits.
    offset : int
        Hits on earlier pages.
    cutoff : float or None
    best : ResultHit or None
        Of a search, also where it does not fit.
    order : str
        Of a list, in words; "" for a search.
    filtered : bool
        A filter was given.
    """

    hits: tuple[ResultHit, ...]
    query: tuple[str, ...]
    total: int
    more: bool
    searched: int
    offset: int
    cutoff: float | None
    best: ResultHit | None
    order: str
    filtered: bool

    @classmethod
    def of_answer(cls, answer: SearchResult, offset: int, *, filtered: bool) -> ResultPage:
        """Of a search."""
        return cls(
            hits=tuple(map(ResultHit.of, answer.hits)),
            query=tuple(map(str, answer.query.terms)),
            total=answer.total,
            more=answer.more,
            searched=answer.searched,
            offset=offset,
            cutoff=answer.cutoff,
            best=None if answer.best is None else ResultHit.of(answer.best),
            order="",
            filtered=filtered,
        )

    @classmethod
    def of_listing(cls, listing: ListingPage, offset: int, sort: str, *, filtered: bool) -> ResultPage:
        """Of a list."""
        return cls(
            hits=tuple(map(ResultHit, listing.entries)),
            query=(),
            total=listing.total,
            more=False,
            searched=listing.searched,
            offset=offset,
            cutoff=None,
            best=None,
            order=_ORDERS[sort],
            filtered=filtered,
        )
