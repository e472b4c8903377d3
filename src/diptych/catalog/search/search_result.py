"""Options and results of a search; `searcher` makes the search."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from diptych.catalog.relevance import DEFAULT_CUTOFF
from diptych.catalog.search.query import EncodedQuery
from diptych.catalog.store.browsing import check_page
from diptych.catalog.store.entries import CatalogEntry
from diptych.catalog.store.filters import Filter

Sort = Literal["likeness", "date", "name", "rating"]
SORTS: tuple[Sort, ...] = ("likeness", "date", "name", "rating")


@dataclass(frozen=True)
class Hit:
    """A picture that matches the query.

    Attributes
    ----------
    cosine : float
        Between the picture and the query.
    relevance : float
        From 0 to 1, see `diptych.catalog.relevance`.
    alike : tuple of CatalogEntry
        Near-duplicates that are collapsed into this hit.
    """

    entry: CatalogEntry
    cosine: float
    relevance: float
    alike: tuple[CatalogEntry, ...] = ()


@dataclass(frozen=True)
class SearchResult:
    """One page of hits.

    Attributes
    ----------
    hits : tuple of Hit
        Of this page, sorted by cosine, which finds more than sorting by relevance (docs/cutoff.md), or as
        `SearchOptions.sort` says. The relevance decides what is shown and need not decrease from hit to hit.
    total : int
        Hits over the cut-off among the rows that were scored; near-duplicates are counted once.
    more : bool
        The last rows that were scored are still relevant: there may be more hits behind them.
    best : Hit or None
        The most relevant picture, also when it is under the cut-off.
    searched : int
        Pictures that pass the filter.
    """

    hits: tuple[Hit, ...]
    query: EncodedQuery
    total: int
    more: bool
    best: Hit | None
    searched: int
    cutoff: float | None


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    Attributes
    ----------
    cutoff : float, optional
        Least relevance of a hit; None shows the nearest pictures whatever their relevance.
    limit, offset : int
        The page.
    sort : {"likeness", "date", "name", "rating"}
        "likeness" puts the nearest first. The others sort the relevant ones among the nearest 2,000, as
        `list_pictures` does.
    collapse : bool
        Show near-duplicates once.
    """

    filters: Filter = field(default_factory=Filter)
    cutoff: float | None = DEFAULT_CUTOFF
    limit: int = 20
    offset: int = 0
    sort: Sort = "likeness"
    collapse: bool = True

    def __post_init__(self) -> None:
        # Here and not in the search, so that a wrong option fails before an encoder is loaded.
        check_page(self.sort, SORTS, self.limit, self.offset)
