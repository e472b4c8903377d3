"""Read, hash, decode and embed files, and save the results in transactions of a few hundred images.

Each file is read once (`reading`). If its bytes are known it is not decoded, so copies are embedded once; the
others go through `diptych.embedding.batches`. Files that cannot be read or decoded are saved with the
reason. Finished images are committed every few seconds; a killed run loses only those since the last commit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from diptych.catalog.annotations.annotations import AnnotationChanges
from diptych.catalog.annotations.records import ImageRecord, ListedFile, RereadFiles
from diptych.catalog.database.spaces import Space
from diptych.catalog.indexing.reading import NamedBytes, ReadFile, plain_reason, read_files
from diptych.catalog.store.store import Store
from diptych.embedding.batches import Embedded, embed_images
from diptych.encoder import Encoder
from diptych.matching.hashes import difference_hash, perceptual_hash
from diptych.media import Limits

if TYPE_CHECKING:
    from PIL.Image import Image

COMMIT_IMAGES, COMMIT_SECONDS = 256, 3.0  # a commit is made when either is reached


@dataclass(frozen=True)
class IntakeSettings:
    """How images are read and embedded.

    Attributes
    ----------
    exact : bool
        Decode at full size instead of using the decoder's downscaling, and keep colours as stored instead of
        converting them to sRGB.
    retry : bool
        Decode images again that failed before.
    verify : bool
        Read every file again and compare its bytes with the catalogue, whatever its modification time.
    """

    exact: bool = False
    batch_size: int = 32
    threads: int | None = None
    limits: Limits = field(default_factory=Limits)
    retry: bool = False
    verify: bool = False


@dataclass
class IndexOutcome:
    """Result of a run, in numbers of files unless stated otherwise.

    Attributes
    ----------
    embedded : int
        Number of images that were encoded.
    copies : int
        Files whose content was known already.
    checked : int
        Files that were read again because of their change time, and hold the same content as before.
    differing : list of (path, member)
        Files that hold another content than before although size and modification time are the same.
    failed : int
        Files that could not be read or decoded.
    moved, removed, same : int
        Files renamed, removed from the catalogue, unchanged.
    left_out : int
        Those of the removed files that exist on disk but are left out by the present rules.
    retained : int
        Files that are not on disk but stay in the catalogue, as their drive may be missing.
    retained_below : list of path
        The missing or empty folders of these files.
    unlisted : list of (path, reason)
        Folders that could not be listed.
    lacking : list of (path, member)
        Files of images without an embedding by the new encoder, because of which the old space stays in use.
    notes : list of str
        Messages for the user.
    compacted : int
        Dead rows dropped when the embeddings were rewritten.
    built : str, optional
        One line about the search index that was built, or why none was.
    annotations : AnnotationChanges
        How tags and ratings of edited, removed and returned images were affected.
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
    retained: int = 0
    retained_below: list[Path] = field(default_factory=list)
    unlisted: list[tuple[Path, str]] = field(default_factory=list)
    lacking: list[tuple[Path, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    compacted: int = 0
    built: str | None = None
    annotations: AnnotationChanges = field(default_factory=AnnotationChanges)

    @property
    def changed(self) -> bool:
        """Whether the catalogue was changed."""
        return any((self.embedded, self.copies, self.failed, self.moved, self.removed))


def take_in(
    store: Store,
    space: Space,
    encoder: Encoder,
    files: Iterator[ListedFile],
    settings: IntakeSettings,
    outcome: IndexOutcome,
    *,
    progress: Callable[[int], None] | None = None,
    committed: Callable[[], None] | None = None,
) -> None:
    """Read, embed and save these files.

    Parameters
    ----------
    space : Space
        Receives the embeddings.
    outcome : IndexOutcome
        Its counts are updated at each commit.
    progress : callable, optional
        Called with the number of files of each commit.
    committed : callable, optional
        Called after each commit.
    """
    intake = _Intake(store, space, settings, outcome, progress, committed)
    reads = intake.items(read_files(files, settings.limits))
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
    """State of the pipeline from the disk to the catalogue."""

    def __init__(
        self,
        store: Store,
        space: Space,
        settings: IntakeSettings,
        outcome: IndexOutcome,
        progress: Callable[[int], None] | None,
        committed: Callable[[], None] | None,
    ) -> None:
        self.store, self.space, self.settings, self.outcome = store, space, settings, outcome
        self.progress, self.committed = progress, committed
        # An image is in exactly one of three states: in flight, finished, or committed (in the database).
        # Copies are detected in all three, so equal bytes are embedded once.
        self.in_flight: dict[str, ReadFile] = {}  # by hash: given to the encoder, result not returned yet
        self.finished: list[ImageRecord] = []  # not committed yet
        self.finished_errors: dict[bytes, str | None] = {}  # their hash -> error, None if embedded
        self.last_commit = time.monotonic()

    def items(self, reads: Iterator[ReadFile]) -> Iterator[tuple[str, NamedBytes]]:
        """Yield the images to be decoded; finish the others at once."""
        for read in reads:
            key = read.hash.hex()
            if read.record.error is not None:
                self._add(ImageRecord([read.record]))
            # Else several copies in a row would all be embedded: the first is not in the database before its
            # commit.
            elif key in self.in_flight:  # a copy of an image that is being embedded
                self.in_flight[key].files.append(read.record)
            elif read.hash in (results := self._stored_results(read.hash)):
                error = results[read.hash]
                self._add(
                    ImageRecord([read.record], read.hash, stored=True, details=read.details, error=error)
                )
            else:
                read.files.append(read.record)
                self.in_flight[key] = read
                source = NamedBytes(read.data, read.record.file)
                read.data = b""  # only the encoder's queue still holds the bytes
                yield key, source

    def inspect(self, key: str, image: Image) -> None:
        """Compute perceptual hashes of a decoded image, in the thread that decoded it."""
        self.in_flight[key].hashes = (int(difference_hash(image)), int(perceptual_hash(image)))

    def finish(self, key: str, result: Embedded | str) -> None:
        """Record the embedding of an image, or the reason why there is none."""
        # Copies that came while it was embedded are in `read.files` and are saved with it.
        read = self.in_flight.pop(key)
        reason = plain_reason(result, read.record.file) if isinstance(result, str) else None
        self._add(
            ImageRecord(
                read.files,
                hash=read.hash,
                size=read.record.file.size,
                details=read.details,
                vector=None if isinstance(result, str) else result.vector,
                hashes=read.hashes,
                error=reason,
            )
        )

    def commit(self) -> None:
        """Save the finished images and update the counts."""
        if not self.finished:
            return
        reread = RereadFiles()
        self.outcome.annotations.add(self.store.save_images(self.finished, self.space, reread))
        self.outcome.checked += reread.same
        self.outcome.copies -= reread.same  # counted as copies below, as their content is known
        self.outcome.differing += [(Path(os.fsdecode(path)), member) for path, member in reread.differing]
        for image in self.finished:
            files = len(image.files)
            broken = image.hash is None or image.error is not None
            self.outcome.failed += files if broken else 0
            self.outcome.embedded += image.vector is not None
            self.outcome.copies += 0 if broken else files - (image.vector is not None)
        if self.progress:
            self.progress(sum(len(image.files) for image in self.finished))
        self.finished, self.finished_errors, self.last_commit = [], {}, time.monotonic()
        if self.committed:
            self.committed()

    def _stored_results(self, content_hash: bytes) -> dict[bytes, str | None]:
        """Return hash -> error (None if embedded) if these bytes need not be decoded, otherwise {}."""
        if content_hash in self.finished_errors:
            return self.finished_errors
        results = self.store.stored_results([content_hash], self.space)
        # An error is a result, too, and is not tried again at every run, unless `retry` asks for it.
        return {} if self.settings.retry and results.get(content_hash) is not None else results

    def _add(self, image: ImageRecord) -> None:
        self.finished.append(image)
        if image.hash is not None:
            self.finished_errors[image.hash] = image.error
        # By number, so that a transaction stays short; by time, so that little is lost on a machine that
        # needs minutes for 256 images.
        if len(self.finished) >= COMMIT_IMAGES or time.monotonic() - self.last_commit > COMMIT_SECONDS:
            self.commit()
