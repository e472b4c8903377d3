"""Files and members of archives to bytes, and what these say undecoded: hash, details, caption.

Threads read a little ahead of who asks, within a budget of bytes; everything comes in the order asked, but
for compressed tars, which are read in theirs. What cannot be read comes with the reason.
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

from diptych.catalog.annotations.records import CAPTION_END, FileRecord, Found
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

READERS = 2
AHEAD_FILES, AHEAD_BYTES = 32, 128 * 2**20  # read and not yet handed on
CAPTION_BYTES = 64 * 1024


class NamedBytes(io.BytesIO):
    """The bytes of a file with its name: camera RAW is told by its suffix, and messages name the file."""

    def __init__(self, data: bytes, found: Found) -> None:
        super().__init__(data)
        self.name = name_of(found)


@dataclass
class Read:
    """A file's bytes, and what they say before they are decoded.

    Attributes
    ----------
    record : FileRecord
        The file, its caption, or why it could not be read.
    data, hash : bytes
    details : Details or None
        None where the header cannot be read; the decoder will say why.
    files : list of FileRecord
        Files that were found to hold the same bytes; for whoever collects them.
    hashes : (difference hash, perceptual hash), optional
        Of the decoded picture; for whoever decodes it.
    """

    record: FileRecord
    data: bytes = b""
    hash: bytes = b""
    details: Details | None = None
    files: list[FileRecord] = field(default_factory=list)
    hashes: tuple[int, int] | None = None


def read_ahead(files: Iterator[Found], limits: Limits) -> Iterator[Read]:
    """Files with their bytes, read by threads a little ahead of who asks."""
    running: deque[tuple[int, Future[Read] | Read]] = deque()
    held = 0
    pool = ThreadPoolExecutor(READERS, thread_name_prefix="read")
    jobs = _jobs(files, limits, pool)
    try:
        while True:
            while len(running) < AHEAD_FILES and (held < AHEAD_BYTES or not running):
                job = next(jobs, None)
                if job is None:
                    break
                running.append(job)
                held += job[0]
            if not running:
                return
            size, read = running.popleft()
            held -= size
            yield read if isinstance(read, Read) else read.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def name_of(found: Found) -> str:
    """How messages name a file, or a member of an archive."""
    return os.fsdecode(found.path) + (f"/{found.member}" if found.member else "")


def plain_reason(reason: str, found: Found) -> str:
    """A reason without the file's name, which stands beside it."""
    for name in (name_of(found), os.fsdecode(found.path), found.member):
        for spelt in (name, printable(name)):
            reason = reason.removeprefix(f"{spelt}: ") if name else reason
    return storable(reason)


def _jobs(
    files: Iterator[Found], limits: Limits, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, Future[Read] | Read]]:
    """(bytes it will hold, what is or will be read)."""
    for (_, inside), group in groupby(files, key=lambda found: (found.path, bool(found.member))):
        if inside:
            yield from _of_archive(list(group), limits, pool)
        else:
            for found in group:
                yield found.size, pool.submit(_read_file, found, limits)


def _of_archive(
    wanted: list[Found], limits: Limits, pool: ThreadPoolExecutor
) -> Iterator[tuple[int, Future[Read] | Read]]:
    path = Path(os.fsdecode(wanted[0].path))
    try:
        entries = {entry.name: entry for entry in list_archive(path)}
    except ImageError as error:
        for found in wanted:
            yield 0, _failed(found, error)
        return
    if any(entry.offset is None for entry in entries.values()):
        for read in _in_one_pass(path, entries, {found.member: found for found in wanted}, limits):
            yield len(read.data), read
        return
    for found in wanted:
        if found.member in entries:
            yield found.size, pool.submit(_read_member, path, found, entries[found.member], limits)
        else:
            yield 0, _failed(found, ImageError("it is no longer in the archive"))


def _in_one_pass(
    path: Path, entries: dict[str, ArchiveEntry], wanted: dict[str, Found], limits: Limits
) -> Iterator[Read]:
    """Members of a compressed tar, which cannot be sought in: captions first, then the pictures."""
    beside = {one.name for name in wanted if name in entries for one in _texts_of(entries[name])}
    left = dict(wanted)
    try:
        texts = dict(iter_members(path, beside, limits)) if beside else {}
        for name, data in iter_members(path, wanted, limits):
            found = left.pop(name)
            if isinstance(data, ImageError):
                yield _failed(found, data)
                continue
            read = [(one.name, text) for one in _texts_of(entries[name]) if (text := texts.get(one.name))]
            yield _looked_at(found, data, read)
    except ImageError as error:  # damaged from here on
        for found in left.values():
            yield _failed(found, error)
        return
    for found in left.values():
        yield _failed(found, ImageError("it is no longer in the archive"))


def _read_member(path: Path, found: Found, entry: ArchiveEntry, limits: Limits) -> Read:
    try:
        data = read_member(path, entry, limits)
        beside = [(one.name, read_member(path, one, limits)) for one in _texts_of(entry)]
    except ImageError as error:
        return _failed(found, error)
    return _looked_at(found, data, beside)


def _read_file(found: Found, limits: Limits) -> Read:
    path = Path(os.fsdecode(found.path))
    try:
        if is_archive(path):
            list_archive(path)  # says what is wrong with it: a sound one is never asked for as a whole
        data = read_source(path, limits)
    except ImageError as error:
        return _failed(found, error)
    beside: list[tuple[str, bytes]] = []
    for text in (*companions(path).values(), *sidecars_of(path)) if found.sidecar else ():
        with contextlib.suppress(OSError), text.open("rb") as file:
            beside.append((str(text), file.read(LARGEST + 1 if _is_sidecar(text.name) else CAPTION_BYTES)))
    return _looked_at(found, data, beside)


def _texts_of(entry: ArchiveEntry) -> tuple[ArchiveEntry, ...]:
    """The files beside a member that say something of it."""
    return tuple(dict.fromkeys((*entry.captions, *entry.sidecars)))


def _is_sidecar(name: str) -> bool:
    """Whether a file beside a picture may be a sidecar: JSON may be one of captions as well."""
    return name.lower().endswith((".xmp", ".json"))


def _looked_at(found: Found, data: bytes, beside: Sequence[tuple[str, bytes | ImageError]]) -> Read:
    name = PurePosixPath(found.member or os.fsdecode(found.path)).name
    try:
        details: Details | None = read_details(data, name)
    except (ImageError, MissingExtraError):  # the decoder says it too
        details = None
    fields = merge_fields(
        read_sidecar(text, content)
        for text, content in beside
        if isinstance(content, bytes) and _is_sidecar(text)
    )
    texts = [_caption(*one) for one in beside if not one[0].lower().endswith(".xmp")]
    texts += [*fields.captions, *(details.captions if details else ())]
    caption = CAPTION_END.join(dict.fromkeys(text.replace(CAPTION_END, " ") for text in texts if text))
    record = FileRecord(found, caption=storable(caption), sidecar_data=storable(fields.to_json()))
    return Read(record, data, hashlib.blake2b(data, digest_size=HASH_BYTES).digest(), details)


def _failed(found: Found, error: ImageError) -> Read:
    unreachable = isinstance(error.__cause__, OSError)
    return Read(FileRecord(found, error=plain_reason(str(error), found), unreachable=unreachable))


def _caption(name: str, data: bytes | ImageError | None) -> str:
    """Captions in a text beside a picture, in one line; empty where there are none."""
    if not isinstance(data, bytes):
        return ""
    if name.lower().endswith(".json"):
        texts = captions_of_fields(parse_json(data, name))
    else:
        texts = captions_of_text(data, name, cut=len(data) == CAPTION_BYTES)
    return " ".join(" ".join(texts).split())
