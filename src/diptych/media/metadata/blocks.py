"""Extract the metadata blocks (EXIF, XMP, IPTC, texts) from each image format.

The blocks are parsed by `exif`, `words` and `details`. No pixels are decoded, and damaged blocks are skipped.
Of a PNG Pillow reads only chunks before the pixels when it opens a file, but many programs write metadata
after them; it also refuses images with long texts. So its chunks are read here.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from PIL import GifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from diptych.media.decoding.iptc import EXIF_RESOURCE, IPTC_RESOURCE, XMP_RESOURCE, photoshop_resources
from diptych.media.decoding.png import DENSEST
from diptych.media.metadata.exif import clean, default_on_error, repair_mojibake

_TIFF_XMP, _TIFF_IPTC, _TIFF_PHOTOSHOP = 700, 33723, 34377
_EXTENDED = b"http://ns.adobe.com/xmp/extension/\0"
_EXTENDED_ID = re.compile(rb"HasExtendedXMP\s*(?:=\s*[\"']|>\s*)([0-9A-Fa-f]{32})")
_XMP_MARK, _EXIF_MARK, _PHOTOSHOP_MARK = b"http://ns.adobe.com/xap/1.0/\0", b"Exif\0\0", b"Photoshop 3.0\0"
_MOST_STEPS = 100_000  # boxes or sub-blocks read from one file
_LARGEST = 2**24  # bytes of metadata read from one box
_GIF_XMP, _GIF_TRAILER = b"XMP DataXMP", b"\x01\xff\xfe\xfd"
_BOX_EXIF = (b"JpgTiffExif->JP2", bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e"))
_BOX_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_BOX_IPTC = (
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"), bytes.fromhex("09a14e97c0b442e0bebf366fdf0ce36f"),
)  # fmt: skip
_BOX_PHOTOSHOP = bytes.fromhex("2c4c0100850440b9a03e562148d6dfeb")


@dataclass(frozen=True)
class Blocks:
    """The metadata blocks of an image.

    Attributes
    ----------
    xmp, iptc : tuple of bytes
        XMP packets, and blocks of IPTC data sets, in the order in which other programs prefer them.
    texts : tuple of (name, text)
        Texts of the format itself: PNG's by their keywords, comments of JPEG and GIF as "Comment".
    """

    exif: Image.Exif
    xmp: tuple[bytes, ...] = ()
    iptc: tuple[bytes, ...] = ()
    texts: tuple[tuple[str, str], ...] = ()


def blocks_of(image: Image.Image, file: BinaryIO | None) -> Blocks:
    """Extract the blocks of an opened image.

    Parameters
    ----------
    image : Image
        Opened, not necessarily loaded.
    file : binary file, optional
        The file of the image; without it only the blocks that Pillow keeps are available.
    """
    # Chunks of a PNG after the pixels are stored in image.info, as Pillow does on loading.
    chunks = (
        default_on_error(lambda: read_chunks(image, file), None)
        if isinstance(image, PngImagePlugin.PngImageFile)
        else None
    )
    # Not image.getexif(): for PNG it decodes the pixels to find a block after them.
    exif = default_on_error(lambda: Image.Image.getexif(image), Image.Exif())
    xmp = image.info.get("xmp", b"")
    blocks = Blocks(exif, (xmp,) if isinstance(xmp, bytes) and xmp else ())
    if chunks is not None:
        exif = exif if len(exif) or not chunks.exif else exif_of(chunks.exif)
        return Blocks(exif, chunks.xmp, chunks.iptc, chunks.texts)
    readers: tuple[tuple[type[Image.Image], Callable[[], Blocks]], ...] = (
        (JpegImagePlugin.JpegImageFile, lambda: _jpeg_blocks(image, blocks)),
        (TiffImagePlugin.TiffImageFile, lambda: with_tiff_blocks(blocks)),
        (GifImagePlugin.GifImageFile, lambda: _gif_blocks(blocks, file)),
    )
    for kind, read in readers:
        if isinstance(image, kind):
            return default_on_error(read, blocks)  # type: ignore[no-any-return]
    if image.format == "PSD":  # Pillow's class or that of this package
        return default_on_error(lambda: _with_photoshop_blocks(blocks, _resources_of_psd(image)), blocks)  # type: ignore[no-any-return]
    if image.format == "JPEG2000" and file is not None:
        return default_on_error(lambda: _jpeg2000_blocks(blocks, file), blocks)  # type: ignore[no-any-return]
    return blocks


def with_tiff_blocks(blocks: Blocks) -> Blocks:
    """Add blocks that are stored in tags of the main EXIF directory, as in TIFF and camera RAW."""
    exif = blocks.exif
    iptc, packets = [_bytes_of(exif, _TIFF_IPTC)], [*blocks.xmp, _bytes_of(exif, _TIFF_XMP)]
    resources = photoshop_resources(_bytes_of(exif, _TIFF_PHOTOSHOP))
    iptc.append(resources.get(IPTC_RESOURCE, b""))
    packets.append(resources.get(XMP_RESOURCE, b""))
    return replace(blocks, xmp=_unique(packets), iptc=_unique(iptc))


def exif_of(data: bytes) -> Image.Exif:
    """Parse an EXIF block, with or without its header; empty if it is damaged."""
    exif = Image.Exif()
    default_on_error(lambda: exif.load(data), None)
    return exif


def _unique(blocks: Iterable[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(block for block in blocks if block))


def _bytes_of(exif: Image.Exif, tag: int) -> bytes:
    """The bytes of a tag, whether it is stored as bytes or as numbers of one, two or four bytes."""
    # The raw bytes, which are available until Pillow parses the tag (of several numbers it may keep the
    # first).
    raw = default_on_error(lambda: exif._info._tagdata[tag], None)  # type: ignore[union-attr]
    if isinstance(raw, bytes):
        return raw
    value = default_on_error(lambda: exif.get(tag), None)
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("latin-1", "replace")
    if isinstance(value, tuple) and value and all(isinstance(number, int) for number in value):
        size = "B" if max(value) < 2**8 and min(value) >= 0 else "I"
        return default_on_error(lambda: struct.pack(f"{exif.endian or '<'}{len(value)}{size}", *value), b"")  # type: ignore[no-any-return]
    return b""


# ------------------------------------------------------------------------------------------------- JPEG


def _jpeg_blocks(image: Image.Image, blocks: Blocks) -> Blocks:
    """Blocks of JPEG segments; Photoshop's segments are joined, extended XMP follows the packet it extends.

    An extended XMP segment holds a GUID (32 bytes), the full length (4), the offset of this part (4) and the
    part itself.
    """
    packets, comments = [*blocks.xmp], []
    photoshop: list[bytes] = []
    room = _LARGEST
    extended: dict[bytes, list[tuple[int, bytes]]] = {}
    for name, segment in getattr(image, "applist", ()):
        if name == "COM":
            comments.append(("Comment", clean(segment)))
        elif segment.startswith(_EXTENDED):
            at = len(_EXTENDED)
            offset = int.from_bytes(segment[at + 36 : at + 40], "big")
            extended.setdefault(segment[at : at + 32], []).append((offset, segment[at + 40 :]))
        elif segment.startswith(_XMP_MARK):
            packets.append(segment[len(_XMP_MARK) :])
        elif segment.startswith(_PHOTOSHOP_MARK):
            photoshop.append(segment[len(_PHOTOSHOP_MARK) :][:room])
            room -= len(photoshop[-1])
    # An edited file may also hold the extension of an older packet; the packet names its own GUID.
    # Each packet is searched once: a hostile file may have thousands of packets and GUIDs.
    used = {match[1] for packet in packets if (match := _EXTENDED_ID.search(packet))}
    packets += [b"".join(part for _, part in sorted(extended[guid])) for guid in extended if guid in used]
    return _with_photoshop_blocks(
        replace(blocks, xmp=_unique(packets), texts=tuple(comments)), b"".join(photoshop)
    )


def _with_photoshop_blocks(blocks: Blocks, data: bytes | dict[int, bytes]) -> Blocks:
    resources = photoshop_resources(data) if isinstance(data, bytes) else data
    if not len(blocks.exif) and EXIF_RESOURCE in resources:
        blocks = replace(blocks, exif=exif_of(resources[EXIF_RESOURCE]))
    blocks = with_tiff_blocks(blocks)
    xmp, iptc = resources.get(XMP_RESOURCE, b""), resources.get(IPTC_RESOURCE, b"")
    return replace(blocks, xmp=_unique([*blocks.xmp, xmp]), iptc=_unique([iptc, *blocks.iptc]))


def _resources_of_psd(image: Image.Image) -> dict[int, bytes]:
    return {number: data for number, _, data in reversed(getattr(image, "resources", ()))}


# -------------------------------------------------------------------------------------------------- GIF


def _gif_blocks(blocks: Blocks, file: BinaryIO | None) -> Blocks:
    """Comments and the XMP packet of a GIF, which may follow the frames."""
    if file is None:
        return blocks
    file.seek(0)
    head = file.read(13)
    file.seek(3 << ((head[10] & 7) + 1) if head[10] & 0x80 else 0, 1)
    packets, comments = [*blocks.xmp], []
    steps = iter(range(_MOST_STEPS))
    while (mark := file.read(1)) in (b"!", b",") and next(steps, None) is not None:
        if mark == b",":
            flags = file.read(9)[8]
            file.seek((3 << ((flags & 7) + 1) if flags & 0x80 else 0) + 1, 1)
            _read_sub_blocks(file, steps, keep=False)
            continue
        label = file.read(1)
        data, raw = _read_sub_blocks(file, steps, keep=label in (b"\xfe", b"\xff"))
        if label == b"\xfe":
            comments.append(("Comment", clean(data)))
        elif label == b"\xff" and data.startswith(_GIF_XMP):
            # The packet is not split into sub-blocks; a trailer after it ends the iteration over sub-blocks.
            packets.append(raw[1 + len(_GIF_XMP) :].partition(_GIF_TRAILER)[0])
    return replace(blocks, xmp=_unique(packets), texts=tuple(comments))


def _read_sub_blocks(file: BinaryIO, steps: Iterator[int], *, keep: bool) -> tuple[bytes, bytes]:
    """Read sub-blocks up to the empty one: (their data, the same with the length bytes included)."""
    data, raw, total = [], [], 0
    while (size := file.read(1)) not in (b"", b"\0") and next(steps, None) is not None:
        if not keep or total > _LARGEST:
            file.seek(size[0], 1)
            continue
        part = file.read(size[0])
        data.append(part)
        raw += [size, part]
        total += len(part)
    return b"".join(data), b"".join(raw)


# ------------------------------------------------------------------------------------------------ boxes


def _jpeg2000_blocks(blocks: Blocks, file: BinaryIO) -> Blocks:
    """Blocks of JPEG 2000, in boxes "uuid" whose first 16 bytes identify the kind."""
    exif, packets, iptc, resources = blocks.exif, [*blocks.xmp], [], dict[int, bytes]()
    for data in _uuid_boxes(file):
        kind, body = data[:16], data[16:]
        if kind in _BOX_EXIF and not len(exif):
            exif = exif_of(body)
        elif kind == _BOX_XMP:
            packets.append(body)
        elif kind in _BOX_IPTC:
            iptc.append(body)
        elif kind == _BOX_PHOTOSHOP:
            resources = photoshop_resources(body)
    extracted = Blocks(exif, _unique(packets), _unique(iptc), blocks.texts)
    return _with_photoshop_blocks(extracted, resources) if resources else extracted


def _uuid_boxes(file: BinaryIO) -> Iterator[bytes]:
    at = 0
    for _ in range(_MOST_STEPS):
        file.seek(at)
        head = file.read(8)
        size, kind, start = int.from_bytes(head[:4], "big"), head[4:], at + 8
        if size == 1:  # the size follows in eight bytes
            size, start = int.from_bytes(file.read(8), "big"), at + 16
        is_last = size == 0  # extends to the end of the file
        if len(head) < 8 or (not is_last and size < start - at):
            return
        if kind == b"uuid" and (is_last or size <= _LARGEST):
            yield file.read(_LARGEST if is_last else at + size - start)
        if is_last:
            return
        at += size


_HEAD = 8  # bytes of the signature, before the first chunk
_MOST_CHUNKS = 100_000
_LARGEST_CHUNK = 2**24  # bytes read from one chunk, and decompressed from it
_MOST_UNPACKED = 2**26  # bytes decompressed from all chunks
_LONGEST_TEXT = 2**16  # characters that are kept of a text
_XMP = "XML:com.adobe.xmp"
_RAW_PROFILE = "Raw profile type "


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
        if kind in (b"eXIf", b"iTXt", b"tEXt", b"zTXt", b"tIME") and length <= _LARGEST_CHUNK:
            data, name = file.read(length), ""
            if kind in (b"iTXt", b"tEXt", b"zTXt"):
                name, data, unpacked = _text_chunk(kind, data, min(left, _LARGEST_CHUNK))
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
