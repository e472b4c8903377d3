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
from diptych.training.data.pictures import Cache, Pixels, decode, free_memory
from diptych.training.data.sources.records import Source, told_reasons


@dataclass
class Report:
    """What could not be used: distinct records by reason, with one example each."""

    skipped: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, example: str) -> None:
        """Count one record."""
        self.skipped[reason] += 1
        self.examples.setdefault(reason, example)

    def __str__(self) -> str:
        reasons = told_reasons(dict(self.skipped.most_common()), self.examples)
        return (
            f"{counted(self.skipped.total(), 'record')} skipped: {reasons}"
            if reasons
            else "no record skipped"
        )


class Reader:
    """Pictures and captions of several sources.

    Parameters
    ----------
    sources : sequence of Source
    side : int
        Pictures are brought down to this shorter side.
    cache : "auto", True or False
    budget : int
        Bytes the cache may take.

    Attributes
    ----------
    report : Report
    bad : list of (N,) bool
        Records found unusable so far.
    cache : Cache or None
    """

    def __init__(self, sources: Sequence[Source], side: int, cache: str | bool, budget: int) -> None:
        if cache not in ("auto", True, False):
            raise DataError(f"cache is {cache!r}: expected 'auto', True or False")
        self.sources, self._side = list(sources), side
        self.bad = [np.zeros(len(source), np.bool_) for source in sources]
        self.report = Report()
        for source in sources:
            self.report.skipped.update(source.dropped)
            for reason, name in source.examples.items():
                self.report.examples.setdefault(reason, name)
        self._lock = threading.Lock()
        if cache == "auto":
            budget = min(budget, free_memory() // 4)
            cache = self._estimate() <= budget
        self.cache = Cache([len(source) for source in sources], budget) if cache else None

    def pair(self, part: int, index: int) -> tuple[Pixels, tuple[str, ...]] | None:
        """Read one record; None when it is bad, which is counted once."""
        if self.bad[part][index]:
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
        with self._lock:  # two threads may meet one bad record at once: it is counted once all the same
            if not self.bad[part][index]:
                self.bad[part][index] = True
                self.report.add(reason, example)
        return None

    def picture(self, part: int, index: int) -> Pixels:
        """Give a picture from the cache or its source; raise ImageError or DataError where it is bad."""
        kept = None if self.cache is None else self.cache.get(part, index)
        if kept is None:
            kept = decode(self.sources[part].image(index), self._side)
            if self.cache is not None:
                self.cache.put(part, index, kept)
        return kept

    def _estimate(self) -> float:
        """Bytes of all pictures decoded, from a few of each source."""
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
