"""Search in a catalogue: encode the query, retrieve the nearest rows, score, collapse, sort and page them.

The neighbours come from `vectors.nearest`, the rows that pass a filter from `store.filters`, the relevance of
a hit from `relevance`. A later page repeats the search and returns another slice of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import numpy as np

from diptych.catalog.database.spaces import read_space
from diptych.catalog.relevance import Background, QueryPart, RelevanceScale
from diptych.catalog.search.query import EncodedQuery, Term, encode_query, parse_query
from diptych.catalog.search.search_result import Hit, SearchOptions, SearchResult
from diptych.catalog.store.browsing import ListingPage, ListSort, entry_key, list_pictures
from diptych.catalog.store.entries import Hashes, hashes_of, read_entries
from diptych.catalog.store.filters import Filter, allowed_rows
from diptych.catalog.store.store import Store
from diptych.embedding.golden import encode_checked
from diptych.encoder import Encoder
from diptych.errors import CatalogError
from diptych.matching.hashes import hamming

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers

P = ParamSpec("P")
T = TypeVar("T")
SAMPLE = 2000  # rows drawn from the collection for statistics
LEAST, MOST = 200, 2000  # nearest rows that are scored at first, however few of them are shown
WIDER, WIDEST = 4, 20_000  # the factor by which more are scored where a page is not filled, and the limit
COLLAPSE_COSINE = 0.9  # least cosine of near-duplicates
COLLAPSE_BITS = 8  # of 64: the most by which the difference hashes of near-duplicates differ


@dataclass(frozen=True, eq=False)
class _Window:
    """The n nearest rows with their scores, nearest first; all indices are positions in this order.

    Attributes
    ----------
    contents : (n,) int64
        Of the positions in `groups` and of `best`; -1 elsewhere, where nobody needs them.
    cosines, relevances : (n,) float32
    groups : list of lists of int
        Positions of the relevant rows; near-duplicates share a list.
    best : int or None
        The position of the most relevant row.
    more : bool
        Rows beyond the n nearest may be relevant too.
    """

    contents: NDArray[np.int64]
    cosines: FloatArray
    relevances: FloatArray
    groups: list[list[int]]
    best: int | None
    more: bool


class Searcher:
    """Searches a catalogue with an encoder.

    It may stay open for months and be used from several threads. Every search sees the pictures, tags and
    vectors that the catalogue holds at that moment, also those that other processes or threads have just
    written, and gives the same relevances as a new `Searcher` would.

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
    >>> class Colours:  # embeds into three numbers: the mean colour of a picture, the colour words of a text
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
    ...     answer = Searcher(store, Colours()).search("a red wall", SearchOptions(cutoff=None))
    ...     store.close()
    >>> outcome.embedded, answer.hits[0].entry.path.name
    (3, 'darkred.png')
    """

    def __init__(self, store: Store, encoder: Encoder) -> None:
        self.store, self.encoder = store, encoder
        # One lock serialises searches, since each refreshes the cached state below to its own moment.
        # Encoding runs outside of that lock, under a second one: not every tokenizer is thread-safe.
        self._searching, self._encoding = threading.RLock(), threading.Lock()
        self._open_space()

    def _open_space(self) -> None:
        """Open the active space and reset everything that was cached for another one."""
        space = self.store.open_for_reader()
        if space is None:
            raise CatalogError(
                f"{self.store.name} holds no pictures yet: index some with  diptych index PATH"
            )
        if space.info.identity != self.encoder.identity:
            raise CatalogError(
                f"{self.store.name} holds vectors of {space.info.model_label}, this is "
                f"{self.encoder.identity[:19]}...: search with that model, or embed again with  "
                "diptych index --reembed"
            )
        self.space = space
        self._counts: tuple[int, int] | None = None  # of the rows for which the caches below were computed
        self._background: Background | None = None
        self._background_is_stored = False
        self._sample: FloatArray | None = None
        self._scales: dict[tuple[QueryPart, ...], RelevanceScale] = {}

    def _in_snapshot(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `read` on one consistent state of the catalogue, whoever writes meanwhile."""
        for retries_left in (2, 1, 0):
            try:
                with self._searching, self.store.database.reading():
                    self._refresh()
                    return read(*args, **kwargs)
            except CatalogError:
                # Another process may replace the space and delete its files before they were opened here.
                # That is worth a retry only if the active space has changed.
                active = read_space(self.store.database, "active")
                if not retries_left or active is None or active.id == self.space.info.id:
                    raise
        raise AssertionError

    def _refresh(self) -> None:
        """Take over rows that others have added or removed, or another space that has become active."""
        active = read_space(self.store.database, "active")
        if active is None or active.id != self.space.info.id:
            self.store.reopen()
            self._open_space()
        self.space.refresh()
        if (counts := self.space.counts()) != self._counts:
            # The collection has changed, so its sample and the relevance scales are computed again.
            self._counts, self._sample, self._scales = counts, None, {}
            if not self._background_is_stored:
                stored = self.space.background()
                self._background, self._background_is_stored = stored or self._background, stored is not None

    @property
    def background(self) -> Background:
        """The background texts of `relevance`: those stored by indexing, otherwise encoded at first use."""
        with self._searching:
            if self._background is None:
                stored = self.space.background()
                if stored is None:
                    with self._encoding:
                        self._background = Background.of(self.encoder)
                else:
                    self._background, self._background_is_stored = stored, True
            return self._background

    @property
    def sample(self) -> FloatArray:
        """Embeddings drawn from the collection, (S, dim)."""
        with self._searching:
            if self._sample is None:
                self._sample = self.space.sample(SAMPLE)[1]
            return self._sample

    def search(
        self, query: str | Sequence[str] | Sequence[Term], options: SearchOptions | None = None
    ) -> SearchResult:
        """Search for pictures that match a query.

        Parameters
        ----------
        query : str, sequence of str, or sequence of Term
            As for `parse_query`, or the terms that it returns.
        options : SearchOptions, optional

        Raises
        ------
        InputError
            A query or filter that cannot be parsed; ImageError for a picture file that cannot be read.
        CatalogError
            The query names a stored picture that does not exist.
        """
        terms = [term for term in query if isinstance(term, Term)] if not isinstance(query, str) else []
        encoded = self.encode_query(terms or parse_query(query))  # type: ignore[arg-type]
        return self.search_encoded(encoded, options)

    def list_pictures(
        self, filters: Filter | None = None, *, sort: ListSort = "date", limit: int = 20, offset: int = 0
    ) -> ListingPage:
        """Pictures that pass a filter, without a query; see `diptych.catalog.list_pictures`."""
        # The space is looked up inside the snapshot, which may open another one.
        return self._in_snapshot(
            lambda: list_pictures(self.space, filters, sort=sort, limit=limit, offset=offset)
        )

    def encode_query(self, terms: Sequence[Term]) -> EncodedQuery:
        """Encode a query; texts are encoded together with golden texts, which detect a changed encoder."""
        mixed = len(terms) > 1
        return encode_query(
            self.encoder,
            terms,
            stored=self._stored,
            sample=self._in_snapshot(lambda: self.sample) if mixed else None,
            encode_texts=self._encode_texts,
            encode_images=self._encode_images,
        )

    def _encode_texts(self, texts: Sequence[str]) -> FloatArray:
        with self._encoding:
            return encode_checked(self.encoder, texts, self.space.info.golden)

    def _encode_images(self, images: Sequence[Image]) -> FloatArray:
        with self._encoding:
            return self.encoder.encode_images(images)

    def search_encoded(self, query: EncodedQuery, options: SearchOptions | None = None) -> SearchResult:
        """Search with a query that is already encoded."""
        chosen = options or SearchOptions()
        return self._in_snapshot(self._search, query, chosen)

    def _search(self, query: EncodedQuery, options: SearchOptions) -> SearchResult:
        allowed = allowed_rows(self.space, options.filters) if options.filters else None
        searched = len(self.space) if allowed is None else len(allowed)
        page = slice(options.offset, options.offset + options.limit)
        # By date or name, the relevant rows must be known before the first page can be cut. By likeness,
        # twice the page is usually enough, as duplicates are collapsed.
        size = MOST if options.sort != "likeness" else min(max(LEAST, 2 * page.stop), MOST)
        size = max(size, page.stop)
        window = self._window(query, options, size, allowed, searched)
        while window.more and len(window.groups) < page.stop and size < WIDEST:
            size = min(WIDER * size, WIDEST)
            window = self._window(query, options, size, allowed, searched)
        if (sort := options.sort) == "likeness":
            hits = self._hits(window, window.groups[page], options.filters)
        else:
            hits = self._hits(window, window.groups, options.filters)
            hits.sort(key=lambda hit: entry_key(hit.entry, sort), reverse=sort != "name")
            hits = hits[page]
        best = self._hits(window, [] if window.best is None else [[window.best]], options.filters)
        return SearchResult(
            hits=tuple(hits),
            query=query,
            total=len(window.groups),
            more=window.more,
            best=best[0] if best else None,
            searched=searched,
            cutoff=options.cutoff,
        )

    def _window(
        self,
        query: EncodedQuery,
        options: SearchOptions,
        size: int,
        allowed: RowNumbers | None,
        searched: int,
    ) -> _Window:
        """Retrieve and score the nearest `size` rows."""
        rows, cosines = self.space.nearest(query.embedding[None], size, allowed)
        valid = rows[0] >= 0  # fewer than `size` rows are padded with -1
        nearest, cosines = rows[0][valid], cosines[0][valid]
        embeddings = self.space.gather(nearest)
        relevances = self._relevances(query, cosines, embeddings, searched)
        cutoff = options.cutoff
        relevant = np.arange(len(nearest)) if cutoff is None else np.flatnonzero(relevances >= cutoff)
        best = int(relevances.argmax()) if len(relevances) else None  # not always the nearest
        needed = relevant if len(relevant) or best is None else np.array([best])
        contents = np.full(len(nearest), -1, np.int64)
        owners = self.space.contents_of(nearest[needed].tolist())
        contents[needed] = [owners.get(row, -1) for row in nearest[needed].tolist()]
        # Relevances fall with the cosine, but not strictly: if the last relevant row is in the nearer half of
        # the window, further rows are taken for irrelevant. E.g. size 200: a hit at position 100 or later
        # widens it.
        more = len(nearest) == size < searched and len(relevant) > 0 and int(relevant[-1]) >= size // 2
        if options.collapse:
            groups = self._group_duplicates(relevant, contents, embeddings)
        else:
            groups = [[position] for position in relevant.tolist()]
        return _Window(contents, cosines, relevances, groups, best, more)

    def _group_duplicates(
        self, relevant: NDArray[np.int64], contents: NDArray[np.int64], embeddings: FloatArray
    ) -> list[list[int]]:
        """Group the positions of near-duplicates, the nearest of each group first."""
        groups: dict[int, list[int]] = {}
        firsts = first_alike(
            hashes_of(self.store.database, contents[relevant].tolist()), embeddings[relevant]
        )
        for position, first in zip(relevant.tolist(), firsts.tolist(), strict=True):
            groups.setdefault(first, []).append(position)
        return list(groups.values())

    def _hits(self, window: _Window, groups: Sequence[Sequence[int]], filters: Filter) -> list[Hit]:
        contents = [int(window.contents[position]) for group in groups for position in group]
        entries = {
            entry.content: entry for entry in read_entries(self.store.database, contents, prefer=filters)
        }
        hits = []
        for group in groups:
            members = [entries[content] for content in window.contents[group].tolist() if content in entries]
            if members:
                cosine, relevance = window.cosines[group[0]], window.relevances[group[0]]
                hits.append(Hit(members[0], float(cosine), float(relevance), tuple(members[1:])))
        return hits

    def _relevances(
        self, query: EncodedQuery, cosines: FloatArray, embeddings: FloatArray, searched: int
    ) -> FloatArray:
        if not len(cosines):
            return np.zeros(0, np.float32)
        parts = query.parts
        scale = self._scales.get(parts) or RelevanceScale.of(self.background, self.sample, parts)
        if len(parts) == 1:  # the weights of mixed queries rarely repeat, and a scale takes milliseconds
            self._scales[parts] = scale
        return scale.relevance(cosines, embeddings, size=searched)

    def _stored(self, content: int) -> FloatArray:
        embedded, embeddings = self._in_snapshot(lambda: self.space.vectors([content]))
        if not embedded:
            raise CatalogError(
                f"there is no picture #{content} in this catalogue: diptych search --json lists the numbers"
            )
        embedding: FloatArray = embeddings[0]
        return embedding


def first_alike(hashes: Hashes, embeddings: FloatArray) -> NDArray[np.int64]:
    """For each hit the position of the first near-duplicate: itself or an earlier hit, (N,).

    Two hits are near-duplicates if their difference hashes and their vectors are close. A hit is compared
    only with those that represent a group, e.g. if 2 is a duplicate of 0, a later hit is compared with 0
    alone.

    Examples
    --------
    >>> bits = np.array([0, 2**40 - 1, 1, 3], np.uint64)
    >>> valid = np.array([True, True, True, False])
    >>> first_alike(Hashes(bits, bits, valid), np.ones((4, 1), np.float32)).tolist()
    [0, 1, 0, 3]
    """
    positions = np.arange(len(embeddings))
    firsts, bits, count = np.zeros_like(positions), np.zeros_like(hashes.difference), 0
    for i in np.flatnonzero(hashes.valid):
        candidates = firsts[:count][hamming(bits[:count], hashes.difference[i]) <= COLLAPSE_BITS]
        same = candidates[embeddings[candidates] @ embeddings[i] >= COLLAPSE_COSINE]
        if len(same):
            positions[i] = same[0]
        else:
            firsts[count], bits[count] = i, hashes.difference[i]
            count += 1
    return positions
