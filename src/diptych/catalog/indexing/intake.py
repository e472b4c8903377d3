"""From files to what the catalogue keeps of them: read, hashed, decoded, embedded, a few hundred at a time.

A file is read once (`reading`). A picture whose bytes are known goes no further, so copies are embedded once;
the rest goes through `diptych.embedding.batches`. What could not be read or decoded is kept with its reason.
Every few seconds what is finished is committed, and that is what a killed run has saved.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.catalog.annotations.annotations import Fate
from diptych.catalog.annotations.records import Found, Picture, Reread
from diptych.catalog.database.spaces import Space
from diptych.catalog.indexing.reading import NamedBytes, Read, plain_reason, read_ahead
from diptych.catalog.store.store import Store
from diptych.embedding.batches import Embedded, embed_images
from diptych.encoder import Encoder
from diptych.matching.hashes import difference_hash, perceptual_hash
from diptych.media import Limits

if TYPE_CHECKING:
    from PIL.Image import Image

COMMIT_PICTURES, COMMIT_SECONDS = 256, 3.0


@dataclass(frozen=True)
class Settings:
    """How pictures are read and embedded.

    Attributes
    ----------
    exact : bool
        Full decoding, not the decoder's own halving, and colours as stored, not converted to sRGB.
    batch_size : int
    threads : int, optional
    limits : Limits
    retry : bool
        Decode again what failed before.
    verify : bool
        Read every file again and compare its bytes with what is known, whatever its time says.
    """

    exact: bool = False
    batch_size: int = 32
    threads: int | None = None
    limits: Limits = field(default_factory=Limits)
    retry: bool = False
    verify: bool = False


@dataclass
class Outcome:
    """What came of a run, in files.

    Attributes
    ----------
    embedded : int
        Pictures that were encoded.
    copies : int
        Files whose picture was known already.
    checked : int
        Files that were read again, since their change time was another, and hold the picture they held.
    differing : list of (path, member)
        Files that hold another picture than before, though their size and time are the same.
    failed : int
        Files that could not be read or decoded.
    moved, removed, same : int
        Files renamed, taken out, untouched.
    left_out : int
        Among the removed: files that are there, and that the patterns and defaults of now leave out.
    kept : int
        Files that are gone from disk and were left in, see `indexing.index`.
    kept_below : list of path
        The folders that are gone, or empty, which held these.
    unlisted : list of (path, reason)
        Folders that could not be listed.
    lacking : list of (path, member)
        Pictures that keep a new encoder's vectors from taking the old one's place.
    notes : list of str
        What a person should know of this run.
    compacted : int
        Dead rows left out when the vectors were written anew.
    built : str, optional
        What index was built, and what it finds; or why none was.
    annotations : Fate
        What became of tags and ratings of pictures that were edited, left, or came back.
    """

    embedded: int = 0
    copies: int = 0
    checked: int = 0
    differing: list[tuple[Path, str]] = field(default_factory=list)
    failed: int = 0
    moved: int = 0
    removed: int = 0
    same: int = 0
    left_out: int = 0
    kept: int = 0
    kept_below: list[Path] = field(default_factory=list)
    unlisted: list[tuple[Path, str]] = field(default_factory=list)
    lacking: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    compacted: int = 0
    built: str | None = None
    annotations: Fate = field(default_factory=Fate)

    @property
    def changed(self) -> bool:
        """Something was done."""
        return any((self.embedded, self.copies, self.failed, self.moved, self.removed))


def take_in(
    store: Store,
    space: Space,
    encoder: Encoder,
    files: Iterator[Found],
    settings: Settings,
    outcome: Outcome,
    *,
    progress: Callable[[int], None] | None = None,
    committed: Callable[[], None] | None = None,
) -> None:
    """Read, embed and keep these files; `outcome` counts them as they are committed."""
    intake = _Intake(store, space, settings, outcome, progress, committed)
    reads = intake.items(read_ahead(files, settings.limits))
    for result in embed_images(
        encoder,
        reads,
        batch_size=settings.batch_size,
        threads=settings.threads,
        exact=settings.exact,
        limits=settings.limits,
        inspect=intake.inspect,
    ):
        intake.finish(result.key, result if isinstance(result, Embedded) else result.reason)
    intake.commit()


class _Intake:
    """What is on its way between the disk and the catalogue."""

    def __init__(
        self,
        store: Store,
        space: Space,
        settings: Settings,
        outcome: Outcome,
        progress: Callable[[int], None] | None,
        committed: Callable[[], None] | None,
    ) -> None:
        self.store, self.space, self.settings, self.outcome = store, space, settings, outcome
        self.progress, self.committed = progress, committed
        self.flying: dict[str, Read] = {}  # by hash: handed to the encoder, not back yet
        self.done: list[Picture] = []
        self.waiting: dict[bytes, str | None] = {}  # of `done`: hash -> why it is broken
        self.last = time.monotonic()

    def items(self, reads: Iterator[Read]) -> Iterator[tuple[str, NamedBytes]]:
        """What has to be decoded; the rest is put aside here."""
        for read in reads:
            key = read.hash.hex()
            if read.record.error is not None:
                self._put(Picture([read.record]))
            elif key in self.flying:
                self.flying[key].files.append(read.record)
            elif read.hash in (known := self._known(read.hash)):
                error = known[read.hash]
                self._put(Picture([read.record], read.hash, known=True, details=read.details, error=error))
            else:
                read.files.append(read.record)
                self.flying[key] = read
                source = NamedBytes(read.data, read.record.found)
                read.data = b""
                yield key, source

    def inspect(self, key: str, image: Image) -> None:
        """Hash a decoded picture, in the thread that decoded it."""
        self.flying[key].hashes = (int(difference_hash(image)), int(perceptual_hash(image)))

    def finish(self, key: str, result: Embedded | str) -> None:
        """What came back for a picture."""
        read = self.flying.pop(key)
        reason = plain_reason(result, read.record.found) if isinstance(result, str) else None
        self._put(
            Picture(
                read.files,
                hash=read.hash,
                size=read.record.found.size,
                details=read.details,
                vector=None if isinstance(result, str) else result.vector,
                hashes=read.hashes,
                error=reason,
            )
        )

    def commit(self) -> None:
        """Keep what is finished."""
        if not self.done:
            return
        reread = Reread()
        self.outcome.annotations.add(self.store.keep(self.done, self.space, reread))
        self.outcome.checked += reread.same
        self.outcome.copies -= reread.same
        self.outcome.differing += [(Path(os.fsdecode(path)), member) for path, member in reread.differing]
        for picture in self.done:
            files = len(picture.files)
            broken = picture.hash is None or picture.error is not None
            self.outcome.failed += files if broken else 0
            self.outcome.embedded += picture.vector is not None
            self.outcome.copies += 0 if broken else files - (picture.vector is not None)
        if self.progress:
            self.progress(sum(len(picture.files) for picture in self.done))
        self.done, self.waiting, self.last = [], {}, time.monotonic()
        if self.committed:
            self.committed()

    def _known(self, picture_hash: bytes) -> dict[bytes, str | None]:
        """Whether these bytes need not be decoded, and why they could not be."""
        if picture_hash in self.waiting:
            return self.waiting
        known = self.store.known([picture_hash], self.space)
        return {} if self.settings.retry and known.get(picture_hash) is not None else known

    def _put(self, picture: Picture) -> None:
        self.done.append(picture)
        if picture.hash is not None:
            self.waiting[picture.hash] = picture.error
        if len(self.done) >= COMMIT_PICTURES or time.monotonic() - self.last > COMMIT_SECONDS:
            self.commit()
