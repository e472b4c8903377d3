"""Storage of related pairs, and of which pictures were compared.

Pairs are compared once: new pictures are compared with all, and the results are stored. Pairs are deleted
with their pictures. In a read-only catalogue they are kept in memory.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from diptych.catalog.annotations.tags import existing_contents
from diptych.catalog.database.database import Database
from diptych.matching.parts import Box
from diptych.matching.verdicts import Verdict

_COLUMNS = ("first", "second", "tier", "change", "whole", "bits", "cosine", "pixels", "box")
METHOD = "3"  # raised when verdicts or stored features change: everything is then compared again
# How deep a picture was compared, as a bit mask: bit 0 as the same picture, bit 1 as a part; keyed by
# `parts`.
DEEP = {False: 1, True: 3}


@dataclass(frozen=True)
class DuplicatePair:
    """Two related pictures.

    Attributes
    ----------
    first, second : int
        Content numbers, the smaller first.
    verdict : Verdict
        `whole` 0 means the first.
    bits : int, optional
        Hamming distance of their hashes, of 64; the smaller of two kinds, mirrored if the picture is.
    cosine : float, optional
        Of their vectors.
    """

    first: int
    second: int
    verdict: Verdict
    bits: int | None = None
    cosine: float | None = None


class PairStore:
    """The related pairs of a catalogue.

    Parameters
    ----------
    identity : str
        Of the encoder whose vectors propose candidates; another one makes all pairs obsolete.
    """

    def __init__(self, database: Database, identity: str) -> None:
        self.database, self._method = database, f"{METHOD} {identity}"
        self._in_memory: list[DuplicatePair] = []
        self._compared: dict[int, int] = {}
        stored = database.all("SELECT value FROM meta WHERE key = 'pairs'")
        # E.g. stored "2 sha256:ab" and now "3 sha256:ab": another method, so that pairs and features are
        # computed again. With "3 sha256:cd" only the encoder differs: the features in `glances` do not depend
        # on it and stay.
        self._obsolete = bool(stored) and stored[0][0] != self._method  # stored by another method or encoder
        if not database.readonly and (self._obsolete or not stored):
            same_method = bool(stored) and stored[0][0].startswith(f"{METHOD} ")
            self._clear(("pairs", "compared") if same_method else ("pairs", "compared", "glances"))

    def depths(self) -> dict[int, int]:
        """Content -> how deep it was compared with all others, see `DEEP`."""
        stored = [] if self._obsolete else self.database.all("SELECT content, depth FROM compared")
        return {**{row[0]: row[1] for row in stored}, **self._compared}

    def add(self, pairs: Sequence[DuplicatePair], compared: Sequence[int], depth: int) -> None:
        """Store pairs, and that these contents have been compared with all others."""
        if self.database.readonly:
            self._in_memory += pairs
            self._compared.update((content, depth) for content in compared)
            return
        with self.database.writing():
            # Another process may have removed pictures since they were compared. Their rows must not come
            # back: numbers are never used again, so nothing would ever delete them.
            named = {content for pair in pairs for content in (pair.first, pair.second)} | set(compared)
            existing = set(existing_contents(self.database, named))
            self.database.many(
                f"INSERT INTO pairs ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
                "ON CONFLICT (first, second) DO UPDATE SET "
                + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[2:]),
                [_row(pair) for pair in pairs if pair.first in existing and pair.second in existing],
            )
            self.database.many(
                "INSERT INTO compared (content, depth) VALUES (?, ?) "
                "ON CONFLICT (content) DO UPDATE SET depth = excluded.depth",
                # In the same transaction as the pairs. If it was another one, a kill in between could mark
                # pictures as compared whose pairs are lost, and they would never be found again.
                [(content, depth) for content in compared if content in existing],
            )

    def forget(self, contents: Collection[int]) -> None:
        """Mark these as not compared: pictures that could not be read may have related pictures."""
        for content in contents:
            self._compared.pop(content, None)
        if self.database.readonly or not contents:
            return
        with self.database.writing():
            self.database.many("DELETE FROM compared WHERE content = ?", [(content,) for content in contents])

    def __iter__(self) -> Iterator[DuplicatePair]:
        if not self._obsolete:
            for first, second, tier, change, whole, bits, cosine, pixels, box in self.database.all(
                f"SELECT {', '.join(_COLUMNS)} FROM pairs ORDER BY first, second"
            ):
                location: Box | None = tuple(json.loads(box)) if box else None
                verdict = Verdict(tier, change, pixels, location, whole)
                yield DuplicatePair(first, second, verdict, bits, cosine)
        yield from self._in_memory

    def _clear(self, tables: Sequence[str]) -> None:
        with self.database.writing():
            for table in tables:
                self.database.run(f"DELETE FROM {table}")
            self.database.run(
                "INSERT INTO meta (key, value) VALUES ('pairs', ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (self._method,),
            )
        self._obsolete = False


def _row(pair: DuplicatePair) -> tuple[object, ...]:
    verdict = pair.verdict
    box = json.dumps([round(float(edge), 4) for edge in verdict.box]) if verdict.box else None
    return (
        *(pair.first, pair.second, verdict.tier, verdict.change),
        *(verdict.whole, pair.bits, pair.cosine, verdict.pixels, box),
    )
