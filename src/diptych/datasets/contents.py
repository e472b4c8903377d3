"""Contents of images in the order of their entries, and digests for comparing data sets.

A digest is a hash of the bytes of an image file, or of the pixels if there is no file. It does not depend on
the file name, so copies are recognised under any name, but not in another file format.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from diptych.datasets.formats.archives import Content, ImageEntry, Unread, version_of
from diptych.datasets.formats.containers import scan
from diptych.errors import DataError

DIGEST_BYTES = 16  # 128 bits: two of a billion images collide with a chance of 1e-21
UNREADABLE = bytes(DIGEST_BYTES)  # instead of a digest; never counts as equal to another image
_SETTLED = 2_000_000_000  # ns after a change: file systems record times in steps of up to two seconds

_Version: TypeAlias = tuple[int, ...]
# Digests computed in this process: folder or archive -> image -> version of its file, digest. A suite needs
# them for its cache, for overlaps and for results; each image is hashed once.
_recorded: dict[Path, dict[PurePosixPath, tuple[_Version, bytes]]] = {}


def walk(entries: Sequence[ImageEntry]) -> Iterator[tuple[str, Content]]:
    """Yield (key, content) of each entry in order, reading every folder or archive once.

    Raises
    ------
    DataError
        A file is missing, or the archive is broken.
    """
    for entry, content, _ in _digested(entries):
        yield str(entry.name), content


def image_digests(
    entries: Sequence[ImageEntry], progress: Callable[[int], object] | None = None
) -> tuple[bytes, ...]:
    """Digest of each entry, in order; `UNREADABLE` for unreadable images.

    Files that have not changed since they were read in this process are not read again.

    Parameters
    ----------
    progress : callable, optional
        Called with the number of images just done.

    Raises
    ------
    DataError
        As for `walk`.
    """
    digests: list[bytes] = []
    for path, group in groupby(entries, key=lambda entry: entry.path):
        together = list(group)
        digest_of = _known_digests(path, together)
        missing = [entry for entry in together if entry.name not in digest_of]
        if progress and digest_of:
            progress(len(together) - len(missing))
        for entry, _, digest in _digested(missing):
            digest_of[entry.name] = digest
            if progress:
                progress(1)
        digests += [digest_of[entry.name] for entry in together]
    return tuple(digests)


def fingerprint(digests: Iterable[bytes], answers: Iterable[object]) -> str:
    """Hash over contents and answers, in order: results of equal fingerprints can be paired by position.

    Examples
    --------
    >>> fingerprint([bytes(16)], ["cat"])
    'blake2b:160b414fa5141e0e6e6373c4ca1b97c6'
    """
    whole = hashlib.blake2b(digest_size=16)
    for digest, answer in zip(digests, answers, strict=True):
        whole.update(digest + json.dumps(answer).encode() + b"\n")
    return f"blake2b:{whole.hexdigest()}"


def _digested(entries: Sequence[ImageEntry]) -> Iterator[tuple[ImageEntry, Content, bytes]]:
    """Yield each entry with its content and digest; digests are recorded."""
    for path, group in groupby(entries, key=lambda entry: entry.path):
        expected = list(group)
        names, position = {entry.name for entry in expected}, 0
        archive = version_of(path) if path.is_file() else None
        recorded = _recorded.setdefault(path, {})
        for member, content in scan(path, names.__contains__):
            if content is None:
                continue
            if position == len(expected) or member.name != expected[position].name:
                break
            version = archive or member.version
            known = recorded.get(member.name)
            digest = known[1] if known and known[0] == version else content_digest(content)
            if version and time.time_ns() - version[0] > _SETTLED:
                recorded[member.name] = version, digest
            yield expected[position], content, digest
            position += 1
        if position < len(expected):  # labels are assigned by position: all later ones would be wrong
            raise DataError(
                f"{path} changed while it was read: {expected[position].name} is not where it was"
            )


def _known_digests(path: Path, entries: Iterable[ImageEntry]) -> dict[PurePosixPath, bytes]:
    """Recorded digests of files that have not changed."""
    recorded = _recorded.get(path, {})
    archive = version_of(path) if path.is_file() else None
    digests: dict[PurePosixPath, bytes] = {}
    for entry in entries:
        if (record := recorded.get(entry.name)) is not None:
            version = archive or version_of(path / entry.name)
            if version and record[0] == version:
                digests[entry.name] = record[1]
    return digests


def content_digest(content: Content) -> bytes:
    """Digest of one image; `UNREADABLE` if it could not be read."""
    if isinstance(content, Unread):
        return UNREADABLE
    if isinstance(content, bytes):
        return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
    # The bytes of 28 x 28 and 14 x 56 pixels may be equal: mode and size are part of the hash.
    form = f"{content.mode} {content.width} x {content.height}".encode()
    return hashlib.blake2b(content.tobytes(), digest_size=DIGEST_BYTES, key=form).digest()
