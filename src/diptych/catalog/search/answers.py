"""How a search is to be made, and what it answers; `search` makes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from diptych.catalog.relevance import DEFAULT_CUTOFF
from diptych.catalog.search.query import Asked
from diptych.catalog.store.entries import Entry
from diptych.catalog.store.filters import Filter
from diptych.errors import InputError

Sort = Literal["likeness", "date", "name", "rating"]
SORTS: tuple[Sort, ...] = ("likeness", "date", "name", "rating")


@dataclass(frozen=True)
class Hit:
    """A picture that was found.

    Attributes
    ----------
    entry : Entry
    cosine : float
        To the query.
    relevance : float
        From 0 to 1, see `diptych.catalog.relevance`.
    alike : tuple of Entry
        Others that look the same and are shown with this one.
    """

    entry: Entry
    cosine: float
    relevance: float
    alike: tuple[Entry, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a search gives.

    Attributes
    ----------
    hits : tuple of Hit
        Of this page, nearest or newest first. By cosine, since that finds more (docs/cutoff.md): the figures
        of relevance decide what fits, and need not fall from hit to hit.
    asked : Asked
        The query.
    total : int
        Hits over the cut-off among the rows that were judged, alike ones counted once.
    more : bool
        The rows that were judged still fitted at their end: there may be more behind them.
    best : Hit or None
        The best one, also when it is under the cut-off.
    searched : int
        Pictures that could have answered.
    cutoff : float or None
    """

    hits: tuple[Hit, ...]
    asked: Asked
    total: int
    more: bool
    best: Hit | None
    searched: int
    cutoff: float | None


@dataclass(frozen=True)
class Options:
    """How to search.

    Attributes
    ----------
    where : Filter
    cutoff : float, optional
        Least relevance of a hit; None shows whatever is nearest.
    limit, offset : int
        The page.
    sort : {"likeness", "date", "name", "rating"}
        The nearest first; or, among the nearest 2,000 that are relevant, as `list_pictures` has it.
    collapse : bool
        Show pictures that look the same once.
    """

    where: Filter = field(default_factory=Filter)
    cutoff: float | None = DEFAULT_CUTOFF
    limit: int = 20
    offset: int = 0
    sort: Sort = "likeness"
    collapse: bool = True

    def __post_init__(self) -> None:
        if self.limit < 1 or self.offset < 0:
            raise InputError(f"limit is {self.limit} and offset {self.offset}: expected at least 1 and 0")
        if self.sort not in SORTS:
            raise InputError(f"sort is {self.sort!r}: expected {', '.join(SORTS[:-1])} or {SORTS[-1]}")
