"""BigTIFF in big-endian order, which Pillow takes for damaged, as a classic TIFF of the same pixels."""

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


def classic(data: bytes) -> bytes:
    """The same pages in a TIFF of 4-byte addresses; everything else stays where it is.

    Raises
    ------
    SyntaxError
        No BigTIFF, or one too long for such addresses.
    struct.error
        It is cut short.
    """
    if len(data) >= 2**32:
        raise SyntaxError("a big-endian BigTIFF of more than 4 GB: Pillow reads only little-endian ones")
    result = bytearray(data)
    (at,) = struct.unpack_from(">Q", data, 8)
    link, seen = 4, set[int]()  # where the address of the next directory is to be written
    while at and at not in seen and len(seen) < _MOST_PAGES:
        seen.add(at)
        entries, at = _directory(data, at, result)
        start = len(result) + len(result) % 2
        result = result.ljust(start, b"\0")
        result += struct.pack(">H", len(entries)) + b"".join(entries) + bytes(4)
        struct.pack_into(">I", result, link, start)
        link = len(result) - 4
    result[:4] = b"MM\0*"
    return bytes(result)


def _directory(data: bytes, at: int, result: bytearray) -> tuple[list[bytes], int]:
    """Entries of one directory in their classic form, and where the next one is; values go behind the end."""
    (count,) = struct.unpack_from(">Q", data, at)
    if count > _MOST_TAGS:
        raise SyntaxError(f"a directory of {count:,} tags")
    entries = []
    for place in range(at + 8, at + 8 + 20 * count, 20):
        tag, kind, number = struct.unpack_from(">HHQ", data, place)
        width = _WIDTHS.get(kind)
        if width is None or number > _MOST_VALUES:
            continue
        start = place + 12 if width * number <= 8 else struct.unpack_from(">Q", data, place + 12)[0]
        value = data[start : start + width * number]
        if kind in (_LONG8, _SLONG8, _IFD8):
            numbers = struct.unpack(f">{number}Q", value)
            kind, value = _LONG, struct.pack(f">{number}I", *(min(one, 2**32 - 1) for one in numbers))
        if len(value) > 4:
            result += value + bytes(len(value) % 2)
            value = struct.pack(">I", len(result) - len(value) - len(value) % 2)
        entries.append(struct.pack(">HHI", tag, kind, number) + value.ljust(4, b"\0"))
    (after,) = struct.unpack_from(">Q", data, at + 8 + 20 * count)
    return entries, after
