"""Pairs of pictures that were found to belong together, kept in the catalogue beside what was compared.

Comparing is done once: what is new is compared with everything, and the rest is read from here. A picture
that goes takes its pairs with it. In a catalogue that may not be written to, pairs are held in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diptych.catalog.database import Database
from diptych.catalog.parts import Box
from diptych.catalog.verdicts import Verdict

METHOD = "1"  # raised when verdicts change: everything is then compared anew
DEEP = {False: 1, True: 3}  # bits of a depth: as the same picture; and as parts of each other


@dataclass(frozen=True)
class Pair:
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


class Pairs:
    """The pairs of one space.

    Parameters
    ----------
    database : Database
    space : int
        Its number.
    """

    def __init__(self, database: Database, space: int) -> None:
        self.database, self.space = database, space
        self._held: list[Pair] = []
        self._compared: dict[int, int] = {}
        self._start_anew()

    def depths(self) -> dict[int, int]:
        """Content -> how deep it was compared with all others."""
        kept = self.database.all("SELECT content, depth FROM compared WHERE space = ?", (self.space,))
        return {**dict(kept), **self._compared}  # type: ignore[arg-type]

    def add(self, pairs: Sequence[Pair], compared: Sequence[int], depth: int) -> None:
        """Keep pairs, and that these contents have now been compared with all others."""
        if self.database.readonly:
            self._held += pairs
            self._compared.update((content, depth) for content in compared)
            return
        with self.database.writing():
            self.database.many(
                "INSERT INTO pairs (space, first, second, tier, change, whole, bits, cosine, pixels, box) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (space, first, second) DO UPDATE SET "
                "tier = excluded.tier, change = excluded.change, whole = excluded.whole, "
                "bits = excluded.bits, cosine = excluded.cosine, pixels = excluded.pixels, box = excluded.box",
                [self._row(pair) for pair in pairs],
            )
            self.database.many(
                "INSERT INTO compared (space, content, depth) VALUES (?, ?, ?) "
                "ON CONFLICT (space, content) DO UPDATE SET depth = excluded.depth",
                [(self.space, content, depth) for content in compared],
            )

    def __iter__(self) -> Iterator[Pair]:
        for first, second, tier, change, whole, bits, cosine, pixels, box in self.database.all(
            "SELECT first, second, tier, change, whole, bits, cosine, pixels, box FROM pairs "
            "WHERE space = ? ORDER BY first, second",
            (self.space,),
        ):
            place: Box | None = tuple(json.loads(box)) if box else None  # type: ignore[assignment]
            yield Pair(first, second, Verdict(tier, change, pixels, place, whole), bits, cosine)
        yield from self._held

    def _row(self, pair: Pair) -> tuple[object, ...]:
        told = pair.verdict
        box = json.dumps([round(float(edge), 4) for edge in told.box]) if told.box else None
        return (
            *(self.space, pair.first, pair.second, told.tier, told.change),
            *(told.whole, pair.bits, pair.cosine, told.pixels, box),
        )

    def _start_anew(self) -> None:
        """Give up what an earlier method found."""
        kept = self.database.all("SELECT value FROM meta WHERE key = 'pairs'")
        if self.database.readonly or (kept and kept[0][0] == METHOD):
            return
        with self.database.writing():
            for table in ("pairs", "compared"):
                self.database.run(f"DELETE FROM {table}")
            self.database.run(
                "INSERT INTO meta (key, value) VALUES ('pairs', ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (METHOD,),
            )
