"""Tar archives at the level every reader of them shares: headers one after another, and WebDataset's names.

Nothing is ever unpacked to disk, so a name inside an archive can do no harm. What members mean is left to the
rooms above: pictures (`archives`), pairs for training, labelled sets for measuring.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath


def headers(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The regular files of an open archive, in its order; none is kept, so it may be as long as it likes.

    Raises
    ------
    tarfile.TarError, EOFError, zlib.error, OSError
        As tarfile and the decompressor say it, for whoever knows what was being read.
    """
    before = -1
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # else all headers stay in memory
        if member.size < 0 or tar.offset <= before:  # older Pythons would follow it back for ever
            raise tarfile.ReadError(f"the header at byte {member.offset:,} has a size below zero")
        before = tar.offset
        if member.isreg():
            yield member


def key_of(name: PurePosixPath) -> PurePosixPath:
    """WebDataset's key: the path up to the first dot of the file name.

    Examples
    --------
    >>> str(key_of(PurePosixPath("a.b/0001.seg.png")))
    'a.b/0001'
    """
    return name.with_name(name.name.split(".", 1)[0] or name.name)
