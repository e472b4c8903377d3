"""One visit to one record: read, decoded, its bad records set aside and counted.

Called from many threads. Which records are visited when is order.py's, batches are loader.py's.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from diptych.errors import DataError, DiptychError, ImageError, counted
from diptych.training.data.image_cache import Cache, Pixels, decode, free_memory
from diptych.training.data.sources.records import Source, format_reasons


@dataclass
class SkippedRecords:
    """Unusable records, counted by reason, with one example each."""

    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        """Count one record."""
        self.skipped[reason] += 1
        self.examples.setdefault(reason, example)

    def __str__(self) -> str:
        reasons = format_reasons(dict(self.skipped.most_common()), self.examples)
        return (
            f"{counted(self.skipped.total(), 'record')} skipped: {reasons}"
            if reasons
            else "no record skipped"
        )


class PairReader:
    """Reads images and captions of several indexed sources; counts the bad records.

    Parameters
    ----------
    side : int
        Images are scaled down to this shorter side.
    cache : "auto", True or False
    budget : int
        Bytes of the cache.

    Attributes
    ----------
    bad : list of (N,) bool
        Unusable records so far, per source.
    """

    def __init__(self, sources: Sequence[Source], side: int, cache: str | bool, budget: int) -> None:
        if cache not in ("auto", True, False):
            raise DataError(f"cache is {cache!r}: expected 'auto', True or False")
        self.sources, self._side = list(sources), side
        self.bad = [np.zeros(len(source), np.bool_) for source in sources]
        self.report = SkippedRecords()
        for source in sources:
            self.report.skipped.update(source.dropped)
            for reason, name in source.examples.items():
                self.report.examples.setdefault(reason, name)
        self._lock = threading.Lock()
        if cache == "auto":
            # A quarter of the free memory at most: the rest is for the towers and for batches in advance.
            budget = min(budget, free_memory() // 4)
            cache = self._estimate() <= budget
        self.cache = Cache([len(source) for source in sources], budget) if cache else None

    def pair(self, part: int, index: int) -> tuple[Pixels, tuple[str, ...]] | None:
        """Read one record; None if it is bad, which is counted once."""
        if self.bad[part][index]:  # without a lock: at worst it is read once more
            return None
        source = self.sources[part]
        reason, example = "no caption", source.key(index)
        try:
            if captions := source.captions(index):
                return self.picture(part, index), captions
        except ImageError as error:
            reason, example = "picture cannot be decoded", f"{example}: {error}"
        except DiptychError as error:
            reason, example = "record cannot be read", f"{example}: {error}"
        with self._lock:  # two threads may read one bad record at the same time: it is counted once
            if not self.bad[part][index]:
                self.bad[part][index] = True
                self.report.add(reason, example)
        return None

    def picture(self, part: int, index: int) -> Pixels:
        """Give a decoded image from the cache or its source.

        Raises
        ------
        ImageError, DataError
            It cannot be decoded or read.
        """
        pixels = None if self.cache is None else self.cache.get(part, index)
        if pixels is None:
            pixels = decode(self.sources[part].image(index), self._side)
            if self.cache is not None:
                self.cache.put(part, index, pixels)
        return pixels

    def _estimate(self) -> float:
        """Bytes of all decoded images, extrapolated from up to 16 of each source."""
        total = 0.0
        for source in self.sources:
            sizes = []
            for index in np.linspace(0, len(source) - 1, min(16, len(source))).astype(int).tolist():
                try:
                    sizes.append(decode(source.image(index), self._side).nbytes)
                except DiptychError:
                    continue
            total += len(source) * (sum(sizes) / len(sizes) if sizes else 0.0)
        return total
