"""PNG files as decoders like them: metadata that is damaged or too large taken out before Pillow sees it.

Pillow refuses a whole picture for a text of more than 1 MB or a wrong checksum in a comment. What the pixels
need is left as it is: damaged pixels are still refused.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = b"IDAT"
_MOST_CHUNKS = 100_000  # walked through in one file
_LARGEST_CHUNK = 2**26  # bytes of metadata read from one
_LARGEST_PROFILE = 2**24  # bytes, unpacked
_LARGEST_TEXT = 2**20  # bytes, unpacked: Pillow's own limit for one
DENSEST = 1032  # bytes that one of deflate's can stand for
_ALL_TEXTS = 2**26  # and for those of one file; the most that is unpacked of them, kept or not


@dataclass(frozen=True)
class _Chunk:
    kind: bytes
    start: int  # of its length, in the file
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length + 12

    @property
    def is_metadata(self) -> bool:
        return bool(self.kind[0] & 0x20)


def open_png(file: BinaryIO, name: str) -> Image.Image:
    """Open a PNG whatever its metadata is like; no pixel is decoded yet.

    Raises
    ------
    SyntaxError, ValueError, OSError
        From Pillow, where what the pixels need is damaged.
    """
    bad, found = _walk(file)
    image = PngImagePlugin.PngImageFile(_without(file, bad), name)
    image.info.update(found)
    _scale_key(image, file)
    return image


def apply_wide_key(image: Image.Image) -> None:
    """Load a 16-bit RGB picture with a transparent colour as RGBA; leave any other alone.

    Pillow keeps the high bytes alone, by which neighbours of the transparent colour would vanish with it. Its
    decoder of little-endian values gives the low ones.
    """
    key = image.info.get("transparency")
    if (
        not isinstance(image, PngImagePlugin.PngImageFile)
        or not isinstance(key, tuple)
        or len(image.tile) != 1
    ):
        return
    decoder, box, offset, mode = image.tile[0]
    if mode != "RGB;16B" or image.fp is None:
        return
    at = image.fp.tell()
    image.fp.seek(0)
    other = PngImagePlugin.PngImageFile(io.BytesIO(image.fp.read()))
    image.fp.seek(at)
    other.tile = [type(image.tile[0])(decoder, box, offset, "RGB;16L")]
    high, low = np.asarray(image).astype(np.uint16), np.asarray(other)  # (H, W, 3)
    same = ((high << 8 | low) == np.asarray(key)).all(axis=-1)
    del image.info["transparency"]
    image.putalpha(Image.fromarray(np.where(same, 0, 255).astype(np.uint8)))


def _walk(file: BinaryIO) -> tuple[list[_Chunk], dict[str, Any]]:
    """Chunks to be left out, and what Pillow would not read: long profiles, colour numbers."""
    bad: list[_Chunk] = []
    found: dict[str, Any] = {}
    texts, profiles, size = 0, 0, _size_of(file)
    unpacked = 0  # bytes of texts, of those that are left out, too
    for chunk in _chunks(file):
        if not chunk.is_metadata:
            continue
        if chunk.end > size or chunk.length > _LARGEST_CHUNK:
            bad.append(chunk)
            continue
        data = _content(file, chunk)
        if data is None:
            bad.append(chunk)
        elif chunk.kind == b"iCCP":
            # Only the first is unpacked: a file has one, and a few kilobytes can hold many of 16 MB.
            profiles += 1
            profile = _profile(data) if profiles == 1 else None
            if profile is None or len(profile) > _LARGEST_TEXT:
                bad.append(chunk)
            if profile:
                found["icc_profile"] = profile
        elif chunk.kind == b"cICP" and len(data) == 4:
            found["cicp"] = (data[0], data[1])
        elif chunk.kind in (b"tEXt", b"zTXt", b"iTXt"):
            length, work = _text_length(chunk.kind, data, _ALL_TEXTS - unpacked)
            unpacked += work
            texts += length
            if length > _LARGEST_TEXT or texts > _ALL_TEXTS:
                bad.append(chunk)
                texts -= length
        elif chunk.kind in _READ and not _READ[chunk.kind](data):
            bad.append(chunk)
    return bad, found


# What Pillow reads without asking how long it is.
_READ: dict[bytes, Callable[[bytes], bool]] = {
    b"gAMA": lambda data: len(data) == 4,
    b"cHRM": lambda data: len(data) == 32,
    b"sRGB": lambda data: len(data) == 1,
    b"pHYs": lambda data: len(data) == 9,
    b"tRNS": lambda data: len(data) >= 1,
    b"acTL": lambda data: len(data) == 8,
    b"fcTL": lambda data: len(data) == 26,
}


def _chunks(file: BinaryIO) -> Iterator[_Chunk]:
    at = len(SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return
        chunk = _Chunk(head[4:], at, int.from_bytes(head[:4], "big"))
        if not chunk.kind.isalpha():
            return  # Pillow says what is wrong
        yield chunk
        if chunk.kind == b"IEND":
            return
        at = chunk.end


def _content(file: BinaryIO, chunk: _Chunk) -> bytes | None:
    """A chunk's bytes; None where the checksum is another."""
    file.seek(chunk.start + 8)
    data = file.read(chunk.length)
    checksum = file.read(4)
    return data if zlib.crc32(data, zlib.crc32(chunk.kind)) == int.from_bytes(checksum, "big") else None


def _profile(data: bytes) -> bytes | None:
    name, _, packed = data.partition(b"\0")
    if len(name) > 79 or packed[:1] != b"\0":
        return None
    try:
        unpacker = zlib.decompressobj()
        profile = unpacker.decompress(packed[1:], _LARGEST_PROFILE)
    except zlib.error:
        return None
    return profile if unpacker.eof else None


def _text_length(kind: bytes, data: bytes, left: int) -> tuple[int, int]:
    """Bytes of a text, over the limit where it is longer, and the most that were unpacked to know.

    Once nothing is left of what may be unpacked, a packed text is over the limit.
    """
    rest = data.partition(b"\0")[2]
    if kind == b"tEXt":
        return len(rest), 0
    if kind == b"zTXt":
        packed = rest[1:]
    else:
        packed = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
        if rest[:1] != b"\1":
            return len(packed), 0
    if left <= 0:
        return _LARGEST_TEXT + 1, 0
    try:
        unpacker = zlib.decompressobj()
        length = len(unpacker.decompress(packed, _LARGEST_TEXT))
    except zlib.error:
        return 0, min(_LARGEST_TEXT, DENSEST * len(packed))  # Pillow passes over it
    return (length + 1 if unpacker.unconsumed_tail else length), length


def _without(file: BinaryIO, bad: list[_Chunk]) -> BinaryIO:
    file.seek(0)
    if not bad:
        return file
    data = file.read()
    kept, at = [], 0
    for chunk in bad:
        kept.append(data[at : chunk.start])
        at = chunk.end
    return io.BytesIO(b"".join([*kept, data[at:]]))


def _scale_key(image: Image.Image, file: BinaryIO) -> None:
    """Pillow spreads 2 and 4 bits over the range of 8 and leaves the transparent value as it was."""
    key = image.info.get("transparency")
    if not isinstance(key, int) or image.mode != "L":
        return
    file.seek(len(SIGNATURE) + 16)
    bits = file.read(1)[0]
    if bits < 8:
        image.info["transparency"] = (key & (2**bits - 1)) * 255 // (2**bits - 1)


def _size_of(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


# ------------------------------------------------------------------------------------------- cut files


def completed(data: bytes, allowed: float) -> bytes | None:
    """A file whose last bytes are missing, with black rows where there are none; None where much is missing.

    Parameters
    ----------
    data : bytes
        Header and sizes have been checked by then.
    allowed : float
        The share of the pixels' bytes that may be missing.
    """
    file = io.BytesIO(data)
    chunks = list(_chunks(file))
    pixels = b"".join(data[c.start + 8 : c.end - 4] for c in chunks if c.kind == _PIXELS)
    first = next((c for c in chunks if c.kind == _PIXELS), None)
    if first is None or len(data) < 33:
        return None
    needed = _needed(*struct.unpack(">IIBBxxB", data[16:29]))
    try:
        unpacked = zlib.decompressobj().decompress(pixels, needed)
    except zlib.error:
        return None
    if len(unpacked) < (1 - allowed) * needed:
        return None
    packed = zlib.compress(unpacked.ljust(needed, b"\0"), 1)
    return data[: first.start] + _chunk(_PIXELS, packed) + _chunk(b"IEND", b"")


def _needed(width: int, height: int, bits: int, kind: int, interlaced: int) -> int:
    """Bytes of all rows, each with the byte that names its filter."""
    depth = bits * {2: 3, 4: 2, 6: 4}.get(kind, 1)
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        ]
    total = 0
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + -(-columns * depth // 8))
    return total


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
