"""Pairs of pictures that were found to belong together, kept in the catalogue beside what was compared.

Comparing is done once: what is new is compared with everything, and the rest is read from here. A picture
that goes takes its pairs with it. In a catalogue that may not be written to, pairs are held in memory.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from diptych.catalog.database.database import MAX_SQL_VALUES, Database
from diptych.matching.parts import Box
from diptych.matching.verdicts import Verdict

_COLUMNS = ("first", "second", "tier", "change", "whole", "bits", "cosine", "pixels", "box")
METHOD = "3"  # raised when verdicts or glances change: everything is then looked at anew
DEEP = {False: 1, True: 3}  # bits of a depth: as the same picture; and as parts of each other


@dataclass(frozen=True)
class DuplicatePair:
    """Two pictures that belong together.

    Attributes
    ----------
    first, second : int
        Contents, the smaller number first.
    verdict : Verdict
        `whole` 0 means the first.
    bits : int, optional
        In which their hashes differ, the nearer of two, of 64; mirrored where the picture is.
    cosine : float, optional
        Of their vectors.
    """

    first: int
    second: int
    verdict: Verdict
    bits: int | None = None
    cosine: float | None = None


class PairStore:
    """The pairs of a catalogue.

    Parameters
    ----------
    database : Database
    identity : str
        Of the encoder whose vectors propose what is compared; with another one all begins anew.
    """

    def __init__(self, database: Database, identity: str) -> None:
        self.database, self._method = database, f"{METHOD} {identity}"
        self._held: list[DuplicatePair] = []
        self._compared: dict[int, int] = {}
        kept = database.all("SELECT value FROM meta WHERE key = 'pairs'")
        self._others = bool(kept) and kept[0][0] != self._method  # kept by another method, or encoder
        if not database.readonly and (self._others or not kept):
            same_method = bool(kept) and kept[0][0].startswith(f"{METHOD} ")
            self._begin(("pairs", "compared") if same_method else ("pairs", "compared", "glances"))

    def depths(self) -> dict[int, int]:
        """Content -> how deep it was compared with all others."""
        kept = [] if self._others else self.database.all("SELECT content, depth FROM compared")
        return {**{row[0]: row[1] for row in kept}, **self._compared}

    def add(self, pairs: Sequence[DuplicatePair], compared: Sequence[int], depth: int) -> None:
        """Keep pairs, and that these contents have now been compared with all others."""
        if self.database.readonly:
            self._held += pairs
            self._compared.update((content, depth) for content in compared)
            return
        with self.database.writing():
            there = self._there({one for pair in pairs for one in (pair.first, pair.second)} | set(compared))
            self.database.many(
                f"INSERT INTO pairs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
                "ON CONFLICT (first, second) DO UPDATE SET "
                + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[2:]),
                [_row(pair) for pair in pairs if pair.first in there and pair.second in there],
            )
            self.database.many(
                "INSERT INTO compared (content, depth) VALUES (?, ?) "
                "ON CONFLICT (content) DO UPDATE SET depth = excluded.depth",
                [(content, depth) for content in compared if content in there],
            )

    def forget(self, contents: Collection[int]) -> None:
        """That these were ever compared: what could not be read may have partners that were not seen."""
        for content in contents:
            self._compared.pop(content, None)
        if self.database.readonly or not contents:
            return
        with self.database.writing():
            self.database.many("DELETE FROM compared WHERE content = ?", [(content,) for content in contents])

    def __iter__(self) -> Iterator[DuplicatePair]:
        if not self._others:
            for first, second, tier, change, whole, bits, cosine, pixels, box in self.database.all(
                f"SELECT {', '.join(_COLUMNS)} FROM pairs ORDER BY first, second"
            ):
                place: Box | None = tuple(json.loads(box)) if box else None
                yield DuplicatePair(first, second, Verdict(tier, change, pixels, place, whole), bits, cosine)
        yield from self._held

    def _there(self, contents: Collection[int]) -> set[int]:
        """Those that another process has not taken out meanwhile."""
        there: set[int] = set()
        waiting = iter(contents)
        while part := list(islice(waiting, MAX_SQL_VALUES)):
            marks = ", ".join("?" * len(part))
            there |= {
                row[0] for row in self.database.all(f"SELECT id FROM contents WHERE id IN ({marks})", part)
            }
        return there

    def _begin(self, tables: Sequence[str]) -> None:
        with self.database.writing():
            for table in tables:
                self.database.run(f"DELETE FROM {table}")
            self.database.run(
                "INSERT INTO meta (key, value) VALUES ('pairs', ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (self._method,),
            )
        self._others = False


def _row(pair: DuplicatePair) -> tuple[object, ...]:
    told = pair.verdict
    box = json.dumps([round(float(edge), 4) for edge in told.box]) if told.box else None
    return (
        *(pair.first, pair.second, told.tier, told.change),
        *(told.whole, pair.bits, pair.cosine, told.pixels, box),
    )
