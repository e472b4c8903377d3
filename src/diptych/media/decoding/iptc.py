"""Parse IPTC data sets (Information Interchange Model) and Photoshop resources; `blocks` extracts them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

IPTC_RESOURCE, PROFILE_RESOURCE, EXIF_RESOURCE, XMP_RESOURCE = 0x0404, 0x040F, 0x0422, 0x0424
KEYWORD, CAPTION = (2, 25), (2, 120)
TITLE, HEADLINE = (2, 5), (2, 105)
CREATED, DIGITIZED = ((2, 55), (2, 60)), ((2, 62), (2, 63))  # date, time
_MARK = 0x1C
_RESOURCES = (b"8BIM", b"PHUT", b"AgHg", b"DCSR", b"MeSa")  # signatures of programs that write resources
_MOST = 10_000  # data sets or resources read from one block


def data_sets(data: bytes) -> Iterator[tuple[tuple[int, int], bytes]]:
    r"""Yield ((record, number), value) of each data set, up to the first damage.

    Examples
    --------
    >>> list(data_sets(b"\x1c\x02\x19\x00\x03dog"))
    [((2, 25), b'dog')]
    """
    if len(data) % 4 == 0 and data[:1] != b"\x1c" and data[3:4] == b"\x1c":
        # Stored in a TIFF as 4-byte integers, and byte-swapped by a program that took them for numbers.
        data = struct.pack(f"<{len(data) // 4}I", *struct.unpack(f">{len(data) // 4}I", data))
    at = 0
    for _ in range(_MOST):
        if at + 5 > len(data) or data[at] != _MARK:
            return
        size, start = int.from_bytes(data[at + 3 : at + 5], "big"), at + 5
        if size & 0x8000:  # extended data set: the low bits give the number of bytes of the actual size
            width = size & 0x7FFF
            size, start = int.from_bytes(data[start : start + min(width, 8)], "big"), start + width
        if start + size > len(data):
            return
        yield (data[at + 1], data[at + 2]), data[start : start + size]
        at = start + size


def photoshop_resources(data: bytes) -> dict[int, bytes]:
    r"""Photoshop resources by number, the first of each, up to the first damage.

    Examples
    --------
    >>> photoshop_resources(b"8BIM\x04\x04\0\0\0\0\0\x03dog\0")
    {1028: b'dog'}
    """
    resources: dict[int, bytes] = {}
    at = data.find(b"8BIM") if data.startswith(b"Photoshop ") else 0
    for _ in range(_MOST):
        if at < 0 or data[at : at + 4] not in _RESOURCES or at + 12 > len(data):
            break
        number = int.from_bytes(data[at + 4 : at + 6], "big")
        name = data[at + 6] + 1  # a length byte and the name, padded to an even size
        start = at + 6 + name + name % 2
        size = int.from_bytes(data[start : start + 4], "big")
        if start + 4 + size > len(data):
            break
        resources.setdefault(number, data[start + 4 : start + 4 + size])
        at = start + 4 + size + size % 2
    return resources
