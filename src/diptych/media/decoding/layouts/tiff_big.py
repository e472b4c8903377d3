"""Convert big-endian BigTIFF, which Pillow cannot read, to a classic TIFF with the same pixels."""

from __future__ import annotations

import struct

BIG_ENDIAN = b"MM\0+"
_LONG, _LONG8, _SLONG8, _IFD8 = 4, 16, 17, 18
_WIDTHS = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_MOST_PAGES, _MOST_TAGS, _MOST_VALUES = 1000, 4096, 2**24


def to_classic_tiff(data: bytes) -> bytes:
    """Rewrite the directories with 4-byte offsets; all other data stays at its position.

    Raises
    ------
    SyntaxError
        Not a BigTIFF, or too long for 4-byte offsets.
    struct.error
        The file is truncated.
    """
    if len(data) >= 2**32:
        raise SyntaxError("a big-endian BigTIFF of more than 4 GB: Pillow reads only little-endian ones")
    result = bytearray(data)
    (at,) = struct.unpack_from(">Q", data, 8)
    link, visited = 4, set[int]()  # link: position at which the offset of the next directory is written
    while at and at not in visited and len(visited) < _MOST_PAGES:
        visited.add(at)
        entries, at = _directory(data, at, result)
        start = len(result) + len(result) % 2
        result = result.ljust(start, b"\0")
        result += struct.pack(">H", len(entries)) + b"".join(entries) + bytes(4)
        struct.pack_into(">I", result, link, start)
        link = len(result) - 4
    result[:4] = b"MM\0*"
    return bytes(result)


def _directory(data: bytes, at: int, result: bytearray) -> tuple[list[bytes], int]:
    """Entries of a directory in classic form, and the next offset; long values are appended to `result`.

    A BigTIFF entry has 20 bytes: tag (2), type (2), count (8), value or its offset (8). A classic one has 12.
    """
    (count,) = struct.unpack_from(">Q", data, at)
    if count > _MOST_TAGS:
        raise SyntaxError(f"a directory of {count:,} tags")
    entries = []
    for position in range(at + 8, at + 8 + 20 * count, 20):
        tag, kind, number = struct.unpack_from(">HHQ", data, position)
        width = _WIDTHS.get(kind)
        if width is None or number > _MOST_VALUES:
            continue
        start = position + 12 if width * number <= 8 else struct.unpack_from(">Q", data, position + 12)[0]
        value = data[start : start + width * number]
        if kind in (_LONG8, _SLONG8, _IFD8):
            numbers = struct.unpack(f">{number}Q", value)
            kind = _LONG
            value = struct.pack(f">{number}I", *(min(offset, 2**32 - 1) for offset in numbers))
        if len(value) > 4:
            result += value + bytes(len(value) % 2)
            value = struct.pack(">I", len(result) - len(value) - len(value) % 2)
        entries.append(struct.pack(">HHI", tag, kind, number) + value.ljust(4, b"\0"))
    (after,) = struct.unpack_from(">Q", data, at + 8 + 20 * count)
    return entries, after
