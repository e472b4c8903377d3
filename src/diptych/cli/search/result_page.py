"""One page of search results or of a listing by filters, in the form that all outputs use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diptych.catalog import CatalogEntry, Hit, ListingPage, SearchResult

_ORDERS = {"date": "newest first", "name": "by path", "rating": "best rated first"}


@dataclass(frozen=True)
class ResultHit:
    """A picture of a result; relevance and cosine are None in a listing without a query."""

    entry: CatalogEntry
    relevance: float | None = None
    cosine: float | None = None
    alike: tuple[CatalogEntry, ...] = ()

    @classmethod
    def of(cls, hit: Hit) -> ResultHit:
        """From a hit of a search."""
        return cls(hit.entry, hit.relevance, hit.cosine, hit.alike)


@dataclass(frozen=True)
class ResultPage:
    """One page of search results or of a listing by filters.

    Attributes
    ----------
    hits : tuple of ResultHit
    query : tuple of str
        Terms of the query; empty for a listing.
    total : int
        Number of hits on all pages.
    more : bool
        There may be further hits than those that were examined.
    searched : int
        Number of pictures that were searched.
    offset : int
        Number of hits on earlier pages.
    cutoff : float or None
        Smallest relevance of a hit.
    best : ResultHit or None
        The best match of a search, even if it is below the cut-off.
    order : str
        The order of a listing in words; "" for a search.
    filtered : bool
        Whether a filter was given.
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
        """From the answer of a search."""
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
        """From a listing."""
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
