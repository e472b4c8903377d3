"""Thumbnails and features of the pictures of a catalogue, cached in memory and in the database.

A grey thumbnail and its local features take three kilobytes and are stored in the database once for every
picture: the features propose candidate pairs, the grey thumbnails screen them. Larger thumbnails and detail
views, by which pairs are judged, are decoded on demand by several threads, and the most recently used ones
stay in memory. A picture whose files are missing or damaged has none of these and is compared with nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from diptych.catalog.database.database import select_in
from diptych.catalog.store.entries import CatalogEntry, load_entry, read_entries, read_first_file
from diptych.errors import ImageError, MissingExtraError
from diptych.inputs import processors
from diptych.matching.detail_view import DetailView
from diptych.matching.hashes import cell_hashes
from diptych.matching.parts import GreyThumbnail, small_grey
from diptych.matching.pixels import SIDE, Thumbnail
from diptych.matching.visual_words import PROBES, extract_visual_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.catalog.database.database import Database

T = TypeVar("T")

# Entries in memory; they take a quarter of a megabyte, a few kilobytes and three quarters of a megabyte each.
MOST_THUMBNAILS, MOST_GREY_THUMBNAILS, MOST_DETAIL_VIEWS = 400, 20_000, 100


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """Features used to find candidates."""

    cells: NDArray[np.uint64]  # (n,) uint64, perceptual hashes of grid cells
    words: NDArray[np.uint16]  # (m, PROBES) uint16, visual words


class ThumbnailCache:
    """Thumbnails and features of the pictures of a catalogue, by content number.

    `failed` maps contents to the reason why the picture could not be read.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.failed: dict[int, str] = {}
        self._thumbnails: OrderedDict[int, Thumbnail] = OrderedDict()
        self._detail_views: OrderedDict[int, DetailView] = OrderedDict()
        self._features: OrderedDict[int, tuple[GreyThumbnail, LocalFeatures]] = OrderedDict()
        self._pool = ThreadPoolExecutor(processors(), thread_name_prefix="thumbnail")

    def thumbnails(self, contents: Iterable[int]) -> dict[int, Thumbnail]:
        """Thumbnails of those of the pictures that can be read."""
        requested = list(dict.fromkeys(contents))
        missing = [content for content in requested if content not in self._thumbnails]
        self._thumbnails.update(self._decode(_load_thumbnail, missing))
        return _recent(self._thumbnails, requested, MOST_THUMBNAILS)

    def detail_views(self, contents: Iterable[int]) -> dict[int, DetailView]:
        """Detail views of those of the pictures that can be read."""
        requested = list(dict.fromkeys(contents))
        missing = [content for content in requested if content not in self._detail_views]
        self._detail_views.update(self._decode(lambda entry: read_first_file(entry, DetailView.at), missing))
        return _recent(self._detail_views, requested, MOST_DETAIL_VIEWS)

    def grey_thumbnails(self, contents: Iterable[int]) -> dict[int, GreyThumbnail]:
        """Grey thumbnails from memory, from the database, or decoded and then stored in both."""
        requested = list(dict.fromkeys(contents))
        missing = [content for content in requested if content not in self._features]
        columns = "width, height, grey, cells, words"
        for content, width, height, grey, *features in self._stored(columns, missing):
            pixels = np.frombuffer(bytes(grey), np.uint8).reshape(height, width)
            self._features[content] = GreyThumbnail(pixels), _features_from_bytes(*features)
        computed = self._decode(
            lambda entry: compute_features(_load_thumbnail(entry)),
            [content for content in missing if content not in self._features],
        )
        self._features.update(computed)
        # In a transaction of its own: this is a cache, and after a kill it is computed again. Another process
        # may have stored the same picture meanwhile, with equal values. The name of the table is part of the
        # format.
        if computed and not self.database.readonly:
            with self.database.writing():
                self.database.many(
                    "INSERT INTO glances (content, width, height, grey, cells, words) "
                    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (content) DO NOTHING",
                    [(content, *_to_columns(*features)) for content, features in computed],
                )
        # A read-only database cannot store them, so none may be dropped from memory.
        most = 2**62 if self.database.readonly else MOST_GREY_THUMBNAILS
        return {content: grey for content, (grey, _) in _recent(self._features, requested, most).items()}

    def local_features(self, contents: Sequence[int]) -> dict[int, LocalFeatures]:
        """Local features that are in memory or in the database; decodes nothing."""
        features = {content: self._features[content][1] for content in contents if content in self._features}
        missing = [content for content in contents if content not in features]
        for content, *columns in self._stored("cells, words", missing):
            features[content] = _features_from_bytes(*columns)
        return features

    def close(self) -> None:
        """Stop the threads and empty the cache."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._thumbnails.clear()
        self._detail_views.clear()
        self._features.clear()

    def _stored(self, columns: str, contents: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        return select_in(
            self.database, f"SELECT content, {columns} FROM glances WHERE content IN ({{}})", contents
        )

    def _decode(self, load: Callable[[CatalogEntry], T], contents: Sequence[int]) -> list[tuple[int, T]]:
        """Apply `load` to the pictures in threads; failures are noted in `failed` and not tried again."""
        loaded: list[tuple[int, T]] = []

        # In a thread of the pool. The database is read outside of it, since every thread that uses it opens a
        # connection of its own.
        def try_load(entry: CatalogEntry) -> T | ReadFailure:
            try:
                return load(entry)
            except (ImageError, MissingExtraError, OSError) as error:
                return ReadFailure(error)

        # An unreadable picture may be a candidate for hundreds of others, so it is tried once only.
        entries = read_entries(self.database, [content for content in contents if content not in self.failed])
        for entry, result in zip(entries, self._pool.map(try_load, entries), strict=True):
            if isinstance(result, ReadFailure):
                self.failed[entry.content] = str(result)
            else:
                loaded.append((entry.content, result))
        return loaded


class ReadFailure(str):
    """Why a picture could not be read."""


def _load_thumbnail(entry: CatalogEntry) -> Thumbnail:
    # Decoding at half the size lets JPEG skip work; the decoder never goes below the target.
    return Thumbnail.of(load_entry(entry, target=SIDE // 2))


def compute_features(thumbnail: Thumbnail) -> tuple[GreyThumbnail, LocalFeatures]:
    """The grey thumbnail and the local features of a picture."""
    features = LocalFeatures(cell_hashes(thumbnail.image), extract_visual_words(thumbnail.grey))
    return GreyThumbnail(small_grey(thumbnail)), features


def _to_columns(grey: GreyThumbnail, features: LocalFeatures) -> tuple[int, int, bytes, bytes, bytes]:
    height, width = grey.grey.shape
    return (
        *(width, height, grey.grey.tobytes()),
        *(features.cells.astype("<u8").tobytes(), features.words.astype("<u2").tobytes()),
    )


def _features_from_bytes(cells: bytes, words: bytes) -> LocalFeatures:
    return LocalFeatures(
        np.frombuffer(bytes(cells), "<u8").astype(np.uint64),
        np.frombuffer(bytes(words), "<u2").astype(np.uint16).reshape(-1, PROBES),
    )


def _recent(cache: OrderedDict[int, T], requested: Sequence[int], most: int) -> dict[int, T]:
    """The requested entries of a least-recently-used cache; older entries beyond `most` are dropped.

    All that are requested now stay, even if they are more than `most`.
    """
    # E.g. most = 2, with a and b in the cache: after a request for c the cache holds b and c, after one for
    # a, b and c all three, until the next request.
    entries = {content: cache[content] for content in requested if content in cache}
    for content in entries:
        cache.move_to_end(content)
    while len(cache) > max(most, len(requested)):
        cache.popitem(last=False)
    return entries
