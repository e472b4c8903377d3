"""Parse the boxes of ISO media files (AVIF, HEIF, JPEG 2000)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MOST_BOXES = 10_000  # read from one file


def boxes(data: bytes, at: int = 0) -> Iterator[tuple[bytes, bytes]]:
    r"""Yield (kind, content) of consecutive boxes; stops at an invalid size.

    Examples
    --------
    >>> list(boxes(b"\0\0\0\x0aabcdxy" + b"\0\0\0\x08efgh"))
    [(b'abcd', b'xy'), (b'efgh', b'')]
    """
    for _ in range(MOST_BOXES):
        if at + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8:
            return
        yield kind, data[at + 8 : at + size]
        at += size
