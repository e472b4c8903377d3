"""AVIF and JPEG 2000, whose files are boxes of ISO media (14496-12), with what Pillow ignores of them.

Of AVIF the clean aperture (crop rectangle) and the colour numbers: properties of the primary item in the box
"meta" (ISO 23008-12). "clap" is a rectangle given by its size and the offset of its centre from the image's
centre, "colr" of kind "nclx" holds numbers of ITU-T H.273. Of JPEG 2000 the ICC profile of its header.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, BinaryIO

from PIL import AvifImagePlugin, Image, Jpeg2KImagePlugin

from diptych.media.decoding.layouts.lazy import LazyImage

_LARGEST = 2**22  # bytes read of the box "meta"


def open_avif(file: BinaryIO, name: str) -> Image.Image:
    """Open an AVIF; no pixels are decoded."""
    file.seek(0)
    image = AvifImagePlugin.AvifImageFile(file, name)
    try:
        properties = _properties(file)
        box = _clean_aperture(properties.get(b"clap"), image.size)
    except (struct.error, ValueError, IndexError, ZeroDivisionError):
        return image
    colours = properties.get(b"colr", b"")
    if colours[:4] == b"nclx" and len(colours) >= 10:
        primaries, transfer = struct.unpack_from(">HH", colours, 4)
        image.info["nclx_profile"] = {"color_primaries": primaries, "transfer_characteristics": transfer}
    if box is None:
        return image

    def decode() -> Image.Image:
        image.load()
        return image.crop(box)

    cropped: Any = LazyImage("AVIF", (box[2] - box[0], box[3] - box[1]), decode, image.info)
    cropped.is_animated = image.is_animated
    return cropped  # type: ignore[no-any-return]


def _clean_aperture(clap: bytes | None, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom in pixels; None if it is missing, invalid, or the whole image.

    The box holds four fractions (numerator, denominator): width, height, and horizontal and vertical offset
    of the centres. E.g. a width of 80 and an offset of 5 in an image of 100 pixels: left = (100 - 80) / 2 + 5
    = 15.
    """
    if clap is None:
        return None
    numbers = struct.unpack(">4I4i", clap[:16] + clap[16:32]) if len(clap) >= 32 else None
    if numbers is None:
        return None
    edges = []
    for side, (n, d, offset, scale) in enumerate((numbers[0:2] + numbers[4:6], numbers[2:4] + numbers[6:8])):
        length = Fraction(n, d)
        start = Fraction(size[side] - length, 2) + Fraction(_signed(offset), scale)
        edges.append((round(start), round(start) + round(length)))
    (left, right), (top, bottom) = edges
    inside = 0 <= left < right <= size[0] and 0 <= top < bottom <= size[1]
    return (left, top, right, bottom) if inside and (right - left, bottom - top) != size else None


def _signed(value: int) -> int:
    return value - 2**32 if value >= 2**31 else value


def _properties(file: BinaryIO) -> dict[bytes, bytes]:
    """Properties of the primary item by kind; of several of one kind the first."""
    meta = _meta(file)
    parts = dict(reversed(list(boxes(meta, 4))))
    primary = int.from_bytes(parts[b"pitm"][4 : 6 if parts[b"pitm"][0] == 0 else 8], "big")
    inner = dict(boxes(parts[b"iprp"], 0))
    all_properties = list(boxes(inner[b"ipco"], 0))
    properties: dict[bytes, bytes] = {}
    for number in _property_numbers(inner[b"ipma"], primary):
        if 0 < number <= len(all_properties):
            kind, content = all_properties[number - 1]
            properties.setdefault(kind, content)
    return properties


def _meta(file: BinaryIO) -> bytes:
    end, at = file.seek(0, os.SEEK_END), 0
    for _ in range(MOST_BOXES):
        if at + 8 > end:
            break
        file.seek(at)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            head = 16
        if kind == b"meta":
            return file.read(min(size - head, _LARGEST))
        if size < head:
            break
        at += size
    raise ValueError("no box of metadata")


def _property_numbers(ipma: bytes, item: int) -> Iterator[int]:
    """Numbers (from 1) of the properties of an item, from the box "ipma" (item property associations)."""
    version, wide = ipma[0], ipma[3] & 1
    (count,) = struct.unpack_from(">I", ipma, 4)
    at = 8
    for _ in range(min(count, MOST_BOXES)):
        name = ">I" if version else ">H"
        (number,) = struct.unpack_from(name, ipma, at)
        at += struct.calcsize(name)
        associations = ipma[at]
        at += 1
        for _ in range(associations):
            if number == item:
                yield struct.unpack_from(">H", ipma, at)[0] & 0x7FFF if wide else ipma[at] & 0x7F
            at += 2 if wide else 1


_HEAD = 2**24  # bytes in which the header must be
_PROFILES = (2, 3)  # methods of the box "colr": restricted and unrestricted ICC profile


def open_jpeg2000(file: BinaryIO, name: str) -> Image.Image:
    """Open a JPEG 2000; no pixels are decoded."""
    file.seek(0)
    profile = next(_profiles(file.read(_HEAD)), None)
    file.seek(0)
    image = Jpeg2KImagePlugin.Jpeg2KImageFile(file, name)
    if profile:
        image.info.setdefault("icc_profile", profile)
    return image


def _profiles(data: bytes) -> Iterator[bytes]:
    for kind, content in boxes(data):
        if kind == b"jp2h":
            for inner, colours in boxes(content):
                if inner == b"colr" and colours[:1] and colours[0] in _PROFILES:
                    yield colours[3:]


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
