"""Read files and archive members, and extract what needs no decoding: hash, metadata, captions.

Threads prefetch files within a budget of bytes. Results come in the order of the files, except for members of
compressed tars, which come in the order of the archive. Files that cannot be read come with the reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from diptych.catalog.annotations.records import CAPTION_END, FileRecord, ListedFile
from diptych.errors import ImageError, MissingExtraError
from diptych.files.moving import HASH_BYTES
from diptych.files.unicode_text import storable
from diptych.media.details import read_details
from diptych.media.folders.archives import ArchiveEntry, is_archive, iter_members, list_archive, read_member
from diptych.media.folders.captions import captions_of_fields, captions_of_text, parse_json
from diptych.media.folders.keys import companions
from diptych.media.folders.sidecar_names import sidecars_of
from diptych.media.metadata.sidecar_fields import merge_fields, read_sidecar
from diptych.media.metadata.xmp import LARGEST
from diptych.media.sources import name_of as printable
from diptych.media.sources import read_source

if TYPE_CHECKING:
    from diptych.media import Limits
    from diptych.media.details import Details

READERS = 2  # threads
AHEAD_FILES, AHEAD_BYTES = 32, 128 * 2**20  # limits of what is read and not yet consumed
CAPTION_BYTES = 64 * 1024  # of a caption file; longer ones are cut


class NamedBytes(io.BytesIO):
    """The bytes of a file with its name, because camera RAW is recognised by suffix and messages name it."""

    def __init__(self, data: bytes, file: ListedFile) -> None:
        super().__init__(data)
        self.name = name_of(file)


@dataclass
class ReadFile:
    """A file's bytes and what was extracted from them without decoding.

    Attributes
    ----------
    record : FileRecord
        The file with its caption, or why it could not be read.
    details : Details or None
        Metadata of the header; None if it cannot be read, for which the decoder will give the reason.
    files : list of FileRecord
        Files with the same bytes; filled by the caller.
    hashes : (difference hash, perceptual hash), optional
        Perceptual hashes of the decoded image; filled by the caller.
    """

    record: FileRecord
    data: bytes = b""
    hash: bytes = b""
    details: Details | None = None
    files: list[FileRecord] = field(default_factory=list)
    hashes: tuple[int, int] | None = None


def read_files(files: Iterator[ListedFile], limits: Limits) -> Iterator[ReadFile]:
    """Read files with threads that run a little ahead of the consumer."""
    queue: deque[tuple[int, Future[ReadFile] | ReadFile]] = deque()
    queued_bytes = 0
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="read")
    jobs = _jobs(files, limits, pool)
    try:
        while True:
            # `not queue`: a single file larger than the budget is read all the same.
            # Both limits: 32 small files keep the threads busy, and of RAW files of 60 MB each only three are
            # in memory.
            while len(queue) < AHEAD_FILES and (queued_bytes < AHEAD_BYTES or not queue):
                job = next(jobs, None)
                if job is None:
                    break
                queue.append(job)
                queued_bytes += job[0]
            if not queue:
                return
            size, read = queue.popleft()
            queued_bytes -= size
            yield read if isinstance(read, ReadFile) else read.result()
    finally:
        # Also if the consumer stops early, which closes this generator.
        pool.shutdown(wait=True, cancel_futures=True)


def name_of(file: ListedFile) -> str:
    """Return the name of a file or archive member for messages."""
    return os.fsdecode(file.path) + (f"/{file.member}" if file.member else "")


def plain_reason(reason: str, file: ListedFile) -> str:
    """Remove the file's name from the beginning of a reason, since messages show it beside the reason."""
    for name in (name_of(file), os.fsdecode(file.path), file.member):
        for spelling in (name, printable(name)):
            reason = reason.removeprefix(f"{spelling}: ") if name else reason
    return storable(reason)


def _jobs(
    files: Iterator[ListedFile], limits: Limits, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, Future[ReadFile] | ReadFile]]:
    """Yield (bytes, result or future of the result) of each file, submitting the work to the pool."""
    # The members of an archive follow each other in the listing, so the archive is opened once.
    for (_, is_member), group in groupby(files, key=lambda file: (file.path, bool(file.member))):
        if is_member:
            yield from _archive_jobs(list(group), limits, pool)
        else:
            for file in group:
                yield file.size, pool.submit(_read_file, file, limits)


def _archive_jobs(
    members: list[ListedFile], limits: Limits, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, Future[ReadFile] | ReadFile]]:
    """Yield the same for members of one archive."""
    path = Path(os.fsdecode(members[0].path))
    try:
        entries = {entry.name: entry for entry in list_archive(path)}
    except ImageError as error:
        for file in members:
            yield 0, _failed(file, error)
        return
    if any(entry.offset is None for entry in entries.values()):  # no random access
        for read in _read_sequentially(path, entries, {file.member: file for file in members}, limits):
            yield len(read.data), read
        return
    for file in members:
        if file.member in entries:
            yield file.size, pool.submit(_read_member, path, file, entries[file.member], limits)
        else:
            yield 0, _failed(file, ImageError("it is no longer in the archive"))


def _read_sequentially(
    path: Path, entries: dict[str, ArchiveEntry], members: dict[str, ListedFile], limits: Limits
) -> Iterator[ReadFile]:
    """Read members of a compressed tar, which has no random access: captions and sidecars, then images."""
    # Two passes: in a tar, the caption of an image may stand before or behind it, and keeping all texts of a
    # large archive in memory is cheaper than keeping images.
    text_names = {text.name for name in members if name in entries for text in _texts_of(entries[name])}
    remaining = dict(members)
    try:
        texts = dict(iter_members(path, text_names, limits)) if text_names else {}
        for name, data in iter_members(path, members, limits):
            file = remaining.pop(name)
            if isinstance(data, ImageError):
                yield _failed(file, data)
                continue
            beside = [
                (entry.name, text) for entry in _texts_of(entries[name]) if (text := texts.get(entry.name))
            ]
            yield _extract(file, data, beside)
    except ImageError as error:  # the archive is damaged from here on
        for file in remaining.values():
            yield _failed(file, error)
        return
    for file in remaining.values():
        yield _failed(file, ImageError("it is no longer in the archive"))


def _read_member(path: Path, file: ListedFile, entry: ArchiveEntry, limits: Limits) -> ReadFile:
    try:
        data = read_member(path, entry, limits)
        beside = [(text.name, read_member(path, text, limits)) for text in _texts_of(entry)]
    except ImageError as error:
        return _failed(file, error)
    return _extract(file, data, beside)


def _read_file(file: ListedFile, limits: Limits) -> ReadFile:
    path = Path(os.fsdecode(file.path))
    try:
        if is_archive(path):
            list_archive(path)  # raises the reason: only unreadable archives are listed as files
        data = read_source(path, limits)
    except ImageError as error:
        return _failed(file, error)
    beside: list[tuple[str, bytes]] = []
    for text in (*companions(path).values(), *sidecars_of(path)) if file.sidecar else ():
        with contextlib.suppress(OSError), text.open("rb") as stream:
            beside.append((str(text), stream.read(LARGEST + 1 if _is_sidecar(text.name) else CAPTION_BYTES)))
    return _extract(file, data, beside)


def _texts_of(entry: ArchiveEntry) -> tuple[ArchiveEntry, ...]:
    """Return the caption files and sidecars of an archive member, without duplicates."""
    return tuple(dict.fromkeys((*entry.captions, *entry.sidecars)))


def _is_sidecar(name: str) -> bool:
    """Whether a file beside an image may be a sidecar; a JSON file may hold captions instead."""
    return name.lower().endswith((".xmp", ".json"))


def _extract(file: ListedFile, data: bytes, beside: Sequence[tuple[str, bytes | ImageError]]) -> ReadFile:
    """Extract hash, metadata and captions from a file's bytes and the (name, bytes) of files beside it."""
    name = PurePosixPath(file.member or os.fsdecode(file.path)).name
    try:
        details: Details | None = read_details(data, name)
    except (ImageError, MissingExtraError):  # decoding will fail with the same reason
        details = None
    fields = merge_fields(
        read_sidecar(text, content)
        for text, content in beside
        if isinstance(content, bytes) and _is_sidecar(text)
    )
    captions = [_caption(text, content) for text, content in beside if not text.lower().endswith(".xmp")]
    # Captions of files beside the image come first: a person wrote them for it.
    captions += [*fields.captions, *(details.captions if details else ())]
    caption = CAPTION_END.join(dict.fromkeys(text.replace(CAPTION_END, " ") for text in captions if text))
    record = FileRecord(file, caption=storable(caption), sidecar_data=storable(fields.to_json()))
    return ReadFile(record, data, hashlib.blake2b(data, digest_size=HASH_BYTES).digest(), details)


def _failed(file: ListedFile, error: ImageError) -> ReadFile:
    # The system's error, such as a missing drive or permission: the content is unknown. Any other is the
    # file's own fault.
    unreachable = isinstance(error.__cause__, OSError)
    return ReadFile(FileRecord(file, error=plain_reason(str(error), file), unreachable=unreachable))


def _caption(name: str, data: bytes | ImageError | None) -> str:
    """Return the captions in a text file beside an image, as one line; empty if there are none."""
    if not isinstance(data, bytes):
        return ""
    if name.lower().endswith(".json"):
        texts = captions_of_fields(parse_json(data, name))
    else:
        texts = captions_of_text(data, name, cut=len(data) == CAPTION_BYTES)
    return " ".join(" ".join(texts).split())
