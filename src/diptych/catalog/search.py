"""Searching: a query made one row, the near rows found, judged, collapsed, sorted and paged.

The neighbours come from `nearest`, which pictures may answer from `filters`, what counts as fitting from
`relevance`; here they come together. A page beyond the first is the same search again, cut elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np

from diptych.catalog.entries import Entry, Hashes, hashes_of, read_entries
from diptych.catalog.filters import Filter, allowed_rows
from diptych.catalog.golden import encode_checked
from diptych.catalog.query import Asked, Term, ask, parse_query
from diptych.catalog.relevance import DEFAULT_CUTOFF, Background, Gauge, Part
from diptych.catalog.spaces import read_space
from diptych.catalog.store import Store
from diptych.encoder import Encoder
from diptych.errors import CatalogError, InputError
from diptych.media.hashes import hamming

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.encoder import FloatArray

T = TypeVar("T")
Sort = Literal["likeness", "date"]
SAMPLE = 2000  # rows that stand for the collection
LEAST, MOST = 200, 2000  # hits judged, whatever is shown of them
COLLAPSE_COSINE = 0.9
COLLAPSE_BITS = 8  # of 64 in which the difference hashes of one picture saved twice differ at most


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
        Of this page, best or newest first.
    asked : Asked
        The query.
    total : int
        Hits over the cut-off, alike ones counted once; at least so many where `more` says so.
    more : bool
        The hits that were judged ended before the cut-off did.
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
    sort : {"likeness", "date"}
        Date: newest first, among the relevant.
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
        if self.sort not in ("likeness", "date"):
            raise InputError(f"sort is {self.sort!r}: expected likeness or date")


class Searcher:
    """A catalogue and an encoder, ready to be asked; what others write into it meanwhile is found.

    Parameters
    ----------
    store : Store
    encoder : Encoder

    Raises
    ------
    CatalogError
        The catalogue is empty, or holds vectors of another encoder.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from diptych.catalog import Store, index_pictures
    >>> class Colours:  # an encoder of three numbers: a picture's mean colour, a text's
    ...     identity, dim, input_size, logit_scale, logit_bias = "colours", 3, 8, 1.0, 0.0
    ...     def encode_images(self, images):
    ...         return self.unit([np.asarray(image).reshape(-1, 3).mean(0) for image in images])
    ...     def encode_texts(self, texts):
    ...         return self.unit([[1 + ("red" in text), 1, 1 + ("blue" in text)] for text in texts])
    ...     def unit(self, rows):
    ...         rows = np.asarray(rows, dtype=np.float32)
    ...         return rows / np.linalg.norm(rows, axis=1, keepdims=True)
    >>> with tempfile.TemporaryDirectory() as home:
    ...     for name in ("darkred", "navy", "teal"):
    ...         Image.new("RGB", (8, 8), name).save(Path(home) / f"{name}.png")
    ...     store = Store.create(Path(home) / "catalog")
    ...     outcome = index_pictures(store, Colours(), [home])
    ...     answer = Searcher(store, Colours()).search("a red wall", Options(cutoff=None))
    ...     store.close()
    >>> outcome.embedded, answer.hits[0].entry.path.name
    (3, 'darkred.png')
    """

    def __init__(self, store: Store, encoder: Encoder) -> None:
        self.store, self.encoder = store, encoder
        self._take()

    def _take(self) -> None:
        """The space that the store has now; what is known of another one does not hold for it."""
        space = self.store.active
        if space is None:
            raise CatalogError(
                f"{self.store.name} holds no pictures yet: index some with  diptych index PATH"
            )
        if space.info.identity != self.encoder.identity:
            raise CatalogError(
                f"{self.store.name} holds vectors of {space.info.told}, this is "
                f"{self.encoder.identity[:19]}...: search with that model, or embed again with  "
                "diptych index --reembed"
            )
        self.space = space
        self._background: Background | None = None
        self._sample: FloatArray | None = None
        self._gauges: dict[tuple[Part, ...], Gauge] = {}

    def _now(self, asked: Callable[[], T]) -> T:
        """Ask the catalogue as it is at one moment, whoever writes meanwhile."""
        for left in (2, 1, 0):
            try:
                with self.store.database.reading():
                    self._refresh()
                    return asked()
            except CatalogError:
                # A space that is replaced takes its rows along, perhaps before they were opened here.
                now = read_space(self.store.database, "active")
                if not left or now is None or now.id == self.space.info.id:
                    raise
        raise AssertionError

    def _refresh(self) -> None:
        """Rows that others have added or removed, or the space that has taken this one's place."""
        space = self.store.active
        try:
            if space is not None:
                space.refresh()
        except CatalogError:
            space = None
        if space is None:
            self.store.reopen()
        if self.store.active is not self.space:
            self._take()

    @property
    def background(self) -> Background:
        """What hits are compared with; kept in the catalogue by whoever indexed, else made."""
        if self._background is None:
            kept = self.space.background()
            self._background = Background.of(self.encoder) if kept is None else kept
        return self._background

    @property
    def sample(self) -> FloatArray:
        """Rows that stand for the collection, (S, dim)."""
        if self._sample is None:
            self._sample = self.space.sample(SAMPLE)[1]
        return self._sample

    def search(self, query: str | Sequence[str] | Sequence[Term], options: Options | None = None) -> Answer:
        """Look for pictures.

        Parameters
        ----------
        query : str, sequence of str, or sequence of Term
            As for `parse_query`.
        options : Options, optional

        Raises
        ------
        InputError
            A query or filter that cannot be understood; ImageError for a picture that cannot be read.
        CatalogError
            A stored picture that is not there.
        """
        terms = [one for one in query if isinstance(one, Term)] if not isinstance(query, str) else []
        asked = self.ask(terms or parse_query(query))  # type: ignore[arg-type]
        return self.near(asked, options)

    def ask(self, terms: Sequence[Term]) -> Asked:
        """A query as a row; texts are checked beside the golden ones."""
        mixed = len(terms) > 1
        return ask(
            self.encoder,
            terms,
            stored=self._stored,
            sample=self._now(lambda: self.sample) if mixed else None,
            encode_texts=lambda texts: encode_checked(self.encoder, texts, self.space.info.golden),
        )

    def near(self, asked: Asked, options: Options | None = None) -> Answer:
        """Pictures near a row."""
        how = options or Options()
        return self._now(lambda: self._near(asked, how))

    def _near(self, asked: Asked, how: Options) -> Answer:
        allowed = allowed_rows(self.space, how.where) if how.where else None
        searched = len(self.space) if allowed is None else len(allowed)
        wanted = MOST if how.sort == "date" else min(max(LEAST, 2 * (how.offset + how.limit)), MOST)
        wanted = max(wanted, how.offset + how.limit)
        rows, cosines = self.space.nearest(asked.row[None], wanted, allowed)
        there = rows[0] >= 0
        found, near = rows[0][there], cosines[0][there]
        judged = self._judge(asked, found, near, searched)
        top = slice(int(judged.argmax()), int(judged.argmax()) + 1) if len(judged) else slice(0)
        best = self._hits(found[top], near[top], judged[top])  # the nearest is not always the most relevant
        fits = np.ones(len(found), bool) if how.cutoff is None else judged >= how.cutoff
        more = len(found) == wanted < searched and bool(fits[-1]) if len(found) else False
        hits = self._hits(found[fits], near[fits], judged[fits])
        if how.collapse:
            hits = self._collapse(hits)
        if how.sort == "date":
            hits.sort(key=lambda hit: (hit.entry.taken is not None, hit.entry.taken), reverse=True)
        page = tuple(hits[how.offset : how.offset + how.limit])
        return Answer(page, asked, len(hits), more, best[0] if best else None, searched, how.cutoff)

    def _judge(self, asked: Asked, found: NDArray[np.int64], near: FloatArray, size: int) -> FloatArray:
        if not len(found):
            return np.zeros(0, np.float32)
        gauge = self._gauges.get(asked.parts) or Gauge.of(self.background, self.sample, asked.parts)
        if len(asked.parts) == 1:  # mixtures differ from query to query, and making one takes milliseconds
            self._gauges[asked.parts] = gauge
        return gauge.relevance(near, self.space.gather(found), size=size)

    def _hits(self, rows: NDArray[np.int64], cosines: FloatArray, judged: FloatArray) -> list[Hit]:
        contents = self.space.contents_of(rows.tolist())
        numbers = [contents.get(int(row), -1) for row in rows]
        entries = {entry.content: entry for entry in read_entries(self.store.database, numbers)}
        return [
            Hit(entries[number], float(cosine), float(fit))
            for number, cosine, fit in zip(numbers, cosines, judged, strict=True)
            if number in entries
        ]

    def _collapse(self, hits: list[Hit]) -> list[Hit]:
        """Hits that look the same, under the best of them."""
        numbers = [hit.entry.content for hit in hits]
        hashes = hashes_of(self.store.database, numbers)
        where = self.space.rows_of(numbers)
        hashes.known[[number not in where for number in numbers]] = False
        rows = self.space.gather(np.array([where.get(number, 0) for number in numbers], np.int64))
        alike: dict[int, list[Entry]] = {}
        for hit, first in zip(hits, first_alike(hashes, rows).tolist(), strict=True):
            alike.setdefault(first, []).append(hit.entry)
        return [
            Hit(hits[i].entry, hits[i].cosine, hits[i].relevance, tuple(entries[1:]))
            for i, entries in alike.items()
        ]

    def _stored(self, content: int) -> FloatArray:
        known, rows = self._now(lambda: self.space.vectors([content]))
        if not known:
            raise CatalogError(
                f"there is no picture #{content} in this catalogue: numbers stand in  diptych search --json"
            )
        row: FloatArray = rows[0]
        return row


def first_alike(hashes: Hashes, rows: FloatArray) -> NDArray[np.int64]:
    """For each hit the place of the first that looks the same, itself or one before it, (N,).

    Hashes propose, vectors confirm; a hit is compared only with those that are first themselves.

    Parameters
    ----------
    hashes : Hashes
    rows : (N, dim) float32
        Of length one.

    Examples
    --------
    >>> bits = np.array([0, 2**40 - 1, 1, 3], np.uint64)
    >>> known = np.array([True, True, True, False])
    >>> first_alike(Hashes(bits, bits, known), np.ones((4, 1), np.float32)).tolist()
    [0, 1, 0, 3]
    """
    places = np.arange(len(rows))
    firsts, bits, count = np.zeros_like(places), np.zeros_like(hashes.difference), 0
    for i in np.flatnonzero(hashes.known):
        near = firsts[:count][hamming(bits[:count], hashes.difference[i]) <= COLLAPSE_BITS]
        same = near[rows[near] @ rows[i] >= COLLAPSE_COSINE]
        if len(same):
            places[i] = same[0]
        else:
            firsts[count], bits[count] = i, hashes.difference[i]
            count += 1
    return places
