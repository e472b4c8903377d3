"""Searching: a query made one row, the near rows found, judged, collapsed, sorted and paged.

The neighbours come from `nearest`, which pictures may answer from `filters`, what counts as fitting from
`relevance`; here they come together. A page beyond the first is the same search again, cut elsewhere.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from diptych.catalog.database.spaces import read_space
from diptych.catalog.relevance import Background, Gauge, Part
from diptych.catalog.search.answers import Answer, Hit, Options
from diptych.catalog.search.query import Asked, Term, ask, parse_query
from diptych.catalog.store.browsing import Listing, ListSort, entry_key, list_pictures
from diptych.catalog.store.entries import Hashes, hashes_of, read_entries
from diptych.catalog.store.filters import Filter, allowed_rows
from diptych.catalog.store.golden import encode_checked
from diptych.catalog.store.store import Store
from diptych.encoder import Encoder
from diptych.errors import CatalogError
from diptych.matching.hashes import hamming

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from diptych.encoder import FloatArray
    from diptych.vectors.segments import RowNumbers

T = TypeVar("T")
SAMPLE = 2000  # rows that stand for the collection
LEAST, MOST = 200, 2000  # nearest rows that are judged at first, whatever is shown of them
WIDER, WIDEST = 4, 20_000  # as many more where they do not fill a page, and how many at most
COLLAPSE_COSINE = 0.9
COLLAPSE_BITS = 8  # of 64 in which the difference hashes of one picture saved twice differ at most


@dataclass(frozen=True, eq=False)
class _Window:
    """The nearest rows, judged; told of by their places among them, nearest first.

    Attributes
    ----------
    contents : (n,) int64
        Of those in `groups`, and of the best.
    cosines, judged : (n,) float32
    groups : list of lists of int
        Places that fit, ones that look the same together.
    best : int or None
    more : bool
        What lies behind may fit too.
    """

    contents: NDArray[np.int64]
    cosines: FloatArray
    judged: FloatArray
    groups: list[list[int]]
    best: int | None
    more: bool


class Searcher:
    """A catalogue and an encoder, ready to be asked; what others write into it meanwhile is found.

    It may stay open for months and be used from several threads: every search sees the pictures, tags and
    vectors of its own moment, also where they were written by another thread with the same store, and its
    relevances are those of a `Searcher` made anew.

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
        # Searches come one after another: each looks at the rows of its own moment. Texts and pictures are
        # encoded outside, also one after another, since not every tokenizer bears two threads.
        self._searching, self._encoding = threading.RLock(), threading.Lock()
        self._take()

    def _take(self) -> None:
        """The space that is active now; what is known of another one does not hold for it."""
        space = self.store.open_for_reader()
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
        self._counts: tuple[int, int] | None = None  # of the rows that the following is of
        self._background: Background | None = None
        self._background_is_kept = False
        self._sample: FloatArray | None = None
        self._gauges: dict[tuple[Part, ...], Gauge] = {}

    def _now(self, asked: Callable[[], T]) -> T:
        """Ask the catalogue as it is at one moment, whoever writes meanwhile."""
        for left in (2, 1, 0):
            try:
                with self._searching, self.store.database.reading():
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
        active = read_space(self.store.database, "active")
        if active is None or active.id != self.space.info.id:
            self.store.reopen()
            self._take()
        self.space.refresh()
        if (counts := self.space.counts()) != self._counts:
            # Another collection than before: what stands for it, and what hits are measured by, is new.
            self._counts, self._sample, self._gauges = counts, None, {}
            if not self._background_is_kept:
                kept = self.space.background()
                self._background, self._background_is_kept = kept or self._background, kept is not None

    @property
    def background(self) -> Background:
        """What hits are compared with; kept in the catalogue by whoever indexed, else made."""
        with self._searching:
            if self._background is None:
                kept = self.space.background()
                if kept is None:
                    with self._encoding:
                        self._background = Background.of(self.encoder)
                else:
                    self._background, self._background_is_kept = kept, True
            return self._background

    @property
    def sample(self) -> FloatArray:
        """Rows that stand for the collection, (S, dim)."""
        with self._searching:
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

    def list_pictures(
        self, where: Filter | None = None, *, sort: ListSort = "date", limit: int = 20, offset: int = 0
    ) -> Listing:
        """Pictures that pass a filter, without a query; see `diptych.catalog.list_pictures`."""
        return self._now(lambda: list_pictures(self.space, where, sort=sort, limit=limit, offset=offset))

    def ask(self, terms: Sequence[Term]) -> Asked:
        """A query as a row; texts are checked beside the golden ones."""
        mixed = len(terms) > 1
        return ask(
            self.encoder,
            terms,
            stored=self._stored,
            sample=self._now(lambda: self.sample) if mixed else None,
            encode_texts=self._encode_texts,
            encode_images=self._encode_images,
        )

    def _encode_texts(self, texts: Sequence[str]) -> FloatArray:
        with self._encoding:
            return encode_checked(self.encoder, texts, self.space.info.golden)

    def _encode_images(self, images: Sequence[Image]) -> FloatArray:
        with self._encoding:
            return self.encoder.encode_images(images)

    def near(self, asked: Asked, options: Options | None = None) -> Answer:
        """Pictures near a row."""
        how = options or Options()
        return self._now(lambda: self._near(asked, how))

    def _near(self, asked: Asked, how: Options) -> Answer:
        allowed = allowed_rows(self.space, how.where) if how.where else None
        searched = len(self.space) if allowed is None else len(allowed)
        page = slice(how.offset, how.offset + how.limit)
        size = MOST if how.sort != "likeness" else min(max(LEAST, 2 * page.stop), MOST)
        size = max(size, page.stop)
        window = self._window(asked, how, size, allowed, searched)
        while window.more and len(window.groups) < page.stop and size < WIDEST:
            size = min(WIDER * size, WIDEST)
            window = self._window(asked, how, size, allowed, searched)
        if (sort := how.sort) == "likeness":
            hits = self._hits(window, window.groups[page], how.where)
        else:
            hits = self._hits(window, window.groups, how.where)
            hits.sort(key=lambda hit: entry_key(hit.entry, sort), reverse=sort != "name")
            hits = hits[page]
        best = self._hits(window, [] if window.best is None else [[window.best]], how.where)
        return Answer(
            tuple(hits),
            asked,
            len(window.groups),
            window.more,
            best[0] if best else None,
            searched,
            how.cutoff,
        )

    def _window(
        self, asked: Asked, how: Options, size: int, allowed: RowNumbers | None, searched: int
    ) -> _Window:
        """The nearest `size` rows, judged."""
        rows, cosines = self.space.nearest(asked.row[None], size, allowed)
        there = rows[0] >= 0
        found, near = rows[0][there], cosines[0][there]
        vectors = self.space.gather(found)
        judged = self._judge(asked, near, vectors, searched)
        fits = np.arange(len(found)) if how.cutoff is None else np.flatnonzero(judged >= how.cutoff)
        best = int(judged.argmax()) if len(judged) else None  # the nearest is not always the most relevant
        shown = fits if len(fits) or best is None else np.array([best])
        contents = np.full(len(found), -1, np.int64)
        owners = self.space.contents_of(found[shown].tolist())
        contents[shown] = [owners.get(row, -1) for row in found[shown].tolist()]
        more = len(found) == size < searched and len(fits) > 0 and int(fits[-1]) >= size // 2
        groups = self._groups(fits, contents, vectors) if how.collapse else [[i] for i in fits.tolist()]
        return _Window(contents, near, judged, groups, best, more)

    def _groups(
        self, fits: NDArray[np.int64], contents: NDArray[np.int64], vectors: FloatArray
    ) -> list[list[int]]:
        """Places that look the same, together, the nearest of them first."""
        groups: dict[int, list[int]] = {}
        firsts = first_alike(hashes_of(self.store.database, contents[fits].tolist()), vectors[fits])
        for place, first in zip(fits.tolist(), firsts.tolist(), strict=True):
            groups.setdefault(first, []).append(place)
        return list(groups.values())

    def _hits(self, window: _Window, groups: Sequence[Sequence[int]], where: Filter) -> list[Hit]:
        numbers = [int(window.contents[place]) for group in groups for place in group]
        found = read_entries(self.store.database, numbers, prefer=where)
        entries = {entry.content: entry for entry in found}
        hits = []
        for group in groups:
            held = [entries[one] for one in window.contents[group].tolist() if one in entries]
            if held:
                cosine, fit = window.cosines[group[0]], window.judged[group[0]]
                hits.append(Hit(held[0], float(cosine), float(fit), tuple(held[1:])))
        return hits

    def _judge(self, asked: Asked, near: FloatArray, vectors: FloatArray, searched: int) -> FloatArray:
        if not len(near):
            return np.zeros(0, np.float32)
        gauge = self._gauges.get(asked.parts) or Gauge.of(self.background, self.sample, asked.parts)
        if len(asked.parts) == 1:  # mixtures differ from query to query, and making one takes milliseconds
            self._gauges[asked.parts] = gauge
        return gauge.relevance(near, vectors, size=searched)

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
