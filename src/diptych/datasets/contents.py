"""Image contents in the order of their entries, and a digest of each, by which data sets are compared.

A digest is a hash of the bytes of an image file, or of the pixels where there is no file. File names play no
part, so a copy is recognised under any name; the same image in another file format is not.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from diptych.datasets.formats.archives import Content, Entry, Unread, version_of
from diptych.datasets.formats.containers import scan
from diptych.errors import DataError

DIGEST_BYTES = 16  # 128 bits: two of a billion images collide with a chance of 1e-21
UNREADABLE = bytes(DIGEST_BYTES)  # in place of a digest; equal to no other image
_SETTLED = 2_000_000_000  # ns after a change: file systems record times in steps of up to two seconds

_Version: TypeAlias = tuple[int, ...]
# Digests of this process: folder or archive -> image -> version of its file, digest. A suite needs them for
# its cache, for leakage and for results; images are hashed once.
_recorded: dict[Path, dict[PurePosixPath, tuple[_Version, bytes]]] = {}


def walk(entries: Sequence[Entry]) -> Iterator[tuple[str, Content]]:
    """(key, content) of each entry in order; every folder or archive is passed through once.

    Raises
    ------
    DataError
        A file is not there any more, or the archive is broken.
    """
    for entry, content, _ in _digested(entries):
        yield str(entry.name), content


def image_digests(
    entries: Sequence[Entry], progress: Callable[[int], object] | None = None
) -> tuple[bytes, ...]:
    """The digest of each entry, in order; `UNREADABLE` for what cannot be read.

    Files that did not change since they were last read in this process are not read again.

    Parameters
    ----------
    entries : sequence of Entry
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
        known = _known_digests(path, together)
        missing = [entry for entry in together if entry.name not in known]
        if progress and known:
            progress(len(together) - len(missing))
        for entry, _, digest in _digested(missing):
            known[entry.name] = digest
            if progress:
                progress(1)
        digests += [known[entry.name] for entry in together]
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


def _digested(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Content, bytes]]:
    """Each entry with its content and digest; digests are recorded for the next time."""
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
        if position < len(expected):  # labels go by position: go on, and every later one would be wrong
            raise DataError(
                f"{path} changed while it was read: {expected[position].name} is not where it was"
            )


def _known_digests(path: Path, entries: Iterable[Entry]) -> dict[PurePosixPath, bytes]:
    """What is recorded of files that have not changed since."""
    recorded = _recorded.get(path, {})
    archive = version_of(path) if path.is_file() else None
    known: dict[PurePosixPath, bytes] = {}
    for entry in entries:
        if (found := recorded.get(entry.name)) is not None:
            version = archive or version_of(path / entry.name)
            if version and found[0] == version:
                known[entry.name] = found[1]
    return known


def content_digest(content: Content) -> bytes:
    """The digest of one image; `UNREADABLE` where it could not be read."""
    if isinstance(content, Unread):
        return UNREADABLE
    if isinstance(content, bytes):
        return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
    # Pixels alone do not tell 28 x 28 from 14 x 56.
    form = f"{content.mode} {content.width} x {content.height}".encode()
    return hashlib.blake2b(content.tobytes(), digest_size=DIGEST_BYTES, key=form).digest()
