"""Pictures of a catalogue looked at once more: their glances and traces, kept there, and their looks.

A glance and its traces are three kilobytes, made once for every picture: the traces propose what may belong
together, the glances tell most pairs apart. A look is large enough to be judged by; the last few hundred stay
in memory, and threads decode those that are asked for together. A picture whose files are gone or broken has
none of these, and is compared with nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from diptych.catalog.database.database import in_batches
from diptych.catalog.store.entries import CatalogEntry, load_entry, read_entries, read_first_file
from diptych.errors import ImageError, MissingExtraError
from diptych.inputs import processors
from diptych.matching.cells import cell_hashes
from diptych.matching.detail_view import DetailView
from diptych.matching.parts import GreyThumbnail, small_grey
from diptych.matching.pixels import SIDE, Thumbnail
from diptych.matching.visual_words import PROBES, extract_visual_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from diptych.catalog.database.database import Database

T = TypeVar("T")

# In memory: a quarter of a megabyte each, a few kilobytes, three quarters of a megabyte.
MOST_LOOKS, MOST_GLANCES, MOST_CLOSER = 400, 20_000, 100


@dataclass(frozen=True, eq=False)
class LocalFeatures:
    """By what partners are proposed for a picture.

    Attributes
    ----------
    cells : (n,) uint64
        Hashes of its cells.
    words : (m, PROBES) uint16
        Its visual words.
    """

    cells: NDArray[np.uint64]
    words: NDArray[np.uint16]


class ThumbnailCache:
    """Glances and looks of the pictures of a catalogue, by their number.

    Parameters
    ----------
    database : Database

    Attributes
    ----------
    failed : dict
        Why pictures could not be read, by their number.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.failed: dict[int, str] = {}
        self._looks: OrderedDict[int, Thumbnail] = OrderedDict()
        self._closer: OrderedDict[int, DetailView] = OrderedDict()
        self._seen: OrderedDict[int, tuple[GreyThumbnail, LocalFeatures]] = OrderedDict()
        self._pool = ThreadPoolExecutor(processors(), thread_name_prefix="look")

    def looks(self, contents: Iterable[int]) -> dict[int, Thumbnail]:
        """Those of these pictures that can be read."""
        wanted = list(dict.fromkeys(contents))
        self._looks.update(self._read(_look_at, [one for one in wanted if one not in self._looks]))
        return _taken(self._looks, wanted, MOST_LOOKS)

    def closer(self, contents: Iterable[int]) -> dict[int, DetailView]:
        """Those of these pictures that can be read, as they are looked at more closely."""
        wanted = list(dict.fromkeys(contents))
        self._closer.update(self._read(_look_closer, [one for one in wanted if one not in self._closer]))
        return _taken(self._closer, wanted, MOST_CLOSER)

    def glances(self, contents: Iterable[int]) -> dict[int, GreyThumbnail]:
        """Those of these pictures that have one, or can be read and then have one."""
        wanted = list(dict.fromkeys(contents))
        missing = [one for one in wanted if one not in self._seen]
        for content, width, height, grey, *traces in self._kept("width, height, grey, cells, words", missing):
            pixels = np.frombuffer(bytes(grey), np.uint8).reshape(height, width)
            self._seen[content] = GreyThumbnail(pixels), _unpacked(*traces)
        made = self._read(
            lambda entry: compute_features(_look_at(entry)), [one for one in missing if one not in self._seen]
        )
        self._seen.update(made)
        if made and not self.database.readonly:
            with self.database.writing():
                self.database.many(
                    "INSERT INTO glances (content, width, height, grey, cells, words) "
                    "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (content) DO NOTHING",
                    [(content, *_packed(*seen)) for content, seen in made],
                )
        # What cannot be kept there has to stay here.
        most = 2**62 if self.database.readonly else MOST_GLANCES
        return {content: glance for content, (glance, _) in _taken(self._seen, wanted, most).items()}

    def traces(self, contents: Sequence[int]) -> dict[int, LocalFeatures]:
        """Those of the pictures that were glanced at; decodes nothing."""
        found = {one: self._seen[one][1] for one in contents if one in self._seen}
        missing = [one for one in contents if one not in found]
        found.update((one, _unpacked(*traces)) for one, *traces in self._kept("cells, words", missing))
        return found

    def close(self) -> None:
        """Let go of threads and pictures."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._looks.clear()
        self._closer.clear()
        self._seen.clear()

    def _kept(self, columns: str, contents: Sequence[int]) -> Iterator[tuple[Any, ...]]:
        for marks, part in in_batches(contents):
            yield from self.database.all(
                f"SELECT content, {columns} FROM glances WHERE content IN ({marks})", part
            )

    def _read(self, make: Callable[[CatalogEntry], T], contents: Sequence[int]) -> list[tuple[int, T]]:
        """What threads make of these pictures."""
        made: list[tuple[int, T]] = []

        def work(entry: CatalogEntry) -> T | ReadFailure:
            try:
                return make(entry)
            except (ImageError, MissingExtraError, OSError) as error:
                return ReadFailure(error)

        entries = read_entries(self.database, [one for one in contents if one not in self.failed])
        for entry, result in zip(entries, self._pool.map(work, entries), strict=True):
            if isinstance(result, ReadFailure):
                self.failed[entry.content] = str(result)
            else:
                made.append((entry.content, result))
        return made


class ReadFailure(str):
    """Why a picture could not be read."""


def _look_at(entry: CatalogEntry) -> Thumbnail:
    return Thumbnail.of(load_entry(entry, target=SIDE // 2))


def _look_closer(entry: CatalogEntry) -> DetailView:
    return read_first_file(entry, DetailView.at)


def compute_features(look: Thumbnail) -> tuple[GreyThumbnail, LocalFeatures]:
    """What is kept of a look."""
    return GreyThumbnail(small_grey(look)), LocalFeatures(
        cell_hashes(look.image), extract_visual_words(look.grey)
    )


def _packed(glance: GreyThumbnail, traces: LocalFeatures) -> tuple[int, int, bytes, bytes, bytes]:
    height, width = glance.grey.shape
    return (
        *(width, height, glance.grey.tobytes()),
        *(traces.cells.astype("<u8").tobytes(), traces.words.astype("<u2").tobytes()),
    )


def _unpacked(cells: bytes, words: bytes) -> LocalFeatures:
    return LocalFeatures(
        np.frombuffer(bytes(cells), "<u8").astype(np.uint64),
        np.frombuffer(bytes(words), "<u2").astype(np.uint16).reshape(-1, PROBES),
    )


def _taken(kept: OrderedDict[int, T], wanted: Sequence[int], most: int) -> dict[int, T]:
    """Those that are there; the ones asked for longest ago make room."""
    found = {one: kept[one] for one in wanted if one in kept}
    for one in found:
        kept.move_to_end(one)
    while len(kept) > max(most, len(wanted)):
        kept.popitem(last=False)
    return found
