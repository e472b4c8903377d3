"""Camera RAW files written by hand: a DNG with one bright corner and a given preview."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, SRATIONAL = 1, 2, 3, 4, 5, 10
_FORMATS = {BYTE: "B", SHORT: "H", LONG: "I"}


def dng(size: tuple[int, int] = (64, 48), *, orientation: int = 1, preview: bytes = b"") -> bytes:
    """A DNG whose sensor data is black, with white in the top left quarter of the *upright* picture.

    Parameters
    ----------
    size : (int, int)
        Width and height of the sensor.
    orientation : int
        The EXIF orientation: 1, 3, 6 or 8.
    preview : bytes
        A JPEG.
    """
    width, height = size
    seen = np.full((height, width), 200, np.uint16)
    left = slice(0, width // 2) if orientation in (1, 6) else slice(width - width // 2, width)
    if orientation in (6, 8):  # the upright top left is the sensor's bottom left or top right
        upper = slice(height - height // 2, height) if orientation == 6 else slice(0, height // 2)
    else:
        upper = slice(0, height // 2) if orientation == 1 else slice(height - height // 2, height)
    seen[upper, left] = 60_000
    strip = seen.tobytes()

    main: dict[int, tuple[int, Any]] = {
        254: (LONG, [0]), 256: (LONG, [width]), 257: (LONG, [height]), 258: (SHORT, [16]), 259: (SHORT, [1]),
        262: (SHORT, [32803]), 273: (LONG, [0]), 277: (SHORT, [1]), 278: (LONG, [height]),
        279: (LONG, [len(strip)]), 33421: (SHORT, [2, 2]), 33422: (BYTE, [0, 1, 1, 2]),
        50714: (SHORT, [0]), 50717: (LONG, [65535]),
    }  # fmt: skip
    about: dict[int, tuple[int, Any]] = {
        271: (ASCII, b"Handmade\0"), 272: (ASCII, b"Handmade One\0"), 274: (SHORT, [orientation]),
        306: (ASCII, b"2021:03:04 05:06:07\0"), 50706: (BYTE, [1, 4, 0, 0]),
        50708: (ASCII, b"Handmade One\0"),
        50721: (SRATIONAL, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1]),
        50728: (RATIONAL, [1, 1, 1, 1, 1, 1]), 50778: (SHORT, [21]),
    }  # fmt: skip
    if not preview:
        return _file([{**main, **about}], [(0, strip)])
    with Image.open(io.BytesIO(preview)) as shown:
        first: dict[int, tuple[int, Any]] = {
            **about, 254: (LONG, [1]), 256: (LONG, [shown.width]), 257: (LONG, [shown.height]),
            258: (SHORT, [8, 8, 8]), 259: (SHORT, [7]), 262: (SHORT, [6]), 273: (LONG, [0]),
            277: (SHORT, [3]), 278: (LONG, [shown.height]), 279: (LONG, [len(preview)]), 330: (LONG, [0]),
        }  # fmt: skip
    return _file([first, main], [(0, preview), (1, strip)])


def _file(folders: list[dict[int, tuple[int, Any]]], strips: list[tuple[int, bytes]]) -> bytes:
    """Write a TIFF: first directory, the others as its children, then the strips; fills in all offsets."""
    for _ in range(2):  # first to learn the offsets, then to write them
        data, starts = bytearray(b"II*\0" + struct.pack("<I", 8)), []
        for folder in folders:
            starts.append(len(data))
            data += _folder(folder, len(data))
        for number, strip in strips:
            folders[number][273] = (LONG, [len(data)])
            data += strip
        if len(folders) > 1:
            folders[0][330] = (LONG, [starts[1]])
    return bytes(data)


def _folder(tags: dict[int, tuple[int, Any]], at: int) -> bytes:
    head, tail = struct.pack("<H", len(tags)), b""
    after = at + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        if kind == ASCII:
            count, packed = len(values), values
        elif kind in (RATIONAL, SRATIONAL):
            count, packed = len(values) // 2, struct.pack(f"<{len(values)}i", *values)
        else:
            count, packed = len(values), struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
        head += struct.pack("<HHI", tag, kind, count)
        if len(packed) <= 4:
            head += packed.ljust(4, b"\0")
        else:
            head += struct.pack("<I", after + len(tail))
            tail += packed + b"\0" * (len(packed) % 2)
    return head + bytes(4) + tail
