"""PNG with damaged or oversized metadata, which is removed before Pillow reads the file.

Pillow refuses an image because of a text of more than 1 MB or a wrong checksum of a comment. Chunks that the
pixels need are not changed: damaged pixels are still refused.
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
_MOST_CHUNKS = 100_000  # read from one file
_LARGEST_CHUNK = 2**26  # bytes of a metadata chunk
_LARGEST_PROFILE = 2**24  # bytes of a decompressed ICC profile
_LARGEST_TEXT = 2**20  # bytes of a decompressed text: Pillow's own limit
DENSEST = 1032  # maximum compression ratio of deflate
_ALL_TEXTS = 2**26  # bytes decompressed for all texts of a file: Pillow's own limit


@dataclass(frozen=True)
class _Chunk:
    kind: bytes
    start: int  # offset of the length field in the file
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length + 12

    @property
    def is_metadata(self) -> bool:
        return bool(self.kind[0] & 0x20)


def open_png(file: BinaryIO, name: str) -> Image.Image:
    """Open a PNG, ignoring damaged metadata; no pixels are decoded.

    Raises
    ------
    SyntaxError, ValueError, OSError
        Raised by Pillow if chunks that the pixels need are damaged.
    """
    bad, extra_info = _inspect_metadata(file)
    image = PngImagePlugin.PngImageFile(_without(file, bad), name)
    image.info.update(extra_info)
    _scale_color_key(image, file)
    return image


def apply_wide_key(image: Image.Image) -> None:
    """Load a 16-bit RGB image with a transparent colour (colour key) as RGBA; other images are not changed.

    Pillow keeps only the high bytes, so neighbours of the colour key would become transparent too. Its
    decoder for little-endian samples gives the low bytes: e.g. the key 0x1234 matches high byte 0x12 and low
    byte 0x34.
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
    low_bytes_image = PngImagePlugin.PngImageFile(io.BytesIO(image.fp.read()))
    image.fp.seek(at)
    low_bytes_image.tile = [type(image.tile[0])(decoder, box, offset, "RGB;16L")]
    high, low = np.asarray(image).astype(np.uint16), np.asarray(low_bytes_image)  # (H, W, 3)
    is_key = ((high << 8 | low) == np.asarray(key)).all(axis=-1)
    del image.info["transparency"]
    image.putalpha(Image.fromarray(np.where(is_key, 0, 255).astype(np.uint8)))


def _inspect_metadata(file: BinaryIO) -> tuple[list[_Chunk], dict[str, Any]]:
    """Find chunks to remove, and read what Pillow does not: long profiles, colour numbers."""
    bad: list[_Chunk] = []
    info: dict[str, Any] = {}
    texts, profiles, size = 0, 0, _size_of(file)
    unpacked = 0  # decompressed bytes of texts, including removed ones
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
            # Only the first is decompressed: a valid file has one, but a few kilobytes can hold many of 16
            # MB.
            profiles += 1
            profile = _profile(data) if profiles == 1 else None
            if profile is None or len(profile) > _LARGEST_TEXT:
                bad.append(chunk)
            if profile:
                info["icc_profile"] = profile
        elif chunk.kind == b"cICP" and len(data) == 4:
            info["cicp"] = (data[0], data[1])
        elif chunk.kind in (b"tEXt", b"zTXt", b"iTXt"):
            length, work = _text_length(chunk.kind, data, _ALL_TEXTS - unpacked)
            unpacked += work
            texts += length
            if length > _LARGEST_TEXT or texts > _ALL_TEXTS:
                bad.append(chunk)
                texts -= length
        elif chunk.kind in _READ and not _READ[chunk.kind](data):
            bad.append(chunk)
    return bad, info


# Valid lengths of chunks that Pillow reads without checking their length.
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
            return  # Pillow will raise an error
        yield chunk
        if chunk.kind == b"IEND":
            return
        at = chunk.end


def _content(file: BinaryIO, chunk: _Chunk) -> bytes | None:
    """The bytes of a chunk; None if the checksum is wrong."""
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
    """(length of a text, bytes decompressed to determine it).

    The length is over the limit if the text is longer than the limit, or if it is compressed and nothing of
    the decompression budget is left.
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
        return 0, min(_LARGEST_TEXT, DENSEST * len(packed))  # Pillow ignores it
    return (length + 1 if unpacker.unconsumed_tail else length), length


def _without(file: BinaryIO, bad: list[_Chunk]) -> BinaryIO:
    file.seek(0)
    if not bad:
        return file
    data = file.read()
    chunks, at = [], 0
    for chunk in bad:
        chunks.append(data[at : chunk.start])
        at = chunk.end
    return io.BytesIO(b"".join([*chunks, data[at:]]))


def _scale_color_key(image: Image.Image, file: BinaryIO) -> None:
    """Scale the transparent value of 2- and 4-bit grey to 8 bits: Pillow scales the pixels but not the key.

    E.g. with 4 bits the key 5 becomes 5 * 255 // 15 = 85.
    """
    key = image.info.get("transparency")
    if not isinstance(key, int) or image.mode != "L":
        return
    file.seek(len(SIGNATURE) + 16)
    bits = file.read(1)[0]
    if bits < 8:
        image.info["transparency"] = (key & (2**bits - 1)) * 255 // (2**bits - 1)


def _size_of(file: BinaryIO) -> int:
    return file.seek(0, os.SEEK_END)


# ------------------------------------------------------------------------------------- truncated files


def complete_png(data: bytes, allowed: float) -> bytes | None:
    """Complete a truncated file with black rows; None if more than the allowed fraction is missing.

    Parameters
    ----------
    data : bytes
        A file whose header and size have been checked.
    allowed : float
        Fraction of the bytes of the pixels that may be missing.
    """
    file = io.BytesIO(data)
    chunks = list(_chunks(file))
    pixels = b"".join(data[chunk.start + 8 : chunk.end - 4] for chunk in chunks if chunk.kind == _PIXELS)
    first = next((chunk for chunk in chunks if chunk.kind == _PIXELS), None)
    if first is None or len(data) < 33:
        return None
    needed = _uncompressed_size(*struct.unpack(">IIBBxxB", data[16:29]))
    try:
        unpacked = zlib.decompressobj().decompress(pixels, needed)
    except zlib.error:
        return None
    if len(unpacked) < (1 - allowed) * needed:
        return None
    packed = zlib.compress(unpacked.ljust(needed, b"\0"), 1)
    return data[: first.start] + _chunk(_PIXELS, packed) + _chunk(b"IEND", b"")


def _uncompressed_size(width: int, height: int, bits: int, kind: int, interlaced: int) -> int:
    """Bytes of all rows, each with a byte for its filter; interlaced images have seven passes (Adam7)."""
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
