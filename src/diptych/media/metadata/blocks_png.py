"""Read the metadata chunks of a PNG: EXIF, texts, raw profiles with blocks of other formats, last change.

Pillow reads only chunks before the pixels when it opens a file, but many programs write metadata after them;
it also refuses images with long texts. So the chunks are read here.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from diptych.media.decoding.iptc import IPTC_RESOURCE, photoshop_resources
from diptych.media.decoding.png import DENSEST
from diptych.media.metadata.exif import default_on_error, repair_mojibake

_HEAD = 8  # bytes of the signature, before the first chunk
_MOST_CHUNKS = 100_000
_LARGEST = 2**24  # bytes read from one chunk, and decompressed from it
_MOST_UNPACKED = 2**26  # bytes decompressed from all chunks
_LONGEST_TEXT = 2**16  # characters that are kept of a text
_XMP = "XML:com.adobe.xmp"
_RAW_PROFILE = "Raw profile type "
_XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True)
class Chunks:
    """Metadata of a PNG's chunks; see `diptych.media.metadata.blocks.Blocks`."""

    exif: bytes
    xmp: tuple[bytes, ...]
    iptc: tuple[bytes, ...]
    texts: tuple[tuple[str, str], ...]


def read_chunks(image: Image.Image, file: BinaryIO | None) -> Chunks | None:
    """Read the metadata of a PNG; None without a file.

    Metadata that Pillow would read on loading is stored in `image.info`, so that size and orientation are the
    same as after loading.
    """
    if file is None:
        return None
    exif, packets, iptc, texts = b"", list[bytes](), list[bytes](), list[tuple[str, str]]()
    for kind, name, data in _chunks(file):
        if kind == b"eXIf":
            image.info.setdefault("exif", b"Exif\0\0" + data)
        elif kind == b"tIME":
            texts.append(("tIME", _time(data)))
        elif name == _XMP:
            image.info.setdefault("xmp", data)
            packets.append(data)
        elif name.startswith(_RAW_PROFILE):
            profile = _unhexed(data)
            image.info.setdefault(name, data.decode("latin-1"))
            if profile.startswith(b"Exif\0\0") or name.endswith(" exif"):
                exif = exif or profile
            elif profile.startswith(_XMP_MARK):
                packets.append(profile[len(_XMP_MARK) :])
            elif name.endswith(" xmp"):
                packets.append(profile)
            else:
                iptc.append(photoshop_resources(profile).get(IPTC_RESOURCE, b"") or profile)
        elif data:
            encoding = "utf-8" if kind == b"iTXt" else "latin-1"
            texts.append((name, repair_mojibake(data.decode(encoding, "replace")[:_LONGEST_TEXT])))
    return Chunks(exif, tuple(dict.fromkeys(packets)), tuple(dict.fromkeys(iptc)), tuple(texts))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, str, bytes]]:
    """Yield (kind, keyword of a text, data) of each metadata chunk."""
    at, left = _HEAD, _MOST_UNPACKED
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind == b"IEND":
            return
        if kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt", b"tIME") and length <= _LARGEST:
            data, name = file.read(length), ""
            if kind in (b"iTXt", b"tEXt", b"zTXt"):
                name, data, unpacked = _text_chunk(kind, data, min(left, _LARGEST))
                left -= unpacked
            yield kind, name, data
        at += length + 12


def _text_chunk(kind: bytes, data: bytes, limit: int) -> tuple[str, bytes, int]:
    """(keyword, text, bytes decompressed) of a text chunk.

    The text is empty if it is damaged or longer than `limit`; with a limit of 0 nothing is decompressed.
    """
    name, _, rest = data.partition(b"\0")
    packed = kind == b"zTXt"
    if packed:
        rest = rest[1:]  # skip the compression method
    elif kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]  # skip the language and the translated keyword
    size = len(rest)
    if packed:
        unpacker = zlib.decompressobj()
        text = default_on_error(lambda: unpacker.decompress(rest, limit), None) if limit > 0 else b""
        # How much of a damaged text was decompressed is unknown: count the maximum.
        size = min(limit, DENSEST * len(rest)) if text is None else len(text)
        rest = b"" if limit <= 0 or text is None or unpacker.unconsumed_tail else text
    return name.decode("latin-1"), rest, size


def _unhexed(data: bytes) -> bytes:
    """Decode a raw profile: a line with its name, a line with its length, then hexadecimal digits."""
    match = re.match(rb"\s*\S[^\n]*\n\s*\d+\s", data)
    digits = re.sub(rb"\s+", b"", data[match.end() :]) if match else b""
    return default_on_error(lambda: bytes.fromhex(digits.decode("ascii")), b"")  # type: ignore[no-any-return]


def _time(data: bytes) -> str:
    if len(data) != 7:
        return ""
    year = int.from_bytes(data[:2], "big")
    return f"{year:04}:{data[2]:02}:{data[3]:02} {data[4]:02}:{data[5]:02}:{data[6]:02}"
