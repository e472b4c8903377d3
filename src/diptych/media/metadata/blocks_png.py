"""The chunks of a PNG that hold metadata: EXIF, texts, raw profiles of other formats' blocks, the last edit.

Pillow stops before the pixels, and many programs write the metadata behind them; it also refuses long texts
where only the text, not the picture, is at fault. So the chunks are walked through here.
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
from diptych.media.metadata.exif import default_on_error, repaired

_HEAD = 8  # bytes before the first chunk
_MOST_CHUNKS = 100_000
_LARGEST = 2**24  # bytes of metadata read from one chunk, and unpacked from it
_MOST_UNPACKED = 2**26  # from all of them
_LONGEST_TEXT = 2**16  # letters of a text that is still a caption
_XMP = "XML:com.adobe.xmp"
_RAW_PROFILE = "Raw profile type "
_XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"


@dataclass(frozen=True)
class Chunks:
    """What the chunks of one PNG hold; see `diptych.media.metadata.blocks.Blocks`."""

    exif: bytes
    xmp: tuple[bytes, ...]
    iptc: tuple[bytes, ...]
    texts: tuple[tuple[str, str], ...]


def read_chunks(image: Image.Image, file: BinaryIO | None) -> Chunks | None:
    """The metadata of a PNG; None without a file.

    What Pillow would find on loading is put into the picture's `info`, so that its size and orientation are
    judged as they will be then.
    """
    if file is None:
        return None
    exif, packets, press, texts = b"", list[bytes](), list[bytes](), list[tuple[str, str]]()
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
                press.append(photoshop_resources(profile).get(IPTC_RESOURCE, b"") or profile)
        elif data:
            encoding = "utf-8" if kind == b"iTXt" else "latin-1"
            texts.append((name, repaired(data.decode(encoding, "replace")[:_LONGEST_TEXT])))
    return Chunks(exif, tuple(dict.fromkeys(packets)), tuple(dict.fromkeys(press)), tuple(texts))


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, str, bytes]]:
    """(kind, name of the text, data) of each chunk of metadata."""
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


def _text_chunk(kind: bytes, data: bytes, most: int) -> tuple[str, bytes, int]:
    """Name and text of a chunk, unpacked, and how many bytes that took, whether they are kept or not.

    There is no text where it is damaged or longer than `most`; nothing is unpacked where that is 0.
    """
    name, _, rest = data.partition(b"\0")
    packed = kind == b"zTXt"
    if packed:
        rest = rest[1:]  # the method, of which there is one
    elif kind == b"iTXt":
        packed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]  # behind the language and the translated name
    size = len(rest)
    if packed:
        unpacker = zlib.decompressobj()
        text = default_on_error(lambda: unpacker.decompress(rest, most), None) if most > 0 else b""
        # How far a damaged one was unpacked is not known: the most that it may have been.
        size = min(most, DENSEST * len(rest)) if text is None else len(text)
        rest = b"" if most <= 0 or text is None or unpacker.unconsumed_tail else text
    return name.decode("latin-1"), rest, size


def _unhexed(data: bytes) -> bytes:
    """A raw profile: a line with its name, one with its length, then hexadecimal digits."""
    match = re.match(rb"\s*\S[^\n]*\n\s*\d+\s", data)
    digits = re.sub(rb"\s+", b"", data[match.end() :]) if match else b""
    return default_on_error(lambda: bytes.fromhex(digits.decode("ascii")), b"")  # type: ignore[no-any-return]


def _time(data: bytes) -> str:
    if len(data) != 7:
        return ""
    year = int.from_bytes(data[:2], "big")
    return f"{year:04}:{data[2]:02}:{data[3]:02} {data[4]:02}:{data[5]:02}:{data[6]:02}"
